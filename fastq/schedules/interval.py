"""Schedules that repeat after a time, and the rounding of *relative* ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from fastq.schedules.base import App, BaseSchedule

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

# What is set to 0 to round a time down to a unit.
_SMALLER = {
    SECOND: {"microsecond": 0},
    MINUTE: {"microsecond": 0, "second": 0},
    HOUR: {"microsecond": 0, "second": 0, "minute": 0},
    DAY: {"microsecond": 0, "second": 0, "minute": 0, "hour": 0},
}
_UNITS = (("day", 86400.0), ("hour", 3600.0), ("minute", 60.0), ("second", 1.0))


class schedule(BaseSchedule):
    """Due again *run_every* seconds, or a `timedelta`, after the last run, as time passes.

    With *relative* that moment is rounded down to the unit of the interval (days, hours, minutes
    or seconds) on the clock of the schedule's zone, so that a daily task is due at midnight. Days
    are then those of the calendar, of 23 to 25 hours where the clock is changed. A midnight that
    the clock skips is due as much later as the clock was put forward; one that comes twice is
    due the first time.
    """

    relative: bool = False

    def __init__(
        self,
        run_every: float | timedelta | None = None,
        relative: bool = False,
        nowfun: Callable[[], datetime] | None = None,
        app: App | None = None,
    ) -> None:
        self.run_every: Any = (
            timedelta(seconds=run_every) if isinstance(run_every, int | float) else run_every
        )
        self.relative = relative
        super().__init__(nowfun=nowfun, app=app)

    def next_after(self, when: datetime) -> datetime:
        """*run_every* after *when*, rounded if the schedule is relative."""
        local = self.maybe_make_aware(when)
        if self.relative:
            local = local.astimezone(self.tz)
        return _end(local, self.run_every, self.relative)

    @property
    def seconds(self) -> float:
        """The interval, never negative."""
        return max(float(self.run_every.total_seconds()), 0.0)

    @property
    def human_seconds(self) -> str:
        """The interval for people."""
        return humanize_seconds(self.seconds)

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}>"

    def __eq__(self, other: object) -> bool:
        if isinstance(other, schedule):
            return bool(self.run_every == other.run_every)
        return bool(self.run_every == other)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run_every, self.relative, self.nowfun)


def maybe_schedule(s: Any, relative: bool = False, app: App | None = None) -> Any:
    """The schedule that *s* stands for: seconds, a `timedelta`, a schedule or None."""
    if isinstance(s, int | float):
        s = timedelta(seconds=s)
    if isinstance(s, timedelta):
        return schedule(s, relative, app=app)
    if s is not None:
        s.app = app
    return s


def remaining(
    start: datetime, ends_in: timedelta, now: datetime | None = None, relative: bool = False
) -> timedelta:
    """How long it is from *now* until *ends_in* after *start*, rounded as a *relative* `schedule` is."""
    now = datetime.now(timezone.utc) if now is None else now
    return _end(start, ends_in, relative) - now


def humanize_seconds(seconds: float) -> str:
    """*seconds* in their largest whole unit: "2.00 hours"."""
    unit, size = next((each for each in _UNITS if round(seconds, 2) >= each[1]), _UNITS[-1])
    count = seconds / size
    return f"{count:.2f} {unit}{'' if round(count, 2) == 1 else 's'}"


def _end(start: datetime, every: timedelta, relative: bool) -> datetime:
    start_utc = start.astimezone(timezone.utc)
    end_utc = start_utc + every
    if not relative or every <= timedelta(0):
        return end_utc
    if every >= DAY:
        after = [each for each in _boundaries(start + every, DAY) if each > start_utc]
        return min(after, default=(start + every).astimezone(timezone.utc))
    unit = next(unit for unit in (HOUR, MINUTE, SECOND, timedelta(0)) if every >= unit)
    if not unit:
        return end_utc
    # A clock that is put back by part of an hour can put the hour's beginning before the start: then
    # it is the next one that counts.
    local_end = end_utc.astimezone(start.tzinfo)
    near = [*_boundaries(local_end, unit), *_boundaries(local_end + unit, unit)]
    after = [each for each in near if each > start_utc]
    return max((each for each in after if each <= end_utc), default=min(after, default=end_utc))


def _boundaries(local: datetime, unit: timedelta) -> list[datetime]:
    """The moments in UTC at which the clock showed *local* rounded down to *unit*: one, or two.

    Of a time that the clock skips, the moment as much later as the clock was put forward.
    """
    naive = local.replace(tzinfo=None, **_SMALLER[unit])
    first, second = (
        naive.replace(tzinfo=local.tzinfo, fold=fold).astimezone(timezone.utc) for fold in (0, 1)
    )
    # In a gap the second reading lies before the first: the offset from after the change makes it so.
    return [first] if second <= first else [first, second]
