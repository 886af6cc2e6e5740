from libc.stdint cimport uint8_t

from fastq._core.amqp_table cimport Flaw
from fastq._core.librabbitmq cimport amqp_basic_properties_t, amqp_table_t


cdef Flaw find_flaw_in_properties(const uint8_t *at, Py_ssize_t size) noexcept nogil
cdef dict properties_of(amqp_basic_properties_t *source)
cdef dict hot_headers(amqp_table_t *table)
cdef bint has_own_headers(amqp_table_t *table) noexcept nogil
cdef Py_ssize_t fill_properties(dict source, amqp_basic_properties_t *fields) except -1
cdef Py_ssize_t fill_property(str name, int flag, value, amqp_basic_properties_t *fields) except -1
