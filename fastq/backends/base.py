"""What a result backend is: it keeps result documents (docs/PROTOCOL.md §5.2) by task id.

Documents are bytes, encoded by whoever makes them; a backend never looks inside. Its one
rule about states: a SUCCESS that is stored is never overwritten.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fastq.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from fastq.brokers.base import Broker, BrokerOptions


SHORTEST_INTERVAL = 0.001  # seconds between two beats of a pulse


# Named tuples, as `BrokerOptions` is, for the sake of every program's start.
class RetryOptions(NamedTuple):
    """How calls that fail are tried again, result_backend_always_retry; all pauses in seconds."""

    most: float = math.inf  # result_backend_max_retries
    first_pause: float = 0.01  # result_backend_base_sleep_between_retries_ms
    longest_pause: float = 10.0  # result_backend_max_sleep_between_retries_ms


class BackendOptions(NamedTuple):
    """How to reach a backend and what the application has set for it."""

    transport_options: Mapping[str, Any] = {}  # result_backend_transport_options
    ssl: Mapping[str, Any] | bool = False  # redis_backend_use_ssl
    expires: float | None = 86400.0  # seconds that a result is kept, result_expires; None: for ever
    failure_expires: float | None = None  # the same for FAILURE; None: as `expires`
    # Seconds that the state of a chord is kept without a change, result_chord_expires; None: for ever
    chord_expires: float | None = 86400.0
    join_timeout: float | None = 3.0  # seconds to read the parts of a chord, result_chord_join_timeout
    connect_timeout: float = 4.0  # seconds
    deadline: float = 5.0  # seconds for one call with all its retries
    app_name: str = "fastq"
    retries: RetryOptions | None = None  # beyond that deadline; None: fail then
    # Where results travel as messages:
    broker: tuple[str, BrokerOptions] | None = None  # by which they do
    serializer: str = "json"  # result_serializer
    is_persistent: bool = False  # result_persistent


class StoredResult(NamedTuple):
    """A result document on its way into a backend."""

    task_id: str
    state: str
    document: bytes
    reply_to: str | None = None  # the queue of who waits, for a backend that `sends_replies`


class Pulse:
    """A *call* that is due about every *interval* seconds while something is waited for."""

    def __init__(self, call: Callable[[], object], interval: float) -> None:
        self._call = call
        # Between two beats there must be time to look for what is waited for.
        self._interval = max(interval, SHORTEST_INTERVAL)
        self.due = time.monotonic() + self._interval

    def beat(self) -> None:
        """Make the call if it is due."""
        if time.monotonic() >= self.due:
            self._call()
            self.due = time.monotonic() + self._interval


class Part(NamedTuple):
    """A member of a chord's header that has ended; `Effects.parts` holds tuples of the same shape."""

    group_id: str
    task_id: str
    position: int | None  # where its result stands in the list that the body gets
    member: bytes  # the encoded [1, task id, state, result] (§5.4)


class CompleteChord(NamedTuple):
    """What a store tells of a chord whose last part was counted: the caller is to join it."""

    group_id: str
    part: str  # the `part_name` of that last part
    # Somebody else has it, who may have died: count the part again after a while, and do not join now.
    is_taken: bool = False
    # What `Backend.parts` would give, where it is at hand and not too large, and `Backend.restore_group`;
    # always from a store that other processes can't read.
    members: list[bytes] | None = None
    described: bytes | None = None


