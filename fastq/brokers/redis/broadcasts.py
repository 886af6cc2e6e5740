"""Broadcasts of Celery's clients, which come by pub/sub, for a worker's queues (docs/PROTOCOL.md §3.8)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from typing import Any

from fastq._core.message import decode_envelope
from fastq._core.resp import pack_many
from fastq.brokers.exchanges import Bound
from fastq.brokers.redis import keys
from fastq.brokers.redis.connection import Connection, checked
from fastq.brokers.redis.exchanges import COPIED
from fastq.brokers.redis.layout import Layout
from fastq.brokers.redis.scripts import run_script
from fastq.exceptions import DecodeError


class Broadcasts:
    """What Celery's clients send to the fanout exchanges of a worker's queues, taken in from pub/sub.

    It goes into the lists of those queues, and is a message like any other from there on. Who
    does not listen when it is sent has missed it, as in Celery.
    """

    def __init__(self, layout: Layout, bindings: dict[str, list[Bound]]) -> None:
        """*bindings* are those of the worker's queues, by exchange."""
        self._layout = layout
        self._queues: dict[bytes, list[str]] = {}  # by channel or pattern
        self._patterns: list[str] = []
        self._channels: list[str] = []
        self._heard: list[tuple[list[str], bytes]] = []  # the queues for it, and the envelope
        for exchange, bound in bindings.items():
            queues = [each.queue for each in bound if each.exchange_type == "fanout"]
            if queues:
                self._listen(exchange, queues)

    def _listen(self, exchange: str, queues: list[str]) -> None:
        channel = self._layout.channel(exchange, "")
        # Whatever the key: to a fanout exchange it means nothing.
        pattern = "".join("\\" + each if each in "\\*?[]" else each for each in channel) + "/*"
        self._channels.append(channel)
        self._patterns.append(pattern)
        for each in (channel, pattern):
            self._queues[each.encode()] = queues

    def __bool__(self) -> bool:
        """Whether there is anything to be put into queues."""
        return bool(self._heard)

    def subscribe(self, connection: Connection, timeout: float) -> None:
        """Listen on *connection*; what comes is among its pushes. Needs RESP3."""
        if not self._channels:
            return
        # The server says by pushes what it has subscribed to, so wait for the reply to another command.
        commands = [["SUBSCRIBE", *self._channels], ["PSUBSCRIBE", *self._patterns], ["PING"]]
        connection.send(pack_many(commands), timeout)
        checked(connection.read(timeout))

    def hear(self, push: Sequence[Any]) -> bool:
        """Keep what *push* brings; whether that is something for our queues."""
        if push[0] not in (b"message", b"pmessage"):
            return False
        queues = self._queues.get(push[1])
        if queues is None:
            return False
        self._heard.append((queues, push[-1]))
        return True

    def deliver(self, connection: Connection, timeout: float) -> None:
        """Put what was heard into the queues; until that has succeeded it may be called again."""
        for queues, envelope in self._heard:
            tag, priority, is_copied = _read(envelope)
            for queue in () if is_copied else queues:
                ready, _, _ = self._layout.destination(queue, priority)
                heard = keys.heard(self._layout.prefix, queue, tag)
                run_script(connection, "broadcast.lua", [heard, ready], [envelope], timeout)
        self._heard.clear()


def _read(envelope: bytes) -> tuple[str, int | None, bool]:
    """The name by which *envelope* is told from others, its priority, and whether our queues have it."""
    try:
        message = decode_envelope(envelope)
    except DecodeError:  # it dies in its queue, where it is seen
        return sha1(envelope, usedforsecurity=False).hexdigest(), None, False
    tag = message.properties.get("delivery_tag") or message.id
    return str(tag), message.priority, bool(message.properties.get(COPIED))
