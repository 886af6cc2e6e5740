"""Beats on one broker, somebody who takes what they send, and who judges it by the ids of the runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from fastq import FastQ
from fastq._core.codec import json_loads
from fastq._core.message import Action, Outcome
from fastq.beat.state import State, run_id, state_from
from fastq.beat.stores import open_place
from fastq.exceptions import OperationalError
from fastq.wakeup import Waker

HERE = Path(__file__).parent
LEASE = 2.0  # seconds
# What beat_proj.py defines.
EVERY = 1.0  # seconds
ENTRIES = 20
PATIENCE = 20.0  # seconds; only failing tests wait for so long
# Seconds that one beat may take to follow another, beside the lease, on a busy machine.
SLACK = 2.5


class BeatProcess:
    """One `fastq beat`, whose log goes to a file."""

    def __init__(self, stage: BeatStage, number: int) -> None:
        self.log = stage.folder / f"beat{number}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fastq", "beat", "-A", "beat_proj", "-l", "INFO"],
                cwd=stage.folder,
                env=stage.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.pid = self.process.pid

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Stop it, or let it go on."""
        os.kill(self.pid, number)


@dataclass
class BeatVerdict:
    """What the judge has found; all but the last two must be empty."""

    missing: set[str] = field(default_factory=set)  # ids of runs that were taken and did not arrive
    doubled: set[str] = field(default_factory=set)  # ids of runs that arrived more than once
    unexplained: set[str] = field(default_factory=set)  # ids that are no run's
    late: list[str] = field(default_factory=list)  # entries that were silent for too long
    arrived: int = 0
    longest_gap: float = 0.0  # seconds between two runs of one entry

    @property
    def is_good(self) -> bool:
        """Nothing missing, nothing doubled, no silence."""
        return not (self.missing or self.doubled or self.unexplained or self.late)

    def __str__(self) -> str:
        return (
            f"{self.arrived} runs, missing {len(self.missing)} doubled {len(self.doubled)} unexplained "
            f"{len(self.unexplained)} silent {self.late} longest gap {self.longest_gap:.2f} s"
        )


def judge_runs(
    arrivals: Sequence[tuple[str, int, float]], states: Mapping[str, State], *, was_set: bool = False
) -> BeatVerdict:
    """Compare what has arrived, as ids, numbers of entries and times, with what was due.

    Where no clock *was_set* every run follows the one before by `EVERY`, so the ids of all of them
    are known. Where one was, the state tells how many runs there were.
    """
    verdict = BeatVerdict(arrived=len(arrivals))
    counts = Counter(task_id for task_id, _, _ in arrivals)
    verdict.doubled = {task_id for task_id, count in counts.items() if count > 1}
    assert len(states) == ENTRIES, states
    if was_set:
        of_entry = Counter(f"entry {number}" for _, number, _ in arrivals)
        verdict.missing = {
            f"{name}: {state.runs} - {of_entry[name]}"
            for name, state in states.items()
            if state.runs != of_entry[name]
        }
    else:
        known = {
            run_id("beats", name, number, state.due - (state.number - number) * EVERY)
            for name, state in states.items()
            for number in range(2, state.number + 1)
        }
        verdict.missing = known - counts.keys()
        verdict.unexplained = counts.keys() - known
    moments: dict[int, list[float]] = defaultdict(list)
    for _, number, at in arrivals:
        moments[number].append(at)
    for number in range(ENTRIES):
        stamps = moments[number]
        gap = max((later - earlier for earlier, later in pairwise(stamps)), default=99.0)
        verdict.longest_gap = max(verdict.longest_gap, gap)
        if gap > EVERY + LEASE + SLACK:
            verdict.late.append(f"entry {number}: {gap:.1f} s")
    return verdict


