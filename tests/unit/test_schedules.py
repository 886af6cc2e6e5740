"""Schedules: what they accept, how they are shown, compared and pickled, and when they are due."""

from __future__ import annotations

import pickle
from datetime import date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import celery.schedules
import pytest

from fastq import FastQ
from fastq.exceptions import ImproperlyConfigured
from fastq.schedules import (
    BaseSchedule,
    ParseException,
    crontab,
    crontab_parser,
    maybe_schedule,
    schedstate,
    schedule,
    solar,
)

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)


@pytest.fixture
def app():
    with FastQ("schedules", broker="memory://schedules", set_as_current=False) as app:
        yield app


def at(when: datetime, kind, *args, **kwargs):
    """A schedule whose clock stands at *when*, in UTC."""
    made = kind(*args, nowfun=lambda: when, **kwargs)
    made.tz = timezone.utc
    return made


# -- what is accepted -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "first", "text", "numbers"),
    [
        (60, 0, "*", set(range(60))),
        (60, 0, "*/15", {0, 15, 30, 45}),
        (60, 0, "1,13,30-45,50-59/2", {1, 13, *range(30, 46), 50, 52, 54, 56, 58}),
        (60, 0, "55-5", {55, 56, 57, 58, 59, 0, 1, 2, 3, 4, 5}),
        (60, 0, "50-10/5", {50, 55, 0, 5, 10}),
        (60, 0, " 1 , 2 ", {1, 2}),
        (24, 0, "0,8-17/2", {0, 8, 10, 12, 14, 16}),
        (7, 0, "mon-fri", {1, 2, 3, 4, 5}),
        (7, 0, "sunday", {0}),
        (7, 0, "Thurs,SAT", {4, 6}),
        (7, 0, "sat-mon", {6, 0, 1}),
        (31, 1, "*/3", {1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31}),
        (12, 1, "jan,may-jul", {1, 5, 6, 7}),
        (12, 1, "11-2", {11, 12, 1, 2}),
        (12, 1, "sept", {9}),
    ],
)
def test_a_field_is_parsed_as_celery_does(size, first, text, numbers):
    assert crontab_parser(size, first).parse(text) == numbers
    assert celery.schedules.crontab_parser(size, first).parse(text) == numbers


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"minute": 60}, r"crontab\(minute=60\): 60 is not between 0 and 59"),
        ({"minute": "-1"}, r"crontab\(minute='-1'\): '' is not a number"),
        ({"minute": "5/2"}, "write 5-59/2"),
        ({"minute": "*/0"}, "the step of '\\*/0' must be a whole number above 0"),
        ({"minute": "*/"}, "the step of"),
        ({"minute": "1,,2"}, "a part between commas is empty"),
        ({"minute": []}, "names nothing"),
        ({"hour": "mon"}, "'mon' is not a number"),
        ({"day_of_week": 7}, "7 is not between 0 and 6; Sunday is 0"),
        ({"day_of_week": "xyz"}, "'xyz' is not a number, or a name such as mon"),
        ({"day_of_month": 0}, "0 is not between 1 and 31"),
        ({"day_of_month": 30, "month_of_year": 2}, "its longest month has 29 days; name a day up to 29"),
        ({"day_of_month": 31, "month_of_year": "apr,jun"}, "its longest month has 30 days"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_with_its_value(fields, message):
    with pytest.raises(ParseException, match=message):
        crontab(**fields)


def test_a_field_of_another_type_is_refused():
    with pytest.raises(
        TypeError, match=r"crontab\(hour=1.5\): a field is a whole number, text, or an iterable"
    ):
        crontab(hour=1.5)
    with pytest.raises(TypeError, match="a field is a whole number"):
        crontab(day_of_week=["mon"])


def test_fields_may_be_iterables_and_none():
    made = crontab(minute=(number for number in (5, 10)), hour=[1], day_of_week={3}, day_of_month=None)
    assert (made.minute, made.hour, made.day_of_week) == ({5, 10}, {1}, {3})
    assert made.day_of_month == set(range(1, 32))
    assert pickle.loads(pickle.dumps(made)) == made


def test_a_crontab_comes_from_a_line():
    made = crontab.from_string("*/5  3 1 jan mon-fri")
    assert made == crontab("*/5", 3, "mon-fri", 1, "jan")
    with pytest.raises(ParseException, match="has 4 fields, not 5"):
        crontab.from_string("* * * *")


def test_numbers_and_deltas_are_schedules(app):
    assert maybe_schedule(2.5).run_every == timedelta(seconds=2.5)
    made = maybe_schedule(timedelta(hours=1), relative=True, app=app)
    assert made.relative
    assert made.app is app
    given = crontab()
    assert maybe_schedule(given, app=app) is given
    assert given.app is app
    assert maybe_schedule(None) is None


# -- how they are shown, compared and pickled ---------------------------------------------


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        ("schedule", (1,)),
        ("schedule", (90,)),
        ("schedule", (3600 * 36,)),
        ("crontab", ("*/5", [1, 2], "mon", 3)),
        ("crontab", ()),
        ("solar", ("sunset", -37.8, 144.9)),
    ],
)
def test_they_are_shown_as_in_celery(kind, args):
    ours, theirs = getattr(celery.schedules, kind)(*args), globals()[kind](*args)
    assert repr(ours) == repr(theirs)


