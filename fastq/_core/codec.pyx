"""JSON as Kombu writes it, with its tagged types (docs/PROTOCOL.md §2.2, §2.3).

orjson does the work wherever it and the standard library agree on the value. A quick walk
finds what orjson would write differently (subclasses, dates, UUIDs, NaN), a quick scan what
it would read differently (tags, integers over 64 bits); those, and all that orjson refuses,
go to the standard library's json (`tags`).

Short texts of the simplest values, which most messages are, are written here. A client that
sends no others never imports orjson, which brings dataclasses, inspect and uuid along: 15 ms.
"""

from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.exc cimport PyErr_Clear
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_CheckExact
from libc.math cimport isfinite
from libc.string cimport memcpy

from fastq.exceptions import DecodeError, EncodeError

cdef extern from "<string.h>" nogil:
    void *memmem(const void *haystack, size_t size, const void *needle, size_t needle_size)

# Cython's own declarations take objects, and would count a reference for each value walked over.
cdef extern from "Python.h":
    PyObject *Py_None
    PyObject *Py_True
    bint is_str "PyUnicode_CheckExact"(PyObject *obj) noexcept
    bint is_int "PyLong_CheckExact"(PyObject *obj) noexcept
    bint is_bool "PyBool_Check"(PyObject *obj) noexcept
    bint is_float "PyFloat_CheckExact"(PyObject *obj) noexcept
    bint is_dict "PyDict_CheckExact"(PyObject *obj) noexcept
    bint is_list "PyList_CheckExact"(PyObject *obj) noexcept
    bint is_tuple "PyTuple_CheckExact"(PyObject *obj) noexcept
    double PyFloat_AS_DOUBLE(PyObject *number) noexcept
    long long integer "PyLong_AsLongLongAndOverflow"(PyObject *number, int *overflow) noexcept
    const char *utf8 "PyUnicode_AsUTF8AndSize"(PyObject *text, Py_ssize_t *size) noexcept
    int PyDict_Next(PyObject *map, Py_ssize_t *at, PyObject **key, PyObject **value) noexcept
    Py_ssize_t PyList_GET_SIZE(PyObject *items) noexcept
    PyObject *PyList_GET_ITEM(PyObject *items, Py_ssize_t i) noexcept
    Py_ssize_t PyTuple_GET_SIZE(PyObject *items) noexcept
    PyObject *PyTuple_GET_ITEM(PyObject *items, Py_ssize_t i) noexcept

# Bytes that are written without orjson: a message's body and envelope, as a rule. Beyond that
# orjson is the quicker one.
cdef enum:
    SHORT_BYTES = 2048
# What anything but a text takes at most: 20 bytes for an integer, and one for what follows it.
cdef enum:
    SCALAR_BYTES = 21

# orjson refuses to write deeper nesting; the standard library goes on to the recursion limit.
cdef enum:
    MAX_PLAIN_DEPTH = 254

# Integers of up to 18 digits, and no shorter ones, surely fit 64 bits.
cdef enum:
    LONG_NUMBER_DIGITS = 19


# ---------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------

def json_dumps(obj) -> bytes:
    """Write *obj* as UTF-8 JSON, with Kombu's tags for what JSON has no form for.

    Tagged are datetime, date, time, Decimal, UUID, bytes and what `register_type` added; an
    object with ``__json__()`` is written as that returns. NaN and infinities are written as
    Celery does: ``NaN``, ``Infinity``, ``-Infinity``. Raises `EncodeError`.
    """
    cdef char short[SHORT_BYTES]
    cdef char *end = _write(<PyObject *> obj, short, short + SHORT_BYTES, 0)
    if end is not NULL:
        return PyBytes_FromStringAndSize(short, end - short)
    if _is_plain(<PyObject *> obj, 0):
        try:
            return _orjson().dumps(obj)
        except TypeError:
            pass  # an integer over 64 bits or a lone surrogate: the standard library writes both
    try:
        return _tags().encode(obj).encode("ascii")
    except Exception as exc:  # `__json__` and registered encoders are the user's code
        raise EncodeError(f"can't write {type(obj).__name__} as JSON: {exc}") from exc


