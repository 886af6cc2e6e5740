"""One entry of a schedule: which task, when, and with what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import total_ordering
from typing import Any

from fastq.exceptions import ImproperlyConfigured, nearest_name
from fastq.schedules import maybe_schedule

OVERLAPS = ("allow", "skip", "queue")
CATCH_UPS = ("none", "one", "all")


class BeatLazyFunc:
    """An argument of an entry that is made anew for each run: what *func* returns when it is sent."""

    def __init__(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._func = func
        self._args = args
        self._kwargs = kwargs

    def __call__(self) -> Any:
        return self._func(*self._args, **self._kwargs)

    delay = __call__


@total_ordering
class ScheduleEntry:
    """A periodic task: *task* is its name, *schedule* when it is due, the rest what `apply_async` takes.

    Beyond Celery's, and for the schedulers that say so: *overlap* is what happens to a run that
    is due while the one before it has not ended: "allow" it, "skip" it, or "queue" it until then.
    *catch_up* is what happens to runs that were due while no beat ran: "none" of them is made up
    for, the last "one", or "all". *jitter* is the number of seconds over which runs are spread.
    """

    name: Any = None
    schedule: Any = None
    args: Any = None
    kwargs: Any = None
    options: Any = None
    last_run_at: Any = None
    total_run_count: int = 0

    # What `update` takes over, and what makes two entries equal.
    editable_fields = ("task", "schedule", "args", "kwargs", "options")

    def __init__(
        self,
        name: str | None = None,
        task: str | None = None,
        last_run_at: datetime | None = None,
        total_run_count: int | None = None,
        schedule: Any = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        relative: bool = False,
        app: Any = None,
        *,
        overlap: str = "allow",
        catch_up: str = "one",
        jitter: float = 0.0,
    ) -> None:
        self.app = app
        self.name = name
        self.task = task
        self.args = args
        self.kwargs = kwargs or {}
        self.options = options or {}
        self.schedule = maybe_schedule(schedule, relative, app=app)
        self.overlap = _one_of("overlap", overlap, OVERLAPS)
        self.catch_up = _one_of("catch_up", catch_up, CATCH_UPS)
        self.jitter = jitter
        self.last_run_at = last_run_at or self.default_now()
        self.total_run_count = total_run_count or 0

    def default_now(self) -> datetime:
        """The time now, on the clock of the schedule."""
        now: datetime = self.schedule.now() if self.schedule else self.app.now()
        return now

    _default_now = default_now

    def next(self, last_run_at: datetime | None = None) -> ScheduleEntry:
        """The entry as it is after one more run."""
        changed = {
            "last_run_at": last_run_at or self.default_now(),
            "total_run_count": self.total_run_count + 1,
        }
        return type(self)(**{**dict(self), **changed})

    __next__ = _next_instance = next

    def update(self, other: ScheduleEntry) -> None:
        """Take over what *other* says, but not when it ran."""
        for field in (*self.editable_fields, "overlap", "catch_up", "jitter"):
            setattr(self, field, getattr(other, field))

    def is_due(self) -> Any:
        """What `BaseSchedule.is_due` says of the last run."""
        return self.schedule.is_due(self.last_run_at)

    def editable_fields_equal(self, other: ScheduleEntry) -> bool:
        """Whether both send the same at the same times."""
        return all(getattr(self, field) == getattr(other, field) for field in self.editable_fields)

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(vars(self).items())

    def __reduce__(self) -> tuple[Any, ...]:
        # Celery's arguments, in its order: it reads what we write.
        return type(self), (
            self.name,
            self.task,
            self.last_run_at,
            self.total_run_count,
            self.schedule,
            self.args,
            self.kwargs,
            self.options,
        )

    def __repr__(self) -> str:
        call = call_repr(self.task, self.args or (), self.kwargs or {})
        return f"<{type(self).__name__}: {self.name} {call} {self.schedule}"  # as Celery shows it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ScheduleEntry) and self.editable_fields_equal(other)

    def __lt__(self, other: object) -> bool:
        # Two that are due at the same time: any order will do.
        return id(self) < id(other) if isinstance(other, ScheduleEntry) else NotImplemented


def call_repr(name: object, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """A call as Python writes it."""
    shown = [repr(arg) for arg in args] + [f"{key}={value!r}" for key, value in kwargs.items()]
    return f"{name}({', '.join(shown)})"


def evaluated(args: Any, kwargs: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of an entry with those made that are `BeatLazyFunc`."""
    return (
        [arg() if isinstance(arg, BeatLazyFunc) else arg for arg in args or ()],
        {key: arg() if isinstance(arg, BeatLazyFunc) else arg for key, arg in (kwargs or {}).items()},
    )


def _one_of(name: str, value: str, choices: Sequence[str]) -> str:
    if value in choices:
        return value
    hint = nearest_name(str(value), choices) or f": it is one of {', '.join(choices)}"
    raise ImproperlyConfigured(f"{name}={value!r} is nothing that an entry can have{hint}")
