"""What is declared on RabbitMQ: queues with their exchanges and bindings, the schedule, the dead set.

All of it is as Celery declares it (docs/PROTOCOL.md §4.1, §4.5), so that either side finds
what the other has made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from fastq.brokers.rabbitmq.addresses import DEAD_SET
from fastq.brokers.rabbitmq.delays import LADDERS, LONGEST_KEY, SECONDS, Ladder
from fastq.topology import Exchange, Queue

# A method and its fields.
Declaration = tuple[str, dict[str, Any]]


def of_exchange(exchange: Exchange) -> Iterator[Declaration]:
    """The exchange, unless it is the default one or one of RabbitMQ's own."""
    if exchange.name and not exchange.no_declare and not exchange.name.startswith("amq."):
        yield (
            "exchange.declare",
            {
                "exchange": exchange.name,
                "type": exchange.type,
                "durable": exchange.durable,
                "auto_delete": exchange.auto_delete,
                "passive": exchange.passive,
                "arguments": exchange.arguments,
            },
        )


def of_queue(queue: Queue) -> Iterator[Declaration]:
    """The queue, what it is bound to, and its bindings."""
    bindings = queue.all_bindings
    for each in bindings:
        yield from of_exchange(each.exchange)
    if not queue.no_declare:
        yield (
            "queue.declare",
            {
                "queue": queue.name,
                "durable": queue.durable,
                "exclusive": queue.exclusive,
                "auto_delete": queue.auto_delete,
                "arguments": queue.arguments,
            },
        )
    for each in bindings:
        yield (
            "queue.bind",
            {
                "queue": queue.name,
                "exchange": each.exchange.name,
                "routing_key": each.routing_key,
                "arguments": each.arguments,
            },
        )


def of_schedule(queue: str) -> Iterator[Declaration]:
    """The ends of the ladders, and what brings to *queue* what comes down."""
    for ladder in LADDERS:
        key = ladder.prefix_pattern + queue
        # No message for a longer name can be put on the ladder.
        if len(key.encode()) <= LONGEST_KEY:
            yield from of_exchange(Exchange(ladder.end, "topic"))
            yield "queue.bind", {"queue": queue, "exchange": ladder.end, "routing_key": key}


def of_ladder(ladder: Ladder, queue_type: str) -> Iterator[Declaration]:
    """The whole *ladder*, from its end to its top."""
    yield from of_exchange(Exchange(ladder.end, "topic"))
    for rung in ladder.each_rung(queue_type):
        yield from of_exchange(Exchange(rung.name, "topic"))
        yield "queue.declare", {"queue": rung.name, "durable": True, "arguments": rung.arguments}
        yield "queue.bind", {"queue": rung.name, "exchange": rung.name, "routing_key": rung.waits_on}
        yield (
            "exchange.bind",
            {"destination": rung.below, "source": rung.name, "routing_key": rung.passes_on},
        )


def of_ladders(queue_type: str) -> Iterator[Declaration]:
    """Both ladders."""
    for ladder in LADDERS:
        yield from of_ladder(ladder, queue_type)


def of_dead_set() -> Iterator[Declaration]:
    """The queue of the dead; a classic one, for a quorum queue drops what was looked at too often."""
    yield "queue.declare", {"queue": DEAD_SET, "durable": True}


def of_celerys_schedule(queues: Sequence[Queue], queue_type: str) -> Iterator[Declaration]:
    """What brings to *queues* what Celery's clients delay by routing keys, and do not declare (§4.5).

    They do so to topic exchanges, in apps with quorum queues. Elsewhere the key of one queue's
    messages may be meant for another: what is addressed to a queue comes down by its name.
    """
    binds = [
        ("queue.bind", {"queue": queue.name, "exchange": SECONDS.end, "routing_key": key})
        for queue in queues
        if queue.arguments.get("x-queue-type") == "quorum"
        for each in queue.all_bindings
        if each.exchange.type == "topic"
        and len((key := SECONDS.prefix_pattern + each.routing_key).encode()) <= LONGEST_KEY
    ]
    if binds:
        yield from of_ladder(SECONDS, queue_type)
        yield from binds


def of_queues(queues: Sequence[Queue], delay_queue_type: str) -> Iterator[Declaration]:
    """All that a worker of *queues* needs at its start."""
    for queue in queues:
        yield from of_queue(queue)
        yield from of_schedule(queue.name)
    yield from of_celerys_schedule(queues, delay_queue_type)
