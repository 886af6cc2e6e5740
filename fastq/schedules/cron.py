"""Crontabs: fields, their parser, and the next time at which all of them agree."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta, timezone
from typing import Any

from fastq.exceptions import FastQError
from fastq.schedules.base import BaseSchedule, schedstate

Field = int | str | Iterable[int]

ONE_DAY = timedelta(days=1)
# Between two 29ths of February on a given day of the week lie at most 40 years, over 2100, which has none.
SEARCHED_YEARS = 41
# Of a leap year.
DAYS_IN_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

_WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september",
           "october", "november", "december")  # fmt: skip
# The names of numbers, by the size of a field and its first number.
_NAMES = {(7, 0): _WEEKDAYS, (12, 1): _MONTHS}


class ParseException(FastQError, ValueError):
    """A crontab that says something that can't be."""


class crontab_parser:
    """Turns the text of one field into the set of its numbers, which are *max_* and begin with *min_*.

    A field is a list, joined by commas, of ``*``, ``N`` and ``N-M``, of which the first and last may
    have a step: ``*/S`` and ``N-M/S``. A range may go over the end: ``22-2``. Days of the week and months
    have names too, whole or at least their first three letters.

    >>> sorted(crontab_parser(60).parse("*/15"))
    [0, 15, 30, 45]
    >>> sorted(crontab_parser(7).parse("fri-mon"))
    [0, 1, 5, 6]
    >>> sorted(crontab_parser(12, 1).parse("2-12/5"))
    [2, 7, 12]
    """

    ParseException = ParseException

    def __init__(self, max_: int = 60, min_: int = 0) -> None:
        self.max_ = max_
        self.min_ = min_

    def parse(self, spec: str) -> set[int]:
        """The numbers that *spec* stands for. Raises `ParseException`."""
        found: set[int] = set()
        for part in spec.split(","):
            found.update(self._part(part.strip()))
        return found

    def _part(self, part: str) -> list[int]:
        if not part:
            raise ParseException("a part between commas is empty")
        span, slash, step = part.partition("/")
        if span == "*":
            numbers = self._range(self.min_, self.min_ + self.max_ - 1)
        elif "-" in span:
            first, _, last = span.partition("-")
            numbers = self._range(self._number(first), self._number(last))
        elif slash:
            raise ParseException(f"{part!r} has a step and no range: write {span}-{self._last}/{step}")
        else:
            return [self._number(span)]
        if not slash:
            return numbers
        if not (step.isascii() and step.isdigit() and int(step) > 0):
            raise ParseException(f"the step of {part!r} must be a whole number above 0")
        return numbers[:: int(step)]

    @property
    def _last(self) -> int:
        return self.min_ + self.max_ - 1

    def _range(self, first: int, last: int) -> list[int]:
        if first <= last:
            return list(range(first, last + 1))
        return [*range(first, self._last + 1), *range(self.min_, last + 1)]

    def _number(self, text: str) -> int:
        text = text.strip()
        if text.isascii() and text.isdigit():
            return self.check(int(text))
        names = _NAMES.get((self.max_, self.min_), ())
        if len(text) >= 3:
            for number, name in enumerate(names, self.min_):
                if name.startswith(text.lower()):
                    return number
        what = f"a number, or a name such as {names[1][:3]}" if names else "a number"
        raise ParseException(f"{text!r} is not {what}")

    def check(self, number: int) -> int:
        """*number*, if the field has it."""
        if not self.min_ <= number <= self._last:
            hint = "; Sunday is 0" if (self.max_, self.min_, number) == (7, 0, 7) else ""
            raise ParseException(f"{number} is not between {self.min_} and {self._last}{hint}")
        return number


