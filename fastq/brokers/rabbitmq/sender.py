"""Sends messages, and declares where they go once for each connection."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence

from fastq.brokers.base import BrokerOptions
from fastq.brokers.pool import Pool
from fastq.brokers.rabbitmq.addresses import DEAD_SET, Outgoing, ours
from fastq.brokers.rabbitmq.connection import Connection
from fastq.brokers.rabbitmq.connector import Connector
from fastq.brokers.rabbitmq.declarations import (
    Declaration,
    of_dead_set,
    of_exchange,
    of_ladders,
    of_queue,
    of_schedule,
)
from fastq.brokers.rabbitmq.delays import LADDERS, plain_address
from fastq.brokers.rabbitmq.errors import PRECONDITION_FAILED, ChannelClosed
from fastq.brokers.rabbitmq.publisher import Publisher
from fastq.exceptions import OperationalError
from fastq.topology import Exchange

logger = logging.getLogger(__name__)

TOPS = frozenset(f"{ladder.name}_{ladder.rungs - 1}" for ladder in LADDERS)
# What is declared differently elsewhere is said once in a process.
_said: set[str] = set()


class Sender:
    """What one connection publishes through. Used by one thread at a time."""

    def __init__(self, connection: Connection, options: BrokerOptions, timeout: float) -> None:
        self.connection = connection
        self.used_at = 0.0  # monotonic; for the pool
        self._options = options
        self._publisher = Publisher(connection, timeout)
        # What was declared on this connection: queues, and queues with a way from the schedule.
        self._queues: set[str] = set()
        self._scheduled: set[str] = set()
        self._exchanges: set[str] = set()  # to which was announced

    def send(self, batch: Sequence[Outgoing], timeout: float) -> None:
        """Publish *batch* and wait for the confirms. Raises `OperationalError` within *timeout* seconds.

        A queue that was deleted since it was declared is declared again, once.
        """
        ends = time.monotonic() + timeout
        self.declare(self._needed(batch), timeout)
        returned = self._publisher.publish(batch, _left(ends))
        if not returned:
            return
        self.forget()
        again = [Outgoing(each, each.exchange, each.routing_key, ours(each.headers)) for each in returned]
        self.declare(self._needed(again), _left(ends))
        for each in self._publisher.publish(again, _left(ends))[:1]:
            raise OperationalError(
                f"no queue takes what is published to the exchange {each.exchange!r} with the routing key "
                f"{each.routing_key!r}: bind one, or send without `mandatory`"
            )

    def announce(self, exchange: Exchange, batch: Sequence[Outgoing], timeout: float) -> None:
        """Publish *batch* to *exchange*, which reaches whoever is bound to it, and wait for the confirms."""
        ends = time.monotonic() + timeout
        if exchange.name not in self._exchanges:
            self.declare(of_exchange(exchange), timeout)
            self._exchanges.add(exchange.name)
        self._publisher.publish(batch, _left(ends))

    def close(self) -> None:
        """Leave RabbitMQ without a word."""
        self.connection.abandon()

    def forget(self) -> None:
        """Declare everything anew before it is used next."""
        self._queues.clear()
        self._scheduled.clear()

    def declare(self, declarations: Iterable[Declaration], timeout: float) -> None:
        """Make all of *declarations*, in one write where none is refused.

        What exists with other arguments is used as it is, and the log says so: it may be
        older than this program's settings, or another program's.
        """
        calls = list(declarations)
        if not calls:
            return
        ends = time.monotonic() + timeout
        # A channel of its own: a refusal closes it.
        channel = self.connection.open_channel(timeout)
        try:
            self.connection.call_many(channel, calls, _left(ends))
        except ChannelClosed as exc:
            if exc.code != PRECONDITION_FAILED:
                raise
            for call in calls:
                if not channel.is_open:
                    channel = self.connection.open_channel(_left(ends))
                try:
                    self.connection.call_many(channel, [call], _left(ends))
                except ChannelClosed as refused:
                    if refused.code != PRECONDITION_FAILED:
                        raise
                    _say(refused)
        self.connection.close_channel(channel, _left(ends))

    def _needed(self, batch: Sequence[Outgoing]) -> Iterator[Declaration]:
        """What must stand before *batch* is published and was not declared on this connection."""
        for exchange, routing_key, queue in {
            (each.exchange, each.routing_key, getattr(each.source, "queue", "")) for each in batch
        }:
            if exchange in TOPS:
                name = plain_address(exchange, routing_key)[1]
                if not self._scheduled:
                    yield from of_ladders(self._options.delay_queue_type)
                if name not in self._scheduled:
                    self._scheduled.add(name)
                    yield from self._of_queue(name)
                    yield from of_schedule(name)
            elif not exchange:
                yield from self._of_queue(routing_key)
            elif queue:
                yield from self._of_queue(queue)

    def _of_queue(self, name: str) -> Iterator[Declaration]:
        if name not in self._queues:
            self._queues.add(name)
            yield from of_dead_set() if name == DEAD_SET else of_queue(self._options.queue(name))


def _left(ends: float) -> float:
    return max(ends - time.monotonic(), 0.001)


def _say(refused: ChannelClosed) -> None:
    if refused.text not in _said:
        _said.add(refused.text)
        logger.warning("%s. It is used as it is.", refused)


class SenderPool(Pool[Sender]):
    """Senders on connections of their own."""

    def __init__(self, connector: Connector, options: BrokerOptions) -> None:
        super().__init__(
            limit=options.pool_limit, patience=options.pool_acquire_timeout, keeps=bool(options.pool_limit)
        )
        self._connector = connector
        self._options = options

    def connect(self, timeout: float) -> Sender:
        return Sender(self._connector.connect(timeout), self._options, timeout)

    def describe(self) -> str:
        return self._connector.endpoint.describe()

    def is_alive(self, sender: Sender, idle: float, timeout: float) -> bool:
        return sender.connection.is_usable()
