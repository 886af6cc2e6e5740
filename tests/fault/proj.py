"""The application of the captured messages: every way in which the worker is done with one leaves a line."""

from __future__ import annotations

import os
import threading
from typing import Any

from judge import Journal

from fastq import FastQ, signals

app = FastQ("proj", broker=os.environ["FAULT_BROKER"], backend=os.environ["FAULT_BACKEND"])
app.conf.accept_content = ["json", "msgpack", "yaml"]
journal = Journal(os.environ["FAULT_JOURNAL"])


class Current(threading.local):
    """The task that runs in this thread."""

    following = 0  # how many messages have been composed in it


current = Current()


@app.task(name="proj.add")
def add(x: Any, y: Any) -> Any:
    """Whatever x and y are."""
    return x + y


@app.task(name="proj.size")
def size(text: str) -> int:
    """The length of *text*."""
    return len(text)


@signals.task_prerun.connect
def begin(**named: Any) -> None:
    """Nothing follows this task yet."""
    current.following = 0


@signals.task_postrun.connect
def note_run(**named: Any) -> None:
    """Say that a task ran, well or not."""
    journal.note("ran")


@signals.before_task_publish.connect
def note_following(**named: Any) -> None:
    """Say that there is one message more: a callback, the next step of a chain, the body of a chord."""
    current.following += 1
    journal.note("following")


@signals.task_internal_error.connect
def note_unsent(**named: Any) -> None:
    """Say that what was composed is not sent: something else that is to follow makes no sense."""
    journal.note("unsent", ["-"] * current.following)


@signals.task_revoked.connect
def note_revoked(**named: Any) -> None:
    """Say that a message had expired."""
    journal.note("revoked")


@signals.worker_ready.connect
def note_ready(**named: Any) -> None:
    """Say that the worker is ready."""
    journal.note("ready")


@signals.worker_process_init.connect
def note_child(**named: Any) -> None:
    """Say that a child of the prefork pool began."""
    journal.note("child")
