"""What outcomes wait for before they are settled: work that only the pool may do.

A chord whose last part has ended is joined there, and what the end of a task that did not run means
for those that were to follow it is worked out there: both decode messages and may call the user's code.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from fastq._core.message import (
    FOLLOW_JOB,
    JOB_AGAIN,
    JOB_DONE,
    JOBS,
    JOIN_JOB,
    Delivery,
    Effects,
    Message,
    Outcome,
)

if TYPE_CHECKING:
    from fastq.backends.base import CompleteChord

logger = logging.getLogger("fastq.worker")

# Crashes of the process that does a job, after which it is done without reading what it is about.
MOST_CRASHES = 3


class Case:
    """An outcome that waits, and the outcomes of the joins that it waits for."""

    __slots__ = ("groups", "jobs", "outcomes")

    def __init__(self, outcome: Outcome | None) -> None:
        # A join stands behind what waits for it; the broker gets them from the last one on.
        self.outcomes = [] if outcome is None else [outcome]
        self.groups: set[str] = set()  # of the chords that were joined for it
        self.jobs = 0  # still to be done


class Job:
    """Something for the pool to do."""

    __slots__ = ("case", "crashes", "delivery", "due", "ended")

    def __init__(self, case: Case, ended: Outcome | None, delivery: Delivery, due: float) -> None:
        self.case = case
        self.ended = ended  # what follows it is to be worked out; None: a chord is joined
        self.delivery = delivery
        self.due = due  # monotonic seconds
        self.crashes = 0

    @property
    def message(self) -> Message:
        """What tells the pool of it."""
        assert self.delivery.message is not None
        return self.delivery.message

    def __str__(self) -> str:
        of = self.message.headers
        what = "The join of a chord" if self.ended is None else "What follows a task that did not run"
        return f"{what} ({of['about']})"


class Followups:
    """Holds outcomes back until the pool has done what they wait for. *now* is in monotonic seconds."""

    def __init__(self, pause: float) -> None:
        """*pause* is in seconds: from a job that could not be done to the next attempt."""
        self._pause = pause
        self._jobs: dict[int, Job] = {}  # by the id of its delivery
        self._todo: list[Job] = []  # of these, those that the pool does not have
        self._again: list[tuple[float, Outcome]] = []  # to be given to the broker again, and when
        self._cases: dict[int, Case] = {}  # of what the broker is given now, by the id of each outcome

    def __bool__(self) -> bool:
        """Whether something waits."""
        return bool(self._jobs or self._again)

    # -- what comes in -----------------------------------------------------------------

    def screen(self, outcomes: list[Outcome], now: float) -> list[Outcome]:
        """Those of *outcomes* that may be settled now; the others wait. What jobs gave is taken in."""
        if not self._jobs and all(outcome.failure is None for outcome in outcomes):
            return outcomes
        ready: list[Outcome] = []
        for outcome in outcomes:
            job = self._jobs.pop(id(outcome.delivery), None)
            if job is not None:
                ready += self._take_in(job, outcome, now)
            elif outcome.failure is not None:
                self._add(Case(outcome), outcome, _to_follow(outcome), now)
            else:
                ready.append(outcome)
        return ready

    def complete(self, completed: Iterable[tuple[Outcome, CompleteChord]], now: float) -> int:
        """Have the chords joined for which outcomes wait; returns how many outcomes of tasks do."""
        waiting = {id(outcome): outcome for outcome, _ in completed}
        for outcome, chord in completed:
            case = self._cases.setdefault(id(outcome), Case(outcome))
            if chord.is_taken:
                self._again.append((now + self._pause, outcome))
            elif chord.group_id not in case.groups:
                case.groups.add(chord.group_id)
                self._add(case, None, _to_join(outcome.delivery, chord), now)
        return sum(not is_job(outcome.delivery) for outcome in waiting.values())

    def follow_success(self, outcome: Outcome, now: float) -> None:
        """Have it seen what follows the task of *outcome*, which returned before and does not run again."""
        self._add(Case(outcome), outcome, _to_follow(outcome, state="SUCCESS"), now)

    def join_for_none(self, delivery: Delivery, chord: CompleteChord, now: float) -> None:
        """Have a chord joined whose last part was *delivery*, and for which no outcome waits."""
        if all(job.message.headers.get("group") != chord.group_id for job in self._jobs.values()):
            self._add(Case(None), None, _to_join(delivery, chord), now)

    def call_errbacks(self, outcome: Outcome, now: float) -> None:
        """Have those errbacks of *outcome* called that take what failed; the rest has been seen to."""
        self._add(Case(None), None, _to_follow(outcome, calls_alone=True), now)

    def settled(self, outcomes: Iterable[Outcome]) -> int:
        """Forget those of *outcomes* that wait no more; returns how many of all of them are those of jobs."""
        jobs = 0
        for outcome in outcomes if self._cases else ():
            case = self._cases.get(id(outcome))
            if case is not None:
                jobs += is_job(outcome.delivery)
                if not case.jobs:
                    del self._cases[id(outcome)]
        return jobs

    def _add(self, case: Case, ended: Outcome | None, delivery: Delivery, now: float) -> None:
        case.jobs += 1
        self._give(Job(case, ended, delivery, now))

    def _give(self, job: Job) -> None:
        self._jobs[id(job.delivery)] = job
        self._todo.append(job)

    def _take_in(self, job: Job, given: Outcome, now: float) -> list[Outcome]:
        """What may be settled now that *job* has ended."""
        if given.state == JOB_AGAIN or (given.state != JOB_DONE and job.crashes < MOST_CRASHES):
            self._repeat(job, given, now)
            return []
        if given.state != JOB_DONE:
            logger.error("%s is given up: its process died each time", job)
            given = Outcome(job.delivery, effects=Effects(joined=job.message.headers.get("group")))
        case = job.case
        case.jobs -= 1
        if job.ended is not None:
            _add_what_follows(job.ended, given)
        elif given.effects is not None:
            case.outcomes.append(given)
        if case.jobs:
            return []
        released = case.outcomes[::-1]
        self._cases.update((id(outcome), case) for outcome in released)
        return released

    def _repeat(self, job: Job, given: Outcome, now: float) -> None:
        if given.state == JOB_AGAIN:
            job.due = now + self._pause
            logger.warning("%s is tried again in %.1f s: %s", job, self._pause, given.reason)
        else:
            job.crashes += 1
            if job.crashes == MOST_CRASHES:
                job.message.headers["gives_up"] = f"its process died {MOST_CRASHES} times"
        self._give(job)

    # -- what goes out -----------------------------------------------------------------

    def due(self, now: float) -> list[Delivery]:
        """The jobs that the pool is to do now."""
        if not self._todo:
            return []
        due = [job.delivery for job in self._todo if job.due <= now]
        self._todo = [job for job in self._todo if job.due > now]
        return due

    def again(self, now: float) -> list[Outcome]:
        """The outcomes that the broker is to be given again now."""
        if not self._again:
            return []
        again = [outcome for due, outcome in self._again if due <= now]
        self._again = [(due, outcome) for due, outcome in self._again if due > now]
        return again

    def next_at(self) -> float | None:
        """When `due` or `again` will have something; None: not by the time alone."""
        times = [job.due for job in self._todo] + [due for due, _ in self._again]
        return min(times, default=None)

    def keep(self, unstarted: Sequence[Delivery]) -> list[Delivery]:
        """Those of *unstarted*, which the pool has not begun, that are no jobs; the jobs are given later."""
        if not self._jobs:
            return list(unstarted)
        for delivery in unstarted:
            if id(delivery) in self._jobs:
                self._todo.append(self._jobs[id(delivery)])
        return [delivery for delivery in unstarted if id(delivery) not in self._jobs]

    def waiting(self) -> list[Delivery]:
        """The deliveries whose outcomes wait: they have run, and can't be settled now."""
        cases = {id(job.case): job.case for job in self._jobs.values()}
        outcomes = [outcome for case in cases.values() for outcome in case.outcomes]
        outcomes += [outcome for _, outcome in self._again]
        return [outcome.delivery for outcome in outcomes if not is_job(outcome.delivery)]


