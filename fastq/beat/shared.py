"""The scheduler that any number of beats share (docs/DESIGN.md D17): its schedule lies in the broker.

A lease says which beat leads; it sends, the others look on. Correctness does not rest on it: a
run of an entry is taken by the store, with its messages, if its number follows (`schedule_store`).
Times are those of the store's clock, so beats on several machines agree, and are reckoned forward
by a clock that nobody sets. An entry that the leader does not know, because it runs other
code, is served by whichever beat does.
"""

from __future__ import annotations

import heapq
import logging
import math
import os
from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import Any

from fastq._core.message import Message, new_id
from fastq.beat.definition import load_entry
from fastq.beat.entry import ScheduleEntry
from fastq.beat.item import Item, Moment, Planned
from fastq.beat.leadership import Leadership
from fastq.beat.overlap import RunWatch
from fastq.beat.plan import moment
from fastq.beat.runs import Runs
from fastq.beat.scheduler import Scheduler, default_entries, follows_time
from fastq.beat.state import State, state_from
from fastq.beat.store_clock import StoreClock, steady
from fastq.beat.stores import open_place
from fastq.brokers.schedule_store import Kept
from fastq.exceptions import FastQError, ImproperlyConfigured, OperationalError
from fastq.schedules.interval import humanize_seconds

logger = logging.getLogger("fastq.beat")

# Seconds before it is due that a message is made, so that a thousand of them can go out on time.
LEAD = 0.1
# Items whose runs are sent in one step: few enough that the first ones do not wait for the last.
AT_ONCE = 250
# Seconds from one try to reach the broker to the next.
RETRY_PAUSE = 0.5
# Seconds after which an entry that can't tell when it is due is asked again.
BROKEN_PAUSE = 60.0


