"""AMQP without sockets: what real Celery processes sent, and what no peer may send."""

from __future__ import annotations

import doctest
import json
import struct
import sys
from base64 import b64decode
from typing import Any
from uuid import UUID

import pytest
from reference import amqp as reference
from reference.fixtures import PROTOCOL_DATA, fixture

from fastq import serialization
from fastq._core import amqp, amqp_table
from fastq._core.amqp import HEARTBEAT, Content, FrameDecoder
from fastq._core.amqp_encoder import FRAME_MAX, FrameEncoder
from fastq._core.amqp_methods import method_name
from fastq._core.amqp_table import decode_table, encode_table
from fastq._core.message import Message, decode_envelope, upgrade_v1
from fastq.brokers.base import BrokerOptions
from fastq.brokers.schemes import open_broker
from fastq.exceptions import EncodeError, ImproperlyConfigured, OperationalError, RemoteProtocolError

DELIVER = (60, 60)
CLOSE = (20, 40)
OPEN_OK = reference.method_frame(1, (20, 11), [b""])


def feed(*wire: bytes, **limits: int) -> list[Any]:
    """What a fresh decoder makes of *wire*."""
    decoder = FrameDecoder(**limits)
    decoder.feed(b"".join(wire))
    return list(iter(decoder.next_frame, None))


def delivery(
    headers: dict[str, Any], properties: dict[str, Any], body: bytes, info: dict[str, Any] | None = None
) -> bytes:
    """The frames in which RabbitMQ would deliver this."""
    info = info or {}
    values = [
        "tag",
        5,
        info.get("redelivered", False),
        info.get("exchange", ""),
        info.get("routing_key", "celery"),
    ]
    found = properties | ({"headers": headers} if headers else {})
    return reference.method_frame(1, DELIVER, values) + reference.content_frames(1, found, body)


def captured_messages() -> list[tuple[str, dict[str, Any], bytes]]:
    """Every captured AMQP message, as (fixture, what it says, body)."""
    found = []
    for path in sorted(PROTOCOL_DATA.glob("amqp-*.json")):
        content = fixture(path.stem)
        for message in content.get("messages") or [content.get("message")]:
            if message is not None:
                found.append((path.stem, message, body_of(message["body_raw"])))
    return found


def body_of(raw: Any) -> bytes:
    return b64decode(raw["__bytes_b64__"]) if isinstance(raw, dict) else raw.encode()


CAPTURED = captured_messages()
TASKS = [entry for entry in CAPTURED if entry[0].startswith("amqp-task-")]


@pytest.mark.parametrize(("name", "said", "body"), CAPTURED)
def test_a_captured_message_reads_as_what_it_says(name: str, said: dict[str, Any], body: bytes) -> None:
    [content] = feed(delivery(said["headers"], said["basic_properties"], body, said["delivery_info"]))
    properties = dict(said["basic_properties"])
    assert content.content_type == properties.pop("content_type")
    assert content.content_encoding == properties.pop("content_encoding")
    assert (content.headers, content.properties, content.body) == (said["headers"], properties, body)
    assert (content.exchange, content.routing_key) == (
        said["delivery_info"]["exchange"],
        said["delivery_info"]["routing_key"],
    )


@pytest.mark.parametrize(("name", "said", "body"), TASKS)
def test_a_captured_task_gives_its_call_and_can_be_sent_on(
    name: str, said: dict[str, Any], body: bytes
) -> None:
    [content] = feed(delivery(said["headers"], said["basic_properties"], body, said["delivery_info"]))
    message = content.delivery("celery").message
    encoder = FrameEncoder()
    encoder.publish_message(1, message)
    [again] = feed(encoder.take())
    assert (again.headers, again.properties, again.body) == (content.headers, content.properties, body)
    assert (again.exchange, again.routing_key) == (content.exchange, content.routing_key)
    data = body
    if "compression" in message.headers:
        data = serialization.decompress(body, message.headers["compression"])
    accept = serialization.content_types(["json", "msgpack", "pickle"])
    call = serialization.loads(data, message.content_type, message.content_encoding, accept)
    if not message.task:
        call = upgrade_v1(message, call)
    assert message.task == "proj.add"
    assert message.id == said["basic_properties"]["correlation_id"]
    assert list(call[0]) in ([2, 3], [1, 2])


