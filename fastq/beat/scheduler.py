"""Celery's scheduler: it keeps its entries in this process, and sends what is due."""

from __future__ import annotations

import copy
import heapq
import logging
import time
from collections.abc import Iterable, Mapping, MutableMapping
from datetime import timedelta, timezone
from typing import Any, NamedTuple

from fastq.beat.entry import ScheduleEntry, evaluated
from fastq.exceptions import FastQError
from fastq.schedules import crontab
from fastq.schedules.interval import humanize_seconds, schedule

logger = logging.getLogger("fastq.beat")

DEFAULT_MAX_INTERVAL = 300  # seconds
SYNC_EVERY = 180  # seconds
# All have the same; it stands between the time and the entry for subclasses that give others.
PRIORITY = 5
CLEANUP = "celery.backend_cleanup"


class SchedulingError(FastQError):
    """A periodic task could not be sent."""


class event_t(NamedTuple):
    """When an entry is due, on the clock of unix seconds."""

    time: float
    priority: int
    entry: Any


class Scheduler:
    """Sends periodic tasks, of which `schedule` maps names to entries; for one beat alone.

    What a subclass usually defines: `setup_schedule`, `get_schedule`, `sync`, `schedule_changed` by
    way of a new `schedule`. With *lazy* nothing is set up: the scheduler is only shown.
    """

    Entry: type[ScheduleEntry] = ScheduleEntry

    #: Seconds that `tick` returns at most.
    max_interval: float = DEFAULT_MAX_INTERVAL
    #: Seconds between two calls of `sync`.
    sync_every: float = SYNC_EVERY
    #: Tasks sent after which it is called all the same.
    sync_every_tasks: int | None = None

    logger = logger

    def __init__(
        self,
        app: Any,
        schedule: Any = None,
        max_interval: float | None = None,
        Producer: Any = None,
        lazy: bool = False,
        sync_every_tasks: int | None = None,
        **kwargs: Any,
    ) -> None:
        self.app = app
        self.data = {} if schedule is None else schedule() if callable(schedule) else schedule
        self.max_interval = max_interval or app.conf.beat_max_loop_interval or self.max_interval
        self.Producer = Producer
        self.producer = None  # of Celery's API: what is sent goes through the app's broker
        self._heap: list[event_t] | None = None
        self.old_schedulers: Any = None
        self.sync_every_tasks = app.conf.beat_sync_every if sync_every_tasks is None else sync_every_tasks
        self._last_sync: float | None = None  # monotonic
        self._tasks_since_sync = 0
        if not lazy:
            self.setup_schedule()

    # -- the schedule -----------------------------------------------------------------------

    def get_schedule(self) -> Any:
        """The entries by name."""
        return self.data

    def set_schedule(self, schedule: Any) -> None:
        """Replace all entries."""
        self.data = schedule

    @property
    def schedule(self) -> MutableMapping[str, ScheduleEntry]:
        """The entries by name, as `get_schedule` says."""
        found: MutableMapping[str, ScheduleEntry] = self.get_schedule()
        return found

    @schedule.setter
    def schedule(self, schedule: Any) -> None:
        self.set_schedule(schedule)

    def setup_schedule(self) -> None:
        """Take the entries from the settings."""
        self.merge_inplace(self.app.conf.beat_schedule)
        self.install_default_entries(self.schedule)

    def install_default_entries(self, data: Mapping[str, Any]) -> None:
        """Add the entry that clears up the result store, where it does not do so by itself."""
        self.update_from_dict(default_entries(self.app, data))

    def add(self, **kwargs: Any) -> ScheduleEntry:
        """Add an entry made of these fields."""
        entry = self.Entry(app=self.app, **kwargs)
        self.schedule[entry.name] = entry
        return entry

    def update_from_dict(self, dict_: Mapping[str, Any]) -> None:
        """Add, or replace, the entries of a map as ``beat_schedule`` is."""
        self.schedule.update(self._entries(dict_))

    def merge_inplace(self, b: Mapping[str, Any]) -> None:
        """Make the schedule have the entries of *b*; those that stay keep when they ran last."""
        schedule = self.schedule
        fresh = self._entries(b)
        for name in set(schedule) - set(fresh):
            del schedule[name]
        for name, entry in fresh.items():
            if schedule.get(name):
                schedule[name].update(entry)
                schedule[name].app = self.app
            else:
                schedule[name] = entry

    def _entries(self, given: Mapping[str, Any]) -> dict[str, ScheduleEntry]:
        """The entries that *given* describes. One that is wrong is logged, and left out."""
        found = {}
        for name, entry in given.items():
            try:
                found[name] = self._maybe_entry(name, entry)
                if found[name].schedule is None or not found[name].task:
                    del found[name]
                    raise SchedulingError("it needs a task and a schedule")
            except Exception as exc:
                logger.error("The entry %r can't be scheduled and is left out: %s", name, exc)
        return found

    def _maybe_entry(self, name: str, entry: Any) -> ScheduleEntry:
        if isinstance(entry, self.Entry):
            entry.app = self.app
            return entry
        return self.Entry(**{**entry, "name": name, "app": self.app})

    def schedules_equal(self, old: Any, new: Any) -> bool:
        """Whether two maps of entries send the same at the same times."""
        if old is None or new is None:
            return old is new
        return set(old) == set(new) and all(new[name] == entry for name, entry in old.items())

    # -- sending ------------------------------------------------------------------------------

    def tick(self) -> float:
        """Send everything that is due; returns in how many seconds to come again, at most."""
        if self._heap is None or not self.schedules_equal(self.old_schedulers, self.schedule):
            self.old_schedulers = copy.copy(self.schedule)
            self.populate_heap()
        heap = self._heap
        assert heap is not None
        ripe = []
        while heap and self._left(heap[0]) <= 0:
            ripe.append(heapq.heappop(heap))
        for event in ripe:  # each entry once: one that is always due must not keep the others waiting
            heapq.heappush(heap, self._after(event))
        return max(min(self._left(heap[0]), self.max_interval), 0.0) if heap else self.max_interval

    def _left(self, event: event_t) -> float:
        """The seconds until *event*."""
        return event.time - self._when(event.entry, 0)

    def _after(self, event: event_t) -> event_t:
        """Send the entry of *event* if it is due, and say when to look at it again."""
        entry = event.entry
        is_due, seconds = self._due(entry)
        if is_due:
            following = self.reserve(entry)
            self.apply_entry(entry, producer=self.producer)
            entry = following
        return event_t(self._when(entry, seconds), event.priority, entry)

    def populate_heap(self) -> None:
        """Find out when each entry is due."""
        heap = []
        for entry in self.schedule.values():
            is_due, seconds = self._due(entry)
            heap.append(event_t(self._when(entry, 0 if is_due else seconds), PRIORITY, entry))
        heapq.heapify(heap)
        self._heap = heap

    def _due(self, entry: ScheduleEntry) -> tuple[bool, float]:
        """As `is_due`; of an entry that can't tell, that it is not due yet."""
        try:
            is_due, seconds = self.is_due(entry)
            return bool(is_due), float(seconds)
        except Exception:
            return self._is_due_failed(entry)

    def is_due(self, entry: ScheduleEntry) -> Any:
        """Whether *entry* is due, and in how many seconds to ask again."""
        return entry.is_due()

    def _is_due_failed(self, entry: ScheduleEntry) -> tuple[bool, float]:
        logger.exception(
            "When %r is due can't be told; it is tried again in %s",
            entry.name,
            humanize_seconds(self.max_interval),
        )
        return False, self.max_interval

    def _when(self, entry: ScheduleEntry, seconds: float) -> float:
        """The unix time *seconds* from now, on the clock of *entry*."""
        now = entry.default_now()
        if now.tzinfo is None:
            now = now.replace(tzinfo=timezone.utc)
        return now.timestamp() + float(self.adjust(seconds) or 0)

    def adjust(self, n: Any, drift: float = 0.0) -> Any:
        """A number of seconds, set off by how long it takes to wake up."""
        return n + drift if n and n > 0 else n

    def reserve(self, entry: ScheduleEntry) -> ScheduleEntry:
        """Count a run of *entry*, before it is sent."""
        following = self.schedule[entry.name] = next(entry)
        return following

    def apply_entry(self, entry: ScheduleEntry, producer: Any = None) -> None:
        """Send *entry*; that it can't be is logged, and no reason to stop."""
        logger.info("Sending due task %s (%s)", entry.name, entry.task)
        try:
            result = self.apply_async(entry, producer=producer, advance=False)
        except Exception as exc:
            logger.exception("%s", exc)
        else:
            logger.debug("%s sent: %s", entry.task, getattr(result, "id", None))

    def apply_async(
        self, entry: ScheduleEntry, producer: Any = None, advance: bool = True, **kwargs: Any
    ) -> Any:
        """Send *entry*, counting the run first with *advance*. Raises `SchedulingError`."""
        if advance:
            entry = self.reserve(entry)
        try:
            args, kwargs = evaluated(entry.args, entry.kwargs)
            options = beat_options(entry.options)
            task = self.app.tasks.get(entry.task)
            if task is not None:
                return task.apply_async(args, kwargs, **options)
            return self.send_task(entry.task, args, kwargs, **options)
        except Exception as exc:
            raise SchedulingError(f"the periodic task {entry.name!r} can't be sent: {exc}") from exc
        finally:
            self._tasks_since_sync += 1
            if self.should_sync():
                self._do_sync()

    def send_task(self, *args: Any, **kwargs: Any) -> Any:
        """Send a task by its name."""
        return self.app.send_task(*args, **kwargs)

    def clock_stepped(self, seconds: float) -> None:
        """The system's clock was set forward by *seconds*: intervals go on as time has passed."""
        for entry in self.schedule.values():
            entry.last_run_at = moved(entry.schedule, entry.last_run_at, seconds)
        self._heap = None

    # -- keeping ---------------------------------------------------------------------------------

    def should_sync(self) -> bool:
        """Whether it is time for `sync`."""
        is_time = self._last_sync is None or time.monotonic() - self._last_sync > self.sync_every
        return is_time or bool(self.sync_every_tasks and self._tasks_since_sync >= self.sync_every_tasks)

    def _do_sync(self) -> None:
        try:
            self.sync()
        finally:
            self._last_sync = time.monotonic()
            self._tasks_since_sync = 0

    def sync(self) -> None:
        """Keep when the entries ran; there is nothing here that outlives the process."""

    def close(self) -> None:
        """Keep what is to be kept, and let go of files."""
        self.sync()

    @property
    def info(self) -> str:
        """A line of the banner."""
        return ""


