"""The methods that a client and RabbitMQ send each other: librabbitmq's structs of them, and values."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from fastq._core.amqp_table cimport (
    SOUND,
    Flaw,
    dict_of,
    fill_short,
    fill_table,
    find_flaw,
    flaw_text,
    name_of,
)
from fastq._core.librabbitmq cimport amqp_boolean_t, amqp_bytes_t, amqp_pool_t, amqp_table_t

from fastq.exceptions import EncodeError, RemoteProtocolError

# Class, method, name, fields in the order of the specification: what a peer may send, and no more.
# A trailing underscore keeps a name apart from a word of Python.
METHODS = (
    (10, 10, "connection.start",
     "version_major:octet version_minor:octet server_properties:table mechanisms:longstr locales:longstr"),
    (10, 11, "connection.start-ok",
     "client_properties:table mechanism:shortstr response:longstr locale:shortstr"),
    (10, 20, "connection.secure", "challenge:longstr"),
    (10, 21, "connection.secure-ok", "response:longstr"),
    (10, 30, "connection.tune", "channel_max:short frame_max:long heartbeat:short"),
    (10, 31, "connection.tune-ok", "channel_max:short frame_max:long heartbeat:short"),
    (10, 40, "connection.open", "virtual_host:shortstr capabilities:shortstr insist:bit"),
    (10, 41, "connection.open-ok", "known_hosts:shortstr"),
    (10, 50, "connection.close", "reply_code:short reply_text:shortstr class_id:short method_id:short"),
    (10, 51, "connection.close-ok", ""),
    (10, 60, "connection.blocked", "reason:shortstr"),
    (10, 61, "connection.unblocked", ""),
    (20, 10, "channel.open", "out_of_band:shortstr"),
    (20, 11, "channel.open-ok", "channel_id:longstr"),
    (20, 20, "channel.flow", "active:bit"),
    (20, 21, "channel.flow-ok", "active:bit"),
    (20, 40, "channel.close", "reply_code:short reply_text:shortstr class_id:short method_id:short"),
    (20, 41, "channel.close-ok", ""),
    (40, 10, "exchange.declare",
     "ticket:short exchange:shortstr type:shortstr passive:bit durable:bit auto_delete:bit internal:bit "
     "nowait:bit arguments:table"),
    (40, 11, "exchange.declare-ok", ""),
    (40, 20, "exchange.delete", "ticket:short exchange:shortstr if_unused:bit nowait:bit"),
    (40, 21, "exchange.delete-ok", ""),
    (40, 30, "exchange.bind",
     "ticket:short destination:shortstr source:shortstr routing_key:shortstr nowait:bit arguments:table"),
    (40, 31, "exchange.bind-ok", ""),
    (40, 40, "exchange.unbind",
     "ticket:short destination:shortstr source:shortstr routing_key:shortstr nowait:bit arguments:table"),
    (40, 51, "exchange.unbind-ok", ""),
    (50, 10, "queue.declare",
     "ticket:short queue:shortstr passive:bit durable:bit exclusive:bit auto_delete:bit nowait:bit "
     "arguments:table"),
    (50, 11, "queue.declare-ok", "queue:shortstr message_count:long consumer_count:long"),
    (50, 20, "queue.bind",
     "ticket:short queue:shortstr exchange:shortstr routing_key:shortstr nowait:bit arguments:table"),
    (50, 21, "queue.bind-ok", ""),
    (50, 30, "queue.purge", "ticket:short queue:shortstr nowait:bit"),
    (50, 31, "queue.purge-ok", "message_count:long"),
    (50, 40, "queue.delete", "ticket:short queue:shortstr if_unused:bit if_empty:bit nowait:bit"),
    (50, 41, "queue.delete-ok", "message_count:long"),
    (50, 50, "queue.unbind",
     "ticket:short queue:shortstr exchange:shortstr routing_key:shortstr arguments:table"),
    (50, 51, "queue.unbind-ok", ""),
    (60, 10, "basic.qos", "prefetch_size:long prefetch_count:short global_:bit"),
    (60, 11, "basic.qos-ok", ""),
    (60, 20, "basic.consume",
     "ticket:short queue:shortstr consumer_tag:shortstr no_local:bit no_ack:bit exclusive:bit nowait:bit "
     "arguments:table"),
    (60, 21, "basic.consume-ok", "consumer_tag:shortstr"),
    (60, 30, "basic.cancel", "consumer_tag:shortstr nowait:bit"),
    (60, 31, "basic.cancel-ok", "consumer_tag:shortstr"),
    (60, 40, "basic.publish",
     "ticket:short exchange:shortstr routing_key:shortstr mandatory:bit immediate:bit"),
    (60, 50, "basic.return", "reply_code:short reply_text:shortstr exchange:shortstr routing_key:shortstr"),
    (60, 60, "basic.deliver",
     "consumer_tag:shortstr delivery_tag:longlong redelivered:bit exchange:shortstr routing_key:shortstr"),
    (60, 70, "basic.get", "ticket:short queue:shortstr no_ack:bit"),
    (60, 71, "basic.get-ok",
     "delivery_tag:longlong redelivered:bit exchange:shortstr routing_key:shortstr message_count:long"),
    (60, 72, "basic.get-empty", "cluster_id:shortstr"),
    (60, 80, "basic.ack", "delivery_tag:longlong multiple:bit"),
    (60, 90, "basic.reject", "delivery_tag:longlong requeue:bit"),
    (60, 110, "basic.recover", "requeue:bit"),
    (60, 111, "basic.recover-ok", ""),
    (60, 120, "basic.nack", "delivery_tag:longlong multiple:bit requeue:bit"),
    (85, 10, "confirm.select", "nowait:bit"),
    (85, 11, "confirm.select-ok", ""),
)

cdef enum Kind:
    OCTET
    SHORT
    LONG
    LONGLONG
    BIT
    SHORTSTR
    LONGSTR
    TABLE

cdef dict KINDS = {
    "octet": OCTET, "short": SHORT, "long": LONG, "longlong": LONGLONG, "bit": BIT,
    "shortstr": SHORTSTR, "longstr": LONGSTR, "table": TABLE,
}

# Each struct of librabbitmq has the fields of its method in their order, laid out as C lays out any.
cdef struct AfterByteLonglong:
    uint8_t byte
    uint64_t value

cdef struct AfterByteText:
    uint8_t byte
    amqp_bytes_t value

cdef struct AfterByteTable:
    uint8_t byte
    amqp_table_t value

# Size and alignment, by kind.
cdef int[8] SIZES = [1, 2, 4, 8, sizeof(amqp_boolean_t),
                     sizeof(amqp_bytes_t), sizeof(amqp_bytes_t), sizeof(amqp_table_t)]
cdef int[8] ALIGNMENTS = [1, 2, 4, sizeof(AfterByteLonglong) - 8, sizeof(amqp_boolean_t),
                          sizeof(AfterByteText) - sizeof(amqp_bytes_t),
                          sizeof(AfterByteText) - sizeof(amqp_bytes_t),
                          sizeof(AfterByteTable) - sizeof(amqp_table_t)]
# What is encoded of a field without a length of its own.
cdef int[5] WIDTHS = [1, 2, 4, 8, 1]
cdef uint64_t[4] LIMITS = [0xFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF]


@cython.final
cdef class MethodSpec:
    """What one method consists of, on the wire and in librabbitmq's struct."""

    def __init__(self, int class_id, int method_id, str name, str fields):
        cdef int number, kind, offset = 0
        self.id = class_id << 16 | method_id
        self.name = name
        parts = [part.split(":") for part in fields.split()]
        self.fields = tuple(field for field, _ in parts)
        self._places = {field: place for place, field in enumerate(self.fields)}
        self._count = len(parts)
        for number in range(self._count):
            kind = KINDS[parts[number][1]]
            offset = (offset + ALIGNMENTS[kind] - 1) // ALIGNMENTS[kind] * ALIGNMENTS[kind]
            self._kinds[number] = kind
            self._offsets[number] = offset
            offset += SIZES[kind]
        assert offset <= STRUCT_BYTES

    cdef int check(self, const uint8_t *data, Py_ssize_t size) except -1:
        """Raise `RemoteProtocolError` unless the encoded arguments fill *data* exactly."""
        cdef int number, bits = 0
        cdef uint8_t kind
        cdef Py_ssize_t length
        cdef Flaw flaw
        for number in range(self._count):
            kind = self._kinds[number]
            if kind == BIT:
                bits += 1
                if bits % 8 != 1:
                    continue  # it lies in the octet of the one before it
            else:
                bits = 0
            length = -1
            if kind <= BIT:
                length = WIDTHS[kind]
            elif kind == SHORTSTR and size:
                length = 1 + data[0]
            elif kind == LONGSTR and size >= 4:
                length = 4 + (<Py_ssize_t> data[0] << 24 | data[1] << 16 | data[2] << 8 | data[3])
            elif kind == TABLE:
                flaw = find_flaw(data, size, &length)
                if flaw != SOUND:
                    raise self._broken(f"the table {self.fields[number]} can't be read: {flaw_text(flaw)}")
            if not 0 <= length <= size:
                raise self._broken(f"it ends within {self.fields[number]}")
            data += length
            size -= length
        if size:
            raise self._broken(f"{size} bytes follow its last argument")
        return 0

    cdef object _broken(self, str what):
        return RemoteProtocolError(f"the broker sent a broken {self.name}: {what}")

    cdef tuple read(self, const char *decoded):
        """The values of librabbitmq's struct at *decoded*."""
        return tuple([self._value(self._kinds[number], decoded + self._offsets[number])
                      for number in range(self._count)])

    cdef object _value(self, uint8_t kind, const char *at):
        cdef amqp_bytes_t text
        if kind == OCTET:
            return (<uint8_t *> at)[0]
        if kind == SHORT:
            return (<uint16_t *> at)[0]
        if kind == LONG:
            return (<uint32_t *> at)[0]
        if kind == LONGLONG:
            return (<uint64_t *> at)[0]
        if kind == BIT:
            return (<amqp_boolean_t *> at)[0] != 0
        if kind == TABLE:
            return dict_of(<amqp_table_t *> at)
        text = (<amqp_bytes_t *> at)[0]
        if kind == SHORTSTR:
            return name_of(text)
        return PyBytes_FromStringAndSize(<const char *> text.bytes, text.len)

    cdef Py_ssize_t fill(self, dict values, char *struct, amqp_pool_t *pool) except -1:
        """Fill librabbitmq's *struct* with *values*, by field; returns what it takes encoded, at most.

        Missing fields are 0, False or empty. Strings are borrowed from *values*. Raises
        `EncodeError` for a value that does not fit, `TypeError` for an unknown field.
        """
        cdef Py_ssize_t size = 0
        cdef int place
        memset(struct, 0, STRUCT_BYTES)
        for field, value in values.items():
            if field not in self._places:
                raise TypeError(
                    f"{self.name} has no field {field!r}; it has: {', '.join(self.fields) or 'none'}")
            place = self._places[field]
            size += self._fill(self._kinds[place], field, value, struct + self._offsets[place], pool)
        return size + 8 * self._count

    cdef Py_ssize_t _fill(self, uint8_t kind, str field, value, char *at, amqp_pool_t *pool) except -1:
        """Write one field; returns the length of what is borrowed."""
        cdef uint64_t number
        if kind == BIT:
            (<amqp_boolean_t *> at)[0] = bool(value)
            return 0
        if kind == TABLE:
            return fill_table(value, <amqp_table_t *> at, pool)
        if kind == SHORTSTR:
            fill_short(value, <amqp_bytes_t *> at, f"{field} of {self.name}")
            return (<amqp_bytes_t *> at).len
        if kind == LONGSTR:
            (<amqp_bytes_t *> at).bytes = PyBytes_AS_STRING(<bytes?> value)
            (<amqp_bytes_t *> at).len = PyBytes_GET_SIZE(value)
            return PyBytes_GET_SIZE(value)
        if not 0 <= value <= LIMITS[kind]:
            raise EncodeError(f"{field} of {self.name} is {value}: it must be from 0 to {LIMITS[kind]}")
        number = value
        if kind == OCTET:
            (<uint8_t *> at)[0] = <uint8_t> number
        elif kind == SHORT:
            (<uint16_t *> at)[0] = <uint16_t> number
        elif kind == LONG:
            (<uint32_t *> at)[0] = <uint32_t> number
        else:
            (<uint64_t *> at)[0] = number
        return 0


