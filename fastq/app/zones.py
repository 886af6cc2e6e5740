"""Time zones of an application other than UTC."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

__all__ = ("LocalZone", "ZoneInfo")


class LocalZone(tzinfo):
    """The system's own zone, with its summer time: what ``enable_utc = False`` asks for."""

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        """The offset at the local time *when*."""
        return None if when is None else _on_system(when).utcoffset()

    def tzname(self, when: datetime | None) -> str | None:
        """The abbreviation at the local time *when*."""
        return None if when is None else _on_system(when).tzname()

    def dst(self, when: datetime | None) -> timedelta | None:
        """Unknown, which `datetime` allows; offsets have it in them."""
        return None

    def fromutc(self, when: datetime) -> datetime:
        """The local time of *when*, which is in UTC."""
        local = when.replace(tzinfo=timezone.utc).astimezone()
        first = local.replace(tzinfo=self, fold=0)
        # Of an hour that comes twice, the offset tells which one it is.
        return first if first.utcoffset() == local.utcoffset() else first.replace(fold=1)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalZone)

    def __hash__(self) -> int:
        return hash(LocalZone)


def _on_system(when: datetime) -> datetime:
    return when.replace(tzinfo=None).astimezone()
