"""Results as messages to the client that sent the task: `rpc://` (docs/PROTOCOL.md §5.5).

A worker sends each state to the queue that the task's message names in ``reply_to``; the client
has one such queue, and nobody else reads it. So only who has sent a task learns how it ended.

The queue is declared before the first task is sent, and consumed from when somebody first
looks. Whoever waits while nobody leads reads the connection for all, as in
`fastq.backends.redis_waits`.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from fastq import serialization
from fastq._core.message import new_id
from fastq.backends.base import Backend, BackendOptions, Pulse, StoredResult
from fastq.brokers.pool import Pool
from fastq.brokers.rabbitmq.connection import Connection
from fastq.brokers.rabbitmq.connector import Connector
from fastq.brokers.rabbitmq.endpoint import parse_endpoint
from fastq.brokers.rabbitmq.publisher import Publisher
from fastq.brokers.rabbitmq.session import Channel
from fastq.exceptions import ImproperlyConfigured, OperationalError
from fastq.topology import PERSISTENT, TRANSIENT

if TYPE_CHECKING:
    from fastq._core.amqp_encoder import FrameEncoder
    from fastq.brokers.base import BrokerOptions

SCHEMES = ("amqp", "amqps", "pyamqp", "librabbitmq")
# Documents that were handed out, and are kept for whoever asks for them again.
HANDED_OUT = 1000
# Seconds after which a waiting client looks whether its connection still lives.
LOOK_AGAIN = 10.0
PAUSE = 0.5  # seconds between attempts to connect


class Reply(NamedTuple):
    """A result on its way to the client's queue."""

    result: StoredResult
    content_type: str
    content_encoding: str
    delivery_mode: int

    def write(self, encoder: FrameEncoder, channel: int) -> None:
        """Append it to what is sent next. It is no error that the client is gone."""
        encoder.publish(
            channel,
            "",
            self.result.reply_to or "",
            # Compression is marked in stored documents alone: what reads a message does not look for it.
            serialization.unmark_compressed(self.result.document),
            properties={
                "delivery_mode": self.delivery_mode,
                "priority": 0,
                "correlation_id": self.result.task_id,
            },
            content_type=self.content_type,
            content_encoding=self.content_encoding,
        )


