"""AMQP field tables: dicts into librabbitmq's tables and back (AMQP 0-9-1 §4.2.5.5, docs/PROTOCOL.md §4.2).

    >>> decode_table(encode_table({"task": "proj.add", "retries": 0, "eta": None, "timelimit": [60, None]}))
    {'task': 'proj.add', 'retries': 0, 'eta': None, 'timelimit': [60, None]}

Types are written as Celery's sender writes them, but for integers over 32 bits, which go as ``l``:
its ``L`` is unsigned by the specification. librabbitmq decodes recursively and trusts some of the
lengths that it reads, so `find_flaw` looks a table over before librabbitmq gets it.
"""

import datetime as dt
from decimal import Decimal

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport INT32_MAX, INT32_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from fastq._core.librabbitmq cimport (
    amqp_array_t,
    amqp_bytes_t,
    amqp_decode_table,
    amqp_encode_table,
    amqp_field_value_t,
    amqp_pool_alloc,
    amqp_pool_t,
    amqp_table_entry_t,
    amqp_table_t,
    empty_amqp_pool,
    init_amqp_pool,
)

from fastq.exceptions import EncodeError, RemoteProtocolError

cdef enum:
    # Both sides recurse, librabbitmq with 200 bytes of stack a level; threads of musl have 128 KiB.
    MAX_DEPTH = 100
    POOL_BYTES = 4096
    SHORT_BYTES = 255    # what a short string, and so a key, may have
    NAME_SLOTS = 512
    NAME_BYTES = 64

cdef dict FLAWS = {
    MALFORMED: "a length in it leads outside of it",
    UNKNOWN_TYPE: "it has a field of an unknown type",
    TOO_DEEP: f"its tables lie in each other more than {MAX_DEPTH} deep",
}
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)


cdef str flaw_text(Flaw flaw):
    """What *flaw* says about a table, for people."""
    return FLAWS[<int> flaw]


# ---------------------------------------------------------------------------
# Looking over what a peer sent
# ---------------------------------------------------------------------------

cdef inline uint32_t _read_long(const uint8_t *at) noexcept nogil:
    return (<uint32_t> at[0] << 24) | (<uint32_t> at[1] << 16) | (<uint32_t> at[2] << 8) | at[3]


cdef Flaw find_flaw(const uint8_t *table, Py_ssize_t size, Py_ssize_t *used) noexcept nogil:
    """What is wrong with the encoded *table* in *size* bytes; *used* becomes its length, if that is sound."""
    cdef Py_ssize_t length
    if size < 4:
        return MALFORMED
    length = _read_long(table)
    if length > size - 4:
        return MALFORMED
    used[0] = length + 4
    return _check(table + 4, table + 4 + length, True, 1)


cdef Flaw _check(const uint8_t *at, const uint8_t *end, bint is_keyed, int depth) noexcept nogil:
    cdef Py_ssize_t length
    cdef uint8_t kind
    cdef Flaw flaw
    if depth > MAX_DEPTH:
        return TOO_DEEP
    while at < end:
        if is_keyed:
            if end - at < at[0] + 2:
                return MALFORMED
            at += at[0] + 1
        kind = at[0]
        at += 1
        if kind == c"V":
            length = 0
        elif kind == c"t" or kind == c"b" or kind == c"B":
            length = 1
        elif kind == c"s" or kind == c"u":
            length = 2
        elif kind == c"I" or kind == c"i" or kind == c"f":
            length = 4
        elif kind == c"D":
            length = 5
        elif kind == c"l" or kind == c"L" or kind == c"d" or kind == c"T":
            length = 8
        elif kind == c"S" or kind == c"x" or kind == c"F" or kind == c"A":
            if end - at < 4:
                return MALFORMED
            length = _read_long(at)
            at += 4
        else:
            return UNKNOWN_TYPE
        if end - at < length:
            return MALFORMED
        if kind == c"F" or kind == c"A":
            flaw = _check(at, at + length, kind == c"F", depth + 1)
            if flaw != SOUND:
                return flaw
        at += length
    return SOUND


# ---------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------

