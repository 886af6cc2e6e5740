"""What a crontab means, minute by minute: the slow twin of `fastq.schedules.crontab`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
FIRST, LAST = datetime(2020, 1, 1, tzinfo=timezone.utc), datetime(2031, 1, 1, tzinfo=timezone.utc)


class Change(NamedTuple):
    """A change of the clock of a zone."""

    zone: str
    at: datetime  # the first minute with the new offset, in UTC


class Minute(NamedTuple):
    """One minute as it passes."""

    at: datetime  # in UTC
    clock: datetime  # what the zone's clock shows, without a zone
    is_first: bool  # the clock has not shown it before
    stands_for: datetime | None  # the skipped minute whose place it takes


@cache
def changes() -> list[Change]:
    """Every change of every zone from 2020 to 2030; of zones that change alike, one stands for all."""
    found: dict[tuple[datetime, timedelta, timedelta], Change] = {}
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        day, offset = FIRST, FIRST.astimezone(zone).utcoffset()
        while day < LAST:
            following = day + DAY
            after = following.astimezone(zone).utcoffset()
            if after != offset:
                at = _exact(zone, day, following)
                found.setdefault((at, offset, after), Change(name, at))
            day, offset = following, after
    return list(found.values())


def _exact(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    before = low.astimezone(zone).utcoffset()
    while high - low > MINUTE:
        middle = low + (high - low) // MINUTE // 2 * MINUTE
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high


@cache
def minutes_around(change: Change) -> list[Minute]:
    """The minutes from two days before the *change* to two days after it."""
    zone = ZoneInfo(change.zone)
    seen: set[datetime] = set()
    found = []
    shown: datetime | None = None
    skipped = timedelta(0)
    gap: set[datetime] = set()
    at = change.at - 2 * DAY
    while at < change.at + 2 * DAY:
        clock = at.astimezone(zone).replace(tzinfo=None, fold=0)
        if shown is not None and clock - shown > MINUTE:
            skipped = clock - shown - MINUTE
            gap = {shown + MINUTE * number for number in range(1, skipped // MINUTE + 1)}
        stands_for = clock - skipped if skipped and clock - skipped in gap else None
        found.append(Minute(at, clock, clock not in seen, stands_for))
        seen.add(clock)
        shown = clock
        at += MINUTE
    return found


def due_minutes(fields: tuple[set[int], ...], change: Change) -> Iterator[datetime]:
    """The times around *change* at which a crontab of these *fields*, in the order of `crontab`, is due."""
    minutes, hours, weekdays, days, months = fields

    def names(clock: datetime) -> bool:
        return (
            clock.minute in minutes
            and clock.hour in hours
            and clock.isoweekday() % 7 in weekdays
            and clock.day in days
            and clock.month in months
        )

    for minute in minutes_around(change):
        if len(hours) == 24:
            is_due = names(minute.clock)
        else:
            is_due = (minute.is_first and names(minute.clock)) or (
                minute.stands_for is not None and names(minute.stands_for)
            )
        if is_due:
            yield minute.at
