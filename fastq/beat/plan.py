"""When entries are due: the arithmetic of the shared scheduler. Times are unix seconds."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import Any, NamedTuple

from fastq.beat.scheduler import follows_time
from fastq.exceptions import ImproperlyConfigured
from fastq.schedules import BaseSchedule, crontab

# At most so many runs of one entry are made up for at a time; the others follow.
MADE_UP_AT_ONCE = 200
# How far `latest_due` looks back at first, and how much farther each time.
FIRST_SPAN, WIDENED = 60.0, 24.0
# A state that lies so far in the future, or more, was written before the clock was set back. If that was by
# less than three hours, a crontab that names hours is not due again, as cron(8) has it.
AHEAD, CORRECTION = 1.0, 3 * 3600.0


def is_polled(when: Any) -> bool:
    """Whether a schedule must be asked `is_due`: its class says so after it was said when it is next due."""
    ancestry = type(when).__mro__
    definers = {
        name: next((at for at, kind in enumerate(ancestry) if name in vars(kind)), len(ancestry))
        for name in ("next_after", "is_due", "remaining_estimate")
    }
    if not isinstance(when, BaseSchedule):
        return definers["is_due"] < len(ancestry)
    return min(definers["is_due"], definers["remaining_estimate"]) < definers["next_after"]


def next_due(when: Any, base: float, after: float) -> float | None:
    """The first time after *after* at which *when* is due, if it was last due at *base*; None is never.

    An interval keeps its step, however late a run was.
    """
    if follows_time(when):
        every = _seconds(when)
        return base + every * max(math.floor((after - base) / every) + 1, 1)
    found = when.next_after(moment(max(after, base)))
    return None if found is None else float(found.timestamp())


def latest_due(when: Any, base: float, first: float, until: float) -> float:
    """The last time at which *when* is due between *first*, at which it is, and *until*."""
    if follows_time(when):
        every = _seconds(when)
        return base + every * math.floor((until - base) / every)
    span, latest = FIRST_SPAN, None
    while latest is None and span < until - first:
        latest = next_due(when, until - span, until - span)
        if latest is None or latest > until:
            latest, span = None, span * WIDENED
    latest = first if latest is None else latest
    while (following := next_due(when, latest, latest)) is not None and following <= until:
        latest = following
    return latest


class Ripe(NamedTuple):
    """What is due of an entry."""

    dropped: float | None  # the last time that was missed and is not made up for
    dues: list[float]  # when the runs were due that are to be sent, oldest first


def ripe(when: Any, base: float, now: float, missed_until: float, catch_up: str) -> Ripe:
    """What is due by *now*, if *when* was last due at *base*.

    Times up to *missed_until* fell into a time when no beat was at work, and *catch_up* says what
    becomes of them.
    """
    due, dropped = next_due(when, base, base), None
    dues: list[float] = []
    if due is not None and due <= min(now, missed_until) and catch_up != "all":
        latest = latest_due(when, base, due, min(now, missed_until))
        if catch_up == "one":
            dues.append(latest)
        else:
            dropped = latest
        due = next_due(when, latest, latest)
    while due is not None and due <= now and len(dues) < MADE_UP_AT_ONCE:
        dues.append(due)
        due = next_due(when, due, due)
    return Ripe(dropped, dues)


def base_after_step(when: Any, due: float, now: float) -> float:
    """From when the next run is reckoned if the last one was due at *due*, which may lie in the future."""
    if due <= now + AHEAD:
        return due
    is_hourly = isinstance(when, crontab) and when.is_hourly
    return now if follows_time(when) or is_hourly or due > now + CORRECTION else due


def moment(seconds: float) -> datetime:
    """Unix *seconds* as a time in UTC."""
    return datetime.fromtimestamp(seconds, timezone.utc)


def _seconds(when: Any) -> float:
    every = float(when.run_every.total_seconds())
    if every <= 0:
        raise ImproperlyConfigured(f"the interval is {every:g} s: it must be more than 0")
    return every
