"""The application of the fault tests: every run leaves its start and its end in the journal."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from judge import Journal

from fastq import FastQ, signals

app = FastQ("fault", broker=os.environ["FAULT_BROKER"], backend=os.environ["FAULT_BROKER"])
app.conf.worker_lease = float(os.environ.get("FAULT_LEASE", "2"))
app.conf.worker_shutdown_timeout = float(os.environ.get("FAULT_SHUTDOWN", "10"))
journal = Journal(os.environ["FAULT_JOURNAL"])


@app.task(bind=True)
def work(self: Any, seconds: float) -> str:
    """Take *seconds*."""
    run = journal.new_run()
    journal.note("start", [self.request.id], run)
    if seconds:
        time.sleep(seconds)
    journal.note("end", [self.request.id], run)
    return run


@app.task(bind=True)
async def async_work(self: Any, seconds: float) -> str:
    """Take *seconds* without keeping a thread."""
    run = journal.new_run()
    journal.note("start", [self.request.id], run)
    await asyncio.sleep(seconds)
    journal.note("end", [self.request.id], run)
    return run


@app.task(ignore_result=True)
def noop() -> None:
    """Do nothing, and leave nothing in the journal."""


@signals.worker_ready.connect
def note_ready(**named: Any) -> None:
    """Say that the worker is ready."""
    journal.note("ready")


@signals.worker_process_init.connect
def note_child(**named: Any) -> None:
    """Say that a child of the prefork pool began."""
    journal.note("child")