def test_they_are_equal_when_they_say_the_same():
    assert schedule(60) == schedule(timedelta(minutes=1)) == timedelta(minutes=1)
    assert schedule(60) != schedule(61)
    assert crontab("*/30") == crontab("0,30")
    assert crontab(1) != crontab(2)
    assert crontab(1) != crontab(1, nowfun=datetime.now)
    assert crontab(1) != schedule(60)
    assert solar("sunset", 1, 2) == solar("sunset", 1, 2) != solar("sunset", 1, 3)


@pytest.mark.parametrize(
    "made",
    [schedule(5, relative=True), crontab(1, 2, "mon"), crontab(nowfun=datetime.now), solar("sunset", 1, 2)],
)
def test_they_survive_pickling(made):
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert again.nowfun == made.nowfun
    assert getattr(again, "relative", None) == getattr(made, "relative", None)


# -- when they are due ---------------------------------------------------------------------


def test_an_interval_is_due_when_it_has_passed():
    made = at(NOON, schedule, 60)
    assert made.is_due(NOON - timedelta(seconds=60)) == schedstate(True, 60.0)
    assert made.is_due(NOON - timedelta(seconds=45)) == (False, 15.0)
    assert made.remaining_estimate(NOON - timedelta(seconds=90)) == timedelta(seconds=-30)


def test_a_relative_interval_is_due_at_the_full_hour():
    made = at(NOON + timedelta(minutes=20), schedule, 3600, relative=True)
    assert made.is_due(NOON - timedelta(minutes=20)).is_due
    assert made.is_due(NOON + timedelta(minutes=5)) == (False, 40 * 60.0)


def test_a_naive_time_is_taken_for_utc():
    made = at(NOON.replace(tzinfo=None), schedule, 60)
    assert made.is_due(NOON.replace(tzinfo=None) - timedelta(seconds=61)).is_due


def test_a_crontab_is_due_once_in_its_minute():
    made = at(NOON + timedelta(seconds=2), crontab, 0)
    assert made.is_due(NOON - timedelta(seconds=1)) == (True, 3598.0)
    assert made.is_due(NOON) == (False, 3598.0)


def test_days_must_match_in_all_fields():
    made = crontab(0, 0, day_of_week="fri", day_of_month=13)
    made.tz = timezone.utc
    assert made.next_after(NOON) == datetime(2026, 11, 13, tzinfo=timezone.utc)


def test_rare_dates_are_found():
    made = crontab(0, 0, day_of_week="mon", day_of_month=29, month_of_year=2)
    made.tz = timezone.utc
    found = made.next_after(datetime(2072, 3, 1, tzinfo=timezone.utc))
    assert found == datetime(2112, 2, 29, tzinfo=timezone.utc)


def times(made: BaseSchedule, start: datetime, count: int) -> list[str]:
    made.tz = BERLIN
    found = [made.next_after(start)]
    while len(found) < count:
        found.append(made.next_after(found[-1]))
    return [each.astimezone(BERLIN).strftime("%d %H:%M %z") for each in found]


def test_a_time_that_the_clock_skips_is_due_as_much_later():
    start = datetime(2026, 3, 28, 12, tzinfo=timezone.utc)
    assert times(crontab(30, 2), start, 2) == ["29 03:30 +0200", "30 02:30 +0200"]
    assert times(crontab("0,30", "2,3"), start, 3) == ["29 03:00 +0200", "29 03:30 +0200", "30 02:00 +0200"]


def test_a_time_that_comes_twice_is_due_the_first_time():
    start = datetime(2026, 10, 24, 12, tzinfo=timezone.utc)
    assert times(crontab(30, 2), start, 2) == ["25 02:30 +0200", "26 02:30 +0100"]


def test_a_crontab_of_every_hour_goes_on_as_time_passes():
    start = datetime(2026, 10, 24, 23, 50, tzinfo=timezone.utc)
    assert times(crontab("*/30"), start, 5) == [
        "25 02:00 +0200", "25 02:30 +0200", "25 02:00 +0100", "25 02:30 +0100", "25 03:00 +0100",
    ]  # fmt: skip
    start = datetime(2026, 3, 29, 0, 10, tzinfo=timezone.utc)
    assert times(crontab(30), start, 3) == ["29 01:30 +0100", "29 03:30 +0200", "29 04:30 +0200"]


def test_the_zone_is_the_apps(app):
    app.conf.timezone = "Europe/Berlin"
    made = crontab(0, 4, app=app)
    assert made.next_after(NOON) == datetime(2026, 5, 5, 2, tzinfo=timezone.utc)
    assert made.now().tzinfo == BERLIN
    assert made.utc_enabled
    assert made.to_local(NOON) is NOON


def test_without_an_app_the_current_one_counts():
    with FastQ("zone", broker="memory://zone") as current:
        current.conf.timezone = "Asia/Tokyo"
        assert crontab().tz == ZoneInfo("Asia/Tokyo")


