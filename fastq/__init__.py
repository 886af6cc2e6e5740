"""fastq: a distributed task queue with Celery's API and wire protocol on a C-accelerated core."""

from fastq.app.base import FastQ, shared_task
from fastq.app.current import app_or_default, current_app, current_task
from fastq.app.task import Task
from fastq.canvas import (
    Signature,
    chain,
    chord,
    chunks,
    group,
    maybe_signature,
    signature,
    subtask,
    xmap,
    xstarmap,
)
from fastq.result import AsyncResult, GroupResult, ResultSet
from fastq.topology import Broadcast, Exchange, Queue, binding
from fastq.version import __version__

Celery = FastQ

__all__ = [
    "AsyncResult",
    "Broadcast",
    "Celery",
    "Exchange",
    "FastQ",
    "GroupResult",
    "Queue",
    "ResultSet",
    "Signature",
    "Task",
    "__version__",
    "app_or_default",
    "binding",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]
