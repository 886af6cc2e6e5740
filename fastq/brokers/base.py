"""What a broker is: the contract that every driver keeps and `tests/contract` checks.

A broker holds queues of messages. Clients publish; a worker opens one `Consumer` and
calls its `turn`, which settles what is done and brings what is next, in one step (D4).
A claim is a lease of the worker, not of the message: it holds as long as the worker
takes its turns (D6). What is not due waits in the broker's schedule (D7). What can't be
run lies in the dead set, from which it can be shown, retried and dropped (D15).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from fastq.brokers.exchanges import Bound, Exchanges, Stored
from fastq.topology import Exchange, Queue

if TYPE_CHECKING:
    from fastq._core.message import Delivery, Message, Outcome
    from fastq.backends.base import Backend, CompleteChord
    from fastq.brokers.failover import Strategy
    from fastq.brokers.listening import Listener
    from fastq.brokers.retry_policy import RetryPolicy
    from fastq.brokers.schedule_store import ScheduleStore
    from fastq.wakeup import Waker


ALL_ENTRIES = 1_000_000_000  # a limit for `Broker.dead` that is none


# Named tuples, not dataclasses: every program waits for these classes when it starts, and making a
# dataclass takes 1.5 ms, a named tuple 0.3 ms.
class BrokerOptions(NamedTuple):
    """How to reach a broker and what the application has set for it."""

    transport_options: Mapping[str, Any] = {}  # Celery's broker_transport_options
    ssl: Mapping[str, Any] | bool = False  # Celery's broker_use_ssl
    connect_timeout: float = 4.0  # seconds, broker_connection_timeout
    publish_deadline: float = 5.0  # seconds for one publish with all its retries, task_publish_deadline
    lease: float = 30.0  # seconds that a claim lives without a turn of its worker, worker_lease
    max_redeliveries: int = 3  # crashes after which a message goes to the dead set, task_max_redeliveries
    failover_strategy: str | Strategy | None = None  # broker_failover_strategy
    pool_limit: int | None = 10  # connections of those who publish, broker_pool_limit; 0, None: none is kept
    pool_acquire_timeout: float | None = None  # seconds to wait for one of them; None: the deadline's
    login_method: str | None = None  # broker_login_method
    heartbeat: float = 0.0  # seconds between signs of life of a worker's connection, broker_heartbeat
    delay_queue_type: str = "quorum"  # broker_native_delayed_delivery_queue_type
    app_name: str = "fastq"  # names the embedded broker's file
    queue: Callable[[str], Queue] = Queue  # how the queue of a name is declared; the app's router knows


class QueueInfo(NamedTuple):
    """What one queue holds, for `fastq queues`."""

    name: str
    ready: int  # messages waiting
    claimed: int | None  # held by workers; None: the broker does not tell
    delayed: int | None  # in the schedule; None: the broker does not tell
    dead: int  # in the dead set
    oldest_age: (
        float | None
    )  # seconds that the next message to be delivered has waited; None: empty or unknown


class TaskPlace(NamedTuple):
    """Where the message of a task lies, for `fastq result ID`."""

    state: str  # "queued", "delayed", "claimed" or "dead"
    queue: str
    until: float | None = None  # unix seconds, when delayed
    worker: str | None = None  # node name, when claimed
    reason: str | None = None  # when dead
    redelivered: int = 0


class DeadMessage(NamedTuple):
    """One entry of the dead set."""

    id: str  # names the entry; the task's id where it has one
    queue: str
    task: str  # "" if the message could not be decoded
    reason: str
    died_at: float  # unix seconds
    raw: bytes  # the envelope, or what arrived in its place


class Consumer(ABC):
    """A worker's hold on its queues. Used by one thread at a time.

    Every method raises `OperationalError` when the broker can't be reached. The worker
    then calls the method again with the same outcomes until it succeeds: settling twice
    what was settled once has no effect.
    """

    @abstractmethod
    def turn(self, outcomes: Sequence[Outcome], room: int, timeout: float) -> list[Delivery]:
        """Settle *outcomes*, and wait at most *timeout* seconds for up to *room* new deliveries.

        Returns as soon as there is one delivery, or something in `completed`, when the `Waker` is
        set, or at the timeout; *room* 0 only settles. Each outcome takes effect whole or not at all:
        its action, the messages of `follow`, and when this consumer commits results its result and
        `effects`. An outcome whose claim was lost (the lease ran out and others hold it now) has no
        effect at all and is listed in `lost`. Renews the lease.

        Of an outcome that completes a chord, which the last of several here that belong to it does, only
        the parts are counted: it is listed in `completed`, maybe by a later call, and waits to be given
        again, behind the outcome that joins the chord. To give it before that has no other effect than
        to be told once more. An outcome that joins a chord which has ended already has no effect.
        """

    @abstractmethod
    def mark_started(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Record that these are about to run, before they do; returns those that may.

        Called for redelivered messages only: it tells a message that kills its worker from
        those that only lay in the same worker's hands, so that only the former is counted up.
        What may not run was settled: it comes again, marked, from the tail of its queue.
        """

    @abstractmethod
    def consume(self, queues: Sequence[str]) -> None:
        """Take messages from *queues* alone from now on; what is held of others is settled as before.

        Raises `OperationalError` when the broker can't be reached; it is to be called again then.
        """

    def adopt(self, running: Sequence[Delivery]) -> None:  # noqa: B027  (where a lost claim stays lost)
        """Learn that *running*, whose claims were listed in `lost`, go on here.

        A broker that delivers them again to this very worker may let their outcomes settle the
        new claims, in place of running them twice.
        """

    def has_idle_peers(self, running: int) -> bool:
        """Whether another worker could run at once what this one gives back, all but *running* deliveries.

        True where that is not known, and giving back costs next to nothing.
        """
        return True

    def unclaim(self) -> None:  # noqa: B027  (most consumers have nothing to do here)
        """Give back what this consumer claimed ahead of need, and has not returned from `turn` yet."""

    @abstractmethod
    def close(self, unstarted: Sequence[Delivery] = ()) -> None:
        """Give back everything that is still claimed, at the head of its queue, and leave.

        *unstarted* are those that never ran: they go back without a redelivery being counted.
        Any other claim goes back counted.
        """

    # Called with messages that a restore is about to bury, each with the reason, before it does so and
    # outside of locks and transactions. Those that it answers False to stay for the next round. It may
    # be called again for the same ones.
    before_burial: Callable[[Sequence[tuple[Delivery, str]]], bool] | None = None
    lost: list[Delivery]  # deliveries whose claim was lost since the caller last emptied the list
    # Of a consumer that commits results: outcomes that a turn has not settled, since the caller last
    # emptied the list, each with its chord.
    completed: list[tuple[Outcome, CompleteChord]]
    commits_results: bool  # whether `turn` stores Outcome.result with the settlement (D5)
    is_connected: bool


