"""One entry as a beat serves it: when it is due, and which runs that makes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha1
from itertools import takewhile
from typing import NamedTuple

from fastq._core.message import Message
from fastq.beat.definition import describe
from fastq.beat.entry import BeatLazyFunc, ScheduleEntry
from fastq.beat.plan import Ripe, base_after_step, is_polled, moment, next_due, ripe
from fastq.beat.state import State
from fastq.schedules import crontab

logger = logging.getLogger("fastq.beat")

# What is sent later than this, in seconds, was missed, whoever is to blame.
LATEST = 60.0
# Runs that may wait for the one before to end; further ones are skipped.
MOST_WAITING = 100
# Seconds between two looks whether it has.
WATCH_EVERY = 0.25
# The least seconds between two questions to a schedule that is asked whether it is due.
SHORTEST_ASK = 0.01

Compose = Callable[[ScheduleEntry, int, float], Sequence[Message]]


class Planned(NamedTuple):
    """A run that is to be taken: the state that it leads to, and its messages."""

    name: str
    state: State
    messages: Sequence[Message] = ()
    data: bytes = b""  # the state as the store keeps it, if that was made already


class Moment(NamedTuple):
    """When, and by whom, an item is looked at. Times are unix seconds, on the clock of the store."""

    now: float
    missed_until: float  # what was due up to then was missed, for no beat was at work
    beat: str
    compose: Compose


class Item:
    """An entry, its state, and the runs that follow from them."""

    def __init__(self, entry: ScheduleEntry, state: State) -> None:
        self.entry = entry
        self.state = state
        self.name = str(entry.name)
        self.is_polled = is_polled(entry.schedule)
        self.may_overlap = entry.overlap == "allow"
        self._latest = _starting_deadline(entry)
        self.serial = 0  # of the place in its beat's heap that counts
        self.due: float | None = None  # when the next run is due; None: it is only to be looked at
        self._base = state.due  # from when it is reckoned
        self._ask_at = 0.0  # when a schedule that is polled is to be asked again
        self._prepared: Planned | None = None
        self._tried = 0  # number of the run for which that was tried

    # -- when -----------------------------------------------------------------------------

    def when_to_look(self, now: float, max_interval: float) -> float | None:
        """When to look again: when the next run is to be sent, or earlier; None is never."""
        state, when = self.state, self.entry.schedule
        if self.is_polled:
            at: float | None = self._when_to_ask(now, max_interval)
        else:
            self._base = base_after_step(when, state.due, now)
            self.due = next_due(when, self._base, self._base)
            at = None if self.due is None else self.due + self.jitter(self.due)
        if state.waiting:
            at = min(now + WATCH_EVERY, math.inf if at is None else at)
        return at

    def _when_to_ask(self, now: float, max_interval: float) -> float:
        """When to ask the schedule `is_due`, or, if it has said that it is, now."""
        if self.due is not None and self.due > self.state.due:
            return self.due
        self.due = None
        if self._ask_at <= now:
            is_due, seconds = self.entry.schedule.is_due(moment(self.state.due))
            self._ask_at = now + min(max(float(seconds), SHORTEST_ASK), max_interval)
            if is_due:
                self.due = now
        return self._ask_at if self.due is None else now

    def jitter(self, due: float) -> float:
        """The seconds by which the run that is due at *due* is put off; the same for every beat."""
        if not self.entry.jitter:
            return 0.0
        drawn = sha1(f"{self.name}\0{due!r}".encode(), usedforsecurity=False).digest()
        return float(self.entry.jitter) * int.from_bytes(drawn[:4], "big") / 2**32

    def _ripe(self, at: Moment) -> Ripe:
        """What is due by now."""
        if self.is_polled:
            return Ripe(None, [] if self.due is None else [self.due])
        missed_until = max(at.missed_until, at.now - LATEST)
        found = ripe(self.entry.schedule, self._base, at.now, missed_until, self.entry.catch_up)
        sent = list(
            takewhile(lambda due: due <= missed_until or due + self.jitter(due) <= at.now, found.dues)
        )
        too_late = [due for due in sent if due + self.jitter(due) < at.now - self._latest]
        return Ripe(too_late[-1] if too_late else found.dropped, sent[len(too_late) :])

    # -- runs -----------------------------------------------------------------------------

    def runs(self, at: Moment, has_ended: bool) -> Iterator[Planned]:
        """The runs that are due; *has_ended* is whether the task of the last one has."""
        prepared = self._take_prepared(at)
        if prepared is not None:
            yield prepared
            return
        state = self.state
        is_free = self.may_overlap or state.task_id is None or has_ended
        if state.waiting and is_free:
            first, *rest = state.waiting
            planned = self._run(state._replace(waiting=tuple(rest)), first, state.due, at)
            state, is_free = planned.state, planned.state.outcome == "failed"
            yield planned
        dropped, dues = self._ripe(at)
        if dropped is not None:
            planned = self.noted(state._replace(outcome="missed", error=None), dropped, at.beat)
            state = planned.state
            yield planned
        for due in dues:
            if is_free:
                planned = self._run(state, due, due, at)
                is_free = self.may_overlap or planned.state.outcome == "failed"
            elif self.entry.overlap == "queue" and len(state.waiting) < MOST_WAITING:
                waits = state._replace(outcome="waiting", error=None, waiting=(*state.waiting, due))
                planned = self.noted(waits, due, at.beat)
            else:
                why = f"task {state.task_id} has not ended"
                planned = self.noted(state._replace(outcome="skipped", error=why), due, at.beat)
                logger.info("beat: a run of %s is skipped: %s", self.name, why)
            state = planned.state
            yield planned

    def _run(self, state: State, due: float, base: float, at: Moment) -> Planned:
        """The run that is due at *due*; the next one follows *base*."""
        try:
            messages = at.compose(self.entry, state.number + 1, due)
        except Exception as exc:
            return self.failed(state, base, at.beat, exc)
        return self._sent(state, base, at, messages)

    def _sent(self, state: State, base: float, at: Moment, messages: Sequence[Message]) -> Planned:
        sent = state._replace(
            outcome="sent", error=None, runs=state.runs + 1, sent_at=at.now, task_id=messages[0].id
        )
        return self.noted(sent, base, at.beat, messages)

    def failed(self, state: State, base: float, beat: str, exc: Exception) -> Planned:
        """A run that can't be sent."""
        logger.error("beat: the periodic task %r can't be sent: %s", self.name, exc)
        return self.noted(state._replace(outcome="failed", error=str(exc)), base, beat)

    def noted(self, state: State, base: float, beat: str, messages: Sequence[Message] = ()) -> Planned:
        """A run that leads to *state*, completed by what people want to see."""
        try:
            following = None if self.is_polled else next_due(self.entry.schedule, base, base)
        except Exception:
            following = None  # whoever plans the next run says why
        noted = state._replace(
            number=state.number + 1,
            due=base,
            next_due=following,
            task=str(self.entry.task),
            schedule=describe(self.entry.schedule),
            beat=beat,
        )
        return Planned(self.name, noted, messages)

    # -- runs made ahead --------------------------------------------------------------------

    def prepare(self, at: Moment) -> None:
        """Make the next run before it is due, where it is sure to be sent as it is."""
        entry, number, due = self.entry, self.state.number + 1, self.due
        is_lazy = any(isinstance(arg, BeatLazyFunc) for arg in [*(entry.args or ()), *entry.kwargs.values()])
        if due is None or self._tried == number or self.is_polled or is_lazy or not self.may_overlap:
            return
        self._tried = number
        try:
            messages = at.compose(entry, number, due)
        except Exception:
            return  # it will be said when it is due
        planned = self._sent(self.state, due, at._replace(now=due + self.jitter(due)), messages)
        self._prepared = planned._replace(data=planned.state.to_bytes())

    def _take_prepared(self, at: Moment) -> Planned | None:
        """The run that was made ahead, if it is what is to be sent now."""
        planned, self._prepared, self._tried = self._prepared, None, 0
        if planned is None or planned.state.number != self.state.number + 1 or planned.state.due != self.due:
            return None
        is_missed = self.due <= max(at.missed_until, at.now - LATEST)
        is_alone = planned.state.next_due is None or planned.state.next_due > at.now
        return planned if is_alone and not is_missed else None


def _starting_deadline(entry: ScheduleEntry) -> float:
    """Seconds after which a run is no longer made up for: a crontab's by ``beat_cron_starting_deadline``."""
    seconds = entry.app.conf.beat_cron_starting_deadline if isinstance(entry.schedule, crontab) else None
    return math.inf if seconds is None else float(seconds)