def default_entries(app: Any, known: Iterable[str]) -> dict[str, Any]:
    """The entries that an application has without saying so, but those that are *known*."""
    backend = app.backend
    if not app.conf.result_expires or backend is None or CLEANUP in known or CLEANUP not in app.tasks:
        return {}
    # A worker that keeps results beside the messages deletes what has expired as it goes.
    if backend.expires_by_itself or backend.shares_store_with(app.broker):
        return {}
    return {
        CLEANUP: {
            "task": CLEANUP,
            "schedule": crontab("0", "4", "*"),
            "options": {"expires": 12 * 3600},
        }
    }


def beat_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """*options* of an entry, with the header that says that a beat sends it (docs/PROTOCOL.md §9)."""
    return {**options, "headers": {**(options.get("headers") or {}), "celery_beat_task": True}}


def moved(when: Any, last_run_at: Any, seconds: float) -> Any:
    """*last_run_at* as it must be after the clock was set forward by *seconds*.

    What is due after an interval follows time as it passes. What is due at times of the day
    follows the clock.
    """
    return last_run_at + timedelta(seconds=seconds) if follows_time(when) else last_run_at


def follows_time(when: Any) -> bool:
    """Whether a schedule is an interval, which knows no time of the day."""
    return isinstance(when, schedule) and not when.relative
