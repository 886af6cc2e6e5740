"""What beats share in a broker: who leads, which entries were added, and what has become of each.

Any number of beats use one store. Its lease says which of them leads; that saves the others work, and
nothing depends on it. What does is `accept`: each run of an entry has a number, the store takes
the run whose number follows, and with it, in one step, the messages that the run sends. So two
beats that both think that they lead, or one that went on after a long stop, never send a run twice, and
a beat that is killed has sent a run and noted it, or neither.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fastq._core.message import Message


class Look(NamedTuple):
    """What a beat sees when it looks."""

    now: float  # unix seconds, on the clock of the store
    token: str  # the lease: its holder, a space, and how often it was renewed; "" if nobody holds it
    version: int  # grows with every change of entries
    served: str  # what stands for the names that the leader serves: see `ScheduleStore.served`
    alive_at: float  # when a leader last looked before this, unix seconds; 0.0: never

    @property
    def holder(self) -> str:
        """The beat that leads."""
        return self.token.rpartition(" ")[0]


class Kept(NamedTuple):
    """All that is kept, as of one moment."""

    version: int
    entries: Mapping[str, bytes]  # what was added at run time, by name
    states: Mapping[str, tuple[int, bytes]]  # number of the last run, and its state, by name
    paused: frozenset[str]


class Run(NamedTuple):
    """One run of an entry on its way into the store."""

    name: str
    number: int  # follows that of the last run; the first is 1
    state: bytes  # of the entry when this run has been sent
    messages: Sequence[Message] = ()


class ScheduleStore(ABC):
    """The schedule of one application in one broker. Safe over threads and forks.

    Every method raises `OperationalError` when the broker can't be reached in time.
    """

    @abstractmethod
    def look(self, beat: str, lease: float, stale: str, names: Collection[str]) -> Look:
        """Take the lease for *lease* seconds if it is free, or *beat*'s own, or its token is *stale*.

        *names* are what *beat* serves when it leads. A *stale* token is one that the caller has
        seen unchanged for longer than a lease: the store's own clock may have been set.
        """

    @abstractmethod
    def resign(self, beat: str) -> None:
        """Give up the lease, if *beat* holds it."""

    @abstractmethod
    def leader(self) -> str:
        """The beat that holds the lease; "" if none does."""

    @abstractmethod
    def served(self) -> frozenset[str]:
        """The names that the leader serves."""

    @abstractmethod
    def read(self) -> Kept:
        """Everything that is kept."""

    @abstractmethod
    def accept(self, runs: Sequence[Run], version: int) -> list[str] | None:
        """Take each of *runs* whose number follows, with its messages; the messages go to their queues.

        Returns, for each, "" if it was taken, "number" if not, or what is wrong with one of its
        messages. None, and no effect, if *version* is not the store's any more. Repeated, it finds
        all numbers taken.
        """

    @abstractmethod
    def amend(self, runs: Sequence[Run]) -> list[bool]:
        """Replace the states of *runs* that are still the last of their entries; of each whether it was."""

    @abstractmethod
    def put(self, name: str, definition: bytes) -> None:
        """Add an entry, or replace its definition."""

    @abstractmethod
    def remove(self, names: Iterable[str]) -> int:
        """Delete entries with all that is kept of them; returns how many there were."""

    @abstractmethod
    def pause(self, name: str, is_paused: bool) -> None:
        """Pause an entry, or let it go on."""


def digest(names: Collection[str]) -> str:
    """What stands for *names*, in any order."""
    from hashlib import sha1

    return sha1("\0".join(sorted(names)).encode(), usedforsecurity=False).hexdigest()


def renewed(token: str, beat: str) -> str:
    """The token of the lease after *beat* has taken or renewed it."""
    count = int(token.rpartition(" ")[2]) if token else 0
    return f"{beat} {count + 1}"
