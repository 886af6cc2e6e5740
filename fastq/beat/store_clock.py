"""The clock that all beats of one store share, as seen from this process."""

from __future__ import annotations

import time

# Seconds by which the store's clock must have jumped to count as having been set.
STEP = 0.5
# An answer that took longer than this tells the time less well than one before, as long as that is fresh.
SLOW, FRESH = 0.02, 10.0


def steady() -> float:
    """Seconds that no setting of a clock changes; they go on while the machine sleeps, where it can tell."""
    return _read(_CLOCK)


class StoreClock:
    """Keeps the difference between the store's clock and `steady`, so that reading it costs nothing."""

    def __init__(self) -> None:
        self._offset: float | None = None
        self._read_at = 0.0  # steady

    def now(self) -> float:
        """Unix seconds, on the clock of the store."""
        return steady() + (0.0 if self._offset is None else self._offset)

    def observe(self, told: float, asked_at: float, answered_at: float) -> float:
        """Learn the time that the store has *told* between two steady times.

        Returns by how many seconds its clock was set since the last time; as a rule 0.
        """
        offset = told - (asked_at + answered_at) / 2
        before = self._offset
        took = answered_at - asked_at
        if before is not None and abs(offset - before) <= STEP + took:
            if took <= SLOW or answered_at - self._read_at > FRESH:
                self._offset, self._read_at = offset, answered_at
            return 0.0
        self._offset, self._read_at = offset, answered_at
        return 0.0 if before is None else offset - before


_read = time.clock_gettime
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
