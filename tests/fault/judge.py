"""Compares what was published with what ran.

Every publish and every run leaves a line in a journal, a file outside of the broker under
test. The judge reads it and tells what was lost, what ran to its end twice, and what ran
though nobody sent it. A run that a fault has touched may be repeated (DESIGN.md D2: at
least once); any other repetition is a failure. On RabbitMQ, where a message bears its count
only after a worker has sent it again, one that dies between sending and acknowledging
or loses its connection leaves two of it, and both say that they were redelivered.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

# An outcome is settled within 50 ms of its task's end (D13). A busy machine may take so many seconds.
SETTLED_WITHIN = 1.0


class Event(NamedTuple):
    """One line of the journal."""

    # try, sent: of a publish; start, or restart if it was redelivered, and end: of a run; ready: a worker is;
    # child: one was forked
    kind: str
    id: str  # of the task, "-" without one
    run: str  # names one run of one task, "-" without one
    pid: int
    at: float  # monotonic seconds, the same clock in all processes of this machine


class Journal:
    """Appends to the journal at *path*; safe over processes and threads, and readable after any kill -9."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._runs = itertools.count()
        # O_APPEND makes one short write one line, whoever else writes.
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def new_run(self) -> str:
        """A name for one run."""
        return f"{os.getpid()}.{next(self._runs)}"

    def note(self, kind: str, ids: Iterable[str] = ("-",), run: str = "-") -> None:
        """Write a line for each of *ids*, in one write."""
        tail = f" {run} {os.getpid()} {time.monotonic():.6f}\n"
        # Who is killed at it leaves a line unfinished, with which the next write must not go on.
        os.write(self._fd, "".join(["\n", *(f"{kind} {each}{tail}" for each in ids)]).encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class JournalReader:
    """Reads a journal while others write to it."""

    def __init__(self, path: Path) -> None:
        self.events: list[Event] = []
        self._file = path.open("rb")
        self._rest = b""

    def read(self) -> list[Event]:
        """What has been written since the last call; `events` has it all."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        fresh = []
        for line in lines:
            fields = line.decode().split(" ")
            if len(fields) == 5:  # else nothing, or what a killed process left unfinished
                kind, task_id, run, pid, at = fields
                fresh.append(Event(kind, task_id, run, int(pid), float(at)))
        self.events += fresh
        return fresh

    def close(self) -> None:
        """Close the file."""
        self._file.close()


@dataclass(frozen=True)
class Fault:
    """Something that was done to the system, from *began* to *ended* (monotonic seconds)."""

    began: float
    ended: float
    pid: int | None = None  # the process that it struck; None: it may concern every task
    loses_after: float | None = None  # the store may forget what it confirmed from then on

    def touches(self, began: float, ended: float, pid: int | None = None) -> bool:
        """Whether it may undo what happened from *began* to *ended* in *pid*."""
        return self.pid in (None, pid) and began <= self.ended and self.began <= ended


@dataclass
class Run:
    """One run of one task."""

    id: str
    pid: int
    started: float
    ended: float | None = None  # None: it did not come to its end
    is_redelivered: bool = False

    def is_touched(self, faults: Iterable[Fault]) -> bool:
        """Whether a fault struck while it ran, or before its outcome was surely settled."""
        ended = float("inf") if self.ended is None else self.ended + SETTLED_WITHIN
        return any(fault.touches(self.started, ended, self.pid) for fault in faults)


@dataclass
class Verdict:
    """What the judge has found; only the first three must be empty."""

    lost: set[str] = field(default_factory=set)
    duplicated: set[str] = field(default_factory=set)
    unexplained: set[str] = field(default_factory=set)
    excused: set[str] = field(default_factory=set)  # ran twice, and a fault explains it
    forgotten: set[str] = field(default_factory=set)  # lost by a store that does not promise to keep it
    dead: set[str] = field(default_factory=set)
    published: int = 0
    runs: int = 0

    @property
    def is_good(self) -> bool:
        """Nothing lost, nothing duplicated without a fault, nothing unexplained."""
        return not (self.lost or self.duplicated or self.unexplained)

    def __str__(self) -> str:
        return (
            f"published {self.published} runs {self.runs} lost {len(self.lost)} "
            f"duplicated {len(self.duplicated)} unexplained {len(self.unexplained)} "
            f"excused {len(self.excused)} dead {len(self.dead)} forgotten {len(self.forgotten)}"
        )


def judge(
    events: Iterable[Event],
    *,
    dead: Collection[str] = (),
    waiting: Collection[str] = (),
    faults: Collection[Fault] = (),
    doubling: Collection[Fault] = (),
) -> Verdict:
    """Judge the *events* of a journal; *dead* and *waiting* are the ids that the broker holds at the end.

    *doubling* are the faults that may leave two of a message which a worker was moving.
    """
    tried: dict[str, float] = {}
    sent: dict[str, float] = {}
    runs: dict[str, Run] = {}
    for event in events:
        if event.kind == "try":
            tried.setdefault(event.id, event.at)
        elif event.kind == "sent":
            sent[event.id] = event.at
        elif event.kind in ("start", "restart"):
            is_redelivered = event.kind == "restart"
            runs[event.run] = Run(event.id, event.pid, event.at, is_redelivered=is_redelivered)
        elif event.kind == "end":
            runs[event.run].ended = event.at
    verdict = Verdict(published=len(sent), runs=len(runs))
    completed: dict[str, list[Run]] = {}
    for run in runs.values():
        if run.id not in tried:
            verdict.unexplained.add(run.id)
        if run.ended is not None:
            completed.setdefault(run.id, []).append(run)
    verdict.dead = {each for each in sent if each in dead and each not in completed}
    missing = set(sent) - set(completed) - set(dead) - set(waiting)
    verdict.forgotten = {each for each in missing if _is_forgotten(sent[each], faults)}
    verdict.lost = missing - verdict.forgotten
    for task_id, ended in completed.items():
        ended.sort(key=lambda run: run.ended or 0.0)
        # What still lies in the broker will run, or has died, beside the runs that there were.
        repeated = ended if task_id in dead or task_id in waiting else ended[:-1]
        if not repeated:
            continue
        sending = (tried.get(task_id, 0.0), sent.get(task_id, float("inf")))
        is_excused = any(fault.touches(*sending) for fault in faults if fault.pid is None)
        may_be_copies = any(fault.touches(sending[0], ended[-1].started) for fault in doubling)
        if (
            is_excused
            or all(run.is_touched(faults) for run in repeated)
            or (may_be_copies and all(run.is_redelivered or run.is_touched(faults) for run in ended))
        ):
            verdict.excused.add(task_id)
        else:
            verdict.duplicated.add(task_id)
    return verdict


def _is_forgotten(sent: float, faults: Collection[Fault]) -> bool:
    return any(fault.loses_after is not None and fault.loses_after <= sent <= fault.ended for fault in faults)
