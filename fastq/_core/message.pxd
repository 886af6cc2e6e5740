from libc.stdint cimport uint32_t


cpdef enum Action:
    ACK = 0        # done with: remove it
    REQUEUE = 1    # give it back to the tail of its queue, to be delivered again
    PARK = 2       # put it into the broker's schedule until Outcome.until
    BURY = 3       # move it to the dead set with Outcome.reason
    REDELIVER = 4  # take it back from a child that died: to the head of its queue, counted
    RETURN = 5     # it did not start: back to the head of its queue, uncounted


cdef class Carrier:
    cdef int read(self, Message message) except -1


cdef class Message:
    cdef public str task
    cdef public str id
    cdef dict _headers      # with a carrier: only those of HOT_HEADERS
    cdef dict _properties   # with a carrier: None
    cdef Carrier _carrier   # what the rest is still to be read from, or None
    cpdef object header(self, str name)
    cdef dict all_headers(self)
    cdef int _read(self) except -1
    cdef public bytes body
    cdef public str content_type
    cdef public str content_encoding
    cdef public str queue
    cdef public str exchange
    cdef public str routing_key
    cdef public object priority
    cdef public object due
    cpdef bytes envelope(self)
    cpdef tuple to_tuple(self)


cdef class Delivery:
    cdef public Message message
    cdef public object tag
    cdef public str queue
    cdef public uint32_t redelivered
    cdef public str error
    cdef public bytes raw


cdef class Effects:
    cdef public list results
    cdef public list parts
    cdef public list chords
    cdef public list extended
    cdef public list groups
    cdef public str joined
    cpdef tuple to_tuple(self)


cdef class Outcome:
    cdef public Delivery delivery
    cdef public int action
    cdef public str state
    cdef public bytes result
    cdef public list follow
    cdef public Effects effects
    cdef public dict failure
    cdef public double until
    cdef public str reason
    cdef public double runtime
    cdef public tuple shown
    cpdef tuple to_tuple(self)


cdef Message new_message(str task, str id, dict headers, dict properties, bytes body, str content_type,
                         str content_encoding, str queue, str exchange, str routing_key, priority, due)
cdef int check_address(task, task_id) except -1
cpdef str new_id()
cdef Effects effects_of_part(tuple part)
cpdef str part_name(str task_id, index)
cpdef Message decode_envelope(bytes raw)
