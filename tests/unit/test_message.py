"""Task ids, messages, deliveries and outcomes."""

import json
import marshal
import os
import re
import threading

import pytest

from fastq._core.codec import json_dumps
from fastq._core.message import (
    Action,
    Delivery,
    Effects,
    Message,
    Outcome,
    decode_delivery,
    decode_envelope,
    message_from_tuple,
    new_id,
    outcome_from_tuple,
    part_name,
    upgrade_v1,
)
from fastq.exceptions import DecodeError

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def make_message(**fields):
    given = {
        "headers": {"task": "proj.add", "id": "i"},
        "body": b"[[2, 3], {}, {}]",
        "queue": "celery",
        **fields,
    }
    return Message("proj.add", "i", **given)


def fields_of(message):
    return message.to_tuple()


# Ids


def test_an_id_is_a_random_uuid_and_no_two_are_the_same():
    ids = [new_id() for _ in range(100_000)]
    assert all(map(UUID4.fullmatch, ids))
    assert len(set(ids)) == len(ids)


def test_a_forked_child_repeats_no_id_of_its_parent():
    new_id()  # so that there are random bytes left to share
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, " ".join(new_id() for _ in range(500)).encode())
        os._exit(0)
    os.close(write)
    ours = {new_id() for _ in range(500)}
    with os.fdopen(read) as pipe:
        theirs = set(pipe.read().split())
    os.waitpid(child, 0)
    assert len(theirs) == 500
    assert not ours & theirs


def test_threads_share_no_id():
    made = [[] for _ in range(4)]
    threads = [
        threading.Thread(target=lambda ids=ids: ids.extend(new_id() for _ in range(5000))) for ids in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id for ids in made for id in ids}) == 20_000


# Envelopes


def test_a_text_body_travels_as_text():
    envelope = json.loads(make_message(priority=3, properties={"reply_to": "r"}).envelope())
    assert envelope["body"] == "[[2, 3], {}, {}]"
    assert envelope["properties"]["delivery_info"] == {"exchange": "", "routing_key": "celery"}
    assert envelope["properties"]["priority"] == 3
    assert envelope["properties"]["reply_to"] == "r"
    assert UUID4.fullmatch(envelope["properties"]["delivery_tag"])
    assert "body_encoding" not in envelope["properties"]


@pytest.mark.parametrize(
    "fields",
    [
        {"body": b"\x00\xff", "content_encoding": "binary", "content_type": "application/x-msgpack"},
        {"body": b"\x00\xff"},
        {"body": b"abc", "headers": {"task": "t", "id": "i", "compression": "application/x-gzip"}},
    ],
)
def test_other_bytes_travel_in_base64(fields):
    raw = make_message(**fields).envelope()
    assert json.loads(raw)["properties"]["body_encoding"] == "base64"
    assert decode_envelope(raw).body == fields["body"]


def test_a_message_received_in_base64_is_sent_on_whole():
    raw = json_dumps(
        {
            "body": "W1tdLHt9LHt9XQ==",
            "content-type": "application/json",
            "headers": {"task": "t", "id": "i"},
            "properties": {"body_encoding": "base64", "delivery_tag": 5},
        }
    )
    message = decode_envelope(raw)
    assert message.body == b"[[],{},{}]"
    again = decode_envelope(message.envelope())
    assert again.body == message.body
    assert isinstance(again.properties["delivery_tag"], str)


def test_the_delivery_tag_of_a_message_stays():
    message = make_message(properties={"delivery_tag": "mine"})
    assert decode_envelope(message.envelope()).properties["delivery_tag"] == "mine"


def test_headers_keep_big_integers_and_tagged_values():
    headers = {"task": "t", "id": "i", "big": 2**70, "nan": float("inf"), "when": b"\xff"}
    assert decode_envelope(make_message(headers=headers).envelope()).headers == headers


ENVELOPE = {"body": "[]", "content-type": "application/json", "headers": {"task": "t", "id": "i"}}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"body": None}, "no body"),
        ({"body": 5}, "body is not a string"),
        ({"content-type": None}, "content type is None"),
        ({"headers": []}, "'headers' is a JSON list"),
        ({"properties": "x"}, "'properties' is a JSON str"),
        ({"properties": {"delivery_info": 1}}, "'delivery_info' is a JSON int"),
        ({"headers": {"task": 5, "id": "i"}}, "both must be strings"),
        ({"headers": {"task": "t", "id": None}}, "both must be strings"),
        ({"headers": {"task": "t"}}, "has no id"),
        ({"headers": {"task": "\ud800", "id": "i"}}, "not valid Unicode"),
        ({"headers": {"task": "t", "id": "\udfff"}}, "not valid Unicode"),
        ({"properties": {"body_encoding": "base64"}, "body": "é"}, "not base64"),
        ({"properties": {"body_encoding": "base64"}, "body": "a"}, "not base64"),
        ({"headers": {"__type__": "rocket", "__value__": 1}}, "rocket"),
    ],
)
def test_what_is_wrong_with_an_envelope_is_said(changes, reason):
    raw = json_dumps({**ENVELOPE, **changes})
    with pytest.raises(DecodeError, match=reason):
        decode_envelope(raw)
    delivery = decode_delivery(raw, "tag", "celery", 2)
    assert (delivery.message, delivery.raw, delivery.redelivered) == (None, raw, 2)
    assert re.search(reason, delivery.error)


