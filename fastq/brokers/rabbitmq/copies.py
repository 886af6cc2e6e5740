"""What a worker knows of messages that come to it again because its connection broke.

RabbitMQ takes back all that was not acknowledged, and does not tell a worker that died from
one that only lost its connection. The worker itself knows better. Of what comes back to it

- some is settled: its acknowledgement was on its way when the connection broke;
- some still runs here, or has ended since: the copy is the claim by which its outcome settles it;
- some did not start, or was never read: nobody died of it, so it does not count as redelivered.

Pure: the time is an argument.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fastq._core.amqp_claims import run_of
from fastq._core.message import Delivery, Message, Outcome

# Acknowledgements that may be on their way when a connection breaks: at most so many, so many seconds old.
REMEMBERED, UNSEEN_SECONDS = 4096, 10.0
# After a crash RabbitMQ flags all that lies in its queues. For so many seconds after it was away no flag
# counts on what bears a count already: else what only waits would die of its broker's deaths.
DOUBTED_SECONDS = 600.0
# Copies come soon, from the heads of their queues. Later on another message may bear the same names: a task
# may send itself again under its own id.
COMES_AGAIN_SECONDS = 60.0


class Copy(NamedTuple):
    """What a message and what RabbitMQ makes of it after a break have in common, and no other message.

    A retry has the id of the first run; one that was moved bears another count, or is due at
    another time.
    """

    id: str
    task: str
    retries: int
    redelivered: int  # as its header says
    due: float  # unix seconds, as its header says; or when a worker gave it back


def copy_of(message: Message, redelivered: int, due: float) -> Copy:
    """The names of *message*, whose own headers say so."""
    return Copy(*run_of(message), redelivered, due)


# Copies, or tuples of their fields, which are equal, with the monotonic time until which they count.
Known = dict[tuple[str, str, int, int, float], float]


class Held(NamedTuple):
    """What was unsettled when the connection broke, with its outcome if it has ended."""

    delivery: Delivery
    copy: Copy
    outcome: Outcome | None = None
    is_flagged: bool = False  # whether it had come again before, and may have run then
    until: float = math.inf  # monotonic: later on its copy has gone to another worker


class Copies:
    """The memory of one consumer over all its connections. *now* is monotonic."""

    def __init__(self) -> None:
        # What was acknowledged, each with the time of it, as a `Copy` or a tuple of its fields.
        self.settled: deque[tuple[float, tuple[str, str, int, int, float]]] = deque(maxlen=REMEMBERED)
        # After a break:
        self._repeats: Known = {}  # settled before it
        self._unstarted: Known = {}
        self._unread, self._unread_until = 0, 0.0  # how many more at most were sent here and never read
        self._flags_doubted_until = 0.0
        self._lost: dict[int, Held] = {}  # all the rest by the id of its delivery; of these,
        self._orphans: dict[Copy, Held] = {}  # what runs or has ended

    def lose(self, held: Iterable[Held], unseen: Iterable[Copy], unread: int, now: float) -> None:
        """Learn that the connection broke: all of *held* will come again, and *unseen*.

        No turn returned the latter, and they were not flagged. *unread* more may have been on their way.
        """
        self._forget_old(now)
        until = now + COMES_AGAIN_SECONDS
        self._repeats.update((copy, until) for at, copy in self.settled if at >= now - UNSEEN_SECONDS)
        self.settled.clear()
        self._unstarted.update((copy, until) for copy in unseen)
        self._unread, self._unread_until = max(self._unread, unread), until
        for each in held:
            self._lost[id(each.delivery)] = each
            if each.outcome is not None:
                self.end(each.outcome, now)

    def doubt_flags(self, now: float) -> None:
        """Learn that RabbitMQ is there again after it could not be reached."""
        self._flags_doubted_until = now + DOUBTED_SECONDS

    def end(self, outcome: Outcome, now: float) -> None:
        """Learn how a task has ended that was lost; its copy brings the claim to settle it by."""
        held = self._lost.get(id(outcome.delivery))
        if held is not None:
            ended = held._replace(outcome=outcome, until=now + COMES_AGAIN_SECONDS)
            self._lost[id(outcome.delivery)] = self._orphans[held.copy] = ended

    def adopt(self, running: Sequence[Delivery], now: float) -> None:
        """Learn which of the lost ones go on here; those that have not ended either did not start."""
        for delivery in running:
            held = self._lost.get(id(delivery))
            if held is not None:
                self._orphans.setdefault(held.copy, held)
        for each in self._lost.values():
            if each.copy not in self._orphans and not each.is_flagged:
                self._unstarted[each.copy] = now + COMES_AGAIN_SECONDS
        self._lost = {id(each.delivery): each for each in self._orphans.values()}

    def is_repeat(self, copy: Copy, now: float) -> bool:
        """Whether *copy*, which has come again, was settled already; asked once for each that comes."""
        if not _takes(self._repeats, copy, now):
            return False
        self.take_orphan(copy)
        return True

    def take_orphan(self, copy: Copy) -> Held | None:
        """What runs here or has ended under the claim that *copy* replaces."""
        held = self._orphans.pop(copy, None)
        if held is not None:
            self._lost.pop(id(held.delivery), None)
        return held

    def take_unstarted(self, copy: Copy, now: float) -> bool:
        """Whether *copy* comes again though nobody had begun to run it, as far as can be told."""
        if _takes(self._unstarted, copy, now) or (copy.redelivered and now < self._flags_doubted_until):
            return True
        if self._unread > 0 and now < self._unread_until:
            self._unread -= 1
            return True
        return False

    def _forget_old(self, now: float) -> None:
        self._repeats = {copy: until for copy, until in self._repeats.items() if until > now}
        self._unstarted = {copy: until for copy, until in self._unstarted.items() if until > now}
        self._orphans = {copy: held for copy, held in self._orphans.items() if held.until > now}
        self._lost = {name: held for name, held in self._lost.items() if held.until > now}


def _takes(known: Known, copy: Copy, now: float) -> bool:
    """Whether *copy* is in *known* and still counts; it is there no more."""
    until = known.pop(copy, None)
    return until is not None and until >= now
