"""A clock that is ahead, for what has an eta or a countdown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

from fastq.app.base import FastQ
from fastq.brokers.memory_store import open_store
from fastq.exceptions import ImproperlyConfigured

# Brokers that go by the clock of this process.
LOCAL_SCHEMES = ("memory", "sqlite")


@contextmanager
def travel(app: FastQ, to: float | timedelta | datetime) -> Iterator[None]:
    """Have it be later by *to* (seconds or a timedelta), or have it be *to*, during the block.

    `time.time` is ahead in the whole process, and so is what *app* reckons from it: what is due, what has
    expired, and countdowns. `datetime.now` is not. Raises `ImproperlyConfigured` where the broker has a
    clock of its own, as Redis and RabbitMQ have.
    """
    if isinstance(to, datetime):
        ahead = to.timestamp() - time.time()
    else:
        ahead = to.total_seconds() if isinstance(to, timedelta) else float(to)
    if not ahead:
        yield
        return
    scheme = app.read_broker.url.partition(":")[0]
    if scheme not in LOCAL_SCHEMES:
        raise ImproperlyConfigured(
            f"no test can travel in the time of {app.read_broker.description()}, which goes by its own "
            "clock: use memory:// or sqlite://"
        )
    real = time.time
    clocks: dict[str, Any] = {
        "now": lambda: datetime.fromtimestamp(time.time(), app.timezone),
        "now_utc": lambda: datetime.fromtimestamp(time.time(), timezone.utc),
    }
    time.time = lambda: real() + ahead
    vars(app).update(clocks)
    try:
        if scheme == "memory":
            open_store(app.read_broker.url).wake()
        yield
    finally:
        time.time = real
        for name in clocks:
            vars(app).pop(name, None)