class Broker(ABC):
    """A place that keeps messages. Safe over threads, forks and greenlets."""

    # Whether Celery's workers may consume here too. Then a client leaves a future eta to the worker
    # that gets the message (D7): only fastq's workers look into the schedule.
    has_celery_peers: ClassVar[bool] = False

    # Whether it takes messages to the queues of an exchange by itself. Then a call is one message,
    # whatever it reaches: with the exchange, the key, and as its queue the one that was named or "".
    routes: ClassVar[bool] = False

    # Whether it has a `schedule_store`.
    keeps_schedules: ClassVar[bool] = False

    # Whether what it keeps is there for the threads of this process alone.
    is_private: ClassVar[bool] = False

    def __init__(self, url: str, options: BrokerOptions) -> None:
        self.url = url
        self.options = options
        self._exchanges = Exchanges(self._exchange)

    @abstractmethod
    def publish(
        self,
        messages: Sequence[Message],
        deadline: float | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        """Add *messages* to their queues; durable, as this broker is, when it returns.

        A message whose `due` lies in the future goes to the schedule. Retries connection
        faults within *deadline* seconds (None: `BrokerOptions.publish_deadline`), as *retry_policy*
        says where there is a network (None: with growing pauses), then
        raises `OperationalError`; then any of the messages may have been sent, in order,
        and one of them perhaps twice.
        """

    def check(self, message: Message) -> None:
        """Raise `EncodeError` if this broker could not carry *message*."""
        message.envelope()

    @abstractmethod
    def consumer(
        self, queues: Sequence[str], worker: str, waker: Waker, backend: Backend | None = None
    ) -> Consumer:
        """Open a consumer of *queues*, in order of preference, for the node named *worker*.

        With a *backend* that lies in this very store the consumer commits results too.
        """

    def bind(self, queues: Iterable[Queue]) -> None:
        """Let what is published to their exchanges reach *queues*; for brokers that do not route."""
        self._exchanges.bind(queues)

    def reached(
        self, exchange: str, exchange_type: str, routing_key: str, headers: dict[str, Any]
    ) -> list[str]:
        """The queues that get a copy of what is published to *exchange*; for brokers that do not route.

        An empty *exchange_type* stands for the one that is stored. What others bind is known
        after a second at most.
        """
        return self._exchanges.reached(exchange, exchange_type, routing_key, headers)

    def _exchange(self, name: str, exchange_type: str, bound: Sequence[Bound]) -> Stored:
        """Store the bindings *bound* of the exchange *name*, and read all that are stored.

        *exchange_type* is what this process has declared; empty: the one that is stored.
        """
        raise NotImplementedError(f"{type(self).__name__} keeps no exchanges")

    def announce(
        self, exchange: Exchange, messages: Sequence[Message], deadline: float | None = None
    ) -> None:
        """Send *messages* to those who listen now to *exchange*, which is their `Message.exchange` too.

        See `fastq.brokers.listening`. Retries connection faults within *deadline* seconds
        (None: `BrokerOptions.publish_deadline`), then raises `OperationalError`; then any of them may have
        been sent, and perhaps twice.
        """
        raise NotImplementedError(f"{type(self).__name__} carries no announcements")

    def listen(self, queue: Queue, waker: Waker | None = None) -> Listener:
        """Hear what is announced to the exchanges that *queue* is bound to, from the first `hear` on.

        *queue* is the listener's own, and goes when it is closed. Exchanges are direct, topic or fanout.
        """
        raise NotImplementedError(f"{type(self).__name__} carries no announcements")

    def revoke(self, records: Mapping[str, float]) -> None:
        """Keep *records*, ids of tasks that must not start, each until its unix time."""
        raise NotImplementedError(f"{type(self).__name__} keeps no revokes")

    def revoked(self) -> dict[str, float]:
        """All that `revoke` was given and has not run out."""
        return {}

    def pause(self, queue: str, is_paused: bool) -> None:
        """Keep that workers shall take nothing from *queue*, or may again."""
        raise NotImplementedError(f"{type(self).__name__} keeps no pauses")

    def paused(self, queues: Iterable[str]) -> frozenset[str]:
        """Those of *queues* that are paused."""
        return frozenset()

    def delayed(self, queues: Iterable[str], limit: int) -> list[tuple[float, Message]]:
        """The first *limit* messages in the schedules of *queues*, with the unix time at which they are due.

        In that order. None where the broker does not tell.
        """
        return []

    @abstractmethod
    def queues(self, names: Iterable[str] = ()) -> list[QueueInfo]:
        """Every queue that holds something, and those of *names*, sorted by name."""

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Remove the ready and delayed messages of *queue*; returns how many there were."""

    @abstractmethod
    def locate(self, task_id: str, queues: Iterable[str] = ()) -> TaskPlace | None:
        """Where the message of *task_id* lies, or None. May look at every message: for people, not loops."""

    @abstractmethod
    def dead(self, queue: str | None = None, limit: int = 100) -> list[DeadMessage]:
        """The newest entries of the dead set, newest first; of one queue or of all."""

    def find_dead(self, id: str) -> DeadMessage | None:
        """The entry of the dead set with this *id*, or None."""
        return next((entry for entry in self.dead(None, ALL_ENTRIES) if entry.id == id), None)

    @abstractmethod
    def retry_dead(self, ids: Iterable[str] | None, queue: str | None = None) -> int:
        """Send entries back to their queues, redeliveries uncounted; None means all. Returns how many."""

    @abstractmethod
    def drop_dead(self, ids: Iterable[str] | None, queue: str | None = None) -> int:
        """Delete entries of the dead set; None means all. Returns how many."""

    def schedule_store(self, name: str) -> ScheduleStore:
        """What the beats of the application *name* share."""
        raise NotImplementedError(f"{type(self).__name__} keeps no schedules")

    @abstractmethod
    def close(self) -> None:
        """Close every connection. The broker may be used again: it connects anew."""

    def clock(self) -> float | None:
        """The unix time that its server has; None if that goes by this machine's clock, or does not tell."""
        return None

    def dangers(self) -> list[tuple[str, str]]:
        """What about its server endangers messages, each with what to do about it."""
        return []

    def description(self) -> str:
        """Where it lies, for people, with the password masked."""
        return self.url