def test_a_delivery_knows_the_queue_it_came_from():
    delivery = decode_delivery(make_message(queue="other").envelope(), "tag", "celery")
    assert (delivery.message.queue, delivery.message.routing_key) == ("celery", "other")
    assert delivery.error is None


# Protocol 1


def v1(body, headers=None):
    return decode_envelope(json_dumps({**ENVELOPE, "body": json.dumps(body), "headers": headers}))


def test_a_v1_message_becomes_v2():
    body = {
        "task": "t",
        "id": "i",
        "args": [1],
        "kwargs": {"a": 2},
        "taskset": "g",
        "eta": "e",
        "callbacks": [3],
    }
    message = v1(body)
    assert message.task == ""
    args, kwargs, embed = upgrade_v1(message, body)
    assert (message.task, message.id, args, kwargs, embed["callbacks"]) == ("t", "i", [1], {"a": 2}, [3])
    assert message.headers["group"] == "g"
    assert message.headers["eta"] == "e"
    assert message.headers["retries"] == 0


def test_headers_of_v2_over_a_body_of_v1_count():
    message = v1({"args": [1]}, {"task": "t", "id": "i", "retries": 2})
    assert upgrade_v1(message, {"args": [1], "retries": 1})[0] == [1]
    assert (message.task, message.id, message.headers["retries"]) == ("t", "i", 2)


@pytest.mark.parametrize(
    "body", [[], "x", None, {}, {"task": "t"}, {"task": 5, "id": "i"}, {"task": "\ud800", "id": "i"}]
)
def test_what_is_of_no_protocol_raises_decode_error(body):
    with pytest.raises(DecodeError):
        upgrade_v1(v1({}), body)


@pytest.mark.parametrize(
    "field",
    [
        {"expires": -(2**70)},
        {"eta": {"k" * 300: 1}},
        {"retries": 2**64},
        {"timelimit": [2**70, None]},
        {"taskset": 5},
        {"group_index": "0"},
    ],
)
def test_a_v1_field_that_no_header_can_hold_leaves_the_message_as_it_came(field):
    message = v1({})
    with pytest.raises(DecodeError, match=next(iter(field))):
        upgrade_v1(message, {"task": "t", "id": "i", **field})
    assert (message.task, message.headers) == ("", {})


# Plain values for another process


def test_a_message_survives_marshal():
    message = make_message(
        priority=5, due=12.5, exchange="x", routing_key="a.b", properties={"reply_to": "r"}
    )
    again = message_from_tuple(marshal.loads(marshal.dumps(message.to_tuple())))
    assert fields_of(again) == fields_of(message)


def test_an_outcome_survives_marshal():
    delivery = Delivery(make_message(), "tag", "celery")
    outcome = Outcome(
        delivery,
        Action.PARK,
        state="RETRY",
        result=b"{}",
        follow=[make_message()],
        until=12.5,
        reason="why",
        runtime=0.25,
    )
    again = outcome_from_tuple(delivery, marshal.loads(marshal.dumps(outcome.to_tuple())))
    assert again.to_tuple() == outcome.to_tuple()
    assert again.delivery is delivery
    assert outcome_from_tuple(delivery, Outcome(delivery).to_tuple()).follow is None


def test_effects_survive_marshal():
    delivery = Delivery(make_message(), "tag", "celery")
    effects = Effects(
        results=[("t", "FAILURE", b"{}")],
        parts=[("g", "t", 3, b"[]"), ("g", "u", None, b"[]")],
        chords=[("h", 2)],
        extended=[("g", 1, "t")],
        groups=[("h", b"{}")],
        joined="g",
    )
    outcome = Outcome(delivery, effects=effects, failure={"exc_type": "KeyError"})
    again = outcome_from_tuple(delivery, marshal.loads(marshal.dumps(outcome.to_tuple())))
    assert again.effects is not None and again.failure == {"exc_type": "KeyError"}
    assert again.effects.to_tuple() == effects.to_tuple()
    assert outcome_from_tuple(delivery, Outcome(delivery).to_tuple()).failure is None


def test_effects_add_up():
    effects = Effects(parts=[("g", "t", 0, b"a")], joined="g")
    more = Effects(parts=[("h", "t", 0, b"b")], results=[("r", "FAILURE", b"c")], chords=[("i", 1)])
    effects.add(more)
    assert effects.to_tuple() == (
        [("r", "FAILURE", b"c")],
        [("g", "t", 0, b"a"), ("h", "t", 0, b"b")],
        [("i", 1)],
        [],
        [],
        "g",
    )


def test_parts_of_a_chord_are_named_as_in_celery():
    assert [part_name("t", index) for index in (0, 12, None)] == ["t:0", "t:12", "t:+inf"]


def test_each_says_what_it_is():
    message = make_message()
    delivery = Delivery(message, "tag", "celery")
    assert repr(message) == "<Message proj.add[i] for 'celery'>"
    assert repr(delivery) == "<Delivery 'tag' from 'celery': proj.add[i]>"
    assert repr(Delivery(None, 1, "q", error="bad")) == "<Delivery 1 from 'q': bad>"
    assert repr(Outcome(delivery, Action.BURY)).startswith("<Outcome bury None of <Delivery")
