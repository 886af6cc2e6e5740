"""What an operator does by hand on RabbitMQ, one method of AMQP at a time: `fastq amqp`."""

from __future__ import annotations

from typing import Any

from fastq._core.amqp import Content
from fastq.brokers.rabbitmq.connector import Connector
from fastq.brokers.rabbitmq.session import Channel
from fastq.exceptions import OperationalError

TIMEOUT = 10.0  # seconds for one answer


class Admin:
    """One connection, with one channel that is opened anew when RabbitMQ refuses something."""

    def __init__(self, connector: Connector) -> None:
        self._connection = connector.connect(TIMEOUT)
        self._channel: Channel | None = None

    def call(self, method: str, **fields: Any) -> Any:
        """The reply to *method*. Raises `OperationalError` saying why RabbitMQ refuses it."""
        return self._connection.call(self._open_channel(), method, TIMEOUT, **fields)

    def publish(self, body: bytes, exchange: str, routing_key: str, *, is_mandatory: bool) -> bool:
        """Publish text, persistent and confirmed; whether RabbitMQ had a queue for it or was not asked to."""
        channel = self._connection.open_channel(TIMEOUT)
        self._connection.call(channel, "confirm.select", TIMEOUT)
        self._connection.encoder.publish(
            channel.number,
            exchange,
            routing_key,
            body,
            properties={"delivery_mode": 2},
            content_type="text/plain",
            content_encoding="utf-8",
            mandatory=is_mandatory,
        )
        self._connection.wait_until(
            lambda: bool(channel.confirms) or channel.error is not None, TIMEOUT, "the confirmation"
        )
        if channel.error is not None:
            raise channel.error
        if channel.confirms[0].name == "basic.nack":
            raise OperationalError("RabbitMQ has refused the message: the queue is full")
        is_taken = not channel.returned
        self._connection.close_channel(channel, TIMEOUT)
        return is_taken

    def get(self, queue: str, *, no_ack: bool) -> Content | None:
        """The next message of *queue*; unless *no_ack* it goes back if nobody acknowledges it."""
        reply = self.call("basic.get", queue=queue, no_ack=no_ack)
        return reply if isinstance(reply, Content) else None

    def ack(self, delivery_tag: int) -> None:
        """Acknowledge what `get` has brought on this connection."""
        self._connection.encoder.ack(self._open_channel().number, delivery_tag)
        # An unknown tag closes the channel: an answer on it shows that it is well.
        self.call("basic.qos")

    def close(self) -> None:
        """Say goodbye."""
        self._connection.close()

    def _open_channel(self) -> Channel:
        if self._channel is None or not self._channel.is_open:
            self._channel = self._connection.open_channel(TIMEOUT)
        return self._channel