@pytest.mark.parametrize(
    "case", fixture("amqp-minimal-envelope-matrix")["cases"], ids=lambda case: case["case"]
)
def test_what_celery_ran_reads_and_the_rest_says_why(case: dict[str, Any]) -> None:
    [content] = feed(delivery(case["headers"], case["properties"], case["body"].encode()))
    found = content.delivery("celery")
    if case["result"] == "SUCCESS":
        assert found.error is None
    if "content_type" not in case["properties"]:
        assert found.error == "the message has no content type"
    if "task" in case["headers"] and "id" not in case["headers"]:
        assert "no id" in found.error


def test_a_message_of_redis_goes_out_as_celery_sends_it() -> None:
    raw = fixture("redis-task-v2-basic")["messages_in_send_order"][0]["raw"].encode()
    message = decode_envelope(raw)
    encoder = FrameEncoder()
    encoder.publish_messages(1, [message])
    [content] = feed(encoder.take())
    assert content.headers == json.loads(raw)["headers"]
    assert content.properties.keys() == {"delivery_mode", "priority", "correlation_id", "reply_to"}
    assert content.body == message.body
    # Types as py-amqp writes them (§4.2).
    wire = encode_table(message.headers)
    assert b"\x04taskS" in wire and b"\x07retriesI" in wire and b"\x05groupV" in wire
    assert b"\ttimelimitA\x00\x00\x00\x02VV" in wire


def test_headers_that_nobody_asked_for_are_read_when_they_are() -> None:
    [content] = feed(
        delivery({"task": "t", "id": "i", "tenant": "acme"}, {"content_type": "x", "reply_to": "me"}, b"")
    )
    message = content.delivery("q").message
    assert message.properties == {"reply_to": "me"}
    assert message.headers == {"task": "t", "id": "i", "tenant": "acme"}
    message.headers["more"] = 1
    assert message.headers["more"] == 1


def test_headers_that_are_replaced_leave_the_properties_in_place() -> None:
    [content] = feed(delivery({"task": "t", "id": "i"}, {"content_type": "x", "reply_to": "me"}, b""))
    message = content.delivery("q").message
    message.headers = {"task": "t", "id": "j"}
    assert (message.headers["id"], message.properties) == ("j", {"reply_to": "me"})
    assert message.to_tuple()[2:4] == ({"task": "t", "id": "j"}, {"reply_to": "me"})


def test_messages_of_two_channels_may_come_interleaved() -> None:
    def parts(channel: int, body: bytes) -> list[bytes]:
        method = reference.method_frame(channel, DELIVER, ["c", channel, False, "", "q"])
        header = reference.frame(2, channel, struct.pack(">HHQ", 60, 0, len(body)) + b"\0\0")
        return [method, header, *(reference.frame(3, channel, bytes([byte])) for byte in body)]

    mixed = [part for pair in zip(parts(1, b"abc"), parts(2, b"xyz"), strict=True) for part in pair]
    assert [(content.channel, content.body) for content in feed(*mixed)] == [(1, b"abc"), (2, b"xyz")]


def test_a_body_of_many_frames_and_one_without_a_byte() -> None:
    body = bytes(range(256)) * 2000
    encoder = FrameEncoder()
    encoder.publish(1, "", "q", body)
    encoder.publish(1, "", "q", b"")
    wire = encoder.take()
    assert [content.body for content in feed(wire)] == [body, b""]
    sizes = []
    while wire:
        size = int.from_bytes(wire[3:7], "big") + 8
        sizes.append(size)
        wire = wire[size:]
    assert max(sizes) == FRAME_MAX and len(sizes) == 2 + 4 + 2


# ---------------------------------------------------------------------------
# What breaks the protocol
# ---------------------------------------------------------------------------

HEADER = struct.pack(">HHQ", 60, 0, 0)
BEGUN = reference.method_frame(1, DELIVER, ["c", 1, False, "", "q"])
START = struct.pack(">HHBB", 10, 10, 0, 9)


def start(table: bytes) -> bytes:
    return reference.frame(1, 0, START + table + reference.long(b"PLAIN") + reference.long(b"en_US"))


def nested(levels: int, kind: bytes = b"F") -> bytes:
    """A field table with *levels* of tables, or of arrays, in it."""
    inner = b""
    for _ in range(levels):
        inner = (b"\x01k" if kind == b"F" else b"") + kind + reference.long(inner)
    return reference.long(inner if kind == b"F" else b"\x01k" + inner) if levels else reference.long(b"")


