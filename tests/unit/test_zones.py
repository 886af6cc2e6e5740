"""The zone of an application's clock, and what times without a zone stand for."""

import time
from datetime import datetime, timedelta, timezone
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import pytest
from celery import Celery
from celery.worker.request import Request

from fastq import FastQ
from fastq._core.consume import parse_instant
from fastq.app.zones import LocalZone

BERLIN = ZoneInfo("Europe/Berlin")


def nothing():
    pass


@pytest.fixture
def _in_berlin(monkeypatch):
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture
def make_app():
    apps = []

    def make(**settings):
        apps.append(FastQ("zones", broker="memory://zones", set_as_current=False, **settings))
        return apps[-1]

    yield make
    for app in apps:
        app.close()


@pytest.mark.usefixtures("_in_berlin")
@pytest.mark.parametrize("changes_at", [datetime(2026, 3, 29), datetime(2026, 10, 25)])
def test_the_local_zone_keeps_summer_time(changes_at):
    local = LocalZone()
    start = changes_at.replace(tzinfo=timezone.utc)
    for minutes in range(-180, 360, 20):
        there = start + timedelta(minutes=minutes)
        here, known = there.astimezone(local), there.astimezone(BERLIN)
        assert (here.isoformat(), here.fold, here.tzname()) == (known.isoformat(), known.fold, known.tzname())
        assert here.astimezone(timezone.utc) == there


@pytest.mark.usefixtures("_in_berlin")
@pytest.mark.parametrize(
    ("settings", "zone"),
    [
        ({}, timezone.utc),
        ({"enable_utc": False}, LocalZone()),
        ({"timezone": "Europe/Berlin"}, BERLIN),
        ({"timezone": "UTC", "enable_utc": False}, timezone.utc),
        ({"timezone": "Europe/Berlin", "enable_utc": False}, BERLIN),
        ({"timezone": timezone(timedelta(hours=3))}, timezone(timedelta(hours=3))),
    ],
)
def test_settings_choose_the_apps_zone(make_app, settings, zone):
    app = make_app(**settings)
    assert app.timezone == zone
    assert app.now().tzinfo == zone
    assert app.uses_utc_timezone() == (zone == timezone.utc)
    assert abs(app.now() - datetime.now(timezone.utc)) < timedelta(seconds=5)


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("is_utc", [True, False])
def test_a_naive_eta_or_expiry_is_utc_as_for_celerys_workers(make_app, zone, is_utc):
    naive = datetime(2030, 7, 1, 12)
    celery = Celery("zones", broker="memory://", set_as_current=False)
    celery.conf.update(timezone=zone, enable_utc=is_utc)
    celery.task(name="t")(nothing)
    headers = {"id": "i", "task": "t", "eta": naive.isoformat()}
    seen_by_celery = Request(Mock(headers=headers, payload=([], {}, {}), properties={}), app=celery)._eta

    app = make_app(timezone=zone, enable_utc=is_utc)
    task = app.task(name="t")(nothing)
    task.prepare()
    [message] = app.composer.compose("t", task, (), {}, {"eta": naive, "expires": naive}, None)
    assert message.headers["eta"] == message.headers["expires"] == "2030-07-01T12:00:00+00:00"
    assert parse_instant(naive.isoformat()) == seen_by_celery.timestamp() == message.due
