"""AMQP 0-9-1 frames by the letter of the specification: the slow twin of `fastq._core.amqp`."""

from __future__ import annotations

import datetime as dt
import struct
from decimal import Decimal
from typing import Any

# Arguments in their order: octet, short (h), long, long long (q), short string, long String, bit, table (F).
ARGUMENTS = {
    (10, 10): "ooFSS",
    (10, 11): "FsSs",
    (10, 20): "S",
    (10, 21): "S",
    (10, 30): "hlh",
    (10, 31): "hlh",
    (10, 40): "ssb",
    (10, 41): "s",
    (10, 50): "hshh",
    (10, 51): "",
    (10, 60): "s",
    (10, 61): "",
    (20, 10): "s",
    (20, 11): "S",
    (20, 20): "b",
    (20, 21): "b",
    (20, 40): "hshh",
    (20, 41): "",
    (40, 10): "hssbbbbbF",
    (40, 11): "",
    (40, 20): "hsbb",
    (40, 21): "",
    (40, 30): "hsssbF",
    (40, 31): "",
    (40, 40): "hsssbF",
    (40, 51): "",
    (50, 10): "hsbbbbbF",
    (50, 11): "sll",
    (50, 20): "hsssbF",
    (50, 21): "",
    (50, 30): "hsb",
    (50, 31): "l",
    (50, 40): "hsbbb",
    (50, 41): "l",
    (50, 50): "hsssF",
    (50, 51): "",
    (60, 10): "lhb",
    (60, 11): "",
    (60, 20): "hssbbbbF",
    (60, 21): "s",
    (60, 30): "sb",
    (60, 31): "s",
    (60, 40): "hssbb",
    (60, 50): "hsss",
    (60, 60): "sqbss",
    (60, 70): "hsb",
    (60, 71): "qbssl",
    (60, 72): "s",
    (60, 80): "qb",
    (60, 90): "qb",
    (60, 110): "b",
    (60, 111): "",
    (60, 120): "qbb",
    (85, 10): "b",
    (85, 11): "",
}
PROPERTIES = (
    ("content_type", "s"),
    ("content_encoding", "s"),
    ("headers", "F"),
    ("delivery_mode", "o"),
    ("priority", "o"),
    ("correlation_id", "s"),
    ("reply_to", "s"),
    ("expiration", "s"),
    ("message_id", "s"),
    ("timestamp", "q"),
    ("type", "s"),
    ("user_id", "s"),
    ("app_id", "s"),
    ("cluster_id", "s"),
)
NUMBERS = {"o": "B", "h": "H", "l": "I", "q": "Q"}
# Of table fields with a fixed length: how struct reads them. L is signed, as Celery's sender means it.
SCALARS = {"b": "b", "B": "B", "s": "h", "u": "H", "I": "i", "i": "I", "l": "q", "L": "q", "f": "f", "d": "d"}


class Broken(Exception):
    """Bytes that are not what they must be."""


