"""fastq: a distributed task queue with Celery's API and wire protocol on a C-accelerated core."""

from fastq.app.base import FastQ, shared_task
from fastq.app.current import app_or_default, current_app, current_task
from fastq.app.task import Task
from fastq.result import AsyncResult
from fastq.topology import Exchange, Queue

Celery = FastQ
__version__ = "0.1.0"

__all__ = [
    "AsyncResult",
    "Celery",
    "Exchange",
    "FastQ",
    "Queue",
    "Task",
    "app_or_default",
    "current_app",
    "current_task",
    "shared_task",
]