BROKEN = {
    "a frame over the limit": (b"\x01\0\1" + struct.pack(">I", FRAME_MAX), "131080 bytes, and 131072"),
    "a huge frame": (b"\x03\0\1\xff\xff\xff\xff", "4294967303 bytes"),
    "a wrong end": (OPEN_OK[:-1] + b"\xcd", "ends with 0xcd"),
    "an unknown kind of frame": (b"\x04\0\0\0\0\0\0\xce", "does not speak AMQP"),
    "another protocol": (b"HTTP/1.1 400 Bad Request\r\n", "does not speak AMQP.*HTTP/1.1 400"),
    "another version": (b"AMQP\0\1\0\0", "speaks 1-0-0"),
    "an unknown method": (reference.frame(1, 1, struct.pack(">HH", 50, 99)), "class 50, method 99"),
    "an unknown class": (reference.frame(1, 1, struct.pack(">HH", 99, 10)), "class 99, method 10"),
    "a method without its numbers": (reference.frame(1, 1, b"\0\x0a"), "method of 2 bytes"),
    "a method that ends early": (
        reference.frame(1, 1, struct.pack(">HHH", *CLOSE, 404)),
        "broken channel.close: it ends within reply_text",
    ),
    "a short string that ends early": (
        reference.frame(1, 1, struct.pack(">HHHB", *CLOSE, 404, 200) + b"short"),
        "ends within reply_text",
    ),
    "bytes after a method": (reference.frame(1, 1, struct.pack(">HH", 85, 11) + b"x"), "1 bytes follow"),
    "a truncated table": (reference.frame(1, 0, START + b"\0\0\0\x10\x01kI"), "a length in it"),
    "an overlong table": (start(struct.pack(">I", 2**31) + b"\x01kV"), "a length in it"),
    "a table within an array, overlong": (
        start(reference.long(b"\x01kA" + reference.long(b"F\0\0\1\0"))),
        "a length in it",
    ),
    "a table that ends in a name": (start(reference.long(b"\x09na")), "a length in it"),
    "a table that ends after a name": (start(reference.long(b"\x02na")), "a length in it"),
    "a table with an unknown type": (start(reference.long(b"\x01kZ")), "unknown type"),
    "a table nested too deep": (start(nested(18_000)), "100 deep"),
    "arrays nested too deep": (start(nested(25_000, b"A")), "100 deep"),
    "a header out of turn": (reference.frame(2, 1, HEADER + b"\0\0"), "header out of turn"),
    "a second header": (BEGUN + reference.frame(2, 1, struct.pack(">HHQH", 60, 0, 5, 0)) * 2, "out of turn"),
    "a body out of turn": (BEGUN + reference.frame(3, 1, b"x"), "body out of turn"),
    "a body after the last one": (
        BEGUN + reference.content_frames(1, {}, b"") + reference.frame(3, 1, b""),
        "body out of turn",
    ),
    "a body that is too long": (
        BEGUN + reference.frame(2, 1, struct.pack(">HHQH", 60, 0, 3, 0)) + reference.frame(3, 1, b"four"),
        "4 bytes of a body of which 3",
    ),
    "a method within a message": (BEGUN + OPEN_OK, "in the middle of a message"),
    "a header of another class": (
        BEGUN + reference.frame(2, 1, struct.pack(">HHQH", 10, 0, 0, 0)),
        "unknown class 10",
    ),
    "a header without its numbers": (BEGUN + reference.frame(2, 1, HEADER), "header of 12 bytes"),
    "more flags than properties": (BEGUN + reference.frame(2, 1, HEADER + b"\0\1\0\0"), "broken properties"),
    "a property that ends early": (BEGUN + reference.frame(2, 1, HEADER + b"\x80\0\x09app"), "broken prop"),
    "a property that is missing": (
        BEGUN + reference.frame(2, 1, HEADER + b"\x00\x40\0"),
        "broken properties",
    ),
    "bytes after the properties": (BEGUN + reference.frame(2, 1, HEADER + b"\0\0x"), "broken properties"),
    "a truncated header table": (
        BEGUN + reference.frame(2, 1, HEADER + b"\x20\0" + b"\0\0\0\x09\x01kI"),
        "broken properties",
    ),
    "a table whose inner length leads outside": (
        BEGUN + reference.frame(2, 1, HEADER + b"\x20\0" + reference.long(b"\x01kS\0\0\1\0x")),
        "broken properties",
    ),
    "a heartbeat with a payload": (reference.frame(8, 0, b"x"), "heartbeat of 1 bytes"),
    "a heartbeat on a channel": (reference.frame(8, 3, b""), "on channel 3"),
    "a channel beyond the last": (reference.method_frame(2048, (20, 11), [b""]), "channel 2048, and 2047"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_breaks_the_protocol_is_a_clear_error(what: str) -> None:
    wire, said = BROKEN[what]
    decoder = FrameDecoder()
    decoder.feed(wire)
    with pytest.raises(RemoteProtocolError, match=said) as caught:
        list(iter(decoder.next_frame, None))
    assert isinstance(caught.value, OperationalError)
    decoder.feed(OPEN_OK)
    with pytest.raises(RemoteProtocolError, match=said):
        decoder.next_frame()


def test_what_came_before_an_error_is_read() -> None:
    decoder = FrameDecoder()
    decoder.feed(OPEN_OK + b"nonsense")
    assert decoder.next_frame().name == "channel.open-ok"
    with pytest.raises(RemoteProtocolError):
        decoder.next_frame()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (reference.long(b"\x04taskZ\0\0\0\0"), "unknown type"),
        (nested(101), "more than 100 deep"),
        (nested(18_000), "more than 100 deep"),
        (nested(20_000, b"A"), "more than 100 deep"),
    ],
)
def test_headers_that_cannot_be_read_make_a_bad_message_not_a_bad_connection(table: bytes, said: str) -> None:
    """The broker only passes them on: to hang up would bring the same message again, for ever."""
    header = reference.frame(2, 1, struct.pack(">HHQH", 60, 0, 4, 1 << 13) + table)
    content, beat = feed(BEGUN, header, reference.frame(3, 1, b"body"), reference.frame(8, 0, b""))
    assert beat is HEARTBEAT
    assert said in content.error
    assert (content.headers, content.properties, content.body) == ({}, {}, b"body")
    found = content.delivery("q")
    assert found.message is None
    assert said in found.error and found.raw == b"body"


