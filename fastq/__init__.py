"""fastq: a distributed task queue with Celery's API and wire protocol on a C-accelerated core."""

from fastq.app.base import FastQ, shared_task
from fastq.app.current import app_or_default, current_app, current_task
from fastq.app.task import Task
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
    "Task",
    "__version__",
    "app_or_default",
    "binding",
    "current_app",
    "current_task",
    "shared_task",
]
