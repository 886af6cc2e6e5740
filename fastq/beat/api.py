"""`app.schedule`: look at the schedule that beats share, and change it at run time."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from fastq.app.periodic import periodic_entry
from fastq.app.sending import check_options
from fastq.beat.definition import describe, dump_entry, load_entry
from fastq.beat.entry import ScheduleEntry
from fastq.beat.item import Item
from fastq.beat.plan import base_after_step, moment, next_due
from fastq.beat.runs import Runs
from fastq.beat.scheduler import default_entries
from fastq.beat.shared import check_results
from fastq.beat.state import State, state_from
from fastq.beat.stores import Place, open_place
from fastq.brokers.schedule_store import Kept
from fastq.exceptions import FastQError, ImproperlyConfigured, OperationalError, nearest_name
from fastq.result import AsyncResult

# How often a run is tried that beats take other runs of the same entry before.
ATTEMPTS = 10


class UnknownEntry(FastQError, LookupError):
    """No entry of the schedule has this name."""

    def __init__(self, name: str, known: Collection[str]) -> None:
        self.name = name
        super().__init__(f"no entry is named {name!r}{nearest_name(name, known)}")


class EntryInfo(NamedTuple):
    """One entry of the schedule, and what has become of it."""

    name: str
    task: str
    schedule: str
    is_in_code: bool  # in beat_schedule or by add_periodic_task; else it was added at run time
    is_paused: bool
    last_run_at: datetime | None
    next_run_at: datetime | None  # None: unknown, never, or paused
    total_run_count: int
    outcome: str  # of the last run, as of `State`; "": no beat has seen it yet
    error: str | None  # why it was skipped or failed
    task_id: str | None  # of the last run that was sent
    task_state: str | None  # what the result store knows of it
    problem: str | None  # why the entry can't be served


class Schedule:
    """The schedule of *app*, as `SharedScheduler` serves it.

    Entries of the code can be looked at, paused and run; those that were added can be changed and
    removed too. Beats see a change within a second or so. Raises `OperationalError` when the
    broker is away, `UnknownEntry` for a name that is not there.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    @cached_property
    def _place(self) -> Place:
        return open_place(self._app)

    def close(self) -> None:
        """Close what was opened for the schedule alone; it is opened again when needed."""
        if "_place" in self.__dict__:
            self._place.close()
            del self._place

    def list(self) -> list[EntryInfo]:
        """All entries by name: of the code, added ones, and those that other programs' beats have run."""
        kept = self._place.store.read()
        states = _states(kept)
        names = sorted({*self._defined(), *kept.entries, *states})
        task_states = self._task_states([state.task_id for state in states.values() if state.task_id])
        return [self._info(name, kept, states.get(name, State()), task_states) for name in names]

    def get(self, name: str) -> EntryInfo:
        """The entry called *name*."""
        for info in (listed := self.list()):
            if info.name == name:
                return info
        raise UnknownEntry(name, [info.name for info in listed])

    def add(
        self,
        name: str,
        task: Any,
        schedule: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        replace: bool = False,
        **options: Any,
    ) -> EntryInfo:
        """Add an entry: *task* is a task, its name or a signature; the rest is as of `add_periodic_task`.

        With *replace* it takes the place of one that was added before under this name.
        """
        if name in self._defined():
            raise self._is_in_code(name, "change it there")
        if not replace and name in self._place.store.read().entries:
            raise ImproperlyConfigured(f"an entry is named {name!r} already: replace or remove it")
        _, fields = periodic_entry(schedule, task, args, kwargs or {}, options)
        self._put(ScheduleEntry(name, app=self._app, **fields))
        return self.get(name)

    def change(self, name: str, **fields: Any) -> EntryInfo:
        """Change *fields* of an entry that was added; what has become of its runs stays."""
        entry = self._added(name)
        known = {
            key: getattr(entry, key)
            for key in ("task", "schedule", "args", "kwargs", "options", "overlap", "catch_up", "jitter")
        }
        for field in fields:
            if field not in known:
                raise TypeError(f"an entry has no {field!r}{nearest_name(field, known)}")
        self._put(ScheduleEntry(name, app=self._app, **{**known, **fields}))
        return self.get(name)

    def remove(self, name: str) -> None:
        """Remove an entry that was added, or what is kept of one that is gone from the code."""
        if name in self._defined():
            raise self._is_in_code(name, "remove it there; meanwhile it can be paused")
        if not self._place.store.remove([name]):
            raise UnknownEntry(name, self._names())

    def pause(self, name: str) -> None:
        """Send no runs of this entry until `resume`."""
        self._check_name(name)
        self._place.store.pause(name, True)

    def resume(self, name: str) -> None:
        """Send runs of this entry again, from now on: none is made up for."""
        self._check_name(name)
        kept = self._place.store.read()
        if name not in kept.paused:
            return
        state = _states(kept).get(name)
        if state is not None:
            now = time.time()
            item = Item(self._entry(name, kept), state)
            self._take(item, state, kept, base=max(now, state.due))
        self._place.store.pause(name, False)

    def run(self, name: str) -> AsyncResult[Any]:
        """Send a run of this entry now, whatever its schedule says and though it be paused."""
        self._check_name(name)
        for _ in range(ATTEMPTS):
            kept = self._place.store.read()
            state = _states(kept).get(name, State())
            item = Item(self._entry(name, kept), state)
            now = time.time()
            messages = Runs(self._app, self._place).compose(item.entry, state.number + 1, now, now)
            sent = state._replace(
                outcome="sent", error=None, runs=state.runs + 1, sent_at=now, task_id=messages[0].id
            )
            problem = self._take(item, sent, kept, messages, base=state.due or now)
            if problem == "":
                return AsyncResult(messages[0].id, app=self._app, task_name=messages[0].task)
            if problem not in (None, "number"):
                raise OperationalError(f"a run of {name!r} can't be sent: {problem}")
        raise OperationalError(f"a run of {name!r} can't be sent: others were faster {ATTEMPTS} times")

    def next(self, name: str, count: int = 5) -> Sequence[datetime]:
        """When the next *count* runs of this entry are due, in the app's zone; fewer if it ends."""
        self._check_name(name)
        kept = self._place.store.read()
        entry = self._entry(name, kept)
        now = time.time()
        state = _states(kept).get(name)
        base = now if state is None else base_after_step(entry.schedule, state.due, now)
        due = next_due(entry.schedule, base, max(base, now))
        return [self._local(each) for each in islice(_chain(entry.schedule, due), count)]

    def leader(self) -> str:
        """The beat that leads, as ``host:process:name``; "" if none does."""
        return self._place.store.leader()

    # -- behind them --------------------------------------------------------------------------

    def _defined(self) -> dict[str, Any]:
        """The entries of the code."""
        self._app.finalize()
        defined = self._app.conf.beat_schedule
        return {**default_entries(self._app, defined), **defined}

    def _names(self) -> set[str]:
        kept = self._place.store.read()
        return {*self._defined(), *kept.entries, *kept.states}

    def _check_name(self, name: str) -> None:
        if name not in (known := self._names()):
            raise UnknownEntry(name, known)

    def _is_in_code(self, name: str, what_to_do: str) -> ImproperlyConfigured:
        return ImproperlyConfigured(f"the entry {name!r} is defined in code: {what_to_do}")

    def _added(self, name: str) -> ScheduleEntry:
        if name in self._defined():
            raise self._is_in_code(name, "change it there")
        entries = self._place.store.read().entries
        if name not in entries:
            raise UnknownEntry(name, entries)
        return load_entry(name, entries[name], self._app)

    def _entry(self, name: str, kept: Kept) -> ScheduleEntry:
        """The definition of an entry."""
        defined = self._defined()
        if name in defined:
            return ScheduleEntry(**{**defined[name], "name": name, "app": self._app})
        if name in kept.entries:
            return load_entry(name, kept.entries[name], self._app)
        raise ImproperlyConfigured(
            f"the entry {name!r} is defined in the code of another program: ask there, or remove it"
        )

    def _put(self, entry: ScheduleEntry) -> None:
        if not entry.task or entry.schedule is None:
            raise ImproperlyConfigured(f"the entry {entry.name!r} needs a task and a schedule")
        check_options(entry.options)
        check_results(self._app, entry)
        next_due(entry.schedule, 0.0, time.time())  # raises what is wrong with it
        self._place.store.put(str(entry.name), dump_entry(entry))

    def _take(
        self, item: Item, state: State, kept: Kept, messages: Sequence[Any] = (), *, base: float
    ) -> str | None:
        """Have the store take a run; returns what it says."""
        planned = item.noted(state, base, "app.schedule", messages)
        said = Runs(self._app, self._place).take([planned], kept.version)
        return None if said is None else said[0]

    def _task_states(self, ids: Sequence[str]) -> dict[str, str]:
        backend = self._app.backend
        if backend is None or not ids or backend.sends_replies:
            return {}
        documents = zip(ids, backend.fetch(ids), strict=True)
        return {each: self._app.load_result(document)["status"] for each, document in documents if document}

    def _info(self, name: str, kept: Kept, state: State, task_states: Mapping[str, str]) -> EntryInfo:
        is_paused, problem, entry = name in kept.paused, None, None
        try:
            entry = self._entry(name, kept)
            if entry.schedule is None or not entry.task:
                raise ImproperlyConfigured("it needs a task and a schedule")
            check_results(self._app, entry)
        except Exception as exc:
            problem = str(exc)
        following = None if entry is None or is_paused or problem else self._following(entry, state)
        return EntryInfo(
            name=name,
            task=state.task if entry is None else str(entry.task),
            schedule=state.schedule if entry is None else describe(entry.schedule),
            is_in_code=name not in kept.entries,
            is_paused=is_paused,
            last_run_at=None if state.sent_at is None else self._local(state.sent_at),
            next_run_at=None if following is None else self._local(following),
            total_run_count=state.runs,
            outcome=state.outcome,
            error=state.error,
            task_id=state.task_id,
            task_state=task_states.get(state.task_id or ""),
            problem=problem,
        )

    def _following(self, entry: ScheduleEntry, state: State) -> float | None:
        """When the next run is due; of an entry that no beat has seen yet nobody knows."""
        if not state.number:
            return None
        now = time.time()
        base = base_after_step(entry.schedule, state.due, now)
        try:
            return next_due(entry.schedule, base, base)
        except NotImplementedError:  # it is asked `is_due` when the time has come
            return None

    def _local(self, seconds: float) -> datetime:
        return moment(seconds).astimezone(self._app.timezone)


def _chain(when: Any, due: float | None) -> Iterator[float]:
    """*due*, and every time after it at which *when* is due."""
    while due is not None:
        yield due
        due = next_due(when, due, due)


def _states(kept: Kept) -> dict[str, State]:
    return {name: state_from(number, data) for name, (number, data) in kept.states.items()}
