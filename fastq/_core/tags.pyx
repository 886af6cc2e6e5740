"""JSON by the standard library, with Kombu's tagged types (docs/PROTOCOL.md §2.2, §2.3).

`codec` leaves to it what orjson would write or read differently, and imports it for the first of that.
"""

import json
import sys
import uuid
from binascii import a2b_base64, b2a_base64
from datetime import date, datetime, time
from decimal import Decimal

from fastq.exceptions import DecodeError


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


encode = json.JSONEncoder(default=_tag, separators=(",", ":")).encode


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


decode = json.JSONDecoder(object_hook=_untag).decode


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
