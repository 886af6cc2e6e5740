cdef class Packer:
    cdef char *data  # owned: allocated in __cinit__, grown in _reserve, freed in __dealloc__
    cdef Py_ssize_t used
    cdef Py_ssize_t size
    cdef int _reserve(self, Py_ssize_t more) except -1
    cdef int clear(self) except -1
    cdef int put_raw(self, const char *source, Py_ssize_t length) except -1
    cdef int put_header(self, char kind, Py_ssize_t count) except -1
    cdef int put_bulk(self, const char *source, Py_ssize_t length) except -1
    cdef int put_number(self, long long value) except -1
    cdef int put(self, value) except -1
    cpdef bytes take(self)
