"""What a worker's loop notes of tasks, for events that are made of it later (PROTOCOL.md §6)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastq._core.message import Delivery, Message, Outcome
    from fastq._core.task_events import EventWriter

# Deliveries and outcomes that are noted at most, while no events are made of them. What comes then is lost.
MOST_NOTED = 100_000


class TaskLog:
    """Notes what comes in and what has ended, which costs the loop one call for a batch.

    *wake* is called with the first note after `rest`. *notes_sent*: what tasks send as they end is noted too.
    """

    def __init__(self, wake: Callable[[], None], *, notes_sent: bool = False) -> None:
        self._wake = wake
        self._notes_sent = notes_sent
        self._notes: deque[tuple[float, Sequence[Delivery], Sequence[Outcome], Sequence[Message]]] = deque()
        self._noted = 0  # deliveries and outcomes, by the loop
        self._taken = 0  # of them, by the thread that sends
        self._is_resting = True  # the taker is to be woken by the next note
        self._started: dict[int, Delivery] = {}  # by identity: those whose start was told, and that still run
        self.dropped = 0

    # -- in the loop ------------------------------------------------------------------

    def received(self, deliveries: Sequence[Delivery]) -> None:
        """Note that these have come in: they run, wait for their time, or are refused."""
        if deliveries:
            self._note(len(deliveries), deliveries, (), ())

    def ended(self, outcomes: Sequence[Outcome]) -> None:
        """Note what became of tasks."""
        if outcomes:
            # Now, since whoever publishes these takes them out of their outcomes.
            sent = [each for outcome in outcomes for each in outcome.follow or ()] if self._notes_sent else ()
            self._note(len(outcomes), (), outcomes, sent)

    def _note(
        self,
        count: int,
        deliveries: Sequence[Delivery],
        outcomes: Sequence[Outcome],
        sent: Sequence[Message],
    ) -> None:
        if self._noted - self._taken >= MOST_NOTED:
            self.dropped += count
            return
        self._noted += count
        self._notes.append((time.time(), deliveries, outcomes, sent))
        if self._is_resting:
            self._is_resting = False
            self._wake()

    # -- in the thread that sends -------------------------------------------------------

    def rest(self) -> None:
        """Call *wake* again with the next note."""
        self._is_resting = True
        if self._notes:
            self._is_resting = False
            self._wake()

    def take(
        self, writer: EventWriter, sender: EventWriter, running: Sequence[tuple[Delivery, float]]
    ) -> list[bytes]:
        """All events since the last call, in order; *sender* writes those of what tasks have sent.

        *running* is what runs now, each with the monotonic time of its start.
        """
        events: list[bytes] = []
        for _ in range(len(self._notes)):
            at, deliveries, outcomes, sent = self._notes.popleft()
            self._taken += len(deliveries) + len(outcomes)
            writer.received(deliveries, at, events)
            sender.clock = writer.clock
            for message in sent:
                sender.sent(message, at, events)
            writer.clock = sender.clock
            writer.ended(outcomes, at, self._started, events)
        if self.dropped:  # the ends of some among them
            self._started.clear()
        for delivery, started in running:
            if id(delivery) not in self._started:
                self._started[id(delivery)] = delivery
                writer.started(delivery, time.time() - (time.monotonic() - started), events)
        return events


def tells_of(tasks: Mapping[str, Any]) -> Callable[[str], bool]:
    """Whether events tell of the task of a name: unless it says ``send_events = False``."""
    return lambda name: getattr(tasks.get(name), "send_events", True)