cdef char *_write(PyObject *obj, char *at, const char *end, int depth) noexcept:
    """Write *obj* at *at* and return where it ends, below *end*.

    NULL if there is no room, or if *obj* holds anything but texts, integers of 64 bits, bools,
    None, lists, tuples and dicts: floats too are better left to orjson.
    """
    # Every pointer is borrowed: nothing here runs Python code that could free a value.
    cdef int overflow = 0
    cdef long long number
    if is_str(obj):
        return _write_text(obj, at, end)
    if end - at < SCALAR_BYTES:
        return NULL
    if is_dict(obj):
        return _write_map(obj, at, end, depth)
    if is_list(obj) or is_tuple(obj):
        return _write_items(obj, at, end, depth)
    if obj is Py_None:
        memcpy(at, b"null", 4)
        return at + 4
    if is_bool(obj):
        if obj is Py_True:
            memcpy(at, b"true", 4)
            return at + 4
        memcpy(at, b"false", 5)
        return at + 5
    if is_int(obj):
        number = integer(obj, &overflow)
        return NULL if overflow else _write_integer(number, at)
    return NULL


cdef char *_write_map(PyObject *map, char *at, const char *end, int depth) noexcept:
    cdef PyObject *key
    cdef PyObject *value
    cdef Py_ssize_t position = 0
    cdef char *start = at
    if depth >= MAX_PLAIN_DEPTH:
        return NULL
    while PyDict_Next(map, &position, &key, &value):
        at[0] = c"{" if at is start else c","
        if not is_str(key):
            return NULL
        at = _write_text(key, at + 1, end)
        if at is NULL:
            return NULL
        at[0] = c":"
        at = _write(value, at + 1, end, depth + 1)
        if at is NULL:
            return NULL
    if at is start:
        at[0] = c"{"
        at += 1
    return _close(c"}", at, end)


cdef char *_write_items(PyObject *items, char *at, const char *end, int depth) noexcept:
    cdef PyObject *item
    cdef bint is_in_list = is_list(items)
    cdef Py_ssize_t i
    cdef Py_ssize_t size = PyList_GET_SIZE(items) if is_in_list else PyTuple_GET_SIZE(items)
    if depth >= MAX_PLAIN_DEPTH:
        return NULL
    at[0] = c"["
    at += 1
    for i in range(size):
        if i:
            at[0] = c","
            at += 1
        item = PyList_GET_ITEM(items, i) if is_in_list else PyTuple_GET_ITEM(items, i)
        at = _write(item, at, end, depth + 1)
        if at is NULL:
            return NULL
    return _close(c"]", at, end)


cdef char *_close(char bracket, char *at, const char *end) noexcept:
    """Write *bracket*, if that leaves room for what follows it."""
    if end - at < 2:
        return NULL
    at[0] = bracket
    return at + 1


cdef char *_write_integer(long long number, char *at) noexcept:
    cdef char digits[20]
    cdef int i = 20
    # The lowest of all has no positive counterpart of its own type.
    cdef unsigned long long left = number if number >= 0 else 0 - <unsigned long long> number
    while True:
        i -= 1
        digits[i] = c"0" + <char> (left % 10)
        left //= 10
        if not left:
            break
    if number < 0:
        i -= 1
        digits[i] = c"-"
    memcpy(at, digits + i, 20 - i)
    return at + 20 - i


# By the byte: a table is twice as quick as three comparisons.
cdef unsigned char[256] _needs_escape
for _code in range(256):
    _needs_escape[_code] = _code < 0x20 or _code == c'"' or _code == c"\\"


cdef char *_write_text(PyObject *text, char *at, const char *end) noexcept:
    cdef Py_ssize_t size, run, start = 0, i = 0
    cdef const char *source = utf8(text, &size)
    if source is NULL:
        PyErr_Clear()  # a lone surrogate
        return NULL
    if end - at < size + 3:
        return NULL
    at[0] = c'"'
    at += 1
    while True:
        while i < size and not _needs_escape[<unsigned char> source[i]]:
            i += 1
        run = i - start
        # After the run come an escape of six bytes at most, or a quote; then a comma or a colon.
        if end - at < run + 7:
            return NULL
        memcpy(at, source + start, run)
        at += run
        if i == size:
            at[0] = c'"'
            return at + 1
        at = _write_escape(source[i], at)
        i += 1
        start = i


cdef char *_write_escape(unsigned char char, char *at) noexcept:
    """Write the escape of *char*, as the standard library does."""
    at[0] = c"\\"
    if char == c'"' or char == c"\\":
        at[1] = char
    elif char == c"\n":
        at[1] = c"n"
    elif char == c"\t":
        at[1] = c"t"
    elif char == c"\r":
        at[1] = c"r"
    elif char == c"\b":
        at[1] = c"b"
    elif char == c"\f":
        at[1] = c"f"
    else:
        memcpy(at + 1, b"u00", 3)
        at[4] = b"0123456789abcdef"[char >> 4]
        at[5] = b"0123456789abcdef"[char & 15]
        return at + 6
    return at + 2


