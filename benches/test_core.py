"""The core's functions one by one: ``pytest benches``. Encode, decode, match, window, trace."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benches.data import NOOP, QUEUE, SEED, envelope, headers, task_ids
from fastq import FastQ
from fastq._core.codec import json_dumps, json_loads
from fastq._core.message import Delivery, Message, Outcome, decode_envelope, new_id
from fastq._core.routing import Bindings, topic_matches
from fastq._core.trace import Tracer
from fastq._core.window import PrefetchWindow

BINDINGS = 10_000
WILDCARDS = 0.1  # the share of words that are '*' or '#'
WORDS = ("stock", "order", "user", "mail", "eu", "us", "usd", "new", "old", "paid", *"abcdefghij")


@pytest.fixture
def message() -> Message:
    """A message as a worker receives it."""
    return decode_envelope(envelope(headers(NOOP, task_ids(1)[0])))


@pytest.fixture
def app() -> Iterator[FastQ]:
    """An application with a no-op task on the memory broker."""
    app = FastQ("bench", broker="memory://", backend="memory://", set_as_current=False)
    app.task(name=NOOP)(lambda: None)
    app.finalize()
    yield app
    app.close()


def test_new_id(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(new_id)) == 36


def test_encode_an_envelope(benchmark: BenchmarkFixture, message: Message) -> None:
    assert benchmark(message.envelope).startswith(b"{")


@pytest.mark.parametrize("body_encoding", [None, "base64"], ids=["text", "base64"])
def test_decode_an_envelope(benchmark: BenchmarkFixture, body_encoding: str | None) -> None:
    raw = envelope(headers(NOOP, task_ids(1)[0]), body_encoding)
    assert benchmark(decode_envelope, raw).task == NOOP


def test_encode_a_publish(benchmark: BenchmarkFixture, message: Message) -> None:
    """A hundred messages into one buffer: divide by that."""
    encoder = pytest.importorskip("fastq._core.amqp_encoder").FrameEncoder()

    def publish() -> bytes:
        encoder.publish_messages(1, [message] * 100)
        data: bytes = encoder.take()
        return data

    assert len(benchmark(publish)) > 100 * len(message.body)


@pytest.mark.parametrize("reads_headers", [False, True], ids=["gate", "headers"])
def test_decode_a_delivery(benchmark: BenchmarkFixture, message: Message, reads_headers: bool) -> None:
    """A hundred deliveries out of one read: divide by that."""
    decoder = pytest.importorskip("fastq._core.amqp").FrameDecoder()
    encoder = pytest.importorskip("fastq._core.amqp_encoder").FrameEncoder()
    encoder.publish_message(1, message, exchange="", routing_key=QUEUE)
    wire = encoder.take()
    encoder.method(1, "basic.deliver", consumer_tag="c", delivery_tag=1, routing_key=QUEUE)
    deliver = encoder.take() + wire[8 + int.from_bytes(wire[3:7], "big") :]

    def deliveries() -> list[Delivery]:
        decoder.feed(deliver * 100)
        found = [content.delivery(QUEUE) for content in iter(decoder.next_frame, None)]
        if reads_headers:
            for delivery in found:
                assert delivery.message.headers["origin"]
        return found

    assert len(benchmark(deliveries)) == 100


def test_write_json(benchmark: BenchmarkFixture) -> None:
    benchmark(json_dumps, [[1, "two", 3.0], {"key": [None, True]}, {"chain": None}])


def test_read_json(benchmark: BenchmarkFixture) -> None:
    benchmark(json_loads, b'[[1, "two", 3.0], {"key": [null, true]}, {"chain": null}]')


def test_match_one_pattern(benchmark: BenchmarkFixture) -> None:
    assert benchmark(topic_matches, "stock.*.usd.#", "stock.eu.usd.new.paid")


@pytest.mark.parametrize("keys", [1, 40_000])
def test_route_through_ten_thousand_patterns(benchmark: BenchmarkFixture, keys: int) -> None:
    """One key again and again, and so many that none is remembered from the last time."""
    source = random.Random(SEED)
    bindings = Bindings("topic")
    for number in range(BINDINGS):
        words = [source.choice("*#" if source.random() < WILDCARDS else WORDS) for _ in range(4)]
        bindings.bind(f"queue-{number}", ".".join(words))
    following = cycle([".".join(source.choices(WORDS, k=4)) for _ in range(keys)])
    benchmark(lambda: bindings.route(next(following)))
    assert len(bindings.route("stock.eu.usd.new")) > 1


def test_window_turn(benchmark: BenchmarkFixture, message: Message) -> None:
    window = PrefetchWindow(2, "auto")
    outcomes = [Outcome(Delivery(message, tag, "celery"), runtime=1e-6) for tag in range(64)]

    def turn() -> int:
        window.take(64)
        window.observe(outcomes)
        window.settle(64)
        return int(window.room())

    assert benchmark(turn) > 0


def test_trace_a_task(benchmark: BenchmarkFixture, app: Any, message: Message) -> None:
    tracer = Tracer(app, "bench@host")
    outcome = benchmark(tracer.run, Delivery(message, 1, "celery"))
    assert outcome.state == "SUCCESS"


def test_delay(benchmark: BenchmarkFixture, app: Any) -> None:
    benchmark.pedantic(app.tasks[NOOP].delay, iterations=1000, rounds=5)
