"""Publishing with confirms, RabbitMQ's extension to AMQP: a batch is written at once and awaited as one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from fastq._core.amqp import Content
from fastq.brokers.rabbitmq.connection import Connection
from fastq.brokers.rabbitmq.session import Channel
from fastq.exceptions import OperationalError

if TYPE_CHECKING:
    from fastq._core.amqp_encoder import FrameEncoder


class Writable(Protocol):
    """What can be published."""

    def write(self, encoder: FrameEncoder, channel: int) -> None:
        """Append one message to what is sent next."""


class Publisher:
    """A channel in confirm mode. Used by one thread at a time."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        """Open the channel, within *timeout* seconds."""
        ends = time.monotonic() + timeout
        self._connection = connection
        self._channel: Channel = connection.open_channel(timeout)
        connection.call(self._channel, "confirm.select", max(ends - time.monotonic(), 0.001))
        self._sent = 0  # publishes on this channel
        self._confirmed = 0  # every one up to here is
        self._above: set[int] = set()  # confirmed out of order

    @property
    def is_open(self) -> bool:
        """Whether the channel can still be used."""
        return self._channel.is_open

    def publish(self, batch: Sequence[Writable], timeout: float) -> list[Content]:
        """Send *batch* and wait until RabbitMQ has all of it; returns what came back for want of a queue.

        Raises `OperationalError` when a queue refuses a message, or after *timeout* seconds;
        then any of the messages may have been taken. Raises `EncodeError`, and sends nothing, for one
        that AMQP has no form for.
        """
        self._channel.returned.clear()
        encoder, number = self._connection.encoder, self._channel.number
        mark = len(encoder)
        try:
            for outgoing in batch:
                outgoing.write(encoder, number)
        except BaseException:
            encoder.truncate(mark)
            raise
        self._sent += len(batch)
        self._connection.wait_until(self._is_confirmed, timeout, f"the confirmation of {len(batch)} messages")
        if self._channel.error is not None:
            raise self._channel.error
        returned = list(self._channel.returned)
        self._channel.returned.clear()
        return returned

    def _is_confirmed(self) -> bool:
        """Take in the confirms that are here; whether none is missing, or none will come."""
        confirms = self._channel.confirms
        while confirms:
            confirm = confirms.popleft()
            tag: int = confirm.delivery_tag
            if confirm.name == "basic.nack":
                raise OperationalError(
                    "RabbitMQ has refused messages (basic.nack): a queue is full, or could not store them"
                )
            if confirm.multiple:
                self._confirmed = max(self._confirmed, tag)
            else:
                self._above.add(tag)
        while self._confirmed + 1 in self._above:
            self._confirmed += 1
        if self._above and self._confirmed:
            self._above = {tag for tag in self._above if tag > self._confirmed}
        return self._confirmed >= self._sent or self._channel.error is not None
