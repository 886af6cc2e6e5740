"""What a message of ours carries on RabbitMQ beside Celery's headers, and where it is published to.

These headers are for fastq's workers alone: a consumer takes them off what it delivers.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from fastq._core.amqp_encoder import FrameEncoder
from fastq._core.message import Message
from fastq._core.request import RETURNED
from fastq.brokers.rabbitmq.delays import delayed_address
from fastq.exceptions import EncodeError

if TYPE_CHECKING:
    from fastq._core.amqp import Content

# Header: how often the message was redelivered, when it was last written. RabbitMQ's own flag adds one.
REDELIVERED = "fastq-redelivered"
# Header: the unix time in seconds before which the message is not for the worker.
DUE = "fastq-due"
# Headers of the dead set: the queue that it came from, why it died, and when, in unix seconds.
DEAD_QUEUE, DEAD_REASON, DEAD_AT = "fastq-dead-queue", "fastq-dead-reason", "fastq-dead-at"

# How headers begin that are the broker's business; RabbitMQ's are about dead letters and quorum queues.
BROKERS = ("fastq-", "x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")

DEAD_SET = "fastq.dead"  # the queue of all dead messages


class Outgoing(NamedTuple):
    """A message on its way, from our hands or from RabbitMQ's, with the address that it goes to."""

    source: Message | Content
    exchange: str
    routing_key: str
    extra: dict[str, Any] = {}  # headers on top of its own
    must_arrive: bool = True  # whether it is an error that it reaches no queue

    def write(self, encoder: FrameEncoder, channel: int) -> None:
        """Append it to what is sent next."""
        source = self.source
        if not self.extra and isinstance(source, Message):
            encoder.publish_message(
                channel,
                source,
                exchange=self.exchange,
                routing_key=self.routing_key,
                mandatory=self.must_arrive,
            )
            return
        properties = {"delivery_mode": 2, **source.properties}
        if source.priority is not None:
            properties["priority"] = source.priority
        encoder.publish(
            channel,
            self.exchange,
            self.routing_key,
            source.body,
            headers=without_ours(source.headers) | self.extra,
            properties=properties,
            content_type=source.content_type,
            content_encoding=source.content_encoding,
            mandatory=self.must_arrive,
        )


def carried(way: Outgoing) -> Outgoing:
    """*way* if AMQP has a form for it; else one to the dead set, with the barest headers, that says why."""
    try:
        way.write(FrameEncoder(), 1)
        return way
    except EncodeError as exc:
        source, queue = way.source, way.routing_key
        reason = f"RabbitMQ can't carry it: {exc}"
        if queue == DEAD_SET and not way.exchange:
            queue, reason = way.extra[DEAD_QUEUE], f"{way.extra[DEAD_REASON]}; {reason}"
        names: dict[str, Any] = {name: source.headers.get(name, "") for name in ("task", "id")}
        bare = Message(
            names["task"],
            names["id"],
            names,
            source.body,
            queue=queue,
            content_type=source.content_type or "",
            content_encoding=source.content_encoding or "",
        )
        return to_dead_set(bare, queue, reason)


def count_of(header: object) -> int:
    """The count that a header holds; 0 for anything else."""
    return header if type(header) is int and header > 0 else 0


def seconds_of(header: object) -> float:
    """The time that a header holds; 0.0 for anything else."""
    return header if type(header) is float else 0.0


def without_ours(headers: dict[str, Any]) -> dict[str, Any]:
    """*headers* without those that only RabbitMQ and fastq's workers have to do with."""
    return {name: value for name, value in headers.items() if not name.startswith(BROKERS)}


def ours(headers: dict[str, Any]) -> dict[str, Any]:
    """Those of *headers* that are for fastq's workers alone."""
    return {name: value for name, value in headers.items() if name.startswith("fastq-")}


def to_address(message: Message) -> Outgoing:
    """To where *message* is addressed: the schedule, if it is not due yet, an exchange or a queue.

    What goes to an exchange is delayed by the workers that get it: which queues it will
    reach is known only then.
    """
    if message.exchange:
        must_arrive = bool(message.properties.get("mandatory"))
        return Outgoing(message, message.exchange, message.routing_key, must_arrive=must_arrive)
    if message.due is not None and message.due > time.time():
        return to_schedule(message, message.queue, message.due)
    return to_queue(message, message.queue)


def to_queue(source: Message | Content, queue: str, redelivered: int = 0) -> Outgoing:
    """To the tail of *queue*."""
    return Outgoing(source, "", queue, {REDELIVERED: redelivered} if redelivered else {})


def to_tail(source: Message | Content, queue: str, redelivered: int = 0) -> Outgoing:
    """Back to *queue*, from a worker that did not begin to run it: RabbitMQ would flag it as if it had."""
    way = to_queue(source, queue, redelivered)
    return way._replace(extra=way.extra | {RETURNED: time.time()})


def to_schedule(source: Message | Content, queue: str, due: float, redelivered: int = 0) -> Outgoing:
    """To *queue* at the unix time *due*."""
    exchange, routing_key = delayed_address(due - time.time(), queue)
    extra: dict[str, Any] = {DUE: due}
    if redelivered:
        extra[REDELIVERED] = redelivered
    return Outgoing(source, exchange, routing_key, extra)


def to_dead_set(source: Message | Content, queue: str, reason: str) -> Outgoing:
    """To the dead set."""
    text = reason.encode("utf-8", "replace").decode()  # a lone surrogate can't travel
    return Outgoing(source, "", DEAD_SET, {DEAD_QUEUE: queue, DEAD_REASON: text, DEAD_AT: time.time()})
