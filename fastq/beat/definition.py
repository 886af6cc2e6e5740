"""Entries that were added at run time, as the broker keeps them: maps of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from fastq._core.codec import json_dumps, json_loads
from fastq.beat.entry import ScheduleEntry
from fastq.exceptions import ImproperlyConfigured
from fastq.schedules import crontab, maybe_schedule, schedule, solar

FIELDS = ("task", "args", "kwargs", "options", "overlap", "catch_up", "jitter")
CRON_FIELDS = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")


def dump_entry(entry: ScheduleEntry) -> bytes:
    """*entry* as bytes. Raises `ImproperlyConfigured` when only this program could read it."""
    fields = {name: getattr(entry, name) for name in FIELDS}
    fields["args"] = list(entry.args or ())
    fields["schedule"] = dump_schedule(entry.schedule)
    try:
        return json_dumps(fields)
    except TypeError as exc:
        raise ImproperlyConfigured(
            f"the entry {entry.name!r} can't be kept in the broker, for JSON has no form for it: {exc}; "
            "define it in beat_schedule"
        ) from exc


def load_entry(name: str, data: bytes, app: Any) -> ScheduleEntry:
    """The entry that `dump_entry` wrote."""
    fields: dict[str, Any] = json_loads(data)
    when = load_schedule(fields.pop("schedule"))
    known = {field: value for field, value in fields.items() if field in FIELDS}
    return ScheduleEntry(name, schedule=when, app=app, **known)


def dump_schedule(when: Any) -> dict[str, Any]:
    """A schedule as a map; those of other classes than Celery's have no such form."""
    when = maybe_schedule(when)
    if type(when) is schedule and isinstance(when.run_every, timedelta):
        return {"every": when.run_every.total_seconds(), "relative": when.relative}
    if type(when) is crontab:
        return {"crontab": [_field(getattr(when, f"_orig_{field}")) for field in CRON_FIELDS]}
    if type(when) is solar:
        return {"solar": [when.event, when.lat, when.lon]}
    raise ImproperlyConfigured(
        f"{when!r} can't be kept in the broker: it takes numbers, timedelta, schedule, crontab and solar; "
        "define the entry in beat_schedule"
    )


def load_schedule(fields: Mapping[str, Any]) -> Any:
    """The schedule that `dump_schedule` wrote."""
    match fields:
        case {"every": seconds}:
            return schedule(float(seconds), bool(fields.get("relative")))
        case {"crontab": given}:
            return crontab(*given)
        case {"solar": [event, lat, lon]}:
            return solar(event, lat, lon)
    raise ImproperlyConfigured(f"{dict(fields)!r} is no schedule that this version knows")


def describe(when: Any) -> str:
    """A schedule for people."""
    if type(when) is schedule:
        return f"every {when.human_seconds}{', relative' if when.relative else ''}"
    if type(when) is crontab:
        fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        return " ".join(str(_field(getattr(when, f"_orig_{field}"))) for field in fields)
    if type(when) is solar:
        return f"{when.event} at {when.lat}, {when.lon}"
    return repr(when)


def _field(field: Any) -> Any:
    return field if isinstance(field, int | str) else sorted(field)
