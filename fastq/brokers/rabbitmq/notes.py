"""What is written down for all workers of a RabbitMQ, which has no place for facts: revokes and pauses.

Revokes are appended to a stream (RabbitMQ 3.9), from which every worker reads all. A queue is paused while
another, which is always empty, exists; that one's name holds the paused one's.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from fastq._core.codec import json_dumps, json_loads
from fastq._core.message import new_id
from fastq.brokers.rabbitmq.connection import Connection
from fastq.brokers.rabbitmq.errors import NOT_FOUND, ChannelClosed
from fastq.brokers.rabbitmq.session import Channel
from fastq.exceptions import DecodeError

STREAM = "fastq.revoked"
# Its oldest parts go after this time, or beyond this size; a record in it may end earlier.
ARGUMENTS = {
    "x-queue-type": "stream",
    "x-max-age": "30D",
    "x-max-length-bytes": 200_000_000,
    "x-stream-max-segment-size-bytes": 10_000_000,
}
PAUSED = "fastq.paused."
AT_ONCE = 1000  # messages of a stream that may be on their way


def revoke(connection: Connection, records: Mapping[str, float], timeout: float) -> None:
    """Append *records* to the stream, confirmed."""
    channel = connection.open_channel(timeout)
    connection.call(channel, "queue.declare", timeout, queue=STREAM, durable=True, arguments=ARGUMENTS)
    connection.call(channel, "confirm.select", timeout)
    _append(connection, channel, dict(records), timeout)
    connection.close_channel(channel, timeout)


def revoked(connection: Connection, timeout: float) -> dict[str, float]:
    """All records of the stream that have not run out."""
    channel = connection.open_channel(timeout)
    try:
        connection.call(channel, "queue.declare", timeout, queue=STREAM, passive=True)
    except ChannelClosed as exc:
        if exc.code != NOT_FOUND:
            raise
        return {}
    # How long a stream is it tells late: a mark of ours says where its end is.
    mark = new_id()
    connection.call(channel, "confirm.select", timeout)
    _append(connection, channel, {"mark": mark}, timeout)
    connection.call(channel, "basic.qos", timeout, prefetch_count=AT_ONCE)
    connection.call(channel, "basic.consume", timeout, queue=STREAM, arguments={"x-stream-offset": "first"})
    found: dict[str, float] = {}
    while not _read(connection, channel, found, mark, timeout):
        pass
    connection.close_channel(channel, timeout)
    now = time.time()
    return {record: until for record, until in found.items() if until > now}


def _read(
    connection: Connection, channel: Channel, found: dict[str, float], mark: str, timeout: float
) -> bool:
    """Put what comes next into *found*; whether *mark* was there."""
    connection.wait_until(lambda: bool(channel.deliveries) or channel.error is not None, timeout, STREAM)
    if channel.error is not None:
        raise channel.error
    last, is_over = 0, False
    while channel.deliveries:
        content = channel.deliveries.popleft()
        last = content.delivery_tag
        try:
            said = json_loads(content.body)
        except DecodeError:  # somebody else's
            continue
        if "mark" not in said:
            found.update(said)
        is_over = is_over or said.get("mark") == mark
    connection.encoder.ack(channel.number, last, True)
    connection.flush(timeout)
    return is_over


def _append(connection: Connection, channel: Channel, said: dict[str, Any], timeout: float) -> None:
    before = len(channel.confirms)
    connection.encoder.publish(
        channel.number,
        "",
        STREAM,
        json_dumps(said),
        properties={"delivery_mode": 2},
        content_type="application/json",
        content_encoding="utf-8",
    )
    connection.wait_until(
        lambda: len(channel.confirms) > before or channel.error is not None, timeout, "the confirmation"
    )
    if channel.error is not None:
        raise channel.error


def pause(connection: Connection, queue: str, is_paused: bool, timeout: float) -> None:
    """Declare or delete the queue that says so."""
    channel = connection.open_channel(timeout)
    method = "queue.declare" if is_paused else "queue.delete"
    fields: dict[str, Any] = {"queue": PAUSED + queue}
    connection.call(channel, method, timeout, **fields, **({"durable": True} if is_paused else {}))
    connection.close_channel(channel, timeout)


def paused(connection: Connection, queues: Iterable[str], timeout: float) -> frozenset[str]:
    """Those of *queues* that are paused."""
    found = set()
    for queue in queues:
        channel = connection.open_channel(timeout)
        try:
            connection.call(channel, "queue.declare", timeout, queue=PAUSED + queue, passive=True)
        except ChannelClosed as exc:
            if exc.code != NOT_FOUND:
                raise
            continue
        found.add(queue)
        connection.close_channel(channel, timeout)
    return frozenset(found)
