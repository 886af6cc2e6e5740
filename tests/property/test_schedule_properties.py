"""Crontabs against the slow reference that tries every minute, and intervals against Celery's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from random import Random
from zoneinfo import ZoneInfo

import pytest
from celery.schedules import crontab as celery_crontab
from celery.utils.time import remaining as celery_remaining
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.schedules import Change, changes, due_minutes, minutes_around

from fastq.schedules import crontab, remaining

# (numbers, first number) of each field, in the order of `crontab`.
FIELDS = ((60, 0), (24, 0), (7, 0), (31, 1), (12, 1))


@st.composite
def specs(draw: st.DrawFn, size: int, first: int) -> str:
    """The text of a field; half of the time ``*``."""
    numbers = st.integers(first, first + size - 1)

    def part() -> str:
        match draw(st.integers(0, 4)):
            case 0:
                return str(draw(numbers))
            case 1:
                return f"{draw(numbers)}-{draw(numbers)}"
            case 2:
                return f"*/{draw(st.integers(1, size))}"
            case 3:
                return f"{draw(numbers)}-{draw(numbers)}/{draw(st.integers(1, size))}"
            case _:
                return "*"

    if draw(st.booleans()):
        return "*"
    return ",".join(part() for _ in range(draw(st.integers(1, 3))))


crontab_fields = st.tuples(*(specs(*field) for field in FIELDS))


def run_times(schedule: crontab, start: datetime, end: datetime) -> Iterator[datetime]:
    """When it is due between *start* and *end*, by `next_after` alone."""
    found = schedule.next_after(start)
    while found is not None and found < end:
        yield found
        found = schedule.next_after(found)


def check(texts: tuple[str, ...], change: Change) -> None:
    """Compare a crontab with the reference around one *change*."""
    try:
        schedule = crontab(*texts)
    except ValueError:
        return  # a date that never comes
    schedule.tz = ZoneInfo(change.zone)
    numbers = (
        schedule.minute,
        schedule.hour,
        schedule.day_of_week,
        schedule.day_of_month,
        schedule.month_of_year,
    )
    minutes = minutes_around(change)
    start, end = minutes[0].at, minutes[-1].at
    # The reference has not seen what was skipped or shown before its first day.
    expected = [at for at in due_minutes(numbers, change) if start + timedelta(days=1) < at < end]
    assert list(run_times(schedule, start + timedelta(days=1), end)) == expected


@settings(max_examples=300, deadline=None)
@given(crontab_fields, st.data())
def test_a_crontab_is_due_at_the_minutes_that_the_reference_finds_around_a_change(texts, data):
    check(texts, data.draw(st.sampled_from(changes())))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_crontab_is_right_around_every_change_of_every_zone():
    random = Random(7)
    for change in changes():
        clock = [minute.clock for minute in minutes_around(change)]
        for _ in range(20):
            at = clock[len(clock) // 2 + random.randint(-200, 200)]
            hours = random.choice([str(at.hour), f"{at.hour},{(at.hour + 1) % 24}", "*", "*/2", "0-3"])
            texts = (random.choice([str(at.minute), "*/7", "*", "0"]), hours, "*", "*", "*")
            check(texts, change)
        minutes_around.cache_clear()


@settings(max_examples=300, deadline=None)
@given(crontab_fields, st.datetimes(datetime(2020, 1, 1), datetime(2030, 12, 31)))
def test_in_utc_a_crontab_is_due_when_celerys_is(texts, when):
    when = when.replace(tzinfo=timezone.utc)
    try:
        ours = crontab(*texts)
    except ValueError:
        with pytest.raises(ValueError):
            celery_crontab(*texts)
        return
    ours.tz = timezone.utc
    theirs = celery_crontab(*texts, nowfun=lambda: when)
    theirs.tz = timezone.utc
    try:
        expected = when + theirs.remaining_estimate(when)
    except RuntimeError:  # it gives up on dates that are years away
        return
    assert ours.next_after(when) == expected


# Their offsets are whole hours, and so are their changes: where they are not, Celery's rounding has a rule
# of its own for the hours that the change cuts.
ZONES = ["UTC", "Europe/Berlin", "America/New_York", "America/Havana", "Africa/Cairo", "America/Santiago"]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(ZONES),
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 12, 31)),
    st.one_of(
        st.integers(1, 60 * 60 * 24 * 40).map(lambda seconds: timedelta(seconds=seconds)),
        st.sampled_from([timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta(days=7)]),
    ),
    st.booleans(),
)
def test_intervals_end_when_celerys_do(zone, when, every, is_relative):
    start = when.replace(tzinfo=timezone.utc).astimezone(ZoneInfo(zone))
    now = datetime(2025, 1, 1, tzinfo=timezone.utc)
    assert remaining(start, every, now, is_relative) == celery_remaining(start, every, now, is_relative)
