"""Hearing announcements on RabbitMQ: a queue of one connection, consumed without acknowledgements."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fastq._core.message import Message
from fastq.brokers.listening import ANSWER_SECONDS, CONNECT_SECONDS, Listener, wait_for
from fastq.brokers.rabbitmq.connection import Connection
from fastq.brokers.rabbitmq.connector import Connector
from fastq.brokers.rabbitmq.declarations import of_queue
from fastq.brokers.rabbitmq.session import Channel
from fastq.exceptions import OperationalError
from fastq.topology import Queue

if TYPE_CHECKING:
    from fastq.wakeup import Waker


class RabbitMQListener(Listener):
    """Listens on a connection of its own."""

    def __init__(self, connector: Connector, queue: Queue, waker: Waker | None) -> None:
        self._connector = connector
        self._queue = queue
        self._waker = waker
        self._connection: Connection | None = None
        self._channel: Channel

    def hear(self, timeout: float) -> list[Message]:
        deadline = time.monotonic() + timeout
        try:
            connection = self._connected()
            while True:
                heard = self._take(connection)
                left = deadline - time.monotonic()
                if heard or left <= 0:
                    return heard
                if connection.heartbeat:
                    left = min(left, connection.heartbeat / 4)
                if wait_for(connection.fileno(), self._waker, left):
                    return self._take(connection)
        except OperationalError:
            self._disconnect()
            raise

    def close(self) -> None:
        if self._connection is None:
            return
        try:
            name = self._queue.name
            self._connection.call(self._channel, "queue.delete", ANSWER_SECONDS, queue=name)
        except OperationalError:
            pass  # it expires, or went with the connection
        self._connection.close()
        self._connection = None

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._connector.connect(CONNECT_SECONDS)
            try:
                self._channel = connection.open_channel(ANSWER_SECONDS)
                connection.call_many(self._channel, list(of_queue(self._queue)), ANSWER_SECONDS)
                name = self._queue.name
                connection.call(self._channel, "basic.consume", ANSWER_SECONDS, queue=name, no_ack=True)
            except BaseException:
                connection.abandon()
                raise
            self._connection = connection
        return self._connection

    def _take(self, connection: Connection) -> list[Message]:
        """What is here, without waiting."""
        while connection.receive(0.0):
            pass
        heard = []
        while self._channel.deliveries:
            message = self._channel.deliveries.popleft().delivery(self._queue.name).message
            if message is not None:
                heard.append(message)
        if self._channel.cancelled or self._channel.error is not None:
            raise self._channel.error or OperationalError(
                f"RabbitMQ has deleted the queue {self._queue.name}"
            )
        return heard

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None
