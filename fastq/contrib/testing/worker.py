"""Workers in the process of a test."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import Any

from fastq.app.base import FastQ
from fastq.app.sending import origin
from fastq.contrib.testing.clock import travel
from fastq.worker.embedded import DrainWorker, EmbeddedWorker

# Seconds between two looks at whether a worker that is to start has failed instead.
LOOK_EVERY = 0.02

_serials = count(1)


@contextmanager
def start_worker(
    app: FastQ,
    concurrency: int = 1,
    pool: str = "solo",
    loglevel: str | int | None = None,
    logfile: str | None = None,
    perform_ping_check: bool = True,
    ping_task_timeout: float = 10.0,
    shutdown_timeout: float = 10.0,
    **options: Any,
) -> Iterator[EmbeddedWorker]:
    """Run a worker of *app* in a thread of this process during the block.

    It consumes when the block begins; with *perform_ping_check* it has run the task ``celery.ping`` too,
    where results are kept, for which it has *ping_task_timeout* seconds. At the end tasks that run have
    *shutdown_timeout* seconds. *options* are those of `fastq.worker.worker.Worker`, such as ``queues``.
    Raises what ends the worker early, and RuntimeError if it does not stop.
    """
    ping = app.task(name="celery.ping")(_answer) if perform_ping_check else None
    options.setdefault("hostname", f"{origin().partition('@')[0]}-{next(_serials)}")
    loglevel = loglevel or os.environ.get("WORKER_LOGLEVEL", "error")
    worker = EmbeddedWorker(
        app, concurrency=concurrency, pool=pool, loglevel=loglevel, logfile=logfile, **options
    )
    failures: list[BaseException] = []
    thread = threading.Thread(target=_run, args=(worker, failures), name="fastq-test-worker", daemon=True)
    thread.start()
    try:
        while not worker.has_started.wait(LOOK_EVERY):
            if not thread.is_alive():
                raise failures[0] if failures else RuntimeError(f"{worker.hostname} has stopped by itself")
        if ping is not None and app.backend is not None:
            answer = ping.apply_async(queue=worker.queue_names[0])
            if answer.get(timeout=ping_task_timeout, disable_sync_subtasks=False) != "pong":
                raise RuntimeError(f"{worker.hostname} does not answer as {ping.name} does")
        yield worker
    finally:
        worker.stop(shutdown_timeout)
        thread.join(shutdown_timeout)
    if thread.is_alive():
        raise RuntimeError(
            f"{worker.hostname} still runs a task {shutdown_timeout:g} s after the test: "
            "give it more shutdown_timeout, or let the test wait for the task"
        )
    if failures:
        raise failures[0]


def _answer() -> str:
    return "pong"


def _run(worker: EmbeddedWorker, failures: list[BaseException]) -> None:
    try:
        worker.start()
    except BaseException as exc:
        failures.append(exc)


def drain(app: FastQ, queues: Sequence[str] = (), *, after: float | timedelta = 0, **options: Any) -> int:
    """Run, in this thread, what waits in *queues* and what comes of it; by default in all that a worker has.

    Returns how many messages were dealt with: that includes a failed task, which raises nothing here.
    What is not due stays; with *after*, seconds or a timedelta, all is as it will be then (`travel`).
    """
    worker = DrainWorker(app, pool="solo", queues=queues, hostname=f"drain-{next(_serials)}", **options)
    with travel(app, after):
        worker.start()
    return worker.ran
