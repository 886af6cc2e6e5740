"""AMQP 0-9-1 without sockets, on librabbitmq's codec: bytes to methods and messages.

    >>> from fastq._core.amqp_encoder import FrameEncoder  # the way back
    >>> encoder, decoder = FrameEncoder(), FrameDecoder()
    >>> encoder.method(1, "queue.declare-ok", queue="celery", message_count=3)
    >>> encoder.publish(1, "", "celery", b"[[2, 3], {}, {}]", headers={"task": "proj.add", "id": "x"},
    ...                 content_type="application/json")
    >>> decoder.feed(encoder.take())
    >>> decoder.next_frame()
    <Method queue.declare-ok(queue='celery', message_count=3, consumer_count=0) on channel 1>
    >>> content = decoder.next_frame()
    >>> content.routing_key, content.headers, content.body
    ('celery', {'task': 'proj.add', 'id': 'x'}, b'[[2, 3], {}, {}]')
    >>> decoder.next_frame() is None  # not enough bytes yet
    True

A `FrameDecoder` gives for each method without content a `Method`, for each method with its
header and its body one `Content`, and for each heartbeat `HEARTBEAT`. librabbitmq reads every
frame, but only after this module has found it sound: it trusts some lengths, recurses as deep
as a peer nests tables, and aborts the process where its state is not what it expects.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy, memmove

from fastq._core.amqp_layout cimport (
    BASIC,
    CONTENT_ENCODING,
    CONTENT_HEADER,
    CONTENT_TYPE,
    DELIVER,
    FRAME_EXTRA,
    FRAME_HEADER,
    GET_OK,
    HEADERS,
    PRIORITY,
    PUBLISH,
    RETURN,
)
from fastq._core.amqp_methods cimport Method, MethodSpec, spec_of
from fastq._core.amqp_properties cimport (
    find_flaw_in_properties,
    has_own_headers,
    hot_headers,
    properties_of,
)
from fastq._core.amqp_table cimport MALFORMED, SOUND, Flaw, dict_of, flaw_text, name_of
from fastq._core.librabbitmq cimport (
    AMQP_FRAME_BODY,
    AMQP_FRAME_END,
    AMQP_FRAME_HEADER,
    AMQP_FRAME_HEARTBEAT,
    AMQP_FRAME_METHOD,
    amqp_basic_deliver_t,
    amqp_basic_get_ok_t,
    amqp_basic_properties_t,
    amqp_basic_publish_t,
    amqp_basic_return_t,
    amqp_bytes_t,
    amqp_connection_state_t,
    amqp_decode_properties,
    amqp_destroy_connection,
    amqp_error_string2,
    amqp_frame_t,
    amqp_handle_input,
    amqp_maybe_release_buffers_on_channel,
    amqp_new_connection,
    amqp_pool_t,
    amqp_tune_connection,
    empty_amqp_pool,
    init_amqp_pool,
)
from fastq._core.message cimport Carrier, Delivery, Message, check_address, new_message

from fastq._core.amqp_encoder import FRAME_MAX, FRAME_MIN
from fastq.exceptions import DecodeError, RemoteProtocolError

CHANNEL_MAX = 2047  # RabbitMQ's default

cdef enum:
    FIRST_BYTES = 64      # little, so that a tool sees reads beyond the end
    KEPT_BYTES = 1048576  # a buffer that grew larger than this is given back when it is empty
    POOL_BYTES = 4096


cdef class _Heartbeat:
    def __repr__(self):
        return "HEARTBEAT"


HEARTBEAT = _Heartbeat()


# ---------------------------------------------------------------------------
# Messages that arrive
# ---------------------------------------------------------------------------

@cython.final
cdef class Content(Carrier):
    """A message that arrived: of ``basic.deliver``, ``basic.get-ok``, ``basic.return`` or ``basic.publish``.

    *name* says which; the fields of the other ones are None, 0 or False. *has_own_headers*
    tells whether a header begins with ``fastq-``. *headers* and *properties* (all but content
    type, content encoding and headers) are decoded when they are first asked for. Where the
    header table is one that can't be read, *error* says why, and both are empty; the
    connection is well.
    """

    @property
    def headers(self):
        """The header table."""
        self._decode()
        return self._headers

    @property
    def properties(self):
        """``delivery_mode``, ``priority``, ``correlation_id``, ``reply_to``, … where set."""
        self._decode()
        return self._properties

    cpdef Delivery delivery(self, str queue, uint32_t redelivered=0):
        """This message as a delivery from *queue*.

        What is no task message carries the reason in *error*, and its body in *raw*.
        """
        cdef Delivery delivery = Delivery.__new__(Delivery)
        delivery.tag = self.delivery_tag
        delivery.queue = queue
        delivery.redelivered = redelivered
        try:
            delivery.message = self.message(queue)
        except DecodeError as exc:
            delivery.error = str(exc)
            delivery.raw = self.body
        return delivery

    cdef Message message(self, str queue):
        """The task message; raises `DecodeError` where `decode_envelope` would."""
        cdef Message message
        if self.error is not None:
            raise DecodeError(self.error)
        if self.content_type is None:
            raise DecodeError("the message has no content type")
        task = self._hot.get("task", "")
        task_id = self._hot.get("id", "")
        check_address(task, task_id)
        message = new_message(
            task, task_id, self._hot, None, self.body, self.content_type, self.content_encoding or "utf-8",
            queue, self.exchange, self.routing_key, self.priority, None)
        message._carrier = self
        return message

    cdef int read(self, Message message) except -1:
        self._decode()
        message._headers = self._headers
        message._properties = self._properties
        return 0

    cdef int _decode(self) except -1:
        cdef amqp_pool_t pool
        cdef amqp_bytes_t encoded
        cdef void *decoded = NULL
        if self._headers is not None:
            return 0
        if self.error is not None:
            self._headers, self._properties = {}, {}
            return 0
        encoded.bytes = PyBytes_AS_STRING(self.raw_properties)
        encoded.len = PyBytes_GET_SIZE(self.raw_properties)
        init_amqp_pool(&pool, POOL_BYTES)
        try:
            if amqp_decode_properties(BASIC, &pool, encoded, &decoded) < 0:
                raise MemoryError  # it was decoded before: nothing else can go wrong
            self._headers = dict_of(&(<amqp_basic_properties_t *> decoded).headers)
            self._properties = properties_of(<amqp_basic_properties_t *> decoded)
        finally:
            empty_amqp_pool(&pool)
        return 0

    def __repr__(self):
        size = "?" if self.body is None else len(self.body)
        return f"<Content {self.name} {self.routing_key!r} of {size} bytes on channel {self.channel}>"


# ---------------------------------------------------------------------------
# Bytes that arrive
# ---------------------------------------------------------------------------

cdef inline uint32_t _long_at(const uint8_t *at) noexcept nogil:
    return (<uint32_t> at[0] << 24) | (<uint32_t> at[1] << 16) | (<uint32_t> at[2] << 8) | at[3]


@cython.final
cdef class FrameDecoder:
    """Reads frames out of a stream of bytes, and puts methods, headers and bodies together.

    The deliveries of a channel that is in *readers* are appended there; `next_frame` goes on
    to what comes after them.

    Not safe over threads. After a `RemoteProtocolError` every call raises it again.
    """

    cdef readonly uint32_t frame_max     # bytes that a frame may have
    cdef readonly uint16_t channel_max   # the highest channel that may speak
    cdef amqp_connection_state_t _state  # owned
    cdef uint8_t *_data                  # owned
    cdef Py_ssize_t _size                # of the buffer
    cdef Py_ssize_t _start               # of what is not read yet
    cdef Py_ssize_t _end
    cdef bint _has_begun                 # a frame has arrived
    cdef dict _open                      # channel: the Content that is still to be completed
    cdef readonly dict readers           # channel: what has the append that its deliveries go to
    cdef object _error
    cdef amqp_frame_t _frame

    def __cinit__(self):
        self._data = <uint8_t *> malloc(FIRST_BYTES)
        self._size = FIRST_BYTES
        self._state = amqp_new_connection()
        if self._data is NULL or self._state is NULL:
            raise MemoryError

    def __dealloc__(self):
        free(self._data)
        if self._state is not NULL:
            amqp_destroy_connection(self._state)

    def __init__(self, uint32_t frame_max=FRAME_MAX, uint16_t channel_max=CHANNEL_MAX):
        self._open = {}
        self.readers = {}
        # librabbitmq waits for a first frame or a protocol header, aborts if it is tuned before that, and
        # reads the eighth byte of the first frame as 0. So give it one that has it so: a close-ok.
        self._decode_with_library(<const uint8_t *> b"\x01\0\0\0\0\0\x04\0\x0a\0\x33\xce", 12)
        amqp_maybe_release_buffers_on_channel(self._state, 0)
        self.tune(frame_max, channel_max)

    def tune(self, uint32_t frame_max, uint16_t channel_max):
        """Take frames of up to *frame_max* bytes on channels up to *channel_max* from now on."""
        if not FRAME_MIN <= frame_max <= 0x7FFFFFFF:
            raise ValueError(f"frame_max is {frame_max}: it must be from {FRAME_MIN} to {0x7FFFFFFF}")
        if amqp_tune_connection(self._state, channel_max, <int> frame_max, 0) < 0:
            raise MemoryError
        self.frame_max = frame_max
        self.channel_max = channel_max

    def feed(self, data):
        """Add what was received, cut anywhere."""
        cdef Py_buffer view
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self._reserve(view.len)
            memcpy(self._data + self._end, view.buf, view.len)
            self._end += view.len
        finally:
            PyBuffer_Release(&view)

    cdef int _reserve(self, Py_ssize_t more) except -1:
        cdef Py_ssize_t used = self._end - self._start, size = self._size
        cdef uint8_t *data
        if used == 0 and size > KEPT_BYTES and more <= KEPT_BYTES:
            size = FIRST_BYTES
        elif self._end + more <= size:
            return 0
        if self._start:
            memmove(self._data, self._data + self._start, used)
            self._start, self._end = 0, used
        while size < used + more:
            size *= 2
        if size != self._size:
            data = <uint8_t *> realloc(self._data, size)
            if data is NULL:
                raise MemoryError
            self._data, self._size = data, size
        return 0

    cpdef object next_frame(self):
        """The next `Method`, `Content` or `HEARTBEAT`; None until more bytes come.

        Raises `RemoteProtocolError` for what breaks the protocol.
        """
        cdef object found
        if self._error is not None:
            raise self._error
        try:
            while True:
                if not self._is_whole():
                    return None
                found = self._read()
                if found is not None:
                    return found
        except RemoteProtocolError as exc:
            self._error = exc
            raise

    cdef bint _is_whole(self) except -1:
        """Whether a whole frame is there; raises for one that can't become one."""
        cdef const uint8_t *at = self._data + self._start
        cdef Py_ssize_t used = self._end - self._start
        cdef uint32_t size
        if used == 0:
            return False
        if not (AMQP_FRAME_METHOD <= at[0] <= AMQP_FRAME_BODY or at[0] == AMQP_FRAME_HEARTBEAT):
            return self._refuse_start(at, used)
        if used < FRAME_HEADER:
            return False
        size = _long_at(at + 3)
        if size > self.frame_max - FRAME_EXTRA:
            raise RemoteProtocolError(
                f"the broker sent a frame of {size + <uint64_t> FRAME_EXTRA} bytes, and {self.frame_max} at "
                "most were agreed on")
        if (<uint16_t> at[1] << 8 | at[2]) > self.channel_max:
            raise RemoteProtocolError(
                f"the broker sent a frame on channel {at[1] << 8 | at[2]}, and {self.channel_max} is the "
                "last one")
        return used >= <Py_ssize_t> size + FRAME_EXTRA

    cdef bint _refuse_start(self, const uint8_t *at, Py_ssize_t used) except -1:
        """Raise for what does not begin as a frame; False while it may be a protocol header."""
        cdef Py_ssize_t shown = min(used, 16)
        if not self._has_begun and at[0] == c"A" and memcmp(at, b"AMQP", min(used, 4)) == 0:
            if used < 8:
                return False
            raise RemoteProtocolError(
                f"the broker does not take AMQP 0-9-1: it speaks {at[5]}-{at[6]}-{at[7]} (protocol {at[4]})")
        raise RemoteProtocolError(
            f"what answers there does not speak AMQP: a frame can't begin with {(<char *> at)[:shown]!r}")

    cdef object _read(self):
        """What the whole frame in front completes, or None; drops the frame."""
        cdef const uint8_t *at = self._data + self._start
        cdef Py_ssize_t size = _long_at(at + 3)
        cdef uint16_t channel = <uint16_t> at[1] << 8 | at[2]
        cdef Content content
        cdef MethodSpec spec
        cdef Flaw flaw
        if at[FRAME_HEADER + size] != AMQP_FRAME_END:
            raise RemoteProtocolError(
                f"the broker sent a frame that ends with {at[FRAME_HEADER + size]:#04x}, not 0xce")
        self._has_begun = True
        self._start += size + FRAME_EXTRA
        if at[0] == AMQP_FRAME_METHOD:
            spec = self._check_method(channel, at + FRAME_HEADER, size)
            self._decode_with_library(at, size + FRAME_EXTRA)
            found = self._method(channel, spec)
        elif at[0] == AMQP_FRAME_HEADER:
            content = self._check_header(channel, at + FRAME_HEADER, size)
            flaw = find_flaw_in_properties(at + FRAME_HEADER + CONTENT_HEADER, size - CONTENT_HEADER)
            if flaw == MALFORMED:
                raise RemoteProtocolError(f"the broker sent broken properties: {flaw_text(flaw)}")
            if flaw == SOUND:
                self._decode_with_library(at, size + FRAME_EXTRA)
                self._fill_header(content)
            else:
                content.error = f"its header table can't be read: {flaw_text(flaw)}"
            content.raw_properties = PyBytes_FromStringAndSize(
                <const char *> at + FRAME_HEADER + CONTENT_HEADER, size - CONTENT_HEADER)
            found = None if content._missing else self._complete(content, b"")
        elif at[0] == AMQP_FRAME_BODY:
            content = self._check_body(channel, size)
            self._decode_with_library(at, size + FRAME_EXTRA)
            found = self._body(content)
        else:
            if channel or size:
                raise RemoteProtocolError(f"the broker sent a heartbeat of {size} bytes on channel {channel}")
            self._decode_with_library(at, FRAME_EXTRA)
            found = HEARTBEAT
        amqp_maybe_release_buffers_on_channel(self._state, channel)
        return found

    cdef int _decode_with_library(self, const uint8_t *at, Py_ssize_t size) except -1:
        """Let librabbitmq decode the whole frame at *at* into `_frame`."""
        cdef amqp_bytes_t received
        cdef int used
        received.bytes = <void *> at
        received.len = size
        used = amqp_handle_input(self._state, received, &self._frame)
        if used != size or self._frame.frame_type == 0:
            reason = "it did not use it up"
            if used < 0:
                reason = amqp_error_string2(used).decode("ascii", "replace")
            raise RemoteProtocolError(f"the broker sent a frame that librabbitmq can't decode: {reason}")
        return 0

    cdef MethodSpec _check_method(self, uint16_t channel, const uint8_t *at, Py_ssize_t size):
        cdef MethodSpec spec
        if size < 4:
            raise RemoteProtocolError(f"the broker sent a method of {size} bytes")
        spec = spec_of(_long_at(at))
        if spec is None:
            raise RemoteProtocolError(
                f"the broker sent an unknown method: class {at[0] << 8 | at[1]}, method {at[2] << 8 | at[3]}")
        if channel in self._open:
            raise RemoteProtocolError(
                f"the broker sent {spec.name} on channel {channel} in the middle of a message")
        spec.check(at + 4, size - 4)
        return spec

    cdef object _method(self, uint16_t channel, MethodSpec spec):
        """The `Method` that librabbitmq has decoded; None for one that begins a message."""
        cdef void *decoded = self._frame.payload.method.decoded
        cdef Content content
        cdef Method method
        if spec.id != DELIVER and spec.id != GET_OK and spec.id != RETURN and spec.id != PUBLISH:
            method = Method.__new__(Method)
            method.channel = channel
            method.spec = spec
            method.values = spec.read(<const char *> decoded)
            return method
        content = Content.__new__(Content)
        content.name = spec.name
        content.channel = channel
        if spec.id == DELIVER:
            content.consumer_tag = name_of((<amqp_basic_deliver_t *> decoded).consumer_tag)
            content.delivery_tag = (<amqp_basic_deliver_t *> decoded).delivery_tag
            content.redelivered = (<amqp_basic_deliver_t *> decoded).redelivered
            content.exchange = name_of((<amqp_basic_deliver_t *> decoded).exchange)
            content.routing_key = name_of((<amqp_basic_deliver_t *> decoded).routing_key)
        elif spec.id == GET_OK:
            content.delivery_tag = (<amqp_basic_get_ok_t *> decoded).delivery_tag
            content.redelivered = (<amqp_basic_get_ok_t *> decoded).redelivered
            content.exchange = name_of((<amqp_basic_get_ok_t *> decoded).exchange)
            content.routing_key = name_of((<amqp_basic_get_ok_t *> decoded).routing_key)
            content.message_count = (<amqp_basic_get_ok_t *> decoded).message_count
        elif spec.id == RETURN:
            content.reply_code = (<amqp_basic_return_t *> decoded).reply_code
            content.reply_text = name_of((<amqp_basic_return_t *> decoded).reply_text)
            content.exchange = name_of((<amqp_basic_return_t *> decoded).exchange)
            content.routing_key = name_of((<amqp_basic_return_t *> decoded).routing_key)
        else:
            content.exchange = name_of((<amqp_basic_publish_t *> decoded).exchange)
            content.routing_key = name_of((<amqp_basic_publish_t *> decoded).routing_key)
            content.mandatory = (<amqp_basic_publish_t *> decoded).mandatory
        self._open[channel] = content
        return None

    cdef Content _check_header(self, uint16_t channel, const uint8_t *at, Py_ssize_t size):
        cdef Content content = self._open.get(channel)
        if content is None or content.raw_properties is not None:
            raise RemoteProtocolError(f"the broker sent a content header out of turn on channel {channel}")
        if size < CONTENT_HEADER + 2:
            raise RemoteProtocolError(f"the broker sent a content header of {size} bytes")
        if (at[0] << 8 | at[1]) != BASIC:
            raise RemoteProtocolError(
                f"the broker sent a content header of the unknown class {at[0] << 8 | at[1]}")
        content._missing = <uint64_t> _long_at(at + 4) << 32 | _long_at(at + 8)
        return content

    cdef int _fill_header(self, Content content) except -1:
        """Take what every reader needs out of the properties that librabbitmq has decoded."""
        cdef amqp_basic_properties_t *properties
        properties = <amqp_basic_properties_t *> self._frame.payload.properties.decoded
        if properties._flags & CONTENT_TYPE:
            content.content_type = name_of(properties.content_type)
        if properties._flags & CONTENT_ENCODING:
            content.content_encoding = name_of(properties.content_encoding)
        if properties._flags & PRIORITY:
            content.priority = properties.priority
        if properties._flags & HEADERS:
            content._hot = hot_headers(&properties.headers)
            content.has_own_headers = has_own_headers(&properties.headers)
        else:
            content._hot = {}
        return 0

    cdef Content _check_body(self, uint16_t channel, Py_ssize_t size):
        cdef Content content = self._open.get(channel)
        if content is None or content.raw_properties is None:
            raise RemoteProtocolError(f"the broker sent a part of a body out of turn on channel {channel}")
        if <uint64_t> size > content._missing:
            raise RemoteProtocolError(
                f"the broker sent {size} bytes of a body of which {content._missing} were still to come")
        return content

    cdef object _body(self, Content content):
        """The message if this part of its body is the last one."""
        cdef amqp_bytes_t fragment = self._frame.payload.body_fragment
        cdef bytes part = PyBytes_FromStringAndSize(<const char *> fragment.bytes, fragment.len)
        content._missing -= fragment.len
        if content._missing:
            if content._parts is None:
                content._parts = []
            content._parts.append(part)
            return None
        if content._parts is not None:
            content._parts.append(part)
            part = b"".join(content._parts)
            content._parts = None
        return self._complete(content, part)

    cdef Content _complete(self, Content content, bytes body):
        content.body = body
        del self._open[content.channel]
        if content.consumer_tag is not None:
            reader = self.readers.get(content.channel)
            if reader is not None:
                reader.append(content)
                return None
        return content
