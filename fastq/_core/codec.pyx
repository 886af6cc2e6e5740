"""JSON as Kombu writes it, with its tagged types (protocol/PROTOCOL.md §2.2, §2.3).

orjson does the work wherever it and the standard library agree on the value. A quick walk
finds what orjson would write differently (subclasses, dates, UUIDs, NaN), a quick scan what
it would read differently (tags, integers over 64 bits); those, and all that orjson refuses,
go to the standard library's json.
"""

import json
import sys
import uuid
from binascii import a2b_base64, b2a_base64
from datetime import date, datetime, time
from decimal import Decimal

import orjson

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_CheckExact
from libc.math cimport isfinite

from fastq.exceptions import DecodeError, EncodeError

cdef extern from "<string.h>" nogil:
    void *memmem(const void *haystack, size_t size, const void *needle, size_t needle_size)

# Cython's own declarations take objects, and would count a reference for each value walked over.
cdef extern from "Python.h":
    PyObject *Py_None
    bint is_str "PyUnicode_CheckExact"(PyObject *obj) noexcept
    bint is_int "PyLong_CheckExact"(PyObject *obj) noexcept
    bint is_bool "PyBool_Check"(PyObject *obj) noexcept
    bint is_float "PyFloat_CheckExact"(PyObject *obj) noexcept
    bint is_dict "PyDict_CheckExact"(PyObject *obj) noexcept
    bint is_list "PyList_CheckExact"(PyObject *obj) noexcept
    bint is_tuple "PyTuple_CheckExact"(PyObject *obj) noexcept
    double PyFloat_AS_DOUBLE(PyObject *number) noexcept
    int PyDict_Next(PyObject *map, Py_ssize_t *at, PyObject **key, PyObject **value) noexcept
    Py_ssize_t PyList_GET_SIZE(PyObject *items) noexcept
    PyObject *PyList_GET_ITEM(PyObject *items, Py_ssize_t i) noexcept
    Py_ssize_t PyTuple_GET_SIZE(PyObject *items) noexcept
    PyObject *PyTuple_GET_ITEM(PyObject *items, Py_ssize_t i) noexcept

cdef object _orjson_dumps = orjson.dumps
cdef object _orjson_loads = orjson.loads

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
    if _is_plain(<PyObject *> obj, 0):
        try:
            return _orjson_dumps(obj)
        except TypeError:
            pass  # an integer over 64 bits or a lone surrogate: the standard library writes both
    try:
        return _encode(obj).encode("ascii")
    except Exception as exc:  # `__json__` and registered encoders are the user's code
        raise EncodeError(f"can't write {type(obj).__name__} as JSON: {exc}") from exc


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


def _tag(obj):
    """The JSON form of an *obj* that the encoder does not know; Kombu asks in the same order."""
    reducer = getattr(obj, "__json__", None)
    if reducer is not None:
        return reducer()
    # Django's lazily translated texts. An object of that class exists only once its module does.
    lazy_text = sys.modules.get("django.utils.functional")
    if lazy_text is not None and isinstance(obj, lazy_text.Promise):
        return str(obj)
    for cls, (marker, encoder) in _encoders.items():
        if isinstance(obj, cls):
            value = encoder(obj)
            return value if marker is None else {"__type__": marker, "__value__": value}
    if isinstance(obj, bytes):
        return _tag_bytes(obj)
    name = type(obj).__name__
    raise TypeError(f"{name} has no form in JSON: give it a __json__ method or register its type")


def _tag_bytes(data):
    try:
        return {"__type__": "bytes", "__value__": data.decode("utf-8")}
    except UnicodeDecodeError:
        return {"__type__": "base64", "__value__": b2a_base64(data, newline=False).decode("ascii")}


cdef object _encode = json.JSONEncoder(default=_tag, separators=(",", ":")).encode


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
            return _orjson_loads(data)
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
        return _decode(data if isinstance(data, str) else data.decode("utf-8"))
    except DecodeError:
        raise
    except (ValueError, RecursionError) as exc:
        raise DecodeError(f"not JSON: {exc}") from exc


def _untag(dict map):
    """What the JSON object *map* stands for: itself, unless its only keys are a tag's."""
    if len(map) != 2 or "__type__" not in map or "__value__" not in map:
        return map
    marker, value = map["__type__"], map["__value__"]
    decoder = _decoders.get(marker) if isinstance(marker, str) else None
    if decoder is None:
        raise DecodeError(f"no JSON type is registered for the tag {marker!r}")
    try:
        return decoder(value)
    except Exception as exc:  # a registered decoder is the user's code
        raise DecodeError(f"{value!r} is no {marker}: {exc!r}") from exc


cdef object _decode = json.JSONDecoder(object_hook=_untag).decode


# ---------------------------------------------------------------------------
# Tags
# ---------------------------------------------------------------------------

def _read_datetime(str text):
    # Python 3.10 does not know the Z that other languages write.
    return datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)


def _read_date(str text):
    return _read_datetime(text).date()


def register_type(type cls, str marker, encoder, decoder=None):
    """Write instances of *cls* as ``encoder(obj)`` under the tag *marker*, and read them with *decoder*.

    With *marker* None the value is written bare, and read as what JSON makes of it. The
    registry is the process's: every sender and reader must register the same.
    """
    if marker is not None and decoder is None:
        raise TypeError(f"the tag {marker!r} needs a decoder, or nobody could read it")
    _encoders[cls] = (marker, encoder)
    if marker is not None:
        _decoders[marker] = decoder


# datetime stands before date, whose subclass it is.
cdef dict _encoders = {
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    Decimal: ("decimal", str),
    uuid.UUID: ("uuid", lambda value: {"hex": value.hex}),
}
cdef dict _decoders = {
    "datetime": _read_datetime,
    "date": _read_date,
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": lambda value: uuid.UUID(hex=value["hex"]),
    "bytes": lambda value: value.encode("utf-8"),
    "base64": a2b_base64,
}
