"""The properties of an AMQP message: librabbitmq's struct of them, and dicts (AMQP 0-9-1 §1.8.3)."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp

from fastq._core.amqp_layout cimport (
    APP_ID,
    CLUSTER_ID,
    CONTENT_TYPE,
    CORRELATION_ID,
    DELIVERY_MODE,
    EXPIRATION,
    HEADERS,
    MESSAGE_ID,
    PRIORITY,
    REPLY_TO,
    TIMESTAMP,
    TYPE,
    USER_ID,
)
from fastq._core.amqp_table cimport (
    MALFORMED,
    SOUND,
    Flaw,
    fill_short,
    find_flaw,
    name_of,
    seconds_of,
    value_of,
)
from fastq._core.librabbitmq cimport amqp_basic_properties_t, amqp_bytes_t, amqp_table_t

from fastq._core.message import HOT_HEADERS
from fastq.exceptions import EncodeError

cdef dict PROPERTIES = {
    "delivery_mode": DELIVERY_MODE,
    "priority": PRIORITY,
    "correlation_id": CORRELATION_ID,
    "reply_to": REPLY_TO,
    "expiration": EXPIRATION,
    "message_id": MESSAGE_ID,
    "timestamp": TIMESTAMP,
    "type": TYPE,
    "user_id": USER_ID,
    "app_id": APP_ID,
    "cluster_id": CLUSTER_ID,
}


# ---------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------

cdef Flaw find_flaw_in_properties(const uint8_t *at, Py_ssize_t size) noexcept nogil:
    """What is wrong with encoded properties of class basic."""
    cdef uint32_t flags, flag
    cdef Py_ssize_t length = 0
    cdef Flaw flaw, worst = SOUND
    if size < 2:
        return MALFORMED
    flags = <uint32_t> at[0] << 8 | at[1]
    if flags & 3:
        return MALFORMED  # the class has no more properties than these flags tell of
    at += 2
    size -= 2
    flag = CONTENT_TYPE
    while flag > 2:
        if flags & flag:
            length = -1
            if flag == HEADERS:
                flaw = find_flaw(at, size, &length)
                if flaw == MALFORMED:
                    return MALFORMED
                if flaw != SOUND:
                    worst = flaw
            elif flag == DELIVERY_MODE or flag == PRIORITY:
                length = 1
            elif flag == TIMESTAMP:
                length = 8
            elif size:
                length = 1 + at[0]
            if not 0 <= length <= size:
                return MALFORMED
            at += length
            size -= length
        flag >>= 1
    return MALFORMED if size else worst


cdef amqp_bytes_t *_text_at(amqp_basic_properties_t *properties, int flag) noexcept nogil:
    """The text property *flag*, or NULL where that is no text."""
    if flag == CORRELATION_ID:
        return &properties.correlation_id
    if flag == REPLY_TO:
        return &properties.reply_to
    if flag == EXPIRATION:
        return &properties.expiration
    if flag == MESSAGE_ID:
        return &properties.message_id
    if flag == TYPE:
        return &properties.type
    if flag == USER_ID:
        return &properties.user_id
    if flag == APP_ID:
        return &properties.app_id
    if flag == CLUSTER_ID:
        return &properties.cluster_id
    return NULL


cdef dict properties_of(amqp_basic_properties_t *source):
    """All properties but content type, content encoding and headers."""
    cdef dict found = {}
    cdef int flag
    for name, flag in PROPERTIES.items():
        if not source._flags & flag:
            continue
        if flag == DELIVERY_MODE:
            found[name] = source.delivery_mode
        elif flag == PRIORITY:
            found[name] = source.priority
        elif flag == TIMESTAMP:
            found[name] = source.timestamp
        else:
            found[name] = _str_of(_text_at(source, flag))
    return found


cdef inline str _str_of(amqp_bytes_t *text):
    return (<char *> text.bytes)[:text.len].decode("utf-8", "replace")


# The headers that every delivery is asked for, in an order that `_hot_place` knows.
cdef tuple HOT = ("id", "eta", "task", "group", "expires", "retries", "timelimit", "parent_id", "compression",
                  "ignore_result", "timestamp_in_ms")
assert frozenset(HOT) == HOT_HEADERS


cdef int _hot_place(amqp_bytes_t key) noexcept nogil:
    """The place of *key* in HOT, or -1."""
    cdef const char *at = <const char *> key.bytes
    if key.len == 2:
        return 0 if memcmp(at, b"id", 2) == 0 else -1
    if key.len == 3:
        return 1 if memcmp(at, b"eta", 3) == 0 else -1
    if key.len == 4:
        return 2 if memcmp(at, b"task", 4) == 0 else -1
    if key.len == 5:
        return 3 if memcmp(at, b"group", 5) == 0 else -1
    if key.len == 7:
        return 4 if memcmp(at, b"expires", 7) == 0 else 5 if memcmp(at, b"retries", 7) == 0 else -1
    if key.len == 9:
        return 6 if memcmp(at, b"timelimit", 9) == 0 else 7 if memcmp(at, b"parent_id", 9) == 0 else -1
    if key.len == 11:
        return 8 if memcmp(at, b"compression", 11) == 0 else -1
    if key.len == 13:
        return 9 if memcmp(at, b"ignore_result", 13) == 0 else -1
    if key.len == 15:
        return 10 if memcmp(at, b"timestamp_in_ms", 15) == 0 else -1
    return -1


cdef dict hot_headers(amqp_table_t *table):
    """Those of HOT that are set; a worker reads an absent header as it reads null."""
    cdef dict found = {}
    cdef int i, place
    for i in range(table.num_entries):
        place = _hot_place(table.entries[i].key)
        if place < 0:
            continue
        if table.entries[i].value.kind == c"V":
            found.pop(HOT[place], None)  # of entries with one key the last counts
        elif place == 2 and table.entries[i].value.kind == c"S":
            found["task"] = name_of(table.entries[i].value.value.bytes)
        else:
            found[HOT[place]] = value_of(&table.entries[i].value)
    return found


cdef bint has_own_headers(amqp_table_t *table) noexcept nogil:
    """Whether the name of any header begins with ``fastq-``."""
    cdef int i
    for i in range(table.num_entries):
        if table.entries[i].key.len > 6 and memcmp(table.entries[i].key.bytes, b"fastq-", 6) == 0:
            return True
    return False


# ---------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------

cdef Py_ssize_t fill_properties(dict source, amqp_basic_properties_t *fields) except -1:
    """Set what AMQP knows of *source*; returns how many bytes that takes at most."""
    cdef Py_ssize_t size = 0
    for name, value in source.items():
        if value is not None:
            flag = PROPERTIES.get(name)
            if flag is not None:
                size += fill_property(name, flag, value, fields)
    return size


cdef Py_ssize_t fill_property(str name, int flag, value, amqp_basic_properties_t *fields) except -1:
    cdef amqp_bytes_t *text
    fields._flags |= flag
    if flag == DELIVERY_MODE or flag == PRIORITY:
        if type(value) is not int or not 0 <= value <= 255:
            raise EncodeError(f"the property {name} is {value!r}: it must be an integer from 0 to 255")
        if flag == PRIORITY:
            fields.priority = value
        else:
            fields.delivery_mode = value
        return 1
    if flag == TIMESTAMP:
        fields.timestamp = value if isinstance(value, int) else seconds_of(value)
        return 8
    text = _text_at(fields, flag)
    if not isinstance(value, str):
        raise EncodeError(f"the property {name} is {value!r}, not a string")
    fill_short(value, text, f"the property {name}")
    return 1 + text.len
