"""A worker's metrics as Prometheus reads them, and whether it gets on.

The text format is that of https://prometheus.io/docs/instrumenting/exposition_formats/, version 0.0.4.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

from fastq._core.tally import BOUNDS
from fastq.exceptions import FastQError
from fastq.version import __version__
from fastq.worker.loop import LONGEST_TURN
from fastq.worker.memory import descendants, resident_bytes

if TYPE_CHECKING:
    from fastq._core.tally import Histogram, Tally
    from fastq.brokers.base import QueueInfo
    from fastq.worker.loop import Loop
    from fastq.worker.worker import Worker

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds that the broker's counts of queues are shown for: any number of scrapes cost it no more.
QUEUES_KEPT = 2.0
# Seconds without a turn after which the loop is taken for stuck. One may wait for LONGEST_TURN, and
# connecting and publishing have deadlines of their own, of 4 and 5 s by default.
STUCK_AFTER = 6 * LONGEST_TURN
# Seconds for which messages may wait while this worker has room and takes none.
STARVED_AFTER = 60.0

Labels = Mapping[str, str]
Sample = tuple[str, Labels, float]


class Metrics:
    """Says what *worker* has done, does, and whether that is progress. Called by the server's threads."""

    def __init__(self, worker: Worker, tally: Tally) -> None:
        self._worker = worker
        self._tally = tally
        self._loop: Loop | None = None
        self._queues: list[QueueInfo] = []
        self._queues_at = -QUEUES_KEPT  # monotonic seconds
        self._received = -1  # how many deliveries there had been when `_fed_at` was noted
        self._fed_at = 0.0  # monotonic seconds: when this worker last took something, or nothing waited

    def begin(self, loop: Loop) -> None:
        """Tell of *loop* from here on."""
        self._loop = loop
        self._fed_at = time.monotonic()

    # -- progress ----------------------------------------------------------------------

    def liveness(self) -> str | None:
        """Why this worker should be started anew, or None: it gets on.

        A broker that is away is no reason: a new worker would wait for it as well.
        """
        state, now = self._worker.state, time.monotonic()
        turned = now - max(state.turned_at, state.waited_at, state.started_at)
        if turned > STUCK_AFTER:
            return f"the loop has taken no turn for {turned:.0f} s"
        starved = now - self._last_fed(now)
        if starved > STARVED_AFTER:
            return f"messages wait, there is room for them, and none was taken for {starved:.0f} s"
        return None

    def readiness(self) -> str | None:
        """Why this worker takes no tasks now, or None: it does."""
        loop = self._loop
        if not self._worker.is_announced or loop is None:
            return "the worker is starting"
        if loop.is_stopping():
            return "the worker is stopping"
        if not loop.is_connected:
            return "the broker is away"
        return self.liveness()

    def _last_fed(self, now: float) -> float:
        """When this worker last took something, had no room, or nothing was there to take."""
        state, loop = self._worker.state, self._loop
        is_fed = state.received != self._received
        if is_fed or loop is None or loop.is_stopping() or loop.window.room() == 0 or not loop.is_connected:
            self._received, self._fed_at = state.received, now
        elif not any(queue.ready and queue.name not in self._worker.paused for queue in self.queues() or ()):
            self._fed_at = now
        return self._fed_at

    # -- what is told --------------------------------------------------------------------

    def queues(self) -> list[QueueInfo] | None:
        """The queues that this worker consumes; None while the broker does not tell."""
        now = time.monotonic()
        if now - self._queues_at >= QUEUES_KEPT:
            try:
                names = set(self._worker.queue_names)
                self._queues = [
                    queue for queue in self._worker.app.read_broker.queues(names) if queue.name in names
                ]
            except FastQError:
                return None
            self._queues_at = now
        return self._queues

    def text(self) -> str:
        """All metrics, in the text format."""
        return "".join(family(*each) for each in self._families())

    def _families(self) -> Iterator[tuple[str, str, str, list[Sample]]]:
        """Name, type, meaning and samples of each metric."""
        yield from self._of_tasks()
        yield from self._of_worker()
        yield from self._of_queues()

    def _of_tasks(self) -> Iterator[tuple[str, str, str, list[Sample]]]:
        tasks = sorted(self._tally.tasks.items())
        counts: list[Sample] = [
            ("", {"task": name, "state": state}, float(count))
            for name, tally in tasks
            for state, count in sorted(tally.states.items())
        ]
        yield "fastq_tasks_total", "counter", "Tasks that came to an end here, by name and state.", counts
        for name, meaning, kept in (
            ("fastq_task_run_seconds", "How long tasks ran.", "runs"),
            (
                "fastq_task_wait_seconds",
                "How long tasks waited since sent, or due; of messages that tell when they were sent.",
                "waits",
            ),
        ):
            samples = [
                sample for task, tally in tasks for sample in histogram(getattr(tally, kept), {"task": task})
            ]
            yield name, "histogram", meaning, samples

    def _of_worker(self) -> Iterator[tuple[str, str, str, list[Sample]]]:
        worker, state, loop = self._worker, self._worker.state, self._loop
        now = time.monotonic()
        labels = {"worker": worker.hostname, "version": __version__, "pool": worker.pool_name}
        running = [] if loop is None else loop.running()
        longest = max((now - started for _, started in running), default=0.0)
        pids = list(descendants(os.getpid()))
        for name, kind, meaning, value in (
            ("fastq_claims_total", "counter", "Messages that this worker took.", state.received),
            ("fastq_settled_total", "counter", "Messages whose outcome took effect.", state.settled),
            (
                "fastq_redeliveries_total",
                "counter",
                "Messages taken that a worker had before, which died or gave them back.",
                state.redelivered,
            ),
            ("fastq_claims_lost_total", "counter", "Messages that others have now.", state.lost),
            ("fastq_reconnects_total", "counter", "Attempts to reach the broker again.", state.reconnects),
            ("fastq_claims", "gauge", "Messages that wait or run here.", 0 if loop is None else loop.held),
            (
                "fastq_prefetch_limit",
                "gauge",
                "Messages that may be held now.",
                0 if loop is None else loop.window.limit,
            ),
            ("fastq_concurrency", "gauge", "Tasks that may run at once.", worker.concurrency or 1),
            ("fastq_tasks_running", "gauge", "Tasks that run now.", len(running)),
            ("fastq_longest_run_seconds", "gauge", "For how long the oldest of them has run.", longest),
            (
                "fastq_last_turn_seconds",
                "gauge",
                "Seconds since the broker was last asked.",
                now - (state.turned_at or state.started_at),
            ),
            ("fastq_connected", "gauge", "Whether the broker is at hand.", bool(loop and loop.is_connected)),
            ("fastq_uptime_seconds", "gauge", "Seconds since the worker started.", now - state.started_at),
            ("process_resident_memory_bytes", "gauge", "Memory of the worker's process.", resident_bytes()),
            ("fastq_children", "gauge", "Processes below the worker's.", len(pids)),
            (
                "fastq_children_resident_memory_bytes",
                "gauge",
                "Memory of these processes; what they share counts in each.",
                sum(map(resident_bytes, pids)),
            ),
        ):
            yield name, kind, meaning, [("", {}, float(value))]
        yield "fastq_worker_info", "gauge", "What this worker is.", [("", labels, 1.0)]

    def _of_queues(self) -> Iterator[tuple[str, str, str, list[Sample]]]:
        queues = self.queues()
        yield (
            "fastq_queues_known",
            "gauge",
            "Whether the broker told of its queues.",
            [("", {}, float(queues is not None))],
        )
        for field, name, meaning in (
            ("ready", "fastq_queue_ready", "Messages that wait."),
            ("claimed", "fastq_queue_claimed", "Messages that workers hold."),
            ("delayed", "fastq_queue_delayed", "Messages that are not due."),
            ("dead", "fastq_queue_dead", "Messages in the dead set."),
            ("oldest_age", "fastq_queue_oldest_age_seconds", "For how long the next message has waited."),
        ):
            samples: list[Sample] = [
                ("", {"queue": queue.name}, float(value))
                for queue in queues or ()
                if (value := getattr(queue, field)) is not None
            ]
            if samples:
                yield name, "gauge", meaning, samples


def histogram(values: Histogram, labels: Labels) -> list[Sample]:
    """The samples of *values*; none if there is no value."""
    counts = list(accumulate(values.counts))
    if not counts[-1]:
        return []
    bounds = [*map(repr, BOUNDS), "+Inf"]
    buckets: list[Sample] = [
        ("_bucket", {**labels, "le": bound}, float(count))
        for bound, count in zip(bounds, counts, strict=True)
    ]
    return [*buckets, ("_sum", labels, values.total), ("_count", labels, float(counts[-1]))]


def family(name: str, kind: str, meaning: str, samples: Iterable[Sample]) -> str:
    """The lines of one metric."""
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    for suffix, labels, value in samples:
        said = ",".join(f'{label}="{escaped(text)}"' for label, text in labels.items())
        number = str(int(value)) if value == int(value) else repr(value)
        lines.append(f"{name}{suffix}{{{said}}} {number}" if said else f"{name}{suffix} {number}")
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """*text* as the value of a label."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
