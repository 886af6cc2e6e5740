"""Outcomes on their way from the threads that run tasks to the loop."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastq._core.message import Outcome
    from fastq.wakeup import Waker


class Mailbox:
    """Any thread puts, the loop takes. Wakes the loop once between two takes, not once per outcome."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._outcomes: deque[Outcome] = deque()
        self._wakes = True  # the loop may be about to wait: the next put must wake it

    def put(self, outcome: Outcome) -> None:
        """Add *outcome*; safe from any thread."""
        self._outcomes.append(outcome)
        # Read after the append: either this sees the flag, or the loop, which sets it before it
        # takes, sees the outcome. Two threads may both wake it, which does no harm.
        if self._wakes:
            self._wakes = False
            self._waker.set()

    def take(self) -> list[Outcome]:
        """All that has been put since the last call, in order."""
        self._wakes = True
        taken: list[Outcome] = []
        while self._outcomes:
            taken.append(self._outcomes.popleft())
        return taken