class Replier:
    """A connection that replies are published through. Used by one thread at a time."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        self.connection = connection
        self.publisher = Publisher(connection, timeout)
        self.used_at = 0.0  # monotonic; for the pool

    def close(self) -> None:
        """Leave RabbitMQ without a word."""
        self.connection.abandon()


class ReplierPool(Pool[Replier]):
    """The repliers of one process."""

    def __init__(self, connector: Connector, options: BrokerOptions) -> None:
        super().__init__(limit=options.pool_limit, patience=options.pool_acquire_timeout)
        self._connector = connector

    def connect(self, timeout: float) -> Replier:
        return Replier(self._connector.connect(timeout), timeout)

    def describe(self) -> str:
        return self._connector.endpoint.describe()

    def is_alive(self, replier: Replier, idle: float, timeout: float) -> bool:
        return replier.connection.is_usable()


class Kept(NamedTuple):
    """A document and when it is forgotten."""

    document: bytes
    expires: float  # monotonic seconds


class Waiter:
    """What has come for one call of `wait`."""

    def __init__(self, task_ids: Collection[str]) -> None:
        self.task_ids = dict.fromkeys(task_ids)
        self.inbox: list[tuple[str, bytes]] = []
        self.handed_out: set[str] = set()
        self.failing_since: float | None = None  # monotonic


class ReplyQueue:
    """The queue of one process, and what has come from it. Safe over threads, not over forks."""

    def __init__(self, connector: Connector, options: BackendOptions) -> None:
        self.name = new_id()
        self._connector = connector
        self._patience = options.deadline
        self._expires = math.inf if options.expires is None else options.expires
        # Guards everything below. The leader lets go of it while it waits for the server.
        self._changed = threading.Condition()
        self._is_led = False
        self._is_declared = False
        self._connection: Connection | None = None
        self._channel: Channel
        self._waiters: dict[str, list[Waiter]] = {}  # by task id
        self._waiting: dict[str, Kept] = {}  # by task id, oldest first: what nobody has seen
        self._seen: OrderedDict[str, bytes] = OrderedDict()  # the newest of what somebody has

    def declare(self) -> None:
        """See that the queue exists. Raises `OperationalError`."""
        with self._changed:
            if self._connection is not None and not self._is_led:
                self._look()
            while self._is_led and not self._is_declared:
                self._changed.wait()
            if not self._is_declared:
                connection = self._connector.connect(self._patience)
                try:
                    self._declare(connection)
                finally:
                    connection.close()

    def fetch(self, task_ids: Sequence[str]) -> list[bytes | None]:
        """The newest documents that have come."""
        with self._changed:
            if self._is_declared and not self._is_led:
                self._look()
            return [self._find(task_id) for task_id in task_ids]

    def wait(
        self, task_ids: Collection[str], timeout: float | None, pulse: Pulse | None = None
    ) -> Generator[tuple[str, bytes], None, None]:
        """Yield (id, document) as `Backend.wait` says."""
        ends = math.inf if timeout is None else time.monotonic() + timeout
        waiter = Waiter(task_ids)
        with self._changed:
            for task_id in waiter.task_ids:
                self._waiters.setdefault(task_id, []).append(waiter)
                if (document := self._find(task_id)) is not None:
                    waiter.inbox.append((task_id, document))
        try:
            while True:
                found = self._next(waiter, ends if pulse is None else min(ends, pulse.due))
                for task_id, document in found:
                    waiter.handed_out.add(task_id)
                    yield task_id, document
                if pulse is not None:
                    pulse.beat()
                if not found and time.monotonic() >= ends:
                    return
        finally:
            self._leave(waiter)

    def forget(self, task_ids: Sequence[str]) -> None:
        """Drop what has come."""
        with self._changed:
            for task_id in task_ids:
                self._waiting.pop(task_id, None)
                self._seen.pop(task_id, None)

    def close(self) -> None:
        """Leave the queue, which goes then. What has come can still be fetched."""
        with self._changed:
            self._drop()

    # -- with the lock held -----------------------------------------------------------------

    def _next(self, waiter: Waiter, until: float) -> list[tuple[str, bytes]]:
        """What has come for *waiter*, as soon as there is something; nothing at the time *until*."""
        with self._changed:
            while not waiter.inbox:
                now = time.monotonic()
                if now >= until:
                    return []
                pause = min(until - now, LOOK_AGAIN)
                if self._is_led:
                    self._changed.wait(pause)
                    continue
                try:
                    self._lead(pause)
                    waiter.failing_since = None
                except OperationalError as exc:
                    waiter.failing_since = waiter.failing_since or now
                    if not exc.is_passing or time.monotonic() - waiter.failing_since >= self._patience:
                        raise
                    self._changed.wait(min(PAUSE, pause))
            found, waiter.inbox = waiter.inbox, []
            return found

    @contextmanager
    def _leading(self) -> Iterator[None]:
        """Let go of the lock while waiting for the server on everybody's behalf."""
        self._is_led = True
        self._changed.release()
        try:
            yield
        finally:
            self._changed.acquire()
            self._is_led = False
            self._changed.notify_all()

    def _look(self) -> None:
        """Take in what is here; a fault shows when somebody waits."""
        try:
            self._lead(0.0)
        except OperationalError:
            pass

    def _lead(self, seconds: float) -> None:
        """Connect, or read once, for all who wait."""
        connection = self._connection
        try:
            with self._leading():
                if connection is None:
                    connection = self._connection = self._consume()
                    seconds = 0.0  # what was waiting may have come with the last reply
                connection.receive(seconds)
                while connection.receive(0.0):
                    pass
            self._take_in()
        except OperationalError:
            self._drop()
            raise

    def _consume(self) -> Connection:
        connection = self._connector.connect(self._patience)
        try:
            self._channel = self._declare(connection)
            connection.call(self._channel, "basic.consume", self._patience, queue=self.name, no_ack=True)
        except BaseException:
            connection.abandon()
            raise
        return connection

    def _declare(self, connection: Connection) -> Channel:
        """Declare the queue as Celery does (§4.1)."""
        channel = connection.open_channel(self._patience)
        arguments = {} if self._expires == math.inf else {"x-expires": int(self._expires * 1000)}
        connection.call(
            channel,
            "queue.declare",
            self._patience,
            queue=self.name,
            durable=True,
            auto_delete=True,
            arguments=arguments,
        )
        self._is_declared = True
        return channel

    def _take_in(self) -> None:
        """Hand what is here to those who wait for it, and keep it for the others."""
        now = time.monotonic()
        while self._channel.deliveries:
            content = self._channel.deliveries.popleft()
            task_id = content.properties.get("correlation_id")
            if task_id is None:
                continue  # no reply to anything
            self._seen.pop(task_id, None)
            self._waiting.pop(task_id, None)
            self._waiting[task_id] = Kept(content.body, now + self._expires)
            for waiter in self._waiters.get(task_id, ()):
                waiter.inbox.append((task_id, content.body))
        while self._waiting and next(iter(self._waiting.values())).expires <= now:
            del self._waiting[next(iter(self._waiting))]
        if self._channel.cancelled or self._channel.error is not None:
            raise self._channel.error or OperationalError(f"RabbitMQ has deleted the queue {self.name}")

    def _drop(self) -> None:
        """Leave the connection, and with it the queue."""
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None
            self._is_declared = False

    def _find(self, task_id: str) -> bytes | None:
        kept = self._waiting.get(task_id)
        if kept is not None:
            return kept.document if kept.expires > time.monotonic() else None
        return self._seen.get(task_id)

    def _leave(self, waiter: Waiter) -> None:
        with self._changed:
            for task_id in waiter.task_ids:
                listening = self._waiters[task_id]
                listening.remove(waiter)
                if not listening:
                    del self._waiters[task_id]
            for task_id in waiter.handed_out:
                kept = self._waiting.pop(task_id, None)
                if kept is not None:
                    self._seen[task_id] = kept.document
            while len(self._seen) > HANDED_OUT:
                self._seen.popitem(last=False)


