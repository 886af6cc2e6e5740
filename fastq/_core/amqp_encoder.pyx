"""AMQP frames to send, in one growing buffer, on librabbitmq's codec; `amqp` reads them."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from fastq._core.amqp_layout cimport (
    ACK,
    BASIC,
    CONTENT_ENCODING,
    CONTENT_HEADER,
    CONTENT_TYPE,
    DELIVERY_MODE,
    FRAME_EXTRA,
    FRAME_HEADER,
    HEADERS,
    NACK,
    PRIORITY,
    PUBLISH,
    REJECT,
)
from fastq._core.amqp_methods cimport STRUCT_BYTES, MethodSpec, spec_named
from fastq._core.amqp_properties cimport fill_properties, fill_property
from fastq._core.amqp_table cimport fill_short, fill_table
from fastq._core.librabbitmq cimport (
    AMQP_FRAME_BODY,
    AMQP_FRAME_END,
    AMQP_FRAME_HEADER,
    AMQP_FRAME_HEARTBEAT,
    AMQP_FRAME_METHOD,
    amqp_basic_ack_t,
    amqp_basic_nack_t,
    amqp_basic_properties_t,
    amqp_basic_publish_t,
    amqp_basic_reject_t,
    amqp_bytes_t,
    amqp_encode_method,
    amqp_encode_properties,
    amqp_pool_t,
    empty_amqp_pool,
    init_amqp_pool,
    recycle_amqp_pool,
)
from fastq._core.message cimport Message

from fastq.exceptions import EncodeError

PROTOCOL_HEADER = b"AMQP\0\0\x09\x01"  # what a client says first
FRAME_MAX = 131072  # bytes of a frame, RabbitMQ's default; ours too where it sets no limit
FRAME_MIN = 4096  # what every peer must take, and the most before there was an agreement

cdef enum:
    FIRST_BYTES = 4096
    KEPT_BYTES = 1048576  # a buffer that one huge batch made larger than this is given back
    POOL_BYTES = 4096
    SETTLEMENT_BYTES = 16  # what the arguments of ack, nack and reject take at most


@cython.final
cdef class FrameEncoder:
    """A growing buffer of frames to send.

    A call that raises leaves it as it was before: never with half a frame or half a batch.
    Not safe over threads.
    """

    cdef readonly uint32_t frame_max  # bytes that a frame may have
    cdef amqp_pool_t _pool            # owned
    cdef uint8_t *_data               # owned
    cdef Py_ssize_t _size
    cdef Py_ssize_t _used

    def __cinit__(self):
        init_amqp_pool(&self._pool, POOL_BYTES)
        self._data = <uint8_t *> malloc(FIRST_BYTES)
        if self._data is NULL:
            raise MemoryError
        self._size = FIRST_BYTES

    def __dealloc__(self):
        free(self._data)
        empty_amqp_pool(&self._pool)

    def __init__(self, uint32_t frame_max=FRAME_MAX):
        self.tune(frame_max)

    def __len__(self):
        return self._used

    def tune(self, uint32_t frame_max):
        """Write frames of at most *frame_max* bytes from now on."""
        if frame_max < FRAME_MIN:
            raise ValueError(f"frame_max is {frame_max}: it must be {FRAME_MIN} at least")
        self.frame_max = frame_max

    def take(self) -> bytes:
        """All the bytes appended since the last call."""
        cdef bytes taken = PyBytes_FromStringAndSize(<char *> self._data, self._used)
        cdef uint8_t *data
        self._used = 0
        if self._size > KEPT_BYTES:
            data = <uint8_t *> realloc(self._data, FIRST_BYTES)
            if data is not NULL:
                self._data, self._size = data, FIRST_BYTES
        return taken

    def truncate(self, Py_ssize_t length):
        """Drop what was appended since there were *length* bytes; `take` must not have been called since."""
        if not 0 <= length <= self._used:
            raise ValueError(f"there are {self._used} bytes, so {length} of them can't be kept")
        self._used = length

    def heartbeat(self):
        """Append a heartbeat."""
        self._begin(AMQP_FRAME_HEARTBEAT, 0, 0)
        self._finish(0)

    def method(self, uint16_t channel, str name, **fields):
        """Append the method *name*, such as ``queue.declare``; missing fields are 0, False or empty.

        A method with content takes `publish` instead. Raises `EncodeError` for a value that
        does not fit, or for a table that does not fit into one frame.
        """
        cdef MethodSpec spec = spec_named(name)
        cdef char[STRUCT_BYTES] struct
        try:
            size = spec.fill(fields, struct, &self._pool)
            self._put_method(channel, spec.id, struct, size, spec.name)
        finally:
            recycle_amqp_pool(&self._pool)

    def ack(self, uint16_t channel, uint64_t delivery_tag, bint multiple=False):
        """Append an acknowledgement; *multiple*: of all up to this one, with the tag 0 of all there are."""
        cdef amqp_basic_ack_t fields
        fields.delivery_tag = delivery_tag
        fields.multiple = multiple
        self._put_method(channel, ACK, &fields, SETTLEMENT_BYTES, "basic.ack")

    def nack(self, uint16_t channel, uint64_t delivery_tag, bint multiple=False, bint requeue=True):
        """Append a refusal, with *multiple* as in `ack`; without *requeue* it is dead-lettered or dropped."""
        cdef amqp_basic_nack_t fields
        fields.delivery_tag = delivery_tag
        fields.multiple = multiple
        fields.requeue = requeue
        self._put_method(channel, NACK, &fields, SETTLEMENT_BYTES, "basic.nack")

    def reject(self, uint16_t channel, uint64_t delivery_tag, bint requeue=True):
        """Append a refusal of one delivery."""
        cdef amqp_basic_reject_t fields
        fields.delivery_tag = delivery_tag
        fields.requeue = requeue
        self._put_method(channel, REJECT, &fields, SETTLEMENT_BYTES, "basic.reject")

    def publish(self, uint16_t channel, str exchange, str routing_key, bytes body, *, dict headers=None,
                dict properties=None, str content_type=None, str content_encoding=None, bint mandatory=False):
        """Append a message. *properties* may hold what `Content.properties` shows; others are left out."""
        cdef Py_ssize_t mark = self._used
        try:
            self._put_publish(channel, exchange, routing_key, mandatory)
            self._put_header(channel, headers, properties, content_type, content_encoding, None, 0, len(body))
            self._put_body(channel, body)
        except BaseException:
            self._used = mark
            raise

    def publish_message(self, uint16_t channel, Message message, *, str exchange=None, str routing_key=None,
                        bint mandatory=False):
        """Append a task message to its own address, or to the one that is given."""
        cdef Py_ssize_t mark = self._used
        try:
            self._put_message(
                channel, message, message.exchange if exchange is None else exchange,
                message.routing_key if routing_key is None else routing_key, mandatory)
        except BaseException:
            self._used = mark
            raise

    def publish_messages(self, uint16_t channel, messages, *, bint mandatory=False):
        """Append task messages, each to its own address."""
        cdef Py_ssize_t mark = self._used
        cdef Message message
        try:
            for message in messages:
                self._put_message(channel, message, message.exchange, message.routing_key, mandatory)
        except BaseException:
            self._used = mark
            raise

    # Every cdef method below appends; the caller rolls back.

    cdef int _put_message(self, uint16_t channel, Message message, str exchange, str routing_key,
                          bint mandatory) except -1:
        cdef dict headers = message.all_headers()
        priority = message.priority
        if priority is not None:  # an octet; where Celery's Redis has a meaning for more, RabbitMQ has none
            priority = min(max(priority, 0), 255)
        self._put_publish(channel, exchange, routing_key, mandatory)
        self._put_header(channel, headers, message._properties, message.content_type,
                         message.content_encoding, priority, 2, PyBytes_GET_SIZE(message.body))
        self._put_body(channel, message.body)
        return 0

    cdef int _put_publish(self, uint16_t channel, str exchange, str routing_key, bint mandatory) except -1:
        cdef amqp_basic_publish_t fields
        memset(&fields, 0, sizeof(fields))
        fill_short(exchange, &fields.exchange, "the exchange")
        fill_short(routing_key, &fields.routing_key, "the routing key")
        fields.mandatory = mandatory
        size = 8 + fields.exchange.len + fields.routing_key.len
        self._put_method(channel, PUBLISH, &fields, size, "basic.publish")
        return 0

    cdef int _put_header(self, uint16_t channel, dict headers, dict properties, str content_type,
                         str content_encoding, priority, int delivery_mode, Py_ssize_t body_size) except -1:
        """Append a content header; *priority* and *delivery_mode* count where *properties* has none."""
        cdef amqp_basic_properties_t fields
        cdef Py_ssize_t size = CONTENT_HEADER + 2
        cdef uint8_t *at
        cdef int i, length
        memset(&fields, 0, sizeof(fields))
        try:
            if content_type is not None:
                fill_short(content_type, &fields.content_type, "the content type")
                fields._flags |= CONTENT_TYPE
                size += 1 + fields.content_type.len
            if content_encoding is not None:
                fill_short(content_encoding, &fields.content_encoding, "the content encoding")
                fields._flags |= CONTENT_ENCODING
                size += 1 + fields.content_encoding.len
            if headers is not None:
                fields._flags |= HEADERS
                size += fill_table(headers, &fields.headers, &self._pool)
            if delivery_mode:
                fields._flags |= DELIVERY_MODE
                fields.delivery_mode = delivery_mode
                size += 1
            if properties is not None:
                size += fill_properties(properties, &fields)
            if priority is not None:
                size += fill_property("priority", PRIORITY, priority, &fields)
            at = self._begin(AMQP_FRAME_HEADER, channel, size)
            at[0], at[1], at[2], at[3] = 0, BASIC, 0, 0
            for i in range(8):
                at[4 + i] = <uint8_t> (<uint64_t> body_size >> (56 - 8 * i))
            length = amqp_encode_properties(BASIC, &fields, _room(at + CONTENT_HEADER, size - CONTENT_HEADER))
            if length < 0:
                raise EncodeError("librabbitmq can't encode the properties of a message")
            self._finish(CONTENT_HEADER + length)
        finally:
            recycle_amqp_pool(&self._pool)
        return 0

    cdef int _put_body(self, uint16_t channel, bytes body) except -1:
        cdef const char *source = PyBytes_AS_STRING(body)
        cdef Py_ssize_t part, left = PyBytes_GET_SIZE(body)
        while left:
            part = min(left, <Py_ssize_t> self.frame_max - FRAME_EXTRA)
            memcpy(self._begin(AMQP_FRAME_BODY, channel, part), source, part)
            self._finish(part)
            source += part
            left -= part
        return 0

    cdef int _put_method(self, uint16_t channel, uint32_t method, void *fields, Py_ssize_t size,
                         str name) except -1:
        """Append a method whose arguments take *size* bytes at most."""
        cdef uint8_t *at = self._begin(AMQP_FRAME_METHOD, channel, 4 + size)
        cdef int length
        at[0], at[1] = 0, <uint8_t> (method >> 16)
        at[2], at[3] = 0, <uint8_t> method
        length = amqp_encode_method(method, fields, _room(at + 4, size))
        if length < 0:
            raise EncodeError(f"librabbitmq can't encode {name}")
        self._finish(4 + length)
        return 0

    cdef uint8_t *_begin(self, uint8_t kind, uint16_t channel, Py_ssize_t size) except NULL:
        """Write the head of a frame whose payload takes *size* bytes at most; returns where that goes."""
        cdef Py_ssize_t grown = self._size
        cdef uint8_t *data
        if size > <Py_ssize_t> self.frame_max - FRAME_EXTRA:
            raise EncodeError(
                f"the headers of a message, or the arguments of a method, take {size} bytes, and the broker "
                f"takes frames of {self.frame_max}: put what is large into the message's arguments")
        while grown < self._used + size + FRAME_EXTRA:
            grown *= 2
        if grown != self._size:
            data = <uint8_t *> realloc(self._data, grown)
            if data is NULL:
                raise MemoryError
            self._data, self._size = data, grown
        data = self._data + self._used
        data[0], data[1], data[2] = kind, <uint8_t> (channel >> 8), <uint8_t> channel
        return data + FRAME_HEADER

    cdef int _finish(self, Py_ssize_t size) except -1:
        """End the frame begun last: its payload has *size* bytes."""
        cdef uint8_t *at = self._data + self._used
        at[3], at[4] = <uint8_t> (size >> 24), <uint8_t> (size >> 16)
        at[5], at[6] = <uint8_t> (size >> 8), <uint8_t> size
        at[FRAME_HEADER + size] = AMQP_FRAME_END
        self._used += size + FRAME_EXTRA
        return 0


cdef inline amqp_bytes_t _room(uint8_t *at, Py_ssize_t size) noexcept nogil:
    cdef amqp_bytes_t room
    room.bytes = at
    room.len = size
    return room
