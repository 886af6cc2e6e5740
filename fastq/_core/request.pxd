from fastq._core.message cimport Effects, Message


cdef class Context:
    cdef public object task_object
    cdef public Message message
    cdef public str id
    cdef public object args
    cdef public object kwargs
    cdef public dict embed
    cdef public bint called_directly
    cdef public bint is_eager
    cdef public str hostname
    cdef public object retries
    cdef public object ignore_result
    cdef public unsigned int redelivered
    cdef public list follow     # messages that are sent in the commit of this run
    cdef public Effects effects  # what else takes effect in it, or None
    cdef public list children
    cdef Context outer
    cdef dict __dict__
    cpdef commit_with(self, list messages, Effects effects)


cdef object enter(Context context)
cdef object leave(object token)
cpdef Context current_request()