class RPCBackend(Backend):
    """Sends results to the clients that wait for them."""

    sends_replies = True

    def __init__(self, url: str, options: BackendOptions) -> None:
        super().__init__(url, options)
        assert options.broker is not None
        broker_url, broker = options.broker
        scheme = broker_url.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise ImproperlyConfigured(
                f"result_backend rpc:// sends results over RabbitMQ, and the broker is {scheme}://: "
                "keep results in the broker's own store, or in Redis"
            )
        endpoint = parse_endpoint(
            broker_url,
            broker.transport_options,
            broker.ssl,
            broker.connect_timeout,
            login_method=broker.login_method,
            failover=broker.failover_strategy,
        )
        self._connector = Connector(endpoint)
        self._pool = ReplierPool(self._connector, broker)
        self._types = serialization.types_of(options.serializer)
        self._mode = PERSISTENT if options.is_persistent else TRANSIENT
        self._lock = threading.Lock()  # guards the two below
        self._pid = os.getpid()
        self._queue = ReplyQueue(self._connector, options)

    def reply_queue(self) -> str:
        """The queue of this process, which exists when this returns."""
        queue = self._own()
        queue.declare()
        return queue.name

    def store(self, results: Sequence[StoredResult], deadline: float | None = None) -> None:
        """Send what has somebody to go to, and wait until RabbitMQ has it."""
        replies = [Reply(each, *self._types, self._mode) for each in results if each.reply_to]
        if replies:
            self._pool.run(
                lambda replier, left: replier.publisher.publish(replies, left),
                self.options.deadline if deadline is None else deadline,
            )

    def fetch(self, task_ids: Sequence[str]) -> list[bytes | None]:
        """The documents that have come to this process; of other clients' tasks it knows nothing."""
        return self._own().fetch(task_ids)

    def wait(
        self, task_ids: Collection[str], timeout: float | None, pulse: Pulse | None = None
    ) -> Generator[tuple[str, bytes], None, None]:
        return self._own().wait(task_ids, timeout, pulse)

    def forget(self, task_ids: Sequence[str]) -> None:
        """Drop the documents that have come to this process."""
        self._own().forget(task_ids)

    def close(self) -> None:
        """Close the connections. The queue goes with the one that reads it."""
        self._pool.close()
        self._own().close()

    def description(self) -> str:
        """How results travel, with the password masked."""
        return f"rpc:// by {self._connector.endpoint.describe()}"

    def _own(self) -> ReplyQueue:
        """The queue of this very process: a child does not read its parent's."""
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._queue = ReplyQueue(self._connector, self.options)
                    self._pid = os.getpid()
        return self._queue
