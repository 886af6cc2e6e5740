from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastq._core.librabbitmq cimport amqp_bytes_t, amqp_pool_t


cdef enum:
    MAX_FIELDS = 12
    STRUCT_BYTES = 256


cdef class MethodSpec:
    cdef readonly str name
    cdef readonly uint32_t id
    cdef readonly tuple fields
    cdef dict _places                   # field: its index
    cdef int _count
    cdef uint8_t[MAX_FIELDS] _kinds
    cdef uint16_t[MAX_FIELDS] _offsets  # in librabbitmq's struct
    cdef int check(self, const uint8_t *data, Py_ssize_t size) except -1
    cdef object _broken(self, str what)
    cdef object _value(self, uint8_t kind, const char *at)
    cdef Py_ssize_t _fill(self, uint8_t kind, str field, value, char *at, amqp_pool_t *pool) except -1
    cdef tuple read(self, const char *decoded)
    cdef Py_ssize_t fill(self, dict values, char *struct, amqp_pool_t *pool) except -1


cdef class Method:
    cdef readonly uint16_t channel
    cdef MethodSpec spec
    cdef tuple values


cdef MethodSpec spec_of(uint32_t method_id)
cdef MethodSpec spec_named(str name)