def is_job(delivery: Delivery) -> bool:
    """Whether *delivery* comes from here, and not from a broker."""
    return delivery.message is not None and delivery.message.task in JOBS


def _add_what_follows(ended: Outcome, given: Outcome) -> None:
    """Let what a job has found to follow take effect with the outcome *ended*."""
    ended.failure = None
    if given.follow:
        ended.follow = [*(ended.follow or ()), *given.follow]
    if given.effects is not None and ended.effects is not None:
        ended.effects.add(given.effects)
    else:
        ended.effects = ended.effects or given.effects


def _to_join(delivery: Delivery, chord: CompleteChord) -> Delivery:
    """The job to join *chord*, whose last part was told by *delivery*, which may be a join itself."""
    message = delivery.message
    assert message is not None
    of = message.headers["of"] if message.task in JOBS else message.to_tuple()
    return _job(
        JOIN_JOB,
        message.id,
        of=of,
        group=chord.group_id,
        part=chord.part,
        members=chord.members,
        described=chord.described,
        about=chord.group_id,
    )


def _to_follow(outcome: Outcome, state: str | None = None, calls_alone: bool = False) -> Delivery:
    """The job to see what follows the task of *outcome*, or to call its errbacks alone."""
    message = outcome.delivery.message
    assert message is not None
    return _job(
        FOLLOW_JOB,
        message.id,
        of=message.to_tuple(),
        state=state or outcome.state,
        failure=outcome.failure,
        calls_alone=calls_alone,
        about=f"{message.task}[{message.id}]",
    )


def _job(name: str, task_id: str, **fields: object) -> Delivery:
    headers = {"task": name, "id": task_id, **fields}
    return Delivery(Message(name, task_id, headers, b"", queue=""), None, "")