class Reader:
    """Takes values from the front of *data*."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        if size > len(self.data):
            raise Broken(f"{size} bytes wanted, {len(self.data)} there")
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def number(self, code: str) -> Any:
        return struct.unpack(f">{code}", self.take(struct.calcsize(code)))[0]

    def short_string(self) -> str:
        return self.take(self.number("B")).decode("utf-8", "replace")

    def long_string(self) -> bytes:
        return self.take(self.number("I"))

    def table(self) -> dict[str, Any]:
        inner, found = Reader(self.long_string()), {}
        while inner.data:
            key = inner.short_string()
            found[key] = inner.field()
        return found

    def field(self) -> Any:
        kind = self.take(1).decode("latin-1")
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == "t":
            return self.number("B") != 0
        if kind == "D":
            scale, value = self.number("B"), self.number("i")
            return Decimal(value).scaleb(-scale)
        if kind == "T":
            return moment(self.number("Q"))
        if kind == "S":
            return text(self.long_string())
        if kind == "x":
            return self.long_string()
        if kind == "F":
            return self.table()
        if kind == "A":
            inner, items = Reader(self.long_string()), []
            while inner.data:
                items.append(inner.field())
            return items
        if kind == "V":
            return None
        raise Broken(f"field type {kind!r}")

    def arguments(self, codes: str) -> list[Any]:
        found: list[Any] = []
        bits, octet = 0, 0
        for code in codes:
            if code == "b":
                if bits % 8 == 0:
                    octet = self.number("B")
                found.append(bool(octet >> bits % 8 & 1))
                bits += 1
                continue
            bits = 0
            found.append(self.argument(code))
        return found

    def argument(self, code: str) -> Any:
        if code in NUMBERS:
            return self.number(NUMBERS[code])
        return {"s": self.short_string, "S": self.long_string, "F": self.table}[code]()

    def properties(self) -> dict[str, Any]:
        flags = self.number("H")
        return {
            name: self.argument(code)
            for place, (name, code) in enumerate(PROPERTIES)
            if flags >> (15 - place) & 1
        }


def moment(seconds: int) -> Any:
    try:
        return dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(seconds=seconds)
    except OverflowError:
        return seconds


def text(data: bytes) -> Any:
    for errors in ("strict", "surrogatepass"):
        try:
            return data.decode("utf-8", errors)
        except UnicodeDecodeError:
            pass
    return data


def short(value: str) -> bytes:
    data = value.encode()
    return bytes([len(data)]) + data


def long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def encode_table(table: dict[str, Any]) -> bytes:
    return long(b"".join(short(key) + encode_field(value) for key, value in table.items()))


def encode_field(value: Any) -> bytes:
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t" + bytes([value])
    if isinstance(value, int):
        narrow = -(2**31) <= value < 2**31
        return (b"I" if narrow else b"l") + struct.pack(">i" if narrow else ">q", value)
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"S" + long(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return b"S" + long(value)
    if isinstance(value, dict):
        return b"F" + encode_table(value)
    if isinstance(value, list | tuple):
        return b"A" + long(b"".join(map(encode_field, value)))
    if isinstance(value, Decimal):
        sign, digits, exponent = value.as_tuple()
        assert isinstance(exponent, int)
        unscaled = int("".join(map(str, digits))) * (-1) ** sign * 10 ** max(0, exponent)
        return b"D" + struct.pack(">Bi", max(0, -exponent), unscaled)
    assert isinstance(value, dt.datetime)
    return b"T" + struct.pack(">Q", int(value.timestamp()))


def encode_argument(code: str, value: Any) -> bytes:
    if code in NUMBERS:
        return struct.pack(f">{NUMBERS[code]}", value)
    return {"s": short, "S": long, "F": encode_table}[code](value)


def encode_arguments(codes: str, values: list[Any]) -> bytes:
    parts: list[bytes] = []
    bits = 0
    for code, value in zip(codes, values, strict=True):
        if code != "b":
            bits = 0
            parts.append(encode_argument(code, value))
            continue
        if bits % 8 == 0:
            parts.append(b"\0")
        parts[-1] = bytes([parts[-1][0] | value << bits % 8])
        bits += 1
    return b"".join(parts)


def encode_properties(properties: dict[str, Any]) -> bytes:
    flags, parts = 0, []
    for place, (name, code) in enumerate(PROPERTIES):
        if name in properties:
            flags |= 1 << 15 - place
            parts.append(encode_argument(code, properties[name]))
    return struct.pack(">H", flags) + b"".join(parts)


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method_frame(channel: int, method: tuple[int, int], values: list[Any]) -> bytes:
    payload = struct.pack(">HH", *method) + encode_arguments(ARGUMENTS[method], values)
    return frame(1, channel, payload)


def content_frames(channel: int, properties: dict[str, Any], body: bytes, frame_max: int = 131072) -> bytes:
    header = struct.pack(">HHQ", 60, 0, len(body)) + encode_properties(properties)
    step = frame_max - 8
    parts = [body[start : start + step] for start in range(0, len(body), step)]
    return frame(2, channel, header) + b"".join(frame(3, channel, part) for part in parts)
