from libc.stdint cimport uint16_t, uint32_t, uint64_t

from fastq._core.message cimport Carrier, Delivery, Message


cdef class Content(Carrier):
    cdef readonly str name
    cdef readonly uint16_t channel
    cdef readonly str consumer_tag
    cdef readonly uint64_t delivery_tag
    cdef readonly bint redelivered
    cdef readonly str exchange
    cdef readonly str routing_key
    cdef readonly uint16_t reply_code
    cdef readonly str reply_text
    cdef readonly uint32_t message_count
    cdef readonly bint mandatory
    cdef readonly str content_type
    cdef readonly str content_encoding
    cdef readonly object priority
    cdef readonly bytes body
    cdef readonly bytes raw_properties
    cdef readonly str error
    cdef readonly bint has_own_headers
    cdef dict _hot             # the headers of HOT_HEADERS
    cdef dict _headers
    cdef dict _properties
    cdef list _parts           # of a body that takes several frames
    cdef uint64_t _missing     # bytes of the body that are still to come
    cdef int _decode(self) except -1
    cpdef Delivery delivery(self, str queue, uint32_t redelivered=*)
    cdef Message message(self, str queue)
