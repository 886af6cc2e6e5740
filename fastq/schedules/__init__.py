"""Schedules: when a periodic task is due. Pure arithmetic of times, under Celery's names."""

from fastq.schedules.base import BaseSchedule, schedstate
from fastq.schedules.cron import ParseException, crontab, crontab_parser
from fastq.schedules.interval import maybe_schedule, remaining, schedule
from fastq.schedules.sun import solar

__all__ = (
    "BaseSchedule",
    "ParseException",
    "crontab",
    "crontab_parser",
    "maybe_schedule",
    "remaining",
    "schedstate",
    "schedule",
    "solar",
)
