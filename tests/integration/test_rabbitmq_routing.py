"""Our routing tables against RabbitMQ itself, on random bindings and keys."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import amqp
import pytest
from servers import RabbitServer

from fastq._core.routing import Bindings

SEED = 20
QUEUES = 100
BINDINGS = 1000
MESSAGES = 1000
WORDS = ["a", "b", "c", "ab", ""]
HEADERS: dict[str, list[Any]] = {"a": [1, 2, True], "b": ["x", "y", None], "x-c": ["1", 1]}
MATCHES = [None, "all", "any", "all-with-x", "any-with-x"]
END = "end"

# A binding: queue, pattern, arguments. A message: routing key, headers.
Binding = tuple[str, str, dict[str, Any]]
Sent = tuple[str, dict[str, Any]]


@pytest.fixture
def channel(rabbitmq_server: RabbitServer) -> Iterator[amqp.Channel]:
    """A channel of a connection whose exclusive queues go with it."""
    with amqp.Connection(f"127.0.0.1:{rabbitmq_server.port}", "guest", "guest") as connection:
        yield connection.channel()


def routed(
    channel: amqp.Channel, exchange_type: str, bindings: list[Binding], sent: list[Sent]
) -> dict[int, set[str]]:
    """The queues to which RabbitMQ takes each message, by the message's place in *sent*."""
    exchange = f"compared-{exchange_type}"
    channel.exchange_declare(exchange, exchange_type, auto_delete=True)
    reached: dict[int, set[str]] = defaultdict(set)
    at_end = set()

    def take(queue: str, message: amqp.Message) -> None:
        if message.body == END:
            at_end.add(queue)
        else:
            assert queue not in reached[int(message.body)], "a queue gets one copy"
            reached[int(message.body)].add(queue)

    names = list(dict.fromkeys(queue for queue, _, _ in bindings))
    for name in names:
        channel.queue_declare(name, exclusive=True)
    for name, pattern, arguments in bindings:
        channel.queue_bind(name, exchange, pattern, arguments=arguments, nowait=True)
    for number, (key, headers) in enumerate(sent):
        channel.basic_publish(amqp.Message(str(number), application_headers=headers), exchange, key)
    for name in names:
        # Queues keep the order, so this one tells that all the others have come.
        channel.basic_publish(amqp.Message(END), "", name)
        channel.basic_consume(
            name, name, no_ack=True, callback=lambda message, name=name: take(name, message)
        )
    while len(at_end) < len(names):
        channel.connection.drain_events(timeout=30)
    for name in names:
        channel.basic_cancel(name)
        channel.queue_delete(name)
    return reached


def differences(
    exchange_type: str, bindings: list[Binding], sent: list[Sent], expected: dict[int, set[str]]
) -> list[tuple[Sent, set[str], set[str]]]:
    """Every message that our table takes elsewhere, with RabbitMQ's queues and ours."""
    table = Bindings(exchange_type)
    for name, pattern, arguments in bindings:
        table.bind(name, pattern, arguments)
    ours = [table.route(key, headers) for key, headers in sent]
    assert all(len(queues) == len(set(queues)) for queues in ours)
    found = [(each, expected[number], set(ours[number])) for number, each in enumerate(sent)]
    return [each for each in found if each[1] != each[2]]


def test_topics_go_where_rabbitmq_takes_them(channel: amqp.Channel) -> None:
    source = random.Random(SEED)

    def words(choices: list[str]) -> str:
        return ".".join(source.choices(choices, k=source.randint(0, 5)))

    bindings: list[Binding] = [
        (f"topic-{source.randrange(QUEUES)}", words([*WORDS, *WORDS, "*", "#", "a*"]), {})
        for _ in range(BINDINGS)
    ]
    sent: list[Sent] = [(words([*WORDS, "*", "#"]), {}) for _ in range(MESSAGES)]
    expected = routed(channel, "topic", bindings, sent)
    assert sum(map(len, expected.values())) > MESSAGES  # so there is something to be wrong about
    assert differences("topic", bindings, sent, expected) == []


def test_headers_go_where_rabbitmq_takes_them(channel: amqp.Channel) -> None:
    source = random.Random(SEED)

    def some(of: dict[str, list[Any]]) -> dict[str, Any]:
        return {name: source.choice(values) for name, values in of.items() if source.random() < 0.6}

    bindings: list[Binding] = []
    for _ in range(BINDINGS):
        match = source.choice(MATCHES)
        arguments = some(HEADERS) | ({} if match is None else {"x-match": match})
        bindings.append((f"headers-{source.randrange(QUEUES)}", "", arguments))
    sent: list[Sent] = [("", some(HEADERS)) for _ in range(MESSAGES // 10)]
    # So many bindings reach every queue: take a few at a time.
    for start in range(0, BINDINGS, QUEUES):
        few = bindings[start : start + QUEUES // 4]
        assert differences("headers", few, sent, routed(channel, "headers", few, sent)) == []
