"""How many tasks run at once, between two bounds, by how much waits and how long it takes (``--autoscale``).

What waits here and in the queues, times the run time, is the work ahead. When the slots would be at
it for longer than `PATIENCE` more are added, when fewer would do for a while they leave, one step at
a time. Pure: the figures and the time are arguments.
"""

from __future__ import annotations

import os

# Seconds that work may lie ahead of a worker before it grows; and what it grows for.
PATIENCE = 1.0
# Seconds that fewer slots must do before one leaves, by Celery's name.
KEPT_SECONDS = float(os.environ.get("AUTOSCALE_KEEPALIVE", 30.0))
# Seconds that a task of which nothing is known is thought to take.
UNKNOWN_SECONDS = 0.1


class Autoscaler:
    """Decides on the size of a pool of *least* to *most* slots."""

    def __init__(self, most: int, least: int, kept_seconds: float = KEPT_SECONDS) -> None:
        self.most = max(most, least)
        self.least = max(min(most, least), 1)
        self.current = self.least
        self._kept_seconds = kept_seconds
        self._busy_at = 0.0  # monotonic: when all slots were last wanted
        self._waiting = 0

    def decide(self, running: int, waiting: int, runtime: float, now: float) -> int:
        """How many slots there shall be: *running* tasks, *waiting* ones that take *runtime* seconds each."""
        self._waiting = waiting
        work = waiting * (runtime or UNKNOWN_SECONDS)
        # A slot serves one task at a time: more of them than tasks are of no use.
        wanted = min(running + waiting, running + max(1, round(work / PATIENCE))) if waiting else running
        wanted = min(max(wanted, self.least), self.most)
        if wanted >= self.current:
            self._busy_at = now
            self.current = wanted
        elif now - self._busy_at >= self._kept_seconds:
            self._busy_at = now - self._kept_seconds * 0.9  # the next one soon
            self.current = max(wanted, self.current - max(1, (self.current - wanted) // 2))
        self.current = min(max(self.current, self.least), self.most)
        return self.current

    def update(self, most: int | None, least: int | None) -> tuple[int, int]:
        """Other bounds from now on; returns both."""
        if most is not None:
            self.most = max(int(most), 1)
            self.least = min(self.least, self.most)
        if least is not None:
            self.least = max(min(int(least), self.most), 1)
        return self.most, self.least

    def info(self) -> dict[str, int]:
        """What ``inspect stats`` shows of it."""
        return {"max": self.most, "min": self.least, "current": self.current, "qty": self._waiting}


def parse_autoscale(text: str) -> tuple[int, int]:
    """The most and the fewest of ``10,3`` or ``10``. Raises ValueError."""
    most, _, least = text.partition(",")
    return max(int(most), int(least or 0)), min(int(most), int(least or 0))
