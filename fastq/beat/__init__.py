"""Periodic tasks: the beat that sends them, under Celery's names."""

from fastq.beat.embedded import EmbeddedService
from fastq.beat.entry import BeatLazyFunc, ScheduleEntry
from fastq.beat.persistent import PersistentScheduler
from fastq.beat.scheduler import DEFAULT_MAX_INTERVAL, Scheduler, SchedulingError, event_t
from fastq.beat.service import Service
from fastq.beat.shared import SharedScheduler

__all__ = (
    "DEFAULT_MAX_INTERVAL",
    "BeatLazyFunc",
    "EmbeddedService",
    "PersistentScheduler",
    "ScheduleEntry",
    "Scheduler",
    "SchedulingError",
    "Service",
    "SharedScheduler",
    "event_t",
)
