"""The tasks of a fastq application with the settings that everyone gets."""

from __future__ import annotations

import json
import os

from benches import floor
from benches.data import QUEUE
from fastq import FastQ, Queue

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


def send_many(count: int) -> list[str]:
    """Send *count* no-op tasks at once; their ids."""
    return [result.id for result in noop.apply_many(() for _ in range(count))]