class BeatStage:
    """A broker, three beats, and a consumer in this process."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.clock = folder / "clock"
        self.set_clock(0.0)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("FASTQ_", "CELERY_"))},
            "FAULT_BROKER": url,
            "FAULT_LEASE": str(LEASE),
            "FAULT_EVERY": str(EVERY),
            "FAULT_ENTRIES": str(ENTRIES),
            "FAULT_CLOCK": str(self.clock),
            "FASTQ_HOME": str(folder / "home"),
            "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        os.environ["FASTQ_HOME"] = self.environment["FASTQ_HOME"]
        self.app = FastQ("beats", broker=url, backend="disabled://", set_as_current=False)
        self.place = open_place(self.app)
        self.arrivals: list[tuple[str, int, float]] = []  # id, number of the entry, monotonic time
        self.beats: list[BeatProcess] = []
        self._started = 0
        self._is_over = False
        self._taker = threading.Thread(target=self._take, name="taker", daemon=True)
        self._taker.start()

    # -- what happens -----------------------------------------------------------------------

    def start_beat(self) -> BeatProcess:
        """Start one more beat."""
        self._started += 1
        self.beats.append(BeatProcess(self, self._started))
        return self.beats[-1]

    def leader(self) -> BeatProcess | None:
        """The beat that leads, if it lives."""
        holder = self.place.store.leader()
        pid = int(holder.split(":")[1]) if holder else 0
        return next((beat for beat in self.beats if beat.pid == pid and beat.process.poll() is None), None)

    def wait_for_leader(self) -> BeatProcess:
        """The beat that leads, once one does."""
        ends = time.monotonic() + PATIENCE
        while (found := self.leader()) is None:
            assert time.monotonic() < ends, f"no beat leads\n{self.logs()}"
            time.sleep(0.05)
        return found

    def wait_for_runs(self, count: int) -> None:
        """Return when that many more runs have arrived."""
        ends, wanted = time.monotonic() + PATIENCE, len(self.arrivals) + count
        while len(self.arrivals) < wanted:
            assert time.monotonic() < ends, f"no more runs come\n{self.logs()}"
            time.sleep(0.02)

    def set_clock(self, offset: float) -> None:
        """Set the clocks of the beats to *offset* seconds from the right time."""
        beside = self.clock.with_suffix(".new")
        beside.write_text(str(offset))
        beside.replace(self.clock)

    # -- what comes of it --------------------------------------------------------------------

    def _take(self) -> None:
        waker = Waker()
        consumer = self.app.broker.consumer(["celery"], "taker@here", waker)
        outcomes: list[Outcome] = []
        while not self._is_over:
            try:
                deliveries = consumer.turn(outcomes, 500, 0.2)
            except OperationalError:
                time.sleep(0.05)
                continue
            now = time.monotonic()
            outcomes = [Outcome(each, Action.ACK) for each in deliveries]
            for each in deliveries:
                assert each.message is not None
                self.arrivals.append((each.message.id, json_loads(each.message.body)[0][0], now))
        consumer.turn(outcomes, 0, 0.0)
        consumer.close()
        waker.close()

    def stop(self) -> dict[str, State]:
        """Stop every beat, take what is left, and return what is kept of the entries."""
        for beat in self.beats:
            if beat.process.poll() is None:
                beat.signal(signal.SIGCONT)
                beat.process.terminate()
        for beat in self.beats:
            beat.process.wait(PATIENCE)
        count = -1
        while count != len(self.arrivals):
            count = len(self.arrivals)
            time.sleep(0.7)
        states = self.place.store.read().states
        return {name: state_from(number, data) for name, (number, data) in states.items()}

    def verdict(self, states: dict[str, State], *, was_set: bool = False) -> BeatVerdict:
        """Judge what has arrived."""
        verdict = judge_runs(self.arrivals, states, was_set=was_set)
        print(f"JUDGED {os.environ.get('PYTEST_CURRENT_TEST', '')}: {verdict}")
        return verdict

    def logs(self) -> str:
        """The end of each beat's log."""
        return "\n".join(f"--- {beat.log.name}\n{beat.log.read_text()[-2500:]}" for beat in self.beats)

    def close(self) -> None:
        """End everything."""
        for beat in self.beats:
            if beat.process.poll() is None:
                beat.kill()
        self._is_over = True
        self._taker.join(PATIENCE)
        self.place.close()
        self.app.close()
        os.environ.pop("FASTQ_HOME", None)