class Backend(ABC):
    """A place that keeps results. Safe over threads, forks and greenlets.

    Every method raises `OperationalError` when the store can't be reached in time.
    """

    # Whether the store deletes by itself what has expired; else somebody must call `cleanup`.
    expires_by_itself = True
    # Whether it stores nothing, but sends results to the queue that each task's message names.
    sends_replies = False
    # Whether it counts the parts of chords.
    keeps_chords = False
    # Whether it keeps the steps of long chains.
    keeps_chains = False

    def __init__(self, url: str, options: BackendOptions) -> None:
        self.url = url
        self.options = options

    def without_retries(self) -> Backend:
        """This store, for a caller who tries again himself and must not be kept waiting."""
        return self

    @abstractmethod
    def store(self, results: Sequence[StoredResult], deadline: float | None = None) -> None:
        """Store documents and wake whoever waits for them. Leaves a stored SUCCESS as it is.

        Fails after *deadline* seconds (None: as the options say).
        """

    @abstractmethod
    def fetch(self, task_ids: Sequence[str]) -> list[bytes | None]:
        """The documents of *task_ids*, in their order; None where there is none."""

    @abstractmethod
    def wait(
        self, task_ids: Collection[str], timeout: float | None, pulse: Pulse | None = None
    ) -> Generator[tuple[str, bytes], None, None]:
        """Yield (id, document) of each document that is there or arrives, as it does.

        What is there comes in the order of *task_ids*. A task may come several times (STARTED, then
        SUCCESS). From a dict the caller may delete ids meanwhile, and they are not looked for any
        more. *pulse* beats, however much or little arrives; what it raises ends the wait. Ends after
        *timeout* seconds in all (None: never); the caller stops it by closing the iterator.
        """

    def save_group(self, group_id: str, document: bytes) -> None:
        """Keep what describes a group (§5.1), as long as a result."""
        raise self._keeps_no_groups()

    def restore_group(self, group_id: str) -> bytes | None:
        """What `save_group` kept; None if that is gone, or was never there."""
        raise self._keeps_no_groups()

    def delete_group(self, group_id: str) -> None:
        """Delete what `save_group` kept."""
        raise self._keeps_no_groups()

    def _keeps_no_groups(self) -> ImproperlyConfigured:
        return ImproperlyConfigured(
            f"{self.description()} can't keep the results of a group: set result_backend to a store, "
            "redis:// for example"
        )

    def begin_chords(self, chords: Sequence[tuple[str, int]], deadline: float | None = None) -> None:
        """Tell the size of *chords*, as (group id, size), of which some parts may have been counted already.

        Comes before the last message of the header goes out, so that the last part finds it.
        """
        raise self._keeps_no_chords()

    def extend_chords(self, extended: Sequence[tuple[str, int, str]], deadline: float | None = None) -> None:
        """Add to the sizes of chords, as (group id, by how many, who says so), once for each of the last."""
        raise self._keeps_no_chords()

    def count_parts(self, parts: Sequence[Part], deadline: float | None = None) -> list[CompleteChord]:
        """Count *parts* that have ended, each of them once however often it is told.

        Returns the chords that are complete now and of which the last one of *parts* completes them.
        That part then stands for the chord: who tells it again, until `end_chord`, gets the
        same answer, and who tells any other part does not.
        """
        raise self._keeps_no_chords()

    def parts(self, group_id: str, deadline: float | None = None) -> list[bytes] | None:
        """The members of a chord by their index, those without one last; None: it has ended or is unknown."""
        raise self._keeps_no_chords()

    def end_chord(self, group_id: str, deadline: float | None = None) -> bool:
        """Forget a chord that is joined, and count no more of its parts; whether nobody had done so."""
        raise self._keeps_no_chords()

    def check_chords(self) -> None:
        """Raise `ImproperlyConfigured` if chords can't be kept here."""
        if not self.keeps_chords:
            raise self._keeps_no_chords()

    def _keeps_no_chords(self) -> ImproperlyConfigured:
        return ImproperlyConfigured(
            f"{self.description()} can't count the parts of a chord, which a group has that is followed by a "
            "task: set result_backend to a store that can, redis:// or sqlite:// for example"
        )

    def save_chain(self, chain_id: str, blocks: Sequence[bytes], seconds: float) -> None:
        """Keep the *blocks* of a chain's steps for so many *seconds*. Repeating it is harmless."""
        raise self._keeps_no_chains()

    def chain_block(self, chain_id: str, index: int, seconds: float) -> bytes | None:
        """The block *index* of a chain; None if it is gone.

        Those before it are deleted, and it is kept for *seconds* more with those after it.
        """
        raise self._keeps_no_chains()

    def _keeps_no_chains(self) -> ImproperlyConfigured:
        return ImproperlyConfigured(f"{self.description()} can't keep the steps of a chain")

    @abstractmethod
    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete the documents of *task_ids*."""

    def cleanup(self) -> int:
        """Delete what has expired, where the store does not do so itself; returns how many."""
        return 0

    def reply_queue(self) -> str | None:
        """The queue to which results of this process's calls are to go, ready to take them."""
        return None

    def shares_store_with(self, broker: Broker) -> bool:
        """Whether results can take effect in *broker*'s own commit (D5)."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Close every connection. The backend may be used again: it connects anew."""

    def description(self) -> str:
        """Where it lies, for people, with the password masked."""
        return self.url
