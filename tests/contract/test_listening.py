"""What is announced reaches those who listen, on every broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from harness import PATIENCE, Harness

from fastq import Exchange, Queue, binding
from fastq._core.message import Message, new_id
from fastq.brokers.listening import Listener
from fastq.wakeup import Waker

FANOUT = Exchange("test.pidbox", "fanout", durable=False)
REPLIES = Exchange("reply.test.pidbox", "direct", durable=False)
EVENTS = Exchange("testev", "topic", durable=False)


class Ears:
    """Opens listeners, and closes them all."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.opened: list[Listener] = []

    def __call__(self, *bindings: binding, waker: Waker | None = None) -> Listener:
        """A listener of what *bindings* admit, which listens."""
        queue = Queue(f"ear.{new_id()}", bindings=bindings, durable=False, auto_delete=True, expires=10.0)
        listener = self.harness.open().listen(queue, waker)
        self.opened.append(listener)
        assert listener.hear(0.0) == []
        return listener


@pytest.fixture
def ears(harness: Harness) -> Iterator[Ears]:
    ears = Ears(harness)
    yield ears
    for listener in ears.opened:
        listener.close()


def announcement(exchange: Exchange, routing_key: str = "", body: bytes = b"{}") -> Message:
    return Message(
        "",
        "",
        {"clock": 7},
        body,
        queue="",
        exchange=exchange.name,
        routing_key=routing_key,
        properties={"delivery_mode": 1},
    )


def heard(listener: Listener, count: int) -> list[Message]:
    """So many messages, which are bound to come."""
    found: list[Message] = []
    until = time.monotonic() + PATIENCE
    while len(found) < count and time.monotonic() < until:
        found += listener.hear(until - time.monotonic())
    assert len(found) == count
    return found


def test_everyone_hears_what_is_announced_to_a_fanout_exchange(harness: Harness, ears: Ears) -> None:
    one, two = ears(binding(FANOUT)), ears(binding(FANOUT))
    harness.open().announce(FANOUT, [announcement(FANOUT, body=b'"first"'), announcement(FANOUT)])
    for listener in (one, two):
        first, second = heard(listener, 2)
        assert (first.body, second.body) == (b'"first"', b"{}")
        assert (first.headers["clock"], first.exchange, first.content_type) == (
            7,
            FANOUT.name,
            "application/json",
        )


def test_a_topic_exchange_brings_what_the_patterns_admit(harness: Harness, ears: Ears) -> None:
    workers = ears(binding(EVENTS, "worker.#"))
    both = ears(binding(EVENTS, "worker.*"), binding(EVENTS, "task.multi"))
    keys = ["worker.online", "task.multi", "worker.elect.ack", "task.sent", "worker.offline"]
    harness.open().announce(EVENTS, [announcement(EVENTS, key) for key in keys])
    assert [each.routing_key for each in heard(workers, 3)] == [
        "worker.online",
        "worker.elect.ack",
        "worker.offline",
    ]
    assert [each.routing_key for each in heard(both, 3)] == ["worker.online", "task.multi", "worker.offline"]


def test_a_direct_exchange_brings_what_has_the_very_key(harness: Harness, ears: Ears) -> None:
    mine, other = ears(binding(REPLIES, "me")), ears(binding(REPLIES, "other"))
    broker = harness.open()
    broker.announce(REPLIES, [announcement(REPLIES, key) for key in ("me", "other", "nobody", "me")])
    assert [each.routing_key for each in heard(mine, 2)] == ["me", "me"]
    assert [each.routing_key for each in heard(other, 1)] == ["other"]
    broker.announce(REPLIES, [announcement(REPLIES, "me")])
    assert len(heard(mine, 1)) == 1


def test_what_nobody_hears_is_gone(harness: Harness, ears: Ears) -> None:
    broker = harness.open()
    for exchange in (FANOUT, EVENTS, REPLIES):
        broker.announce(exchange, [announcement(exchange, "me")])
    late = ears(binding(FANOUT), binding(EVENTS, "me"))
    later = ears(binding(REPLIES, "me"))
    for exchange in (FANOUT, REPLIES):
        broker.announce(exchange, [announcement(exchange, "me", b'"new"')])
    assert [each.body for each in heard(late, 1)] == [b'"new"']
    assert [each.body for each in heard(later, 1)] == [b'"new"']


def test_a_closed_listener_leaves_nothing_to_reply_to(harness: Harness, ears: Ears) -> None:
    broker = harness.open()
    ears(binding(REPLIES, "me")).close()
    broker.announce(REPLIES, [announcement(REPLIES, "me")])
    assert ears(binding(REPLIES, "me")).hear(0.0) == []


def test_the_waker_ends_the_wait(ears: Ears) -> None:
    waker = Waker()
    listener = ears(binding(FANOUT), waker=waker)
    threading.Timer(0.05, waker.set).start()
    started = time.monotonic()
    assert listener.hear(PATIENCE) == []
    assert time.monotonic() - started < PATIENCE / 2
    waker.close()
