from libc.stdint cimport uint8_t, uint64_t

from fastq._core.librabbitmq cimport amqp_bytes_t, amqp_field_value_t, amqp_pool_t, amqp_table_t


cdef enum Flaw:
    SOUND = 0
    MALFORMED = 1     # a length that leads outside of what holds it
    UNKNOWN_TYPE = 2  # a field type that AMQP 0-9-1 as RabbitMQ speaks it does not have
    TOO_DEEP = 3      # tables and arrays in each other, deeper than MAX_DEPTH


cdef Flaw find_flaw(const uint8_t *table, Py_ssize_t size, Py_ssize_t *used) noexcept nogil
cdef str flaw_text(Flaw flaw)
cdef str name_of(amqp_bytes_t text)
cdef object text_of(amqp_bytes_t text)
cdef object value_of(amqp_field_value_t *value)
cdef dict dict_of(amqp_table_t *table)
cdef Py_ssize_t fill_table(dict source, amqp_table_t *table, amqp_pool_t *pool, int depth=*) except -1
cdef int fill_short(str text, amqp_bytes_t *out, what) except -1
cdef uint64_t seconds_of(when) except? 0