def test_what_was_last_due_before_the_deadline_is_not_made_up_for(app):
    app.conf.beat_cron_starting_deadline = 60
    late = at(NOON + timedelta(seconds=61), crontab, 0, app=app)
    assert late.is_due(NOON - timedelta(minutes=5)) == (False, 3600.0 - 61)
    early = at(NOON + timedelta(seconds=60), crontab, 0, app=app)
    assert early.is_due(NOON - timedelta(minutes=5)).is_due


def test_a_schedule_of_ones_own_needs_next_after_alone():
    class Doubling(BaseSchedule):
        def next_after(self, when):
            return when + timedelta(seconds=10) if when < NOON else None

    made = Doubling(nowfun=lambda: NOON)
    assert made.is_due(NOON - timedelta(seconds=4)) == (False, 6.0)
    assert made.is_due(NOON - timedelta(seconds=10)).is_due
    assert not made.is_due(NOON).is_due
    with pytest.raises(NotImplementedError, match="BaseSchedule defines no next_after"):
        BaseSchedule().next_after(NOON)


# -- the sun --------------------------------------------------------------------------------

# Published times, in UTC to the minute: of the US Naval Observatory for Atlanta, as the documentation of
# PyEphem cites them; of timeanddate.com for London, as the tests of astral cite them; of NOAA's
# equations for Lakewood, New Jersey, as the tests of PHPZmanim cite them.
ALMANAC = [
    (33.8, -84.4, date(2009, 9, 6), {
        "dawn_civil": "10:50", "sunrise": "11:15", "solar_noon": "17:36", "sunset": "23:56",
        "dusk_civil": "00:21",
    }),
    (51.5, -0.13, date(2015, 12, 1), {
        "dawn_astronomical": "05:41", "dawn_nautical": "06:22", "dawn_civil": "07:04", "sunrise": "07:43",
        "solar_noon": "11:49", "sunset": "15:55", "dusk_civil": "16:34", "dusk_nautical": "17:16",
    }),
    (51.5, -0.13, date(2015, 12, 25), {
        "dawn_astronomical": "06:01", "dawn_nautical": "06:41", "dawn_civil": "07:25", "sunrise": "08:05",
        "solar_noon": "12:00", "sunset": "15:55", "dusk_civil": "16:36", "dusk_nautical": "17:19",
    }),
    (40.0721087, -74.2400243, date(2017, 10, 17), {
        "dawn_astronomical": "09:40", "dawn_nautical": "10:11", "dawn_civil": "10:42", "sunrise": "11:10",
        "solar_noon": "16:42", "sunset": "22:14", "dusk_civil": "22:41", "dusk_nautical": "23:13",
        "dusk_astronomical": "23:44",
    }),
]  # fmt: skip


@pytest.mark.parametrize(
    ("lat", "lon", "day", "event", "clock"),
    [(lat, lon, day, event, clock) for lat, lon, day, events in ALMANAC for event, clock in events.items()],
)
def test_the_sun_keeps_to_the_almanac(lat, lon, day, event, clock):
    morning = datetime(day.year, day.month, day.day, 4, tzinfo=timezone.utc)
    found = solar(event, lat, lon).next_after(morning)
    published = datetime.combine(found.date(), time.fromisoformat(clock), timezone.utc)
    assert abs(found - published) <= timedelta(minutes=1)
    assert found - morning < timedelta(days=1)


def test_each_event_is_found_once_a_day():
    for event in celery.schedules.solar._all_events:
        made = solar(event, 48.1, 11.6)
        when, found = datetime(2026, 3, 1, tzinfo=timezone.utc), []
        for _ in range(60):
            when = made.next_after(when)
            found.append(when.date())
        assert len(set(found)) == 60
        assert (found[-1] - found[0]).days == 59


def test_where_the_sun_does_not_set_the_next_sunset_is_months_away():
    made = solar("sunset", 69.65, 18.96)  # Tromsø
    found = made.next_after(datetime(2026, 6, 1, tzinfo=timezone.utc))
    assert datetime(2026, 7, 24, tzinfo=timezone.utc) < found < datetime(2026, 7, 28, tzinfo=timezone.utc)


def test_what_never_happens_is_never_due():
    made = solar("dawn_astronomical", 89.9, 0)
    made.max_search_days = 3
    assert made.next_after(datetime(2026, 6, 1, tzinfo=timezone.utc)) is None
    assert not made.is_due(datetime(2026, 6, 1, tzinfo=timezone.utc)).is_due


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("sunrises", 1, 2), "no event of the sun is named 'sunrises'; did you mean 'sunrise'"),
        (("sunrise", 91, 2), r"solar\(lat=91\): it must be from -90 to 90 degrees"),
        (("sunrise", 1, -181), r"solar\(lon=-181\)"),
    ],
)
def test_a_wrong_event_or_place_is_refused(args, message):
    with pytest.raises(ValueError, match=message):
        solar(*args)


def test_without_ephem_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ephem", None)
    with pytest.raises(ImproperlyConfigured, match=r"fastq-queue\[solar\]"):
        solar("sunrise", 1, 2)