class crontab(BaseSchedule):
    """Due at every minute that all five fields name, on the clock of the schedule's zone.

    A field is a number, a text as `crontab_parser` reads it, or an iterable of numbers; ``*`` is
    any. *minute* goes from 0 to 59, *hour* from 0 to 23, *day_of_week* from 0 (Sunday) to 6,
    *day_of_month* from 1 to 31, *month_of_year* from 1 to 12. A day must match in all three fields
    of days, as in Celery: ``crontab(0, 0, day_of_week="fri", day_of_month=13)`` is due on Fridays that
    are the 13th. A date that never comes, such as 30 February, raises `ParseException`.

    Where the clock of the zone is changed:

    - A crontab that names hours is due once for each time that it names. A time that the clock
      skips is due as much later as the clock was put forward: 02:30 at 03:30. A time that comes
      twice is due the first time.
    - A crontab of every hour (``*``, or all 24 of them) follows time as it passes: it is due
      whenever the clock shows one of its minutes, so every 15 minutes stay 15 minutes.
    """

    # The day and zone for which `_changed_day` was asked last, and what it found.
    _last_changed_day: tuple[Any, list[datetime]] = (None, [])

    def __init__(
        self,
        minute: Field = "*",
        hour: Field = "*",
        day_of_week: Field = "*",
        day_of_month: Field = "*",
        month_of_year: Field = "*",
        **kwargs: Any,
    ) -> None:
        self._orig_minute = _given(minute)
        self._orig_hour = _given(hour)
        self._orig_day_of_week = _given(day_of_week)
        self._orig_day_of_month = _given(day_of_month)
        self._orig_month_of_year = _given(month_of_year)
        self._orig_kwargs = kwargs
        self.minute = _expand("minute", self._orig_minute, 60)
        self.hour = _expand("hour", self._orig_hour, 24)
        self.day_of_week = _expand("day_of_week", self._orig_day_of_week, 7)
        self.day_of_month = _expand("day_of_month", self._orig_day_of_month, 31, 1)
        self.month_of_year = _expand("month_of_year", self._orig_month_of_year, 12, 1)
        longest = max(DAYS_IN_MONTH[month - 1] for month in self.month_of_year)
        if min(self.day_of_month) > longest:
            raise ParseException(
                f"crontab(day_of_month={day_of_month!r}, month_of_year={month_of_year!r}) is never due: its "
                f"longest month has {longest} days; name a day up to {longest}, or another month"
            )
        super().__init__(**kwargs)

    @classmethod
    def from_string(cls, crontab: str) -> crontab:
        """The crontab of a line: minute, hour, day of the month, month and day of the week."""
        fields = crontab.split()
        if len(fields) != 5:
            raise ParseException(
                f"the crontab {crontab!r} has {len(fields)} fields, not 5: minute, hour, day of the month, "
                "month, day of the week"
            )
        minute, hour, day_of_month, month_of_year, day_of_week = fields
        return cls(minute, hour, day_of_week, day_of_month, month_of_year)

    @property
    def is_hourly(self) -> bool:
        """Whether it is due in every hour of its days, and so follows time as it passes."""
        return len(self.hour) == 24

    def next_after(self, when: datetime) -> datetime | None:
        """The first minute after *when* that is due, in UTC; None if there is none in 41 years."""
        after = self.maybe_make_aware(when).astimezone(timezone.utc)
        # What the clock skips late in the evening is due on the next day.
        first_day = after.astimezone(self.tz).date() - ONE_DAY
        best: datetime | None = None
        last_day = date.max
        for day in self._days(first_day):
            if day > last_day:
                break
            found, is_plain = self._first_on(day, after)
            if found is None:
                continue
            if best is None and is_plain:
                return found
            if best is None:
                last_day = day + ONE_DAY  # where the clock is changed at midnight the two may overlap
            best = found if best is None else min(best, found)
        return best

    def is_due(self, last_run_at: datetime) -> schedstate:
        """As every schedule's; but not if it was last due before ``beat_cron_starting_deadline``."""
        state = super().is_due(last_run_at)
        deadline = self.app.conf.beat_cron_starting_deadline
        if not state.is_due or deadline is None:
            return state
        now = self.maybe_make_aware(self.now()).astimezone(timezone.utc)
        latest = self.next_after(now - timedelta(seconds=deadline, microseconds=1))
        return state if latest is not None and latest <= now else schedstate(False, state.next)

    def _days(self, day: date) -> Iterator[date]:
        """The days from *day* on that match the three fields of days."""
        months, days = sorted(self.month_of_year), sorted(self.day_of_month)
        for year in range(day.year, min(day.year + SEARCHED_YEARS, 9999)):
            for month in months:
                if (year, month) < (day.year, day.month):
                    continue
                length = 28 if month == 2 and not _is_leap(year) else DAYS_IN_MONTH[month - 1]
                for number in days:
                    if number > length:
                        break
                    found = date(year, month, number)
                    if found >= day and found.isoweekday() % 7 in self.day_of_week:
                        yield found

    def _first_on(self, day: date, after: datetime) -> tuple[datetime | None, bool]:
        """The first moment after *after* that is due on *day*, and whether no clock is changed that day."""
        midnight = datetime(day.year, day.month, day.day, tzinfo=self.tz)
        offset = midnight.utcoffset() or timedelta(0)
        if (midnight + ONE_DAY).utcoffset() == offset:
            local = (after + offset).replace(tzinfo=None)
            found = self._first_plain(day, local)
            return (None if found is None else (found - offset).replace(tzinfo=timezone.utc)), True
        moments = self._changed_day(day)
        at = bisect_right(moments, after)
        return (moments[at] if at < len(moments) else None), False

    def _changed_day(self, day: date) -> list[datetime]:
        """The moments, in UTC and in order, that are due on a *day* when the clock is changed."""
        known, moments = self._last_changed_day
        if known != (day, self.tz):
            found = {
                moment
                for hour in self.hour
                for minute in self.minute
                for moment in self._moments(datetime(day.year, day.month, day.day, hour, minute))
            }
            moments = sorted(found)
            self._last_changed_day = (day, self.tz), moments
        return moments

    def _first_plain(self, day: date, local: datetime) -> datetime | None:
        """The first time of *day* after the *local* one, all without a zone."""
        hours, minutes = sorted(self.hour), sorted(self.minute)
        if local.date() > day:
            return None
        hour, minute = hours[0], minutes[0]
        if local.date() == day:
            at = bisect_right(hours, local.hour)
            if at and hours[at - 1] == local.hour and minutes[-1] > local.minute:
                hour, minute = local.hour, minutes[bisect_right(minutes, local.minute)]
            elif at == len(hours):
                return None
            else:
                hour = hours[at]
        return datetime(day.year, day.month, day.day, hour, minute)

    def _moments(self, naive: datetime) -> Iterator[datetime]:
        """The moments, in UTC, that are due for the time *naive* on the zone's clock."""
        zone = self.tz
        for fold in (0, 1):
            moment = naive.replace(tzinfo=zone, fold=fold).astimezone(timezone.utc)
            if not self.is_hourly:
                yield moment  # of a time that is skipped: with the offset from before the change, so later
                return
            if moment.astimezone(zone).replace(tzinfo=None, fold=0) == naive:
                yield moment

    def __repr__(self) -> str:
        return (
            f"<crontab: {self._orig_minute} {self._orig_hour} {self._orig_day_of_month} "
            f"{self._orig_month_of_year} {self._orig_day_of_week} (m/h/dM/MY/d)>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (
            self._orig_minute,
            self._orig_hour,
            self._orig_day_of_week,
            self._orig_day_of_month,
            self._orig_month_of_year,
        )
        return type(self), fields, self._orig_kwargs

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        super().__init__(**state)
        self._orig_kwargs = dict(state)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, crontab):
            return (
                other.month_of_year == self.month_of_year
                and other.day_of_month == self.day_of_month
                and other.day_of_week == self.day_of_week
                and other.hour == self.hour
                and other.minute == self.minute
                and bool(super().__eq__(other))
            )
        return NotImplemented


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _given(field: Any) -> Any:
    """What a field was given as; an iterator is read here, once."""
    if field is None:
        return "*"
    return list(field) if isinstance(field, Iterator) else field


def _expand(name: str, field: Any, max_: int, min_: int = 0) -> set[int]:
    """The numbers of the field *name*."""
    parser = crontab_parser(max_, min_)
    try:
        if isinstance(field, str):
            return parser.parse(field)
        numbers = {field} if isinstance(field, int) else set(field) if isinstance(field, Iterable) else None
        if numbers is None or not all(isinstance(number, int) for number in numbers):
            raise TypeError(
                f"crontab({name}={field!r}): a field is a whole number, text, or an iterable of whole numbers"
            )
        if not numbers:
            raise ParseException("it names nothing")
        return {parser.check(number) for number in numbers}
    except ParseException as exc:
        raise ParseException(f"crontab({name}={field!r}): {exc}") from None