# Names come again and again: of headers, tasks, queues. Each has one slot, and keeps it until
# another name needs that. A hit costs a third of a new string, whose hash is yet to be computed.
cdef (PyObject *)[NAME_SLOTS] _names


cdef str name_of(amqp_bytes_t text):
    """*text* as a string, the same object for the same name as a rule. What is no UTF-8 is replaced."""
    cdef const uint8_t *at = <const uint8_t *> text.bytes
    cdef Py_ssize_t known_size, size = text.len
    cdef const char *known
    cdef uint32_t slot
    cdef str name
    if not 0 < size <= NAME_BYTES:
        return PyUnicode_DecodeUTF8(<const char *> at, size, "replace") if size else ""
    slot = (size * 7919 + at[0] * 31 + at[size // 2] * 131 + at[size - 1] * 521) % NAME_SLOTS
    if _names[slot] is not NULL:
        known = PyUnicode_AsUTF8AndSize(<object> _names[slot], &known_size)
        if known_size == size and memcmp(known, at, size) == 0:
            return <str> _names[slot]
    name = PyUnicode_DecodeUTF8(<const char *> at, size, "replace")
    Py_INCREF(name)
    cdef PyObject *old = _names[slot]
    _names[slot] = <PyObject *> name
    Py_XDECREF(old)
    return name


cdef object text_of(amqp_bytes_t text):
    """*text* as a string where it is UTF-8, or what Python makes of a lone surrogate; else as bytes."""
    try:
        return PyUnicode_DecodeUTF8(<const char *> text.bytes, text.len, NULL)
    except UnicodeDecodeError:
        pass
    data = PyBytes_FromStringAndSize(<const char *> text.bytes, text.len)
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data


cdef object value_of(amqp_field_value_t *value):
    """The Python value of a field."""
    cdef uint8_t kind = value.kind
    if kind == c"V":
        return None
    if kind == c"S":
        return text_of(value.value.bytes)
    if kind == c"I":
        return value.value.i32
    if kind == c"t":
        return value.value.boolean != 0
    if kind == c"A":
        return _list_of(&value.value.array)
    if kind == c"F":
        return dict_of(&value.value.table)
    # Celery's sender writes negative integers under L too, so it is read as signed.
    if kind == c"l" or kind == c"L":
        return value.value.i64
    if kind == c"d":
        return value.value.f64
    if kind == c"T":
        return _moment(value.value.u64)
    if kind == c"x":
        return PyBytes_FromStringAndSize(<const char *> value.value.bytes.bytes, value.value.bytes.len)
    if kind == c"D":
        return Decimal(<int32_t> value.value.decimal.value).scaleb(-<int> value.value.decimal.decimals)
    if kind == c"i":
        return value.value.u32
    if kind == c"b":
        return value.value.i8
    if kind == c"B":
        return value.value.u8
    if kind == c"s":
        return value.value.i16
    if kind == c"u":
        return value.value.u16
    if kind == c"f":
        return <double> value.value.f32
    raise RemoteProtocolError(f"a table has a field of the unknown type {chr(kind)!r}")


cdef object _moment(uint64_t seconds):
    """The time of a timestamp, aware, in UTC; one beyond the year 9999 stays a number."""
    try:
        return EPOCH + dt.timedelta(seconds=seconds)
    except OverflowError:
        return seconds


cdef list _list_of(amqp_array_t *array):
    cdef int i
    cdef list items = []
    for i in range(array.num_entries):
        items.append(value_of(&array.entries[i]))
    return items


cdef dict dict_of(amqp_table_t *table):
    """The dict of a table; of entries with one key the last counts."""
    cdef int i
    cdef dict found = {}
    for i in range(table.num_entries):
        found[name_of(table.entries[i].key)] = value_of(&table.entries[i].value)
    return found


# ---------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------

cdef int fill_short(str text, amqp_bytes_t *out, what) except -1:
    """Let *out* borrow the UTF-8 of *text*; raises `EncodeError` about *what* if that has over 255 bytes."""
    cdef Py_ssize_t size = 0
    try:
        out.bytes = <void *> PyUnicode_AsUTF8AndSize(text, &size)
    except UnicodeEncodeError:
        raise EncodeError(f"{what} is {text!r}, which is not valid Unicode") from None
    if size > SHORT_BYTES:
        raise EncodeError(f"{what} has {size} bytes, and AMQP takes {SHORT_BYTES} at most: {text!r}")
    out.len = size
    return 0


cdef Py_ssize_t fill_table(dict source, amqp_table_t *table, amqp_pool_t *pool, int depth=1) except -1:
    """Make *table* out of *source*, in *pool*; returns how many bytes it takes when encoded.

    Strings are borrowed: *source* must live, and stay as it is, until the table is encoded.
    """
    cdef Py_ssize_t size = 4
    cdef int count = 0
    cdef amqp_table_entry_t *entry
    if depth > MAX_DEPTH:
        raise EncodeError(f"headers lie in each other more than {MAX_DEPTH} deep")
    table.num_entries = 0
    table.entries = <amqp_table_entry_t *> _alloc(pool, len(source) * sizeof(amqp_table_entry_t))
    for key, value in source.items():
        if not isinstance(key, str):
            raise EncodeError(f"a header has the name {key!r}, which is no string")
        entry = &table.entries[count]
        fill_short(key, &entry.key, "the name of a header")
        size += 2 + entry.key.len + _fill_value(key, value, &entry.value, pool, depth)
        count += 1
    table.num_entries = count
    return size


cdef Py_ssize_t _fill_value(key, value, amqp_field_value_t *out, amqp_pool_t *pool, int depth) except -1:
    """Make *out* of *value* in the header *key*; returns how many bytes follow the field's type."""
    if value is None:
        out.kind = c"V"
        return 0
    if isinstance(value, str):
        out.kind = c"S"
        return _fill_text(value, &out.value.bytes, pool)
    if isinstance(value, bool):
        out.kind = c"t"
        out.value.boolean = value
        return 1
    if isinstance(value, int):
        return _fill_integer(key, value, out)
    if isinstance(value, dict):
        out.kind = c"F"
        return fill_table(value, &out.value.table, pool, depth + 1)
    if isinstance(value, (list, tuple)):
        out.kind = c"A"
        return _fill_array(key, value, &out.value.array, pool, depth + 1)
    if isinstance(value, float):
        out.kind = c"d"
        out.value.f64 = value
        return 8
    if isinstance(value, bytes):
        out.kind = c"S"
        out.value.bytes.bytes = PyBytes_AS_STRING(value)
        out.value.bytes.len = PyBytes_GET_SIZE(value)
        return 4 + PyBytes_GET_SIZE(value)
    if isinstance(value, dt.datetime):
        out.kind = c"T"
        out.value.u64 = seconds_of(value)
        return 8
    if isinstance(value, Decimal):
        return _fill_decimal(key, value, out)
    raise EncodeError(
        f"the header {key!r} holds a {type(value).__name__}, for which AMQP has no form: {value!r}")


cdef Py_ssize_t _fill_text(str text, amqp_bytes_t *out, amqp_pool_t *pool) except -1:
    cdef Py_ssize_t size = 0
    cdef bytes data
    try:
        out.bytes = <void *> PyUnicode_AsUTF8AndSize(text, &size)
    except UnicodeEncodeError:
        data = text.encode("utf-8", "surrogatepass")  # as Celery's sender writes it
        size = PyBytes_GET_SIZE(data)
        out.bytes = _alloc(pool, size)
        memcpy(out.bytes, PyBytes_AS_STRING(data), size)
    out.len = size
    return 4 + size


cdef Py_ssize_t _fill_integer(key, value, amqp_field_value_t *out) except -1:
    cdef int64_t number
    try:
        number = value
    except OverflowError:
        raise EncodeError(f"the header {key!r} holds {value}, which does not fit 64 bits") from None
    if INT32_MIN <= number <= INT32_MAX:
        out.kind = c"I"
        out.value.i32 = <int32_t> number
        return 4
    out.kind = c"l"
    out.value.i64 = number
    return 8


cdef Py_ssize_t _fill_array(key, values, amqp_array_t *array, amqp_pool_t *pool, int depth) except -1:
    cdef Py_ssize_t size = 4, total = len(values)
    cdef int count = 0
    if depth > MAX_DEPTH:
        raise EncodeError(f"headers lie in each other more than {MAX_DEPTH} deep")
    array.num_entries = 0
    array.entries = <amqp_field_value_t *> _alloc(pool, total * sizeof(amqp_field_value_t))
    for value in values:
        if count == total:
            break  # a list that another thread lets grow
        size += 1 + _fill_value(key, value, &array.entries[count], pool, depth)
        count += 1
    array.num_entries = count
    return size


cdef Py_ssize_t _fill_decimal(key, value, amqp_field_value_t *out) except -1:
    cdef int32_t unscaled
    try:
        scale = max(0, -value.as_tuple().exponent)
        unscaled = int(value.scaleb(scale))
        out.value.decimal.decimals = scale
    except (ArithmeticError, TypeError, ValueError):
        raise EncodeError(f"the header {key!r} holds {value}, which is no decimal of 32 bits") from None
    out.kind = c"D"
    out.value.decimal.value = <uint32_t> unscaled
    return 5


cdef uint64_t seconds_of(when) except? 0:
    """The timestamp of the datetime *when*; a naive one is in UTC, as Celery's sender has it."""
    if when.tzinfo is None:
        when = when.replace(tzinfo=dt.timezone.utc)
    seconds = (when - EPOCH) // dt.timedelta(seconds=1)
    if seconds < 0:
        raise EncodeError(f"AMQP has no timestamps before 1970: {when.isoformat()}")
    return seconds


cdef void *_alloc(amqp_pool_t *pool, size_t size) except NULL:
    """Memory in *pool*, at least a byte."""
    cdef void *found = amqp_pool_alloc(pool, size or 1)
    if found is NULL:
        raise MemoryError
    return found


# ---------------------------------------------------------------------------
# Tables by themselves
# ---------------------------------------------------------------------------

def encode_table(dict source) -> bytes:
    """*source* as a field table. Raises `EncodeError` for what AMQP has no form for."""
    cdef amqp_pool_t pool
    cdef amqp_table_t table
    cdef amqp_bytes_t encoded
    cdef size_t offset = 0
    cdef Py_ssize_t size
    cdef bytes data
    init_amqp_pool(&pool, POOL_BYTES)
    try:
        size = fill_table(source, &table, &pool)
        data = PyBytes_FromStringAndSize(NULL, size)
        encoded.bytes = PyBytes_AS_STRING(data)
        encoded.len = size
        if amqp_encode_table(encoded, &table, &offset) < 0 or offset != <size_t> size:
            raise EncodeError(f"librabbitmq can't encode the table {source!r}")
        return data
    finally:
        empty_amqp_pool(&pool)


def decode_table(bytes data) -> dict:
    """The dict of a field table. Raises `RemoteProtocolError` if *data* is none, or more than one."""
    cdef amqp_pool_t pool
    cdef amqp_table_t table
    cdef amqp_bytes_t encoded
    cdef size_t offset = 0
    cdef Py_ssize_t used = 0
    encoded.bytes = PyBytes_AS_STRING(data)
    encoded.len = PyBytes_GET_SIZE(data)
    cdef Flaw flaw = find_flaw(<const uint8_t *> encoded.bytes, encoded.len, &used)
    if flaw == SOUND and used != <Py_ssize_t> encoded.len:
        flaw = MALFORMED
    if flaw != SOUND:
        raise RemoteProtocolError(f"a table of {len(data)} bytes can't be read: {flaw_text(flaw)}")
    memset(&table, 0, sizeof(table))
    init_amqp_pool(&pool, POOL_BYTES)
    try:
        if amqp_decode_table(encoded, &pool, &table, &offset) < 0:
            raise RemoteProtocolError(f"a table of {len(data)} bytes can't be read by librabbitmq")
        return dict_of(&table)
    finally:
        empty_amqp_pool(&pool)
