"""AMQP: we write what the slow reference writes, and read what it reads, however the bytes are cut."""

from __future__ import annotations

import datetime as dt
import struct
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import amqp as reference

from fastq._core.amqp import HEARTBEAT, Content, FrameDecoder
from fastq._core.amqp_encoder import FrameEncoder
from fastq._core.amqp_methods import METHODS, Method
from fastq._core.amqp_table import decode_table, encode_table
from fastq._core.message import Message

# One of the longest that AMQP takes, and short ones, of which tables and arguments hold many.
shorts = st.text(st.characters(codec="utf-8"), max_size=12) | st.just("ß" * 127 + "s")
CODE_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "o": st.integers(0, 2**8 - 1),
    "h": st.integers(0, 2**16 - 1),
    "l": st.integers(0, 2**32 - 1),
    "q": st.integers(0, 2**64 - 1),
    "b": st.booleans(),
    "s": shorts,
    "S": st.binary(max_size=40),
}
# What our sender writes and our reader gives back unchanged.
fields = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=False),
        st.text(max_size=12),
        st.binary(max_size=12).filter(lambda data: reference.text(data) == data),
        st.datetimes(dt.datetime(1970, 1, 1), timezones=st.just(dt.timezone.utc)).map(
            lambda when: when.replace(microsecond=0)
        ),
        st.decimals(-10_000_000, 10_000_000, places=2),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(shorts, inner, max_size=3),
    max_leaves=6,
)
tables = st.dictionaries(shorts, fields, max_size=5)
CODE_VALUES["F"] = tables

# Every type that a peer may write, encoded.
raw_fields = st.recursive(
    st.one_of(
        st.just(b"V"),
        *(
            st.binary(min_size=size, max_size=size).map(lambda data, kind=kind: kind + data)
            for kind, size in ((b"t", 1), (b"b", 1), (b"B", 1), (b"s", 2), (b"u", 2), (b"I", 4), (b"i", 4))
        ),
        *(
            st.binary(min_size=8, max_size=8).map(lambda data, kind=kind: kind + data)
            for kind in (b"l", b"L", b"T")
        ),
        st.floats(width=32, allow_nan=False).map(lambda value: b"f" + struct.pack(">f", value)),
        st.floats(allow_nan=False).map(lambda value: b"d" + struct.pack(">d", value)),
        st.binary(min_size=5, max_size=5).map(lambda data: b"D" + data),
        *(
            st.binary(max_size=40).map(lambda data, kind=kind: kind + reference.long(data))
            for kind in (b"S", b"x")
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: b"A" + reference.long(b"".join(items))),
        st.lists(st.tuples(shorts, inner), max_size=4).map(lambda items: b"F" + raw_table(items)),
    ),
    max_leaves=12,
)


def raw_table(items: list[tuple[str, bytes]]) -> bytes:
    return reference.long(b"".join(reference.short(key) + field for key, field in items))


raw_tables = st.lists(st.tuples(shorts, raw_fields), max_size=5).map(raw_table)
properties = st.fixed_dictionaries(
    {},
    optional={
        name: CODE_VALUES[code]
        for name, code in reference.PROPERTIES
        if name not in ("headers", "delivery_mode")
    }
    | {"headers": tables, "delivery_mode": st.sampled_from([1, 2])},
)
bodies = st.binary(max_size=40) | st.integers(4000, 20_000).map(lambda size: bytes(size))
WITH_CONTENT = {"basic.deliver", "basic.get-ok", "basic.return", "basic.publish"}
PLAIN = [spec for spec in METHODS if spec[2] not in WITH_CONTENT]
SPECS = {spec[2]: spec for spec in METHODS}


@st.composite
def methods(draw: st.DrawFn) -> tuple[str, int, tuple[int, int], list[Any]]:
    """A method without content: its name, a channel, its numbers and the values of its arguments."""
    class_id, method_id, name, _ = draw(st.sampled_from(PLAIN))
    values = [draw(CODE_VALUES[code]) for code in reference.ARGUMENTS[class_id, method_id]]
    return name, draw(st.integers(0, 2047)), (class_id, method_id), values


@st.composite
def contents(draw: st.DrawFn) -> tuple[str, int, list[Any], dict[str, Any], bytes]:
    """A message: method, channel, arguments, properties and body."""
    name = draw(st.sampled_from(sorted(WITH_CONTENT)))
    values = [draw(CODE_VALUES[code]) for code in reference.ARGUMENTS[SPECS[name][:2]]]
    return name, draw(st.integers(1, 2047)), values, draw(properties), draw(bodies)


def field_names(name: str) -> list[str]:
    return [field.split(":")[0] for field in SPECS[name][3].split()]


def read(decoder: FrameDecoder) -> list[Any]:
    return list(iter(decoder.next_frame, None))


def shown(frame: Any) -> Any:
    """What two readings of one frame must have in common."""
    if not isinstance(frame, Content):
        return frame
    names = [name for name in dir(Content) if not name.startswith("_") and name != "delivery"]
    return {name: getattr(frame, name) for name in names}


