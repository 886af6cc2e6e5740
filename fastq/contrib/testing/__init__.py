"""Helpers for the tests of programs that use fastq: docs/testing.md."""

from fastq.contrib.testing.app import TestApp, setup_default_app
from fastq.contrib.testing.clock import travel
from fastq.contrib.testing.sent import Sent, SentTask, capture
from fastq.contrib.testing.worker import drain, start_worker

__all__ = ("Sent", "SentTask", "TestApp", "capture", "drain", "setup_default_app", "start_worker", "travel")
