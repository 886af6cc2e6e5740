"""JSON against Kombu's, in both directions, and against bytes that are no JSON."""

import datetime as dt
import math
from decimal import Decimal
from uuid import UUID

import kombu.utils.json as kombu_json
from hypothesis import given, settings
from hypothesis import strategies as st

from fastq._core.codec import json_dumps, json_loads
from fastq.exceptions import DecodeError

ZONES = st.none() | st.integers(-1439, 1439).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text()
    | st.text(st.characters())  # lone surrogates too
    | st.binary()
    | st.datetimes(timezones=ZONES)
    | st.dates()
    | st.times(timezones=st.none())
    | st.decimals(allow_nan=False)
    | st.uuids()
)
KEYS = st.text() | st.integers() | st.none() | st.booleans()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(KEYS, inner, max_size=5)
    ),
    max_leaves=20,
)


def same(a: object, b: object) -> bool:
    """Equality in which NaN equals itself and the types count."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        assert isinstance(b, float)
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list):
        assert isinstance(b, list)
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        assert isinstance(b, dict)
        return list(a) == list(b) and all(map(same, a.values(), b.values()))
    return a == b


@given(VALUES)
def test_kombu_reads_what_we_write(value):
    assert same(kombu_json.loads(json_dumps(value)), kombu_json.loads(kombu_json.dumps(value)))


@given(VALUES)
def test_we_read_what_kombu_writes(value):
    wire = kombu_json.dumps(value)
    assert same(json_loads(wire), kombu_json.loads(wire))
    assert same(json_loads(wire.encode()), kombu_json.loads(wire))


@given(st.text() | st.text('0123456789.-eE[]{}",:\\unNaInfity _type', max_size=60))
def test_any_text_reads_as_kombu_reads_it_or_raises(text):
    try:
        expected = kombu_json.loads(text)
    except (ValueError, RecursionError):
        expected = DecodeError
    try:
        got = json_loads(text)
    except DecodeError:
        got = DecodeError
    assert got is expected or same(got, expected)


@settings(max_examples=500)
@given(st.binary())
def test_any_bytes_read_or_raise_decode_error(data):
    try:
        json_loads(data)
    except DecodeError:
        pass


@given(
    st.sampled_from(["datetime", "date", "time", "decimal", "uuid", "bytes", "base64", "nope", 1, None]),
    VALUES,
)
def test_a_tag_with_any_value_reads_or_raises_decode_error(marker, value):
    wire = json_dumps({"__type__": marker, "__value__": value})
    try:
        json_loads(wire)
    except DecodeError:
        pass


def test_the_tagged_types_come_back_as_themselves():
    zone = dt.timezone(dt.timedelta(hours=2))
    value = [
        dt.datetime(2026, 11, 20, 1, 2, 3, 4, zone),
        dt.datetime(2026, 11, 20),
        dt.date(2026, 11, 20),
        dt.time(1, 2, 3),
        Decimal("1.10"),
        UUID(int=5),
        b"text",
        b"\xff\x00",
    ]
    assert same(json_loads(json_dumps(value)), value)
    assert same(kombu_json.loads(json_dumps(value)), value)
