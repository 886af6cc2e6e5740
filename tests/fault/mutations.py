"""Messages that are almost right: captured ones with something changed at random."""

from __future__ import annotations

import json
import random
from base64 import b64decode, b64encode
from binascii import Error
from typing import Any

# What a field may hold that should hold something else.
JUNK: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**64, -(2**70), 0.5, 1e308, "", "x", "é" * 50, "\ud800", "\0",
    "1", "nan",
    "2999-01-01T00:00:00+00:00", "1999-01-01T00:00:00", "0001-01-01T00:00:00+14:00", "not a time",
    "application/json", "application/x-python-serialize", "application/x-msgpack", "application/x-yaml",
    "base64", "utf-8", "binary", "no-such-codec", "application/x-gzip", "zstd",
    [], [None], [[], {}, {}], [1, 2, 3, 4], {}, {"a": {"b": []}}, {"__type__": "datetime", "__value__": "x"},
)  # fmt: skip


def mutate(rng: random.Random, raw: bytes) -> bytes:
    """*raw* with its bytes, or what they mean, changed in one to three places."""
    for _ in range(rng.randint(1, 3)):
        raw = rng.choice((_change_bytes, _change_value, _change_value, _change_body))(rng, raw)
    return raw


def _change_bytes(rng: random.Random, raw: bytes) -> bytes:
    if not raw:
        return bytes([rng.randrange(256)])
    at, length = rng.randrange(len(raw)), rng.randint(1, 20)
    how = rng.randrange(5)
    if how == 0:
        return raw[:at]
    if how == 1:
        return raw[:at] + raw[at + length :]
    if how == 2:
        return raw[:at] + raw[at : at + length] * 2 + raw[at + length :]
    if how == 3:
        return raw[:at] + rng.randbytes(rng.randint(1, 4)) + raw[at + 1 :]
    return raw[:at] + bytes([raw[at] ^ (1 << rng.randrange(8))]) + raw[at + 1 :]


def _change_value(rng: random.Random, raw: bytes) -> bytes:
    """Replace, remove or add one value somewhere in the envelope."""
    try:
        envelope = json.loads(raw)
    except ValueError:
        return _change_bytes(rng, raw)
    if not _change_somewhere(rng, envelope):
        return json.dumps(rng.choice(JUNK)).encode()
    return json.dumps(envelope).encode()


def _change_body(rng: random.Random, raw: bytes) -> bytes:
    """The same within a JSON body; else some of its bytes."""
    try:
        envelope = json.loads(raw)
        body = b64decode(envelope["body"])
    except (ValueError, TypeError, KeyError, Error):
        return _change_value(rng, raw)
    envelope["body"] = b64encode(rng.choice((_change_bytes, _change_value))(rng, body)).decode()
    return json.dumps(envelope).encode()


def _change_somewhere(rng: random.Random, value: Any) -> bool:
    """Change *value* in place at a random depth; False if it holds nothing that can be changed."""
    if not isinstance(value, dict | list) or not value:
        return False
    key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
    if rng.random() < 0.7 and _change_somewhere(rng, value[key]):
        return True
    how = rng.randrange(4)
    if how == 0:
        del value[key]
    elif how == 1 and isinstance(value, dict):
        value[str(rng.choice(JUNK))[:20]] = value[key]
    else:
        value[key] = rng.choice(JUNK)
    return True
