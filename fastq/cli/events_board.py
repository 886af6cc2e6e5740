"""What the live screen shows and how keys change it. Pure: no terminal, no broker, no clock of its own."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

from fastq.events.state import State, Task

# Seconds over which rates are counted, and run times kept for each name at most.
RATE_SECONDS = 10.0
RUN_TIMES_KEPT = 500


class Rates:
    """How often tasks of each name end, and how long they run."""

    def __init__(self) -> None:
        self._ends: dict[str, deque[float]] = defaultdict(deque)
        self._runs: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=RUN_TIMES_KEPT))
        self.ended: dict[str, int] = defaultdict(int)
        self.failed: dict[str, int] = defaultdict(int)

    def note(self, name: str, now: float, runtime: float | None, *, failed: bool) -> None:
        """Count a task that ended at *now*."""
        self.ended[name] += 1
        self.failed[name] += failed
        self._ends[name].append(now)
        if runtime is not None:
            self._runs[name].append(runtime)

    def per_second(self, name: str, now: float) -> float:
        """How many have ended a second, of late."""
        ends = self._ends[name]
        while ends and ends[0] < now - RATE_SECONDS:
            ends.popleft()
        return len(ends) / RATE_SECONDS

    def quantile(self, name: str, part: float) -> float | None:
        """The run time that this *part* of the last runs did not exceed, in seconds."""
        runs = sorted(self._runs[name])
        return runs[min(int(len(runs) * part), len(runs) - 1)] if runs else None


@dataclass
class Board:
    """The state of the screen."""

    state: State
    rates: Rates = field(default_factory=Rates)
    filter: str = ""
    typing: bool = False  # keys go to the filter
    is_paused: bool = False
    shows_details: bool = False
    asks: Task | None = None  # whether this one is to be revoked
    notice: str = ""
    selected: str | None = None  # a task's id
    _rows: list[Task] = field(default_factory=list)

    def take(self, event: dict[str, Any]) -> None:
        """Take note of an event."""
        self.state.event(event)
        kind, _, subject = event["type"].partition("-")
        if kind == "task" and subject in ("succeeded", "failed") and "uuid" in event:
            task = self.state.tasks.get(event["uuid"])
            name = task.name if task is not None and task.name else "(unknown)"
            self.rates.note(name, event["local_received"], event.get("runtime"), failed=subject == "failed")

    def rows(self, limit: int) -> list[Task]:
        """The newest tasks that the filter admits; the same as before while paused."""
        if not self.is_paused:
            with self.state._mutex:
                self._rows = [task for _, task in self.state.tasks_by_time() if self._admits(task)][:limit]
        return self._rows[:limit]

    def _admits(self, task: Task) -> bool:
        """Whether each word of the filter is in what the task's line says."""
        host = task.worker.hostname if task.worker is not None else ""
        line = f"{task.uuid} {task.name} {task.state} {host} {task.args} {task.kwargs}".lower()
        return all(word in line for word in self.filter.lower().split())

    def chosen(self) -> Task | None:
        """The task that is selected, or the first."""
        found = next((task for task in self._rows if task.uuid == self.selected), None)
        return found or (self._rows[0] if self._rows else None)

    def key(self, key: str) -> tuple[str, Task | None] | None:
        """Act upon *key*: a character, or up, down, enter, escape or backspace.

        Returns what is to be done elsewhere: quit, enable, or revoke with its task.
        """
        if self.typing:
            self._type(key)
            return None
        if self.asks is not None:
            task, self.asks = self.asks, None
            return ("revoke", task) if key in ("y", "enter") else None
        self.notice = ""
        match key:
            case "q":
                return "quit", None
            case "e":
                return "enable", None
            case "up" | "k":
                self._move(-1)
            case "down" | "j":
                self._move(1)
            case "enter" | "i":
                self.shows_details = not self.shows_details
            case "escape":
                self.shows_details, self.filter = False, ""
            case "/":
                self.typing = True
            case " ":
                self.is_paused = not self.is_paused
            case "r":
                self.asks = self.chosen()
        return None

    def _type(self, key: str) -> None:
        if key in ("enter", "escape"):
            self.typing = False
            if key == "escape":
                self.filter = ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1:
            self.filter += key

    def _move(self, by: int) -> None:
        ids = [task.uuid for task in self._rows]
        if ids:
            at = ids.index(self.selected) if self.selected in ids else 0
            self.selected = ids[max(0, min(at + by, len(ids) - 1))]
