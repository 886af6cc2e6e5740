from libc.stdint cimport uint64_t


cdef class TopicNode:
    cdef dict children         # word -> TopicNode; '*' and '#' have places of their own
    cdef TopicNode star
    cdef TopicNode hash
    cdef dict queues           # those that end here, as keys
    cdef bint is_hash          # this place is behind a '#', which may swallow more words
    cdef uint64_t visited      # the last step of a routing that came by here

    cdef bint is_empty(self) noexcept
    cdef TopicNode child(self, str word)
    cdef TopicNode make_child(self, str word)
    cdef int drop_child(self, str word) except -1


cdef class Bindings:
    cdef readonly str exchange_type
    cdef dict _by_key          # direct: routing key -> queues, as keys
    cdef dict _all             # (queue, pattern) of every binding but those by headers, as keys
    cdef list _headers         # headers: HeaderBinding, in binding order
    cdef TopicNode _root
    cdef dict _routed          # topic: routing key -> queues, of keys asked for since the last change
    cdef Py_ssize_t _kept      # how much of that there is
    cdef uint64_t _step        # how many steps all routings so far took

    cdef int _forget_routed(self) except -1
    cdef list _route_topic(self, str routing_key)
    cdef list _walk(self, list words)
    cdef TopicNode _make_node(self, str pattern)
    cdef int _drop_from_trie(self, str queue, str pattern) except -1
    cdef Py_ssize_t _find_headers(self, str queue, dict arguments) except -2

    cpdef list route(self, str routing_key, dict headers=*)


cpdef bint topic_matches(str pattern, str routing_key) except -1
