"""What fastq uses of librabbitmq (rabbitmq-c): its codec, never its sockets (docs/DESIGN.md D9)."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "amqp.h" nogil:
    ctypedef int amqp_boolean_t
    ctypedef uint16_t amqp_channel_t
    ctypedef uint32_t amqp_flags_t
    ctypedef uint32_t amqp_method_number_t
    ctypedef void *amqp_connection_state_t

    enum:
        AMQP_FRAME_METHOD
        AMQP_FRAME_HEADER
        AMQP_FRAME_BODY
        AMQP_FRAME_HEARTBEAT
        AMQP_FRAME_END

    ctypedef struct amqp_bytes_t:
        size_t len
        void *bytes

    ctypedef struct amqp_decimal_t:
        uint8_t decimals
        uint32_t value

    struct amqp_field_value_t_
    struct amqp_table_entry_t_

    ctypedef struct amqp_table_t:
        int num_entries
        amqp_table_entry_t_ *entries

    ctypedef struct amqp_array_t:
        int num_entries
        amqp_field_value_t_ *entries

    ctypedef union _amqp_value:
        amqp_boolean_t boolean
        int8_t i8
        uint8_t u8
        int16_t i16
        uint16_t u16
        int32_t i32
        uint32_t u32
        int64_t i64
        uint64_t u64
        float f32
        double f64
        amqp_decimal_t decimal
        amqp_bytes_t bytes
        amqp_table_t table
        amqp_array_t array

    struct amqp_field_value_t_:
        uint8_t kind
        _amqp_value value

    struct amqp_table_entry_t_:
        amqp_bytes_t key
        amqp_field_value_t_ value

    ctypedef amqp_field_value_t_ amqp_field_value_t
    ctypedef amqp_table_entry_t_ amqp_table_entry_t

    ctypedef struct amqp_pool_t:
        size_t pagesize

    ctypedef struct amqp_method_t:
        amqp_method_number_t id
        void *decoded

    ctypedef struct _amqp_properties:
        uint16_t class_id
        uint64_t body_size
        void *decoded
        amqp_bytes_t raw

    ctypedef union _amqp_payload:
        amqp_method_t method
        _amqp_properties properties
        amqp_bytes_t body_fragment

    ctypedef struct amqp_frame_t:
        uint8_t frame_type
        amqp_channel_t channel
        _amqp_payload payload

    void init_amqp_pool(amqp_pool_t *pool, size_t pagesize)
    void recycle_amqp_pool(amqp_pool_t *pool)
    void empty_amqp_pool(amqp_pool_t *pool)
    void *amqp_pool_alloc(amqp_pool_t *pool, size_t amount)

    amqp_connection_state_t amqp_new_connection()
    int amqp_destroy_connection(amqp_connection_state_t state)
    int amqp_tune_connection(amqp_connection_state_t state, int channel_max, int frame_max, int heartbeat)
    int amqp_handle_input(amqp_connection_state_t state, amqp_bytes_t received, amqp_frame_t *decoded)
    void amqp_maybe_release_buffers_on_channel(amqp_connection_state_t state, amqp_channel_t channel)

    int amqp_encode_table(amqp_bytes_t encoded, amqp_table_t *table, size_t *offset)
    int amqp_decode_table(amqp_bytes_t encoded, amqp_pool_t *pool, amqp_table_t *table, size_t *offset)
    const char *amqp_error_string2(int error)


cdef extern from "amqp_framing.h" nogil:
    ctypedef struct amqp_basic_publish_t:
        uint16_t ticket
        amqp_bytes_t exchange
        amqp_bytes_t routing_key
        amqp_boolean_t mandatory
        amqp_boolean_t immediate

    ctypedef struct amqp_basic_deliver_t:
        amqp_bytes_t consumer_tag
        uint64_t delivery_tag
        amqp_boolean_t redelivered
        amqp_bytes_t exchange
        amqp_bytes_t routing_key

    ctypedef struct amqp_basic_return_t:
        uint16_t reply_code
        amqp_bytes_t reply_text
        amqp_bytes_t exchange
        amqp_bytes_t routing_key

    ctypedef struct amqp_basic_get_ok_t:
        uint64_t delivery_tag
        amqp_boolean_t redelivered
        amqp_bytes_t exchange
        amqp_bytes_t routing_key
        uint32_t message_count

    ctypedef struct amqp_basic_ack_t:
        uint64_t delivery_tag
        amqp_boolean_t multiple

    ctypedef struct amqp_basic_nack_t:
        uint64_t delivery_tag
        amqp_boolean_t multiple
        amqp_boolean_t requeue

    ctypedef struct amqp_basic_reject_t:
        uint64_t delivery_tag
        amqp_boolean_t requeue

    ctypedef struct amqp_basic_properties_t:
        amqp_flags_t _flags
        amqp_bytes_t content_type
        amqp_bytes_t content_encoding
        amqp_table_t headers
        uint8_t delivery_mode
        uint8_t priority
        amqp_bytes_t correlation_id
        amqp_bytes_t reply_to
        amqp_bytes_t expiration
        amqp_bytes_t message_id
        uint64_t timestamp
        amqp_bytes_t type
        amqp_bytes_t user_id
        amqp_bytes_t app_id
        amqp_bytes_t cluster_id

    int amqp_decode_properties(
        uint16_t class_id, amqp_pool_t *pool, amqp_bytes_t encoded, void **decoded)
    int amqp_encode_method(amqp_method_number_t method, void *decoded, amqp_bytes_t encoded)
    int amqp_encode_properties(uint16_t class_id, void *decoded, amqp_bytes_t encoded)
