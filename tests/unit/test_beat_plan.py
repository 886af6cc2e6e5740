"""When runs are due: intervals, missed runs, clocks that were set, and what is kept of them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastq.beat.definition import describe, dump_entry, dump_schedule, load_entry, load_schedule
from fastq.beat.entry import ScheduleEntry
from fastq.beat.plan import base_after_step, is_polled, latest_due, next_due, ripe
from fastq.beat.state import State, run_id, state_from
from fastq.exceptions import ImproperlyConfigured
from fastq.schedules import BaseSchedule, crontab, schedstate, schedule, solar

NOON = datetime(2026, 5, 4, 12, tzinfo=timezone.utc).timestamp()
HOURLY = crontab(0)
HOURLY.tz = timezone.utc
DAILY = crontab(0, 12)
DAILY.tz = timezone.utc
MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


class Noons(BaseSchedule):
    """Due twice, and never again."""

    def next_after(self, when):
        found = [NOON, NOON + DAY]
        later = [each for each in found if each > when.timestamp()]
        return datetime.fromtimestamp(later[0], timezone.utc) if later else None


def test_an_interval_keeps_its_step_however_late_a_run_was():
    when = schedule(10)
    assert next_due(when, NOON, NOON) == NOON + 10
    assert next_due(when, NOON, NOON + 9) == NOON + 10
    assert next_due(when, NOON, NOON + 10) == NOON + 20
    assert next_due(when, NOON, NOON + 1234) == NOON + 1240
    assert next_due(when, NOON, NOON - 50) == NOON + 10


def test_other_schedules_say_when_they_are_next_due():
    assert next_due(HOURLY, NOON, NOON) == NOON + HOUR
    assert next_due(HOURLY, NOON, NOON + 5 * HOUR + 1) == NOON + 6 * HOUR
    assert next_due(Noons(), NOON, NOON) == NOON + DAY
    assert next_due(Noons(), NOON + DAY, NOON + DAY) is None


@pytest.mark.parametrize("seconds", [0, -1])
def test_an_interval_of_nothing_is_refused(seconds):
    with pytest.raises(ImproperlyConfigured, match="it must be more than 0"):
        next_due(schedule(seconds), NOON, NOON)


@given(
    st.sampled_from([schedule(7), schedule(3600), HOURLY, crontab("*/7"), crontab("*/20", "8-17"), DAILY]),
    st.floats(0, 20 * DAY),
)
def test_the_latest_due_time_is_the_last_of_all(when, ago):
    when.tz = timezone.utc
    base, now = NOON - ago, NOON + 0.5
    first = next_due(when, base, base)
    if first is None or first > now or (now - first) / 7 > 5e4:
        return
    every, due = first, first
    while due <= now:
        every, due = due, next_due(when, base if isinstance(when, schedule) else due, due)
    assert latest_due(when, base, first, now) == pytest.approx(every)


@pytest.mark.parametrize(
    ("catch_up", "ago", "expected"),
    [
        ("none", 45, [NOON]),  # nothing was missed
        ("none", 10 * MINUTE, [NOON - 5 * MINUTE, NOON]),
        ("none", HOUR, [NOON - 5 * MINUTE, NOON]),
        ("one", 10 * MINUTE, [NOON - 5 * MINUTE, NOON]),
        ("one", HOUR, [NOON - 10 * MINUTE, NOON - 5 * MINUTE, NOON]),
        ("one", 30 * DAY, [NOON - 10 * MINUTE, NOON - 5 * MINUTE, NOON]),
        ("all", 20 * MINUTE, [NOON - n * MINUTE for n in (15, 10, 5, 0)]),
    ],
)
@pytest.mark.parametrize("when", [schedule(300), crontab("*/5")])
def test_what_becomes_of_missed_runs(when, catch_up, ago, expected):
    when.tz = timezone.utc
    base = NOON - ago if ago >= 300 else NOON - 300
    found = ripe(when, base, NOON + 1, NOON - 9 * MINUTE, catch_up)
    assert found.dues == expected
    assert found.dropped == (NOON - 10 * MINUTE if catch_up == "none" and ago > HOUR / 2 else None)


def test_when_no_beat_was_at_work_until_now_one_run_is_made_up_for():
    assert ripe(schedule(1), NOON - HOUR, NOON + 0.5, NOON + 0.5, "one") == (None, [NOON])
    assert ripe(schedule(1), NOON - HOUR, NOON + 0.5, NOON + 0.5, "none") == (NOON, [])
    assert ripe(HOURLY, NOON - 9 * HOUR, NOON + 0.5, NOON + 0.5, "one") == (None, [NOON])


def test_all_missed_runs_come_in_portions():
    found = ripe(schedule(1), NOON - HOUR, NOON, NOON, "all")
    assert found.dues == [NOON - HOUR + n for n in range(1, 201)]


def test_nothing_is_due_too_early_or_after_the_end():
    assert ripe(schedule(10), NOON, NOON + 9.9, 0.0, "all") == (None, [])
    assert ripe(Noons(), NOON + DAY, NOON + 9 * DAY, 0.0, "all") == (None, [])


def test_after_the_clock_was_set_back_intervals_go_on():
    assert base_after_step(schedule(60), NOON + 0.5, NOON) == NOON + 0.5
    assert base_after_step(schedule(60), NOON + HOUR, NOON) == NOON
    assert base_after_step(HOURLY, NOON + HOUR, NOON) == NOON
    # By less than three hours: what names its hour has been due already.
    assert base_after_step(DAILY, NOON + HOUR, NOON) == NOON + HOUR
    assert base_after_step(DAILY, NOON + 4 * HOUR, NOON) == NOON


def test_schedules_that_define_is_due_are_asked():
    class Asks(schedule):
        def is_due(self, last_run_at):
            return schedstate(True, 5)

    class Estimates(BaseSchedule):
        def remaining_estimate(self, last_run_at):
            return timedelta(0)

    class Tells(Asks):
        def next_after(self, when):
            return when

    class Foreign:
        def is_due(self, last_run_at):
            return True, 5

    assert [is_polled(each) for each in (Asks(5), Estimates(), Foreign())] == [True] * 3
    assert [is_polled(each) for each in (schedule(5), HOURLY, solar("sunset", 1, 2), Tells(5), Noons())] == [
        False
    ] * 5


def test_a_state_is_kept_but_for_what_it_leaves_open():
    state = State(7, NOON, "sent", runs=3, sent_at=NOON + 1, task_id="x", waiting=(NOON, NOON + 1), task="t")
    data = state.to_bytes()
    assert state_from(7, data) == state
    assert b"error" not in data
    assert state_from(1, b'{"due":5.0,"from":"a later version"}') == State(1, 5.0)


def test_the_id_of_a_run_is_its_own():
    ids = {run_id("app", name, number, due) for name in "ab" for number in (1, 2) for due in (NOON, NOON + 1)}
    assert len(ids) == 8
    assert run_id("app", "a", 1, NOON) in ids
    assert run_id("other", "a", 1, NOON) not in ids


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (schedule(90), "every 1.50 minutes"),
        (schedule(timedelta(hours=2), relative=True), "every 2.00 hours, relative"),
        (crontab("*/5", [4, 2], "mon-fri"), "*/5 [2, 4] * * mon-fri"),
        (crontab(3, month_of_year={5}), "3 * * [5] *"),
        (solar("sunset", 48.1, 11.6), "sunset at 48.1, 11.6"),
    ],
)
def test_schedules_are_kept_as_json(when, text):
    again = load_schedule(dump_schedule(when))
    assert again == when
    assert getattr(again, "relative", None) == getattr(when, "relative", None)
    assert describe(when) == describe(again) == text


def test_other_schedules_are_not():
    with pytest.raises(
        ImproperlyConfigured, match=r"can't be kept in the broker: .* define the entry in beat_schedule"
    ):
        dump_schedule(Noons())
    with pytest.raises(ImproperlyConfigured, match="is no schedule that this version knows"):
        load_schedule({"moon": "full"})
    assert describe(Noons()).endswith(">")


def test_an_entry_is_kept_as_json():
    entry = ScheduleEntry(
        "a", "t", schedule=60, args=(1, "x"), kwargs={"k": None}, options={"queue": "q"}, last_run_at=NOON,
        overlap="skip", catch_up="all", jitter=2.5,
    )  # fmt: skip
    again = load_entry("a", dump_entry(entry), None)
    fields = ("name", "task", "schedule", "kwargs", "options", "overlap", "catch_up", "jitter")
    assert [getattr(again, field) for field in fields] == [getattr(entry, field) for field in fields]
    assert again.args == [1, "x"]
    entry.args = (object(),)
    with pytest.raises(ImproperlyConfigured, match="the entry 'a' can't be kept in the broker"):
        dump_entry(entry)
