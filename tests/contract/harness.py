"""What the contract suites need from each store, and how they make and read messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from fastq._core.message import Action, Delivery, Message, Outcome, new_id
from fastq.backends.base import Backend, BackendOptions
from fastq.backends.schemes import open_backend
from fastq.brokers.base import Broker, BrokerOptions, Consumer
from fastq.brokers.schemes import open_broker
from fastq.wakeup import Waker

# Seconds. Long enough that a busy machine keeps it, short enough to wait for its end.
SHORT_LEASE = 0.4

# Seconds that a test waits for what is bound to come.
PATIENCE = 10.0

# Seconds after which a consumer that is sent its messages has what is there, by the consumer.
LAGS: WeakKeyDictionary[Consumer, float] = WeakKeyDictionary()


class Harness:
    """One store, empty at first, opened as often as a test likes; closes all that it opened.

    *url* opens it as a broker, *backend_url* as a backend, or another store if it *commits* no results.
    *put_raw* puts bytes into a queue as a foreign client could; None when the store keeps no
    bytes. *crosses_processes* says whether other processes can open it.

    What an AMQP server can't do: *searches*, look into its queues, so it neither finds a
    message nor knows who holds it; *reaches_heads*, put a message that was changed, or had not
    started, to the head of its queue; *leases* are its connections, whose end is not a matter of
    time. Its priorities rise, and it brings messages by itself, *lag* seconds after they are there.
    """

    def __init__(
        self,
        url: str,
        backend_url: str,
        *,
        put_raw: Callable[[str, bytes], None] | None,
        crosses_processes: bool,
        searches: bool = True,
        reaches_heads: bool = True,
        leases: bool = True,
        commits: bool = True,
        rises: bool = False,
        lag: float = 0.0,
        **options: Any,
    ) -> None:
        self.url = url
        self.backend_url = backend_url
        self.put_raw = put_raw
        self.crosses_processes = crosses_processes
        self.searches = searches
        self.reaches_heads = reaches_heads
        self.leases = leases
        self.commits = commits
        self.rises = rises
        self.lag = lag
        self.options = options
        self._opened: list[Broker | Backend] = []
        self._consumers: list[tuple[Consumer, Waker]] = []

    def open(self, **options: Any) -> Broker:
        """A broker on this store, independent of all others."""
        broker = open_broker(self.url, BrokerOptions(**(self.options | options)))
        self._opened.append(broker)
        return broker

    def open_backend(self, **options: Any) -> Backend:
        """A backend on this store, independent of all others."""
        backend = open_backend(self.backend_url, BackendOptions(**options))
        self._opened.append(backend)
        return backend

    def consume(
        self,
        *queues: str,
        worker: str = "w@here",
        waker: Waker | None = None,
        backend: Backend | None = None,
        **options: Any,
    ) -> Consumer:
        """A consumer of *queues* with a broker of its own."""
        waker = Waker() if waker is None else waker
        consumer = self.open(**options).consumer(queues, worker, waker, backend)
        LAGS[consumer] = self.lag
        self._consumers.append((consumer, waker))
        return consumer

    def must_search(self) -> None:
        """Skip a test of what an AMQP server can't do."""
        if not self.searches:
            pytest.skip("can't look into its queues")

    def must_commit(self) -> None:
        """Skip a test of results that are kept beside the messages."""
        if not self.commits:
            pytest.skip("keeps no results")

    def abandon(self, consumer: Consumer) -> None:
        """Let the worker of *consumer* die: where claims are leases, they run out from now on."""
        if not self.leases:
            consumer._disconnect()  # type: ignore[attr-defined]

    def start(self, consumer: Consumer, delivery: Delivery) -> Delivery:
        """*delivery*, or the copy of it that comes when it was sent back, marked as started."""
        while consumer.mark_started([delivery]) != [delivery]:
            delivery = take_one(consumer)
        return delivery

    def close(self) -> None:
        """Close everything that was opened."""
        for consumer, waker in self._consumers:
            consumer.close()
            waker.close()
        for each in self._opened:
            each.close()


def message(
    queue: str = "q",
    *,
    id: str | None = None,
    priority: int | None = None,
    due: float | None = None,
    body: bytes = b"[[], {}, {}]",
) -> Message:
    """A task message for *queue*."""
    task_id = new_id() if id is None else id
    return Message(
        "tasks.noop",
        task_id,
        {"task": "tasks.noop", "id": task_id},
        body,
        queue=queue,
        priority=priority,
        due=due,
    )


def messages(count: int, queue: str = "q") -> list[Message]:
    """*count* messages for *queue*, with random ids."""
    return [message(queue) for _ in range(count)]


def ids(those: Sequence[Message | Delivery]) -> list[str]:
    """The task ids of messages, or of deliveries that could be decoded, in order."""
    found = []
    for each in those:
        inner = each.message if isinstance(each, Delivery) else each
        assert inner is not None
        found.append(inner.id)
    return found


def take(consumer: Consumer, room: int = 1000, timeout: float = 0.0) -> list[Delivery]:
    """What one turn brings."""
    return consumer.turn((), room, max(timeout, LAGS.get(consumer, 0.0)))


def take_all(consumer: Consumer) -> list[Delivery]:
    """Everything that is ready."""
    taken: list[Delivery] = []
    while deliveries := take(consumer):
        taken += deliveries
    return taken


def take_one(consumer: Consumer, timeout: float = PATIENCE) -> Delivery:
    """The one delivery that is bound to come."""
    (delivery,) = take(consumer, 1, timeout)
    return delivery


def settle(consumer: Consumer, *outcomes: Outcome) -> None:
    """Settle *outcomes* and take nothing."""
    assert consumer.turn(outcomes, 0, 0.0) == []


def acks(deliveries: Sequence[Delivery]) -> list[Outcome]:
    """Outcomes that remove *deliveries*."""
    return [Outcome(each, Action.ACK) for each in deliveries]