def wire_of(frame: Any) -> bytes:
    if frame is None:
        return reference.frame(8, 0, b"")
    if len(frame) == 4:
        return reference.method_frame(frame[1], frame[2], frame[3])
    name, channel, values, found, body = frame
    return reference.method_frame(channel, SPECS[name][:2], values) + reference.content_frames(
        channel, found, body, 4096
    )


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(st.none(), methods(), contents()), max_size=4), st.data())
def test_frames_survive_any_split(frames: list[Any], data: st.DataObject) -> None:
    wire = b"".join(map(wire_of, frames))
    whole, split = FrameDecoder(), FrameDecoder()
    whole.feed(wire)
    expected, got = read(whole), []
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        split.feed(wire[:cut])
        got += read(split)
        wire = wire[cut:]
    assert list(map(shown, got)) == list(map(shown, expected))
    assert len(got) == len(frames)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(methods(), contents()), min_size=1, max_size=3))
def test_frames_survive_coming_byte_by_byte(frames: list[Any]) -> None:
    decoder, got = FrameDecoder(), []
    for byte in b"".join(map(wire_of, frames)):
        decoder.feed(bytes([byte]))
        got += read(decoder)
    assert len(got) == len(frames)


@given(methods())
def test_methods_are_written_and_read_as_the_reference_does(method: Any) -> None:
    name, channel, numbers, values = method
    encoder, decoder = FrameEncoder(), FrameDecoder()
    encoder.method(channel, name, **dict(zip(field_names(name), values, strict=True)))
    wire = encoder.take()
    assert wire == reference.method_frame(channel, numbers, values)
    decoder.feed(wire)
    frame = decoder.next_frame()
    assert isinstance(frame, Method)
    assert (frame.name, frame.channel) == (name, channel)
    assert frame.fields == dict(zip(field_names(name), values, strict=True))


@given(contents())
def test_messages_are_read_as_the_reference_does(content: Any) -> None:
    name, channel, values, found, body = content
    decoder = FrameDecoder()
    decoder.feed(wire_of(content))
    [frame] = read(decoder)
    assert (frame.name, frame.channel, frame.body) == (name, channel, body)
    for field, value in zip(field_names(name), values, strict=True):
        assert getattr(frame, field, value) == value
    assert frame.error is None
    assert (frame.content_type, frame.content_encoding) == (
        found.get("content_type"),
        found.get("content_encoding"),
    )
    assert frame.priority == found.get("priority")
    assert frame.headers == found.get("headers", {})
    rest = {
        key: value
        for key, value in found.items()
        if key not in ("content_type", "content_encoding", "headers")
    }
    assert frame.properties == rest


@given(contents())
def test_messages_are_written_as_the_reference_does(content: Any) -> None:
    _, channel, _, found, body = content
    encoder = FrameEncoder(4096)
    sizes = {key: value for key, value in found.items() if key != "headers"}
    if len(reference.encode_properties(found)) > 4000:
        return
    encoder.publish(
        channel,
        "exchange",
        "key",
        body,
        headers=found.get("headers"),
        properties=sizes,
        content_type=found.get("content_type"),
        content_encoding=found.get("content_encoding"),
        mandatory=True,
    )
    assert encoder.take() == reference.method_frame(
        channel, (60, 40), [0, "exchange", "key", True, False]
    ) + reference.content_frames(channel, found, body, 4096)


@given(tables)
def test_tables_are_written_as_the_reference_does(table: dict[str, Any]) -> None:
    data = encode_table(table)
    assert data == reference.encode_table(table)
    assert decode_table(data) == table


@given(raw_tables)
def test_tables_of_every_type_are_read_as_the_reference_does(data: bytes) -> None:
    assert repr(decode_table(data)) == repr(reference.Reader(data).table())


@given(tables, st.sampled_from(["proj.add", "", 7, None]), st.sampled_from(["id-1", "", None]))
def test_a_delivery_is_what_the_envelope_of_its_headers_would_be(
    extra: dict[str, Any], task: Any, task_id: Any
) -> None:
    headers = extra | {"task": task, "id": task_id, "retries": 2, "timelimit": [None, 5]}
    decoder = FrameDecoder()
    decoder.feed(
        wire_of(
            ("basic.deliver", 1, ["c", 9, False, "", "q"], {"content_type": "x", "headers": headers}, b"body")
        )
    )
    [frame] = read(decoder)
    delivery = frame.delivery("q", 3)
    assert (delivery.tag, delivery.queue, delivery.redelivered) == (9, "q", 3)
    if task == 7 or (task == "proj.add" and task_id != "id-1"):
        assert delivery.message is None
        assert delivery.error and delivery.raw == b"body"
        return
    message = delivery.message
    assert (message.task, message.id, message.queue) == (task or "", task_id or "", "q")
    assert message.headers == headers


@given(tables.filter(lambda table: len(reference.encode_table(table)) < 4000), bodies)
def test_a_task_message_comes_back_as_it_was_sent(headers: dict[str, Any], body: bytes) -> None:
    headers |= {"task": "proj.add", "id": "x"}
    sent = Message("proj.add", "x", headers, body, queue="q", priority=3, properties={"reply_to": "me"})
    encoder, decoder = FrameEncoder(4096), FrameDecoder()
    encoder.publish_messages(5, [sent, sent])
    encoder.heartbeat()
    decoder.feed(encoder.take())
    first, second, beat = read(decoder)
    assert beat is HEARTBEAT
    assert shown(first) == shown(second)
    got = first.delivery("q").message
    assert (got.task, got.id, got.headers, got.body) == ("proj.add", "x", headers, body)
    assert (got.content_type, got.content_encoding, got.priority) == ("application/json", "utf-8", 3)
    assert got.properties == {"delivery_mode": 2, "priority": 3, "reply_to": "me"}
