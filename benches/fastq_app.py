"""The tasks of a fastq application with the settings that everyone gets."""

from __future__ import annotations

import os

from benches import floor
from fastq import FastQ

app = FastQ("benches", broker=os.environ["BENCH_URL"], backend=os.environ["BENCH_URL"])


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
