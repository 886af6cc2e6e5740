"""JSON with Kombu's tags: the cases at the edges, one by one."""

import datetime as dt
import enum
import json
import subprocess
import sys
import textwrap
from collections import OrderedDict, namedtuple
from decimal import Decimal

import pytest

from fastq._core.codec import json_dumps, json_loads, register_type
from fastq.exceptions import DecodeError, EncodeError


class Money:
    def __init__(self, cents):
        self.cents = cents

    def __json__(self):
        return {"cents": self.cents}


class Text(str):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        ([1, "a", None, True, 1.5, (2,)], b'[1,"a",null,true,1.5,[2]]'),
        ({"a": {"b": []}}, b'{"a":{"b":[]}}'),
        (2**64 - 1, b"18446744073709551615"),
        (2**64, b"18446744073709551616"),
        (-(2**63) - 1, b"-9223372036854775809"),
        (float("nan"), b"NaN"),
        ([float("inf"), -float("inf")], b"[Infinity,-Infinity]"),
        ("\ud800", b'"\\ud800"'),
        (Money(5), b'{"cents":5}'),
        (Text("x"), b'"x"'),
        (Colour.RED, b"1"),
        (OrderedDict(a=1), b'{"a":1}'),
        (namedtuple("P", "x y")(1, 2), b"[1,2]"),
        ({2: "a", None: "b", True: "c"}, b'{"2":"a","null":"b","true":"c"}'),
        (b"\xff", b'{"__type__":"base64","__value__":"/w=="}'),
    ],
)
def test_written_form(value, wire):
    assert json_dumps(value) == wire


# As long as the texts that are written without orjson, give or take a few bytes.
LENGTHS = range(2048 - 40, 2048 + 5)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: "x" * n,
        lambda n: "\n" * (n // 2) + "x" * (n % 2),
        lambda n: "\0" * (n // 6) + "x" * (n % 6),
        lambda n: ["x" * (n - 10), [], {}, "y"],
        lambda n: ["x" * (n - 20), -(2**63)],
        lambda n: [[[[[[["x" * (n - 20)]]]]]]],
        lambda n: {"a": {"b": {"c": {"d" * (n - 30): {}}}}},
        lambda n: [True, False, None] * (n // 16) + [1] * (n % 16),
        lambda n: "é" * (n // 2),
    ],
)
def test_texts_of_any_length_are_written_whole(make):
    for length in LENGTHS:
        value = make(length)
        assert json_dumps(value) == json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def test_every_character_and_integer_is_written_as_the_standard_library_does():
    for value in [
        *map(chr, range(0x300)),
        "\U0001f600",
        *(sign * (2**bits + more) for bits in range(64) for more in (-1, 0, 1) for sign in (1, -1)),
    ]:
        assert json_dumps([value]) == json.dumps([value], ensure_ascii=False).encode()


@pytest.mark.parametrize("value", [object(), {1, 2}, {b"key": 1}, 1j, bytearray(b"x"), [len]])
def test_a_value_without_a_form_raises_encode_error(value):
    with pytest.raises(EncodeError, match="can't write"):
        json_dumps(value)


def test_a_raising_json_method_raises_encode_error_from_it():
    class Broken:
        def __json__(self):
            raise KeyError("inside")

    with pytest.raises(EncodeError) as caught:
        json_dumps([Broken()])
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_circular_value_raises_encode_error():
    loop = []
    loop.append(loop)
    with pytest.raises(EncodeError):
        json_dumps(loop)


def test_nesting_beyond_orjson_is_written_and_read():
    deep = 1
    for _ in range(600):
        deep = [deep]
    assert json_loads(json_dumps(deep)) == deep


@pytest.mark.parametrize("wire", [b"[" * 200_000, b'{"a":' * 200_000])
def test_endless_nesting_raises_decode_error(wire):
    with pytest.raises(DecodeError):
        json_loads(wire)


@pytest.mark.parametrize("digits", range(17, 40))
@pytest.mark.parametrize("before", range(20))
def test_a_long_integer_keeps_every_digit_wherever_it_stands(digits, before):
    number = int("9" * digits)
    wire = b" " * before + b"[%d, %d]" % (number, -number)
    assert json_loads(wire) == [number, -number]
    assert json_loads(wire.decode()) == [number, -number]


@pytest.mark.parametrize(
    "wire", [b"", b"{", b"\xff", b'"\xff"', b"nul", b"\xef\xbb\xbf1", b"1 2", "\ud800", b"9" * 5000]
)
def test_what_is_not_json_raises_decode_error(wire):
    with pytest.raises(DecodeError, match="not JSON"):
        json_loads(wire)


def test_lone_surrogates_survive():
    assert json_loads(b'"\\ud800"') == "\ud800"
    assert json_loads('"\ud800"') == "\ud800"


def test_any_buffer_is_read():
    assert json_loads(bytearray(b"[1]")) == json_loads(memoryview(b"[1]")) == [1]


def test_an_unknown_tag_raises_decode_error_naming_it():
    with pytest.raises(DecodeError, match="'rocket'"):
        json_loads(b'{"a": {"__type__": "rocket", "__value__": 1}}')


@pytest.mark.parametrize(
    "tag",
    [
        '"datetime", "__value__": 5',
        '"decimal", "__value__": "x"',
        '"uuid", "__value__": "12"',
        '"bytes", "__value__": "\\ud800"',
        '"base64", "__value__": "é"',
        '["datetime"], "__value__": "2026-01-01"',
    ],
)
def test_a_wrong_value_under_a_tag_raises_decode_error(tag):
    with pytest.raises(DecodeError):
        json_loads(f'{{"__type__": {tag}}}')


def test_a_map_with_more_keys_than_a_tag_is_a_map():
    wire = '{"__type__": "decimal", "__value__": "1", "x": 2}'
    assert json_loads(wire) == {"__type__": "decimal", "__value__": "1", "x": 2}


def test_utc_is_read_in_both_spellings():
    expected = dt.datetime(2026, 11, 20, 1, 2, 3, tzinfo=dt.timezone.utc)
    for text in ("2026-11-20T01:02:03Z", "2026-11-20T01:02:03+00:00"):
        assert json_loads(f'{{"__type__": "datetime", "__value__": "{text}"}}') == expected


def test_a_registered_type_is_written_and_read():
    register_type(complex, "test-complex", lambda z: [z.real, z.imag], lambda v: complex(*v))
    assert json_loads(json_dumps({"z": 1 + 2j, "d": Decimal(1)})) == {"z": 1 + 2j, "d": Decimal(1)}
    with pytest.raises(TypeError, match="needs a decoder"):
        register_type(range, "test-range", list)


def test_djangos_lazy_texts_are_written_as_text():
    code = textwrap.dedent("""
        import sys, types
        module = types.ModuleType("django.utils.functional")
        class Promise:
            def __str__(self):
                return "translated"
        module.Promise = Promise
        sys.modules[module.__name__] = module
        from fastq._core.codec import json_dumps
        assert json_dumps([Promise()]) == b'["translated"]'
    """)
    subprocess.run([sys.executable, "-c", code], check=True)