cdef bint _is_plain(PyObject *obj, int depth) noexcept:
    """Whether orjson and the standard library write the same value for *obj*, or orjson refuses it."""
    # Every pointer is borrowed: nothing here runs Python code that could free a value.
    cdef PyObject *key
    cdef PyObject *value
    cdef Py_ssize_t i, at = 0
    if is_str(obj) or obj is Py_None or is_int(obj) or is_bool(obj):
        return True
    if is_float(obj):
        return isfinite(PyFloat_AS_DOUBLE(obj))
    if depth >= MAX_PLAIN_DEPTH:
        return False
    if is_dict(obj):
        while PyDict_Next(obj, &at, &key, &value):
            if not is_str(key) or not _is_plain(value, depth + 1):
                return False
        return True
    if is_list(obj):
        for i in range(PyList_GET_SIZE(obj)):
            if not _is_plain(PyList_GET_ITEM(obj, i), depth + 1):
                return False
        return True
    if is_tuple(obj):
        for i in range(PyTuple_GET_SIZE(obj)):
            if not _is_plain(PyTuple_GET_ITEM(obj, i), depth + 1):
                return False
        return True
    return False


# ---------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------

def json_loads(data):
    """Read the JSON text *data* (str, or UTF-8 as bytes), tagged values as what they stand for.

    Integers of any size, NaN and infinities are read; so are lone surrogates, written as
    escapes. Raises `DecodeError`, for an unknown tag too.
    """
    cdef const char *text
    cdef Py_ssize_t size
    if PyBytes_CheckExact(data):
        text = PyBytes_AS_STRING(data)
        size = PyBytes_GET_SIZE(data)
    elif PyUnicode_CheckExact(data):
        try:
            text = PyUnicode_AsUTF8AndSize(data, &size)
        except UnicodeEncodeError:
            return _read(data)
    else:
        return json_loads(bytes(data))
    if memmem(text, size, b'"__type__"', 10) is NULL and not _has_long_number(text, size):
        try:
            return _orjson().loads(data)
        except ValueError:
            pass  # not JSON at all, or what orjson refuses and Celery writes: NaN, a lone surrogate
    return _read(data)


cdef bint _has_long_number(const char *text, Py_ssize_t size) noexcept:
    """Whether *text* holds a run of digits that may be an integer over 64 bits."""
    # Such a run covers one of every 19 places, so only those are looked at.
    cdef Py_ssize_t start, end, probe = LONG_NUMBER_DIGITS - 1
    while probe < size:
        end = probe
        if b"0" <= text[probe] <= b"9":
            start = probe
            while start > 0 and b"0" <= text[start - 1] <= b"9":
                start -= 1
            while end + 1 < size and b"0" <= text[end + 1] <= b"9":
                end += 1
            if end + 1 - start >= LONG_NUMBER_DIGITS:
                return True
        probe = end + LONG_NUMBER_DIGITS
    return False


cdef object _read(data):
    """Read *data* with the standard library, and turn whatever goes wrong into `DecodeError`."""
    try:
        return _tags().decode(data if isinstance(data, str) else data.decode("utf-8"))
    except DecodeError:
        raise
    except (ValueError, RecursionError) as exc:
        raise DecodeError(f"not JSON: {exc}") from exc


# ---------------------------------------------------------------------------
# What is imported late
# ---------------------------------------------------------------------------

cdef object _orjson_module = None
cdef object _tags_module = None


cdef object _orjson():
    global _orjson_module
    if _orjson_module is None:
        import orjson

        _orjson_module = orjson
    return _orjson_module


cdef object _tags():
    global _tags_module
    if _tags_module is None:
        from fastq._core import tags  # with json, uuid and decimal, 6 ms

        _tags_module = tags
    return _tags_module


def register_type(type cls, str marker, encoder, decoder=None):
    """Write instances of *cls* as ``encoder(obj)`` under the tag *marker*, and read them with *decoder*.

    With *marker* None the value is written bare, and read as what JSON makes of it. The
    registry is the process's: every sender and reader must register the same.
    """
    _tags().register_type(cls, marker, encoder, decoder)
