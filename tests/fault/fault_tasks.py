"""The application of the fault tests: every run leaves its start and its end in the journal."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from judge import Journal

from fastq import FastQ, signals

app = FastQ("fault", broker=os.environ["FAULT_BROKER"], backend=os.environ["FAULT_BACKEND"])
app.conf.worker_lease = float(os.environ.get("FAULT_LEASE", "2"))
app.conf.broker_heartbeat = float(os.environ.get("FAULT_HEARTBEAT", "0"))
app.conf.worker_shutdown_timeout = float(os.environ.get("FAULT_SHUTDOWN", "10"))
journal = Journal(os.environ["FAULT_JOURNAL"])


def start_of(task: Any) -> str:
    """What the journal calls the start of this run."""
    return "restart" if task.request.delivery_info["redelivered"] else "start"


@app.task(bind=True)
def work(self: Any, seconds: float) -> str:
    """Take *seconds*."""
    run = journal.new_run()
    journal.note(start_of(self), [self.request.id], run)
    if seconds:
        time.sleep(seconds)
    journal.note("end", [self.request.id], run)
    return run


@app.task(bind=True)
async def async_work(self: Any, seconds: float) -> str:
    """Take *seconds* without keeping a thread."""
    run = journal.new_run()
    journal.note(start_of(self), [self.request.id], run)
    await asyncio.sleep(seconds)
    journal.note("end", [self.request.id], run)
    return run


@app.task(bind=True)
def compute(self: Any, seconds: float) -> None:
    """Compute for *seconds*, and let other threads have the interpreter when they ask for it."""
    run = journal.new_run()
    journal.note(start_of(self), [self.request.id], run)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
    journal.note("end", [self.request.id], run)


@app.task(bind=True)
def compute_in_slices(self: Any, seconds: float) -> None:
    """Compute for *seconds* in C, where no other thread has the interpreter for a part of a second."""
    run = journal.new_run()
    journal.note(start_of(self), [self.request.id], run)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(10_000_000))
    journal.note("end", [self.request.id], run)


@app.task(bind=True)
def die(self: Any) -> None:
    """Kill the process that runs it."""
    journal.note(start_of(self), [self.request.id], journal.new_run())
    os.kill(os.getpid(), signal.SIGKILL)


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