def test_tables_may_lie_in_each_other_a_hundred_deep() -> None:
    table: dict[str, Any] = {}
    for _ in range(99):
        table = {"k": table}
    assert decode_table(encode_table(table)) == table
    with pytest.raises(EncodeError, match="more than 100 deep"):
        encode_table({"k": table})
    with pytest.raises(RemoteProtocolError, match="more than 100 deep"):
        decode_table(nested(100))


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0\0\0\1", b"\0\0\0\0x", b"\0\0\0\2\1kV"])
def test_bytes_that_are_no_table_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="can't be read"):
        decode_table(data)


def test_a_decoder_takes_frames_of_the_size_agreed_on() -> None:
    big = reference.frame(3, 1, bytes(200_000 - 8))
    head = BEGUN + reference.frame(2, 1, struct.pack(">HHQH", 60, 0, 200_000 - 8, 0))
    decoder = FrameDecoder(frame_max=4096)
    decoder.tune(200_000, 10)
    decoder.feed(head + big)
    assert len(decoder.next_frame().body) == 200_000 - 8
    with pytest.raises(RemoteProtocolError):
        feed(head, big, frame_max=199_999)
    for limit in (0, 4095, 2**31):
        with pytest.raises(ValueError, match="frame_max"):
            decoder.tune(limit, 10)


# ---------------------------------------------------------------------------
# What can't be sent
# ---------------------------------------------------------------------------

REFUSED = [
    ({"x": UUID(int=1)}, "the header 'x' holds a UUID"),
    ({"x": [{"y": {1}}]}, "the header 'y' holds a set"),
    ({"x": 2**63}, "does not fit 64 bits"),
    ({7: "x"}, "the name 7"),
    ({"k" * 256: 1}, "has 256 bytes"),
]


