"""The dead set and the lengths of queues, for people: `fastq dead` and `fastq queues`.

RabbitMQ shows a message only by handing it over. So whoever looks into the dead set holds all of
it for a moment; closing the channel puts everything back to its place.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from fastq._core.amqp import Content
from fastq.brokers.base import DeadMessage, QueueInfo, TaskPlace
from fastq.brokers.rabbitmq.addresses import DEAD_AT, DEAD_QUEUE, DEAD_REASON, DEAD_SET, to_queue
from fastq.brokers.rabbitmq.connection import Connection
from fastq.brokers.rabbitmq.errors import NOT_FOUND, ChannelClosed
from fastq.brokers.rabbitmq.sender import Sender
from fastq.brokers.rabbitmq.session import Channel

# Entries that are asked for in one write.
AT_ONCE = 100


class Entry(NamedTuple):
    """A dead message that is in our hands."""

    content: Content
    id: str
    queue: str

    def message(self) -> DeadMessage:
        """What people are shown of it."""
        headers = self.content.headers
        delivery = self.content.delivery(self.queue)
        message = delivery.message
        if message is not None:
            message.exchange, message.routing_key = "", self.queue
        return DeadMessage(
            id=self.id,
            queue=self.queue,
            task="" if message is None else message.task,
            reason=str(headers.get(DEAD_REASON, "")),
            died_at=float(headers.get(DEAD_AT, 0.0)),
            raw=self.content.body if message is None else message.envelope(),
        )


@contextmanager
def _entries(sender: Sender, left: float) -> Iterator[tuple[Channel, list[Entry]]]:
    """All entries, oldest first, until the end of the block; those not acknowledged go back."""
    connection, ends = sender.connection, time.monotonic() + left
    channel = connection.open_channel(left)
    found: list[Entry] = []
    try:
        is_empty = False
        while not is_empty:
            calls: list[tuple[str, dict[str, Any]]] = [("basic.get", {"queue": DEAD_SET})] * AT_ONCE
            for reply in connection.call_many(channel, calls, max(ends - time.monotonic(), 0.001)):
                if isinstance(reply, Content):
                    headers = reply.headers
                    fallback = f"{headers.get(DEAD_AT)}"
                    found.append(
                        Entry(reply, str(headers.get("id") or fallback), str(headers.get(DEAD_QUEUE, "")))
                    )
                else:
                    is_empty = True
    except ChannelClosed as exc:
        if exc.code != NOT_FOUND:
            raise
        yield channel, []
        return
    yield channel, found
    connection.close_channel(channel, max(ends - time.monotonic(), 0.001))


def listed(sender: Sender, queue: str | None, limit: int, left: float) -> list[DeadMessage]:
    """The newest *limit* entries, of *queue* or of all, newest first."""
    with _entries(sender, left) as (_, entries):
        chosen = [entry for entry in entries if queue in (None, entry.queue)]
    return [entry.message() for entry in chosen[: -limit - 1 : -1]]


def locate(sender: Sender, task_id: str, left: float) -> TaskPlace | None:
    """Where *task_id* lies, if it is dead."""
    with _entries(sender, left) as (_, entries):
        for entry in entries:
            if entry.id == task_id:
                return TaskPlace("dead", entry.queue, reason=entry.message().reason)
    return None


def retry(sender: Sender, ids: Collection[str] | None, queue: str | None, left: float) -> int:
    """Send entries back to their queues, uncounted."""
    with _entries(sender, left) as (channel, entries):
        chosen = _chosen(entries, ids, queue)
        sender.send([to_queue(entry.content, entry.queue) for entry in chosen], left)
        _acknowledge(sender, channel, chosen)
    return len(chosen)


def drop(sender: Sender, ids: Collection[str] | None, queue: str | None, left: float) -> int:
    """Delete entries."""
    with _entries(sender, left) as (channel, entries):
        chosen = _chosen(entries, ids, queue)
        _acknowledge(sender, channel, chosen)
    return len(chosen)


def queues(sender: Sender, names: Iterable[str], left: float) -> list[QueueInfo]:
    """What RabbitMQ tells of the queues in *names*, and of those that dead messages came from."""
    with _entries(sender, left) as (_, entries):
        dead = Counter(entry.queue for entry in entries)
    return [
        QueueInfo(
            name=name,
            ready=counts(sender.connection, name, left)[0],
            claimed=None,
            delayed=None,
            dead=dead[name],
            oldest_age=None,
        )
        for name in sorted({*names, *dead})
    ]


def _chosen(entries: list[Entry], ids: Collection[str] | None, queue: str | None) -> list[Entry]:
    return [entry for entry in entries if queue in (None, entry.queue) and (ids is None or entry.id in ids)]


def _acknowledge(sender: Sender, channel: Channel, entries: list[Entry]) -> None:
    for entry in entries:
        sender.connection.encoder.ack(channel.number, entry.content.delivery_tag)


def counts(connection: Connection, queue: str, left: float) -> tuple[int, int]:
    """How many messages of *queue* wait, and how many consumers it has; zeros where it does not exist."""
    channel = connection.open_channel(left)
    try:
        found = connection.call(channel, "queue.declare", left, queue=queue, passive=True)
    except ChannelClosed as exc:
        if exc.code != NOT_FOUND:
            raise
        return 0, 0
    connection.close_channel(channel, left)
    return found.message_count, found.consumer_count