@cython.final
cdef class Method:
    """A method that arrived.

    Its fields are its attributes, under the names of the specification with ``_`` for ``-``. Short
    strings are str, long ones bytes, tables dicts, bits bools.
    """

    @property
    def name(self):
        """Class and method, such as ``queue.declare-ok``."""
        return self.spec.name

    @property
    def fields(self):
        """The fields by name, in their order."""
        return dict(zip(self.spec.fields, self.values))

    def __getattr__(self, str field):
        try:
            return self.values[self.spec._places[field]]
        except KeyError:
            raise AttributeError(f"{self.spec.name} has no field {field!r}") from None

    def __eq__(self, other):
        if type(other) is not Method:
            return NotImplemented
        return (self.channel, self.spec, self.values) == (
            (<Method> other).channel, (<Method> other).spec, (<Method> other).values)

    def __hash__(self):
        return hash((self.channel, self.spec.id))

    def __repr__(self):
        text = ", ".join(f"{field}={value!r}" for field, value in self.fields.items())
        return f"<Method {self.spec.name}({text}) on channel {self.channel}>"


cdef dict _by_id = {}
cdef dict _by_name = {}
for _method in METHODS:
    _spec = MethodSpec(*_method)
    _by_id[_spec.id] = _spec
    _by_name[_spec.name] = _spec


cdef MethodSpec spec_of(uint32_t method_id):
    """The method of that id (class << 16 | method), or None."""
    return _by_id.get(method_id)


cdef MethodSpec spec_named(str name):
    """The method *name*; raises `ValueError` if there is none."""
    spec = _by_name.get(name)
    if spec is None:
        raise ValueError(f"AMQP has no method {name!r}")
    return spec


def method_name(int class_id, int method_id) -> str:
    """The name of a method, for people; its numbers where it has none here."""
    spec = _by_id.get(class_id << 16 | method_id)
    return f"{class_id}.{method_id}" if spec is None else spec.name
