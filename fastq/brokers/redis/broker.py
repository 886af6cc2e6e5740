"""Redis as a broker: Celery's lists for what is ready, keys of our own for the rest (PROTOCOL §3)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from fastq._core.message import Message
from fastq._core.publish import pack_publishes
from fastq._core.resp import Argument, pack, pack_many
from fastq.brokers.base import Broker, BrokerOptions, Consumer, DeadMessage, QueueInfo, TaskPlace
from fastq.brokers.exchanges import Bound, Stored
from fastq.brokers.failover import split_urls
from fastq.brokers.redis import exchanges, inspection, keys
from fastq.brokers.redis.connection import Connection, ConnectionPool, ServerRefused, checked
from fastq.brokers.redis.endpoint import Endpoint, parse_endpoint
from fastq.brokers.redis.layout import Layout
from fastq.brokers.redis.servers import Servers
from fastq.brokers.retry_policy import RetryPolicy

if TYPE_CHECKING:
    from fastq.backends.base import Backend
    from fastq.brokers.listening import Listener
    from fastq.brokers.redis.schedule_store import RedisScheduleStore
    from fastq.topology import Exchange, Queue
    from fastq.wakeup import Waker

T = TypeVar("T")


class RedisBroker(Broker):
    """A Redis database, alone or behind Sentinels, or several of which one is used at a time."""

    has_celery_peers = True
    keeps_schedules = True

    def __init__(self, url: str, options: BrokerOptions) -> None:
        super().__init__(url, options)
        # Several sentinels lead to one server.
        urls = [url] if url.startswith("sentinel:") else split_urls(url)
        self._servers = Servers(urls, self._parse, options.failover_strategy)
        self.layout = Layout(options.transport_options, self._servers.endpoint.db)
        self._channels: dict[str, list[str]] = {}  # of exchanges to which Celery's workers listen
        limits = (options.pool_limit, options.transport_options.get("max_connections"))
        self._pool = ConnectionPool(
            self._servers.endpoint,
            open=self._servers.connect,
            limit=min(filter(None, limits), default=None),
            patience=options.pool_acquire_timeout,
            keeps=bool(options.pool_limit),
        )

    def _parse(self, url: str) -> Endpoint:
        options = self.options
        return parse_endpoint(url, options.transport_options, options.ssl, options.connect_timeout)

    @property
    def endpoint(self) -> Endpoint | None:
        """The server, if it is always the same."""
        return self._servers.endpoint if self._servers.count == 1 else None

    def publish(
        self,
        messages: Sequence[Message],
        deadline: float | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        """Push all in one write where they fit, then read the replies.

        After a fault only writes without a reply are repeated.
        """
        if not messages:
            return
        writes = self._pack(messages)
        self._pool.run(
            lambda connection, left: _send(connection, writes, left),
            self.options.publish_deadline if deadline is None else deadline,
            retry_policy,
        )

    def consumer(
        self, queues: Sequence[str], worker: str, waker: Waker, backend: Backend | None = None
    ) -> Consumer:
        """A consumer with a connection of its own, opened by its first turn."""
        from fastq.backends.redis import RedisBackend  # a client that only publishes needs neither
        from fastq.brokers.redis.consumer import RedisConsumer

        shared = backend if isinstance(backend, RedisBackend) and backend.shares_store_with(self) else None
        return RedisConsumer(
            self._servers, self.layout, self.options, queues, worker, waker, shared, self.publications
        )

    def publications(self, message: Message) -> list[list[Argument]]:
        """The commands that send *message*, which has an exchange and no queue, to Celery's workers."""
        return exchanges.publications(message, self._channels.get(message.exchange, ()))

    def _exchange(self, name: str, exchange_type: str, bound: Sequence[Bound]) -> Stored:
        stored, self._channels[name] = self.run(
            lambda connection, left: exchanges.exchange(
                connection, self.layout, name, exchange_type, bound, left
            )
        )
        return stored

    def announce(
        self, exchange: Exchange, messages: Sequence[Message], deadline: float | None = None
    ) -> None:
        """PUBLISH each; to a direct exchange, LPUSH to the lists that are bound to it."""
        from fastq.brokers.redis import listening  # for remote control and events

        self._pool.run(
            lambda connection, left: listening.announce(connection, self.layout, exchange, messages, left),
            self.options.publish_deadline if deadline is None else deadline,
        )

    def listen(self, queue: Queue, waker: Waker | None = None) -> Listener:
        """PSUBSCRIBE; for direct exchanges, BRPOP from a list that is bound to them."""
        from fastq.brokers.redis.listening import RedisListener

        return RedisListener(self._servers, self.layout, queue, waker)

    def revoke(self, records: Mapping[str, float]) -> None:
        """Add to a sorted set."""
        self.run(lambda connection, left: inspection.revoke(connection, self.layout, records, left))

    def revoked(self) -> dict[str, float]:
        """Read the sorted set."""
        return self.run(lambda connection, left: inspection.revoked(connection, self.layout, left))

    def pause(self, queue: str, is_paused: bool) -> None:
        """Add to a set, or remove from it."""
        command = "SADD" if is_paused else "SREM"
        self.run(
            lambda connection, left: connection.call(
                command, keys.paused(self.layout.prefix), queue, timeout=left
            )
        )

    def paused(self, queues: Iterable[str]) -> frozenset[str]:
        """Read the set."""
        key = keys.paused(self.layout.prefix)
        members = self.run(lambda connection, left: connection.call("SMEMBERS", key, timeout=left))
        return frozenset(queues) & {member.decode() for member in members}

    def clock(self) -> float:
        """Ask the server."""
        from fastq.brokers.redis import health  # for people who ask

        return self.run(health.clock)

    def dangers(self) -> list[tuple[str, str]]:
        """Look at what the server tells of itself."""
        from fastq.brokers.redis import health  # for people who ask

        return self.run(health.dangers)

    def delayed(self, queues: Iterable[str], limit: int) -> list[tuple[float, Message]]:
        """Read the schedules, the first of each."""
        return self.run(
            lambda connection, left: inspection.delayed(connection, self.layout, queues, limit, left)
        )

    def schedule_store(self, name: str) -> RedisScheduleStore:
        """Two scripts: one to look, one to send what is due."""
        from fastq.brokers.redis.schedule_store import RedisScheduleStore  # for beats

        return RedisScheduleStore(self, name)

    def commands_of(self, message: Message) -> list[list[Argument]]:
        """The commands that publish *message*."""
        if not message.queue:
            return self.publications(message)
        ready, delayed, step = self.layout.destination(message.queue, message.priority)
        envelope = message.envelope()
        if message.due is not None:
            return [["ZADD", delayed, repr(float(message.due)), step + b":" + envelope]]
        return [["LPUSH", ready, envelope]]

    def queues(self, names: Iterable[str] = ()) -> list[QueueInfo]:
        """Count the lists, claims, schedules and dead sets of the known queues and of *names*."""
        return self.run(lambda connection, left: inspection.queues(connection, self.layout, names, left))

    def purge(self, queue: str) -> int:
        """Delete the ready lists and the schedule in one transaction."""
        return self.run(lambda connection, left: inspection.purge(connection, self.layout, queue, left))

    def locate(self, task_id: str, queues: Iterable[str] = ()) -> TaskPlace | None:
        """Search lists, schedules, claims and dead sets, in this order, about a megabyte at a time."""
        return self.run(
            lambda connection, left: inspection.locate(connection, self.layout, task_id, queues, left)
        )

    def dead(self, queue: str | None = None, limit: int = 100) -> list[DeadMessage]:
        """Read the newest entries of each queue's dead set and merge them."""
        return self.run(lambda connection, left: inspection.dead(connection, self.layout, queue, limit, left))

    def find_dead(self, id: str) -> DeadMessage | None:
        """Ask each queue's dead set for it."""
        if "\ufffd" in id:
            return super().find_dead(id)  # shown in place of what is no UTF-8
        return self.run(lambda connection, left: inspection.find_dead(connection, self.layout, id, left))

    def retry_dead(self, ids: Iterable[str] | None, queue: str | None = None) -> int:
        """Push each entry to the tail of its queue and remove it, in one transaction each."""
        chosen = None if ids is None else set(ids)
        return self.run(
            lambda connection, left: inspection.retry_dead(connection, self.layout, chosen, queue, left)
        )

    def drop_dead(self, ids: Iterable[str] | None, queue: str | None = None) -> int:
        """Delete entries from both keys of their dead set."""
        chosen = None if ids is None else set(ids)
        return self.run(
            lambda connection, left: inspection.drop_dead(connection, self.layout, chosen, queue, left)
        )

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.close()

    def description(self) -> str:
        """The URL without its password, or the URLs."""
        return self._servers.describe()

    def run(self, action: Callable[[Connection, float], T]) -> T:
        """Give *action* a connection and the seconds left, again after a fault."""
        return self._pool.run(action, self.options.publish_deadline)

    def _pack(self, messages: Sequence[Message]) -> list[tuple[bytes, int, int]]:
        """The writes that publish *messages*, as `pack_publishes` has them."""
        copies = [message for message in messages if message.queue]
        writes = pack_publishes(copies, self.layout.destination)
        if len(copies) < len(messages):
            told = [each for message in messages if not message.queue for each in self.publications(message)]
            writes.append((pack_many(told), len(told), 0))
        fresh = self.layout.fresh_queues()
        if fresh:
            # A user who may not write the registry can publish all the same.
            writes.append((pack("SADD", keys.queues(self.layout.prefix), *fresh), 1, 0))
        return writes


def _send(connection: Connection, writes: list[tuple[bytes, int, int]], timeout: float) -> None:
    """Send all *writes*, and take each away once its replies are in."""
    for data, _, _ in writes:
        connection.send(data, timeout)
    problem = None
    while writes:
        _, count, binding = writes[0]
        replies = [connection.read(timeout) for _ in range(count)]
        for reply in replies[:binding]:
            try:
                checked(reply)
            except ServerRefused as exc:
                problem = problem or exc
            # Any other error passes (a server that starts): it leaves this write to be sent again.
        del writes[0]
    if problem is not None:
        raise problem
