"""Where the beats of an application share their schedule, and where the messages go."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastq.app.stores import EMBEDDED_URL, backend_url
from fastq.brokers.base import Broker
from fastq.brokers.failover import split_urls
from fastq.brokers.schedule_store import ScheduleStore
from fastq.brokers.schemes import open_broker

# Result stores that can keep schedules too.
SCHEMES = ("redis", "rediss", "redis+socket", "unix", "sentinel", "sqlite")


class Place(NamedTuple):
    """A store, and the broker that it lies in."""

    store: ScheduleStore
    broker: Broker
    publisher: Broker | None  # where messages go, if that is another one
    description: str

    def close(self) -> None:
        """Close what was opened for the schedule alone."""
        if self.publisher is not None:
            self.broker.close()


def open_place(app: Any) -> Place:
    """Where the schedule of *app* is kept: in its broker; else beside its results; else on this machine."""
    name = app.main or "fastq"
    broker: Broker = app.broker
    if broker.keeps_schedules:
        return Place(broker.schedule_store(name), broker, None, f"in {broker.description()}")
    url = backend_url(app.conf) or ""
    is_shared = url.partition("://")[0] in SCHEMES
    keeper = open_broker(split_urls(url)[0] if is_shared else EMBEDDED_URL, broker.options)
    where = f"in {keeper.description()}, for {type(broker).__name__} keeps none"
    if not is_shared or url.startswith("sqlite"):
        where += ": shared by the beats of this machine alone"
    return Place(keeper.schedule_store(name), keeper, broker, where)
