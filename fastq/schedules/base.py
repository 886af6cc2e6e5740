"""What every schedule has: a clock, a zone, and the questions that a beat asks it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, NamedTuple, Protocol

from fastq import app_source

# What `BaseSchedule.is_due` gives as the time to the next look of a schedule that is never due again.
NEVER_SECONDS = 86400.0


class App(Protocol):
    """What a schedule needs of an application."""

    conf: Any

    @property
    def timezone(self) -> tzinfo:
        """The zone in which schedules are meant."""

    def now(self) -> datetime:
        """The time now."""


class schedstate(NamedTuple):
    """Whether a task is due, and in how many seconds to ask again."""

    is_due: bool
    next: float


class BaseSchedule:
    """A schedule. One of your own defines `next_after`; or, as Celery's do, `is_due`.

    *nowfun* gives the time in place of the app's clock, and *app* says in which zone hours
    and days are meant. Aware times may be in any zone; naive ones are taken for UTC.
    """

    _tz: tzinfo | None = None

    def __init__(self, nowfun: Callable[[], datetime] | None = None, app: App | None = None) -> None:
        self.nowfun = nowfun
        self._app = app

    # -- when ---------------------------------------------------------------------------

    def next_after(self, when: datetime) -> datetime | None:
        """The first time after *when* at which the task is due, in UTC; None if there is none."""
        raise NotImplementedError(f"{type(self).__name__} defines no next_after")

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """How long it is from now until a task that ran at *last_run_at* is due; negative if it was."""
        found = self.next_after(last_run_at)
        if found is None:
            return timedelta(seconds=NEVER_SECONDS)
        return found - self.maybe_make_aware(self.now())

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether a task that ran at *last_run_at* is due now, and in how many seconds to ask again."""
        left = max(self.remaining_estimate(last_run_at).total_seconds(), 0.0)
        if left > 0:
            return schedstate(False, left)
        return schedstate(True, max(self.remaining_estimate(self.now()).total_seconds(), 0.0))

    # -- clock and zone -----------------------------------------------------------------

    def now(self) -> datetime:
        """The time now."""
        return (self.nowfun or self.app.now)()

    @property
    def app(self) -> App:
        """The application that it belongs to: the current one, if none was given."""
        if self._app is None:
            assert app_source.get_app is not None, "fastq.app.current was not imported"
            current: App = app_source.get_app()
            return current
        return self._app

    @app.setter
    def app(self, app: App | None) -> None:
        self._app = app

    @property
    def tz(self) -> tzinfo:
        """The zone in which hours and days are meant: the app's, unless another one was set."""
        return self._tz or self.app.timezone

    @tz.setter
    def tz(self, zone: tzinfo | None) -> None:
        self._tz = zone

    @property
    def utc_enabled(self) -> bool:
        """The setting ``enable_utc``."""
        return bool(self.app.conf.enable_utc)

    def to_local(self, when: datetime) -> datetime:
        """*when* in the schedule's zone, or as it is where ``enable_utc`` is on."""
        return when if self.utc_enabled else self.maybe_make_aware(when).astimezone(self.tz)

    def maybe_make_aware(self, when: datetime, naive_as_utc: bool = True) -> datetime:
        """*when*, in the schedule's zone if it was naive: of a time in UTC, or in that very zone."""
        if when.tzinfo is not None:
            return when
        if naive_as_utc:
            return when.replace(tzinfo=timezone.utc).astimezone(self.tz)
        return when.replace(tzinfo=self.tz)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, BaseSchedule):
            return other.nowfun == self.nowfun
        return NotImplemented
