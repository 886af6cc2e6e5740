"""Schedules that follow the sun, reckoned by ephem (the extra ``solar``)."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from importlib import import_module
from typing import Any, NamedTuple

from fastq.exceptions import ImproperlyConfigured, nearest_name
from fastq.schedules.base import BaseSchedule

# Two searches for one event, begun at different times, may find it so far apart.
SAME_EVENT = timedelta(seconds=1)
# Further on than that, and before the next event of its kind.
PAST_EVENT = timedelta(minutes=1)


class _Event(NamedTuple):
    """How ephem finds an event: its method, the height of the horizon, and whether the centre counts."""

    method: str
    horizon: str  # degrees:minutes
    use_center: bool


# The definitions of the US Naval Observatory: the upper limb at 34' below the horizon, which is the
# refraction there, for rise and set; the centre for the twilights.
_EVENTS = {
    "dawn_astronomical": _Event("next_rising", "-18", True),
    "dawn_nautical": _Event("next_rising", "-12", True),
    "dawn_civil": _Event("next_rising", "-6", True),
    "sunrise": _Event("next_rising", "-0:34", False),
    "solar_noon": _Event("next_transit", "0", False),
    "sunset": _Event("next_setting", "-0:34", False),
    "dusk_civil": _Event("next_setting", "-6", True),
    "dusk_nautical": _Event("next_setting", "-12", True),
    "dusk_astronomical": _Event("next_setting", "-18", True),
}


class solar(BaseSchedule):
    """Due at every *event* of the sun at the latitude *lat* and longitude *lon*, in degrees.

    North and east are above 0. The events are ``dawn_astronomical``, ``dawn_nautical``,
    ``dawn_civil``, ``sunrise``, ``solar_noon``, ``sunset``, ``dusk_civil``, ``dusk_nautical`` and
    ``dusk_astronomical``. Where an event does not happen every day, as near the poles, it is due when
    it next does, which is looked for over `max_search_days`.
    """

    max_search_days = 366

    def __init__(self, event: str, lat: float, lon: float, **kwargs: Any) -> None:
        try:
            self.ephem: Any = import_module("ephem")
        except ImportError as exc:
            raise ImproperlyConfigured('solar() needs ephem: pip install "fastq-queue[solar]"') from exc
        if event not in _EVENTS:
            hint = nearest_name(event, _EVENTS) or f": it is one of {', '.join(_EVENTS)}"
            raise ValueError(f"no event of the sun is named {event!r}{hint}")
        for name, degrees, limit in (("lat", lat, 90), ("lon", lon, 180)):
            if not -limit <= degrees <= limit:
                raise ValueError(f"solar({name}={degrees}): it must be from -{limit} to {limit} degrees")
        self.event = event
        self.lat = lat
        self.lon = lon
        super().__init__(**kwargs)
        self.method, horizon, self.use_center = _EVENTS[event]
        self.cal = self.ephem.Observer()
        self.cal.lat = str(lat)
        self.cal.lon = str(lon)
        self.cal.elev = 0
        self.cal.pressure = 0  # else ephem adds a refraction of its own
        self.cal.horizon = horizon

    def next_after(self, when: datetime) -> datetime | None:
        """The first event after *when*, in UTC; None if there is none within `max_search_days`."""
        after = self.maybe_make_aware(when).astimezone(timezone.utc)
        found = self._search(after)
        if found is not None and found <= after + SAME_EVENT:
            found = self._search(after + PAST_EVENT)
        return found

    def _search(self, start: datetime) -> datetime | None:
        sun, begin = self.ephem.Sun(), self.ephem.Date(start)
        options = {"use_center": True} if self.use_center else {}
        for _ in range(self.max_search_days):
            try:
                found = getattr(self.cal, self.method)(sun, start=begin, **options)
            except self.ephem.CircumpolarError:
                begin = self.cal.next_antitransit(sun, start=begin)
            else:
                moment: datetime = found.datetime()
                return moment.replace(tzinfo=timezone.utc)
        return None

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.event, self.lat, self.lon)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, solar):
            return other.event == self.event and other.lat == self.lat and other.lon == self.lon
        return NotImplemented
