"""The tasks of a Celery application, as fast and as safe as its settings allow.

`task_acks_late` is on, for fastq settles late too. What makes Celery faster without giving
anything up is on as well: no gossip, mingle, heartbeats or events (see `sides.CelerySide`).
"""

from __future__ import annotations

import json
import os
from typing import Any

from celery import Celery, chain, chord, group
from kombu import Exchange, Queue

from benches import floor
from benches.data import QUEUE

__all__ = ["app", "chain", "chord", "echo", "group", "mark", "noop", "send_many", "total"]

url, settings = os.environ["BENCH_URL"], json.loads(os.environ["BENCH_SETTINGS"])
app = Celery("benches", broker=url, backend=settings.pop("result_backend", url))
if not settings.pop("queue_is_durable", True):
    app.conf.task_queues = [Queue(QUEUE, Exchange(QUEUE), QUEUE, durable=False)]
app.conf.update(
    task_acks_late=True,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
    worker_enable_remote_control=False,
)
app.conf.update(settings)


@app.task(name="benches.noop")
def noop() -> None:
    """Do nothing."""


@app.task(name="benches.mark")
def mark() -> None:
    """Write down when this ran."""
    floor.mark()


@app.task(name="benches.echo")
def echo(value: Any = None) -> Any:
    """Return what the step before returned."""
    return value


@app.task(name="benches.total")
def total(values: list[Any]) -> int:
    """The body of a chord: write down when it ran, and tell how many results it got."""
    floor.mark()
    return len(values)


def send_many(count: int) -> list[str]:
    """Send *count* no-op tasks in the fastest way that Celery has; their ids."""
    return [result.id for result in group(noop.s() for _ in range(count)).apply_async().results]
