"""How a parent and its children write to each other: plain values, each with its length before it.

A frame is four bytes of length (little-endian) and a value in the form of `marshal`, which is the
fastest that Python has and knows only plain types. What it refuses (a Decimal in a header) is
pickled; both ends are the same program. Bytes in, values out: no sockets here.
"""

from __future__ import annotations

import marshal
import pickle
from struct import Struct
from typing import Any

HEADER = Struct("<I")

# Version 2 writes no back references, whose bookkeeping costs more than they save here.
MARSHAL_VERSION = 2

# In place of a position: the value is a map of task name to (hard limit, soft limit).
LIMITS = -1

# In place of a position: the value says whether outcomes are to have what events tell of them.
SHOWS = -2

# The first byte of every pickle of protocol 2 and later; no tuple starts so in `marshal`.
PICKLE_MARK = 0x80


def encode(value: tuple[Any, ...]) -> bytes:
    """The frame of *value*. Raises ValueError when it passes 4 GiB."""
    try:
        payload = marshal.dumps(value, MARSHAL_VERSION)
    except ValueError:
        payload = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    if len(payload) >= 1 << 32:
        raise ValueError(f"{len(payload)} bytes pass the 4 GiB of one frame")
    return HEADER.pack(len(payload)) + payload


def decode(payload: bytes | memoryview) -> Any:
    """The value whose `encode` gave *payload* behind the header."""
    if payload[0] == PICKLE_MARK:
        return pickle.loads(payload)
    return marshal.loads(payload)


class FrameDecoder:
    """Cuts a stream of bytes into the values of its frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()  # the beginning of a frame
        self._needed = 0  # length of *buffer* with which that frame is whole

    def feed(self, data: bytes) -> list[Any]:
        """The values that *data* completes, in order."""
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            data = bytes(self._buffer)
            self._buffer.clear()
        return self._cut(data)

    def _cut(self, data: bytes) -> list[Any]:
        values = []
        view = memoryview(data)
        at, size = 0, len(data)
        self._needed = HEADER.size
        while at + HEADER.size <= size:
            end = at + HEADER.size + HEADER.unpack_from(data, at)[0]
            if end > size:
                self._needed = end - at
                break
            values.append(decode(view[at + HEADER.size : end]))
            at = end
        self._buffer += view[at:]
        return values
