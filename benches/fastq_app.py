"""The tasks of a fastq application with the settings that everyone gets."""

from __future__ import annotations

import json
import os
from typing import Any

from benches import floor
from benches.data import QUEUE
from fastq import FastQ, Queue, chain, chord, group

__all__ = ["app", "chain", "chord", "echo", "group", "mark", "noop", "send_many", "total"]

url, settings = os.environ["BENCH_URL"], json.loads(os.environ["BENCH_SETTINGS"])
app = FastQ("benches", broker=url, backend=settings.pop("result_backend", url))
if not settings.pop("queue_is_durable", True):
    app.conf.task_queues = [Queue(QUEUE, durable=False)]
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
    """Send *count* no-op tasks at once; their ids."""
    return [result.id for result in noop.apply_many(() for _ in range(count))]
