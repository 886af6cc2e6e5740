"""What a consumer on RabbitMQ does with every message: plain ones pass, the others are looked at."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from reference.amqp import content_frames, method_frame

from fastq._core.amqp import Content, FrameDecoder
from fastq._core.amqp_claims import release, sort_out, take_plain
from fastq._core.message import Action, Delivery, Message, Outcome
from fastq.brokers.rabbitmq.addresses import DUE, REDELIVERED

DELIVER = (60, 60)
BASE = 1 << 48


def wire(number: int, *, redelivered: bool = False, exchange: str = "", **headers: Any) -> bytes:
    """A delivery of the consumer ``c``, as RabbitMQ sends it."""
    properties = {"content_type": "application/json", "headers": {"task": "t", "id": str(number), **headers}}
    return method_frame(1, DELIVER, ["c", number, redelivered, exchange, "q"]) + content_frames(
        1, properties, b"[[], {}, {}]"
    )


def contents(*parts: bytes) -> deque[Content]:
    """What a decoder puts where the reader of channel 1 looks."""
    decoder = FrameDecoder()
    came: deque[Content] = deque()
    decoder.readers[1] = came
    decoder.feed(b"".join(parts))
    assert decoder.next_frame() is None
    return came


def held(*numbers: int) -> dict[int, Delivery]:
    """What RabbitMQ waits to hear of."""
    claims = {}
    for number in numbers:
        message = Message("t", str(number), headers={"retries": 2}, body=b"[[], {}, {}]", queue="q")
        claims[BASE + number] = Delivery(message, tag=BASE + number, queue="q")
    return claims


def test_plain_messages_arrive_in_order_with_their_tags() -> None:
    claims: dict[int, Delivery] = {}
    arrived: deque[Delivery] = deque()
    assert take_plain(contents(wire(1), wire(2)), {"c": "queue"}, BASE, claims, arrived) is None
    assert [(each.message.id, each.tag, each.queue, each.redelivered) for each in arrived] == [
        ("1", BASE + 1, "queue", 0),
        ("2", BASE + 2, "queue", 0),
    ]
    assert list(claims.values()) == list(arrived)


@pytest.mark.parametrize(
    "other",
    [
        wire(2, redelivered=True),
        wire(2, exchange="celery_delayed_delivery"),
        wire(2, **{REDELIVERED: 1}),
        wire(2, **{DUE: 1.5}),
        wire(2, id=None),
        method_frame(1, DELIVER, ["c", 2, False, "", "q"]) + content_frames(1, {}, b"?"),
    ],
    ids=["redelivered", "by an exchange", "counted", "delayed", "no task", "no content type"],
)
def test_what_is_not_plain_is_handed_over_in_its_turn(other: bytes) -> None:
    claims: dict[int, Delivery] = {}
    arrived: deque[Delivery] = deque()
    came = contents(wire(1), other, wire(3))
    found = take_plain(came, {"c": "q"}, BASE, claims, arrived)
    assert found is not None and found.delivery_tag == 2
    assert list(claims) == [BASE + 1]
    assert take_plain(came, {"c": "q"}, BASE, claims, arrived) is None
    assert list(claims) == [BASE + 1, BASE + 3]


def test_only_successes_whose_claim_is_held_are_plain() -> None:
    claims = held(1, 2, 3, 4, 5)
    first, second, third, lost, marked = claims.values()
    del claims[BASE + 4]
    settled: deque[tuple[float, tuple[str, str, int, int, float]]] = deque()
    outcomes = [
        Outcome(first),
        Outcome(second, follow=[first.message]),
        Outcome(third, Action.REQUEUE),
        Outcome(lost),
        Outcome(marked),
        Outcome(Delivery(first.message, None, "q")),
    ]
    assert sort_out(outcomes, claims, {BASE + 5: (1, 0.0)}, settled, 9.5) == ([first], outcomes[1:])
    assert list(settled) == [(9.5, ("1", first.message.task, 2, 0, 0.0))]


def test_acks_are_gathered_up_to_the_oldest_that_is_still_held() -> None:
    claims = held(1, 2, 3, 4, 5)
    _, second, third, _, fifth = claims.values()
    assert release([third, second], claims, BASE) == (0, [3, 2])
    assert release([claims[BASE + 1], fifth], claims, BASE) == (1, [5])
    assert release([claims[BASE + 4]], claims, BASE) == (4, [])
    assert claims == {}
