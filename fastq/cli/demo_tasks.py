"""The tasks of `fastq demo`."""

from __future__ import annotations

from fastq.app.base import FastQ

app = FastQ("fastq-demo", set_as_current=False)


@app.task
def add(x: int, y: int) -> int:
    """The sum of *x* and *y*."""
    return x + y