class SharedScheduler(Scheduler):
    """Serves the entries of ``beat_schedule`` and those that were added at run time."""

    def __init__(self, app: Any, **kwargs: Any) -> None:
        self.place = open_place(app)
        self.beat = f"{os.uname().nodename}:{os.getpid()}:{new_id()[:8]}"
        self._clock = StoreClock()
        self._leadership = Leadership(self.place.store, self.beat, app.conf.beat_lease, self._clock)
        self._runs = Runs(app, self.place)
        self._watch = RunWatch(app)
        self._code: dict[str, ScheduleEntry] = {}  # entries that are defined in code
        self._known: dict[str, ScheduleEntry] = {}  # these, and those that were added
        self._kept: Kept | None = None  # as it was read last; None: it must be read anew
        self._items: dict[str, Item] = {}  # the entries that this beat serves
        self._places: list[tuple[float, int, str]] = []  # heap of (when to look at it, serial, name)
        self._serials = count(1)
        self._missed_until = 0.0
        self._unsent: list[Planned] = []  # taken, and their messages are still to be sent
        self._is_away = False  # the broker was away when last needed
        super().__init__(app, **kwargs)

    @property
    def leads(self) -> bool:
        """Whether this beat leads."""
        return self._leadership.leads

    # -- the parts that Celery's scheduler has -------------------------------------------------

    def setup_schedule(self) -> None:
        """Take the entries of the code; those in the broker are read at the first tick."""
        defined = self.app.conf.beat_schedule
        self._code = self._entries({**default_entries(self.app, defined), **defined})
        self._known = dict(self._code)

    def _maybe_entry(self, name: str, entry: Any) -> ScheduleEntry:
        made = super()._maybe_entry(name, entry)
        check_results(self.app, made)
        return made

    def get_schedule(self) -> Any:
        return self._known

    def tick(self) -> float:
        """Send what is due; returns in how many seconds to come again."""
        try:
            pause = self._tick()
        except OperationalError as exc:
            if not self._is_away:
                logger.error("beat: the schedule can't be reached, and is tried again: %s", exc)
            self._is_away = True
            self._leadership.look_at = -math.inf
            return RETRY_PAUSE
        if self._is_away:
            self._is_away = False
            logger.info("beat: the schedule is within reach again")
        return min(pause, self.max_interval)

    def clock_stepped(self, seconds: float) -> None:
        """Look at the clock of the store, which may be this system's."""
        self._leadership.look_at = -math.inf

    def should_sync(self) -> bool:
        """Never: everything is kept in the step that sends it."""
        return False

    def close(self) -> None:
        """Let another beat lead."""
        self._leadership.resign()
        self.place.close()

    @property
    def info(self) -> str:
        return self.place.description

    # -- what there is to serve -----------------------------------------------------------------

    def _tick(self) -> float:
        if self._kept is None or steady() >= self._leadership.look_at:
            self._look()
        if self._unsent:
            self._runs.publish(self._unsent)
            self._unsent = []
        wake = self._serve(self._clock.now())
        if self._kept is None:
            return 0.0
        return max(min(wake - self._clock.now(), self._leadership.look_at - steady()), 0.0)

    def _look(self) -> None:
        names = frozenset(self._known)
        seen = self._leadership.look(names)
        if seen.absence:
            logger.warning("beat: no beat was at work for %s", humanize_seconds(seen.absence))
            self._missed_until = self._clock.now()
        if seen.is_new or self._kept is None or self._kept.version != seen.version:
            self._read(seen.others)
        if self._known.keys() != names:
            self._leadership.look_at = -math.inf  # others shall know what this beat serves
        if seen.step:
            self._follow_step(seen.step)

    def _read(self, others: frozenset[str]) -> None:
        """Read what is kept, and serve what *others* do not."""
        kept = self._kept = self.place.store.read()
        self._known = {**self._added(kept), **self._code}
        states = {name: state_from(number, data) for name, (number, data) in kept.states.items()}
        mine = self._known.keys() - others - kept.paused
        self._items = {name: Item(self._known[name], states.get(name, State())) for name in mine}
        if self.place.publisher is not None:
            self._unsent = [self._again(item) for item in self._items.values() if item.state.is_pending]
        now = self._clock.now()
        fresh = [item for item in self._items.values() if not item.state.number]
        self._take([item.noted(item.state._replace(outcome="new"), now, self.beat) for item in fresh])
        self._plan(self._items.values())

    def _added(self, kept: Kept) -> dict[str, ScheduleEntry]:
        """The entries that were added at run time."""
        found = {}
        for name, data in kept.entries.items():
            try:
                found[name] = load_entry(name, data, self.app)
                check_results(self.app, found[name])
            except (FastQError, ValueError, TypeError) as exc:
                found.pop(name, None)
                logger.error("The entry %r can't be scheduled and is left out: %s", name, exc)
        return found

    def _again(self, item: Item) -> Planned:
        """The last run of *item*, which a beat has taken and, for all that is known, not sent."""
        state = item.state
        messages: Sequence[Message] = ()
        try:
            messages = self._runs.compose(
                item.entry, state.number, state.due, self._clock.now(), state.task_id
            )
        except Exception as exc:
            logger.error("beat: the last run of %r may not have been sent, and can't be: %s", item.name, exc)
        return Planned(item.name, state._replace(is_pending=False), messages)

    def _follow_step(self, step: float) -> None:
        """The store's clock was set: intervals go on as time passes, times of the day follow the clock."""
        logger.warning("beat: the clock of the schedule was set by %+.1f s", step)
        if self.leads:
            intervals = [item for item in self._items.values() if follows_time(item.entry.schedule)]
            self._take([item.noted(item.state, item.state.due + step, self.beat) for item in intervals])
        self._plan(self._items.values())

    # -- serving it -------------------------------------------------------------------------------

    def _plan(self, items: Any) -> None:
        """Give each of *items* a place in the heap."""
        now = self._clock.now()
        for item in items:
            try:
                at = item.when_to_look(now, self.max_interval)
            except Exception:
                again = humanize_seconds(BROKEN_PAUSE)
                logger.exception("When %r is due can't be told; it is tried again in %s", item.name, again)
                item.due, at = None, now + BROKEN_PAUSE
            item.entry.last_run_at = moment(item.state.sent_at or item.state.due)
            item.entry.total_run_count = item.state.runs
            item.serial = next(self._serials)
            if at is not None:
                heapq.heappush(self._places, (at, item.serial, item.name))

    def _ripe(self, now: float) -> list[Item]:
        """Take the items off the heap that are to be looked at by *now*, in order, `AT_ONCE` at most."""
        found: list[Item] = []
        while self._places and self._places[0][0] <= now and len(found) < AT_ONCE:
            _, serial, name = heapq.heappop(self._places)
            item = self._items.get(name)
            if item is not None and item.serial == serial:
                found.append(item)
        return found

    def _serve(self, now: float) -> float:
        """Send what is due, and prepare what soon is; returns when to come again, on the store's clock."""
        while self._kept is not None and self._places and self._places[0][0] <= now:
            self._send_all()
            now = self._clock.now()
        self._prepare(now)
        if not self._places:
            return math.inf
        at = self._places[0][0]
        return at if at <= now + LEAD else at - LEAD

    def _prepare(self, now: float) -> None:
        """Make the messages of what is due in a moment."""
        soon = []
        at = Moment(now, 0.0, self.beat, partial(self._compose, now))
        while self._places and self._places[0][0] <= now + LEAD:
            soon.append(heapq.heappop(self._places))
            _, serial, name = soon[-1]
            item = self._items.get(name)
            if item is not None and item.serial == serial:
                item.prepare(at)
        for place in soon:
            heapq.heappush(self._places, place)

    def _send_all(self) -> None:
        """Send the runs of all that is due, and only then plan the next ones."""
        sent: list[Item] = []
        while self._kept is not None and (items := self._ripe(now := self._clock.now())):
            self._send(items, now)
            sent += items
        self._plan(sent)

    def _send(self, items: Sequence[Item], now: float) -> None:
        """Take and send the runs of *items*, which are due."""
        running = {
            item.state.task_id: item.state.sent_at or now
            for item in items
            if not item.may_overlap and item.state.task_id is not None
        }
        ended = self._watch.ended(running, now)
        at = Moment(now, self._missed_until, self.beat, partial(self._compose, now))
        planned: list[Planned] = []
        for item in items:
            try:
                planned += item.runs(at, item.state.task_id in ended)
            except Exception as exc:
                planned.append(item.failed(item.state, now, self.beat, exc))
        self._take(planned)

    def _compose(self, now: float, entry: ScheduleEntry, number: int, due: float) -> list[Message]:
        return self._runs.compose(entry, number, due, now)

    def _take(self, planned: list[Planned]) -> None:
        """Have the store take runs; those that it refuses were taken by another beat, or can't be sent."""
        if not planned or self._kept is None:
            return
        # Unless all goes well, what is kept must be read anew.
        kept, self._kept = self._kept, None
        said = self._runs.take(planned, kept.version)
        if said is None or "number" in said:
            return
        self._kept = kept
        failed = []
        for each, problem in zip(planned, said, strict=True):
            item = self._items[each.name]
            if problem:
                error = ImproperlyConfigured(problem)
                failed.append(item.failed(item.state, each.state.due, self.beat, error))
            else:
                item.state = each.state
                if each.messages:
                    logger.info("Sending due task %s (%s)", item.name, item.entry.task)
        self._take(failed)


def check_results(app: Any, entry: ScheduleEntry) -> None:
    """Refuse an entry that does not overlap where nobody can tell when its task has ended."""
    if entry.overlap != "allow" and (app.backend is None or app.backend.sends_replies):
        raise ImproperlyConfigured(
            f"overlap={entry.overlap!r} needs a result_backend that every beat can read, to know when a run "
            "has ended"
        )