@pytest.mark.parametrize(("headers", "said"), REFUSED)
def test_headers_without_a_form_are_refused_and_leave_no_half_frame(headers: Any, said: str) -> None:
    encoder = FrameEncoder()
    good = Message("t", "i", {"task": "t"}, b"", queue="q")
    bad = Message("t", "i", headers, b"", queue="q")
    encoder.heartbeat()
    with pytest.raises(EncodeError, match=said):
        encoder.publish_messages(1, [good, bad])
    with pytest.raises(EncodeError, match=said):
        encoder.publish_message(1, bad)
    with pytest.raises(EncodeError, match=said):
        encoder.publish(1, "", "q", b"", headers=headers)
    assert feed(encoder.take()) == [HEARTBEAT]


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"priority": 256}, "priority is 256"),
        ({"delivery_mode": "persistent"}, "delivery_mode is 'persistent'"),
        ({"expiration": 5}, "expiration is 5, not a string"),
        ({"reply_to": "x" * 256}, "reply_to has 256 bytes"),
        ({"correlation_id": "\ud800"}, "not valid Unicode"),
    ],
)
def test_properties_that_do_not_fit_are_refused(properties: dict[str, Any], said: str) -> None:
    encoder = FrameEncoder()
    with pytest.raises(EncodeError, match=said):
        encoder.publish(1, "", "q", b"", properties=properties)
    assert encoder.take() == b""


def test_headers_must_fit_into_one_frame() -> None:
    encoder = FrameEncoder()
    encoder.publish(1, "", "q", b"", headers={"x": "y" * (FRAME_MAX - 8 - 14 - 11)})
    with pytest.raises(EncodeError, match="frames of 131072"):
        encoder.publish(1, "", "q", b"", headers={"x": "y" * (FRAME_MAX - 8 - 14 - 10)})
    assert [len(content.headers["x"]) for content in feed(encoder.take())] == [FRAME_MAX - 33]


def test_methods_refuse_what_they_do_not_have() -> None:
    encoder = FrameEncoder()
    with pytest.raises(ValueError, match=r"no method 'queue.invent'"):
        encoder.method(1, "queue.invent")
    with pytest.raises(TypeError, match=r"queue.purge has no field 'force'; it has: ticket, queue, nowait"):
        encoder.method(1, "queue.purge", force=True)
    with pytest.raises(EncodeError, match=r"prefetch_count of basic.qos is 65536"):
        encoder.method(1, "basic.qos", prefetch_count=65536)
    with pytest.raises(TypeError):
        encoder.method(0, "connection.secure-ok", response="text")
    with pytest.raises(EncodeError, match=r"queue of queue.declare has 300 bytes"):
        encoder.method(1, "queue.declare", queue="q" * 300)
    assert len(encoder) == 0
    assert (method_name(50, 10), method_name(99, 1)) == ("queue.declare", "99.1")


def test_settlements_are_what_the_reference_writes() -> None:
    encoder = FrameEncoder()
    encoder.ack(1, 2**63, multiple=True)
    encoder.nack(2, 7, multiple=False, requeue=True)
    encoder.reject(3, 8, requeue=False)
    assert encoder.take() == b"".join(
        [
            reference.method_frame(1, (60, 80), [2**63, True]),
            reference.method_frame(2, (60, 120), [7, False, True]),
            reference.method_frame(3, (60, 90), [8, False]),
        ]
    )


@pytest.mark.parametrize("module", [amqp, amqp_table])
def test_the_examples_are_true(module: Any) -> None:
    failed, tried = doctest.testmod(module)
    assert tried and not failed


@pytest.mark.parametrize("scheme", ["amqp", "amqps", "pyamqp", "librabbitmq"])
def test_without_librabbitmq_the_scheme_says_what_to_install(
    scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fastq._core.amqp", None)
    with pytest.raises(
        ImproperlyConfigured, match=f"^{scheme}:// needs librabbitmq.*librabbitmq-dev"
    ) as caught:
        open_broker(f"{scheme}://localhost//", BrokerOptions())
    assert "\n" not in str(caught.value)


def test_a_method_shows_its_fields() -> None:
    [method] = feed(reference.method_frame(4, (50, 11), ["celery", 3, 1]))
    assert (method.name, method.channel, method.queue, method.message_count) == (
        "queue.declare-ok",
        4,
        "celery",
        3,
    )
    assert method == feed(reference.method_frame(4, (50, 11), ["celery", 3, 1]))[0]
    assert method != feed(reference.method_frame(4, (50, 11), ["celery", 4, 1]))[0]
    with pytest.raises(AttributeError, match="no field 'exchange'"):
        _ = method.exchange
    assert "queue='celery'" in repr(method)
    assert isinstance(repr(feed(delivery({}, {}, b"abc"))[0]), str)
    assert isinstance(feed(delivery({}, {}, b"abc"))[0], Content)
