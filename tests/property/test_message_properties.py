"""Envelopes: there and back, and damaged in every way."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.fixtures import all_envelopes

from fastq import serialization
from fastq._core.message import Message, decode_envelope, upgrade_v1
from fastq.exceptions import ContentDisallowed, DecodeError

NAMES = st.text(min_size=1).filter(lambda name: name.isprintable())
PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
HEADERS = st.dictionaries(st.text(), PLAIN | st.lists(PLAIN, max_size=3), max_size=5)
ACCEPT = serialization.content_types(["json", "msgpack", "yaml"])
MUTATIONS = 20_000
TOKENS = (
    b"null",
    b"true",
    b"[]",
    b"{}",
    b'""',
    b"-1",
    b"1e999",
    b"NaN",
    b"9" * 30,
    b'"\\ud800"',
    b"\xff",
    b"\0",
)


@given(
    NAMES,
    NAMES,
    HEADERS,
    st.binary(),
    st.sampled_from(["utf-8", "binary", "ascii-8bit"]),
    st.none() | st.integers(0, 255),
    NAMES,
)
def test_an_envelope_survives(task, task_id, headers, body, encoding, priority, key):
    headers = {**headers, "task": task, "id": task_id}
    sent = Message(
        task, task_id, headers, body, queue=key, content_encoding=encoding, priority=priority, exchange="x"
    )
    got = decode_envelope(sent.envelope())
    got.properties = sent.properties
    assert got.to_tuple() == sent.to_tuple()


def mutate(raw: bytes, random: random.Random) -> bytes:
    """Change, cut, repeat or replace some bytes."""
    data = bytearray(raw)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        at = random.randrange(len(data) + 1)
        end = min(len(data), at + random.choice((0, 1, 1, 4, 30)))
        match random.randrange(5):
            case 0:
                data[at:end] = random.randbytes(end - at)
            case 1:
                del data[at:end]
            case 2:
                data[at:at] = data[at:end]
            case 3:
                data[at:end] = random.choice(TOKENS)
            case 4:
                replace_value(data, at, random)
    return bytes(data)


def replace_value(data: bytearray, at: int, random: random.Random) -> None:
    """Put another JSON value behind the next colon: valid JSON, of the wrong type."""
    colon = data.find(b": ", at)
    if colon >= 0:
        ends = [end for end in (data.find(b", ", colon), data.find(b"}", colon)) if end >= 0]
        data[colon + 2 : min(ends, default=len(data))] = random.choice(TOKENS)


@pytest.mark.parametrize("part", range(4))
def test_a_damaged_envelope_reads_or_raises_decode_error(part):
    envelopes = all_envelopes()
    chance = random.Random(f"envelopes {part}")
    read = 0
    for _ in range(MUTATIONS // 4):
        raw = mutate(chance.choice(envelopes), chance)
        try:
            message = decode_envelope(raw)
            message.envelope()
            read_body(message)
        except (DecodeError, ContentDisallowed):
            continue
        read += 1
    assert 0 < read < MUTATIONS // 4


def read_body(message):
    body = message.body
    if "compression" in message.headers:
        body = serialization.decompress(body, message.headers["compression"], 1_000_000)
    body = serialization.loads(body, message.content_type, message.content_encoding, ACCEPT)
    if not message.task or isinstance(body, dict):
        upgrade_v1(message, body)
