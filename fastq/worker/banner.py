"""What a worker says of itself when it starts."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from fastq.app.stores import EMBEDDED_URL
from fastq.version import __version__

if TYPE_CHECKING:
    from fastq.worker.worker import Worker

MOST_TASKS = 40  # named one by one; a library of hundreds would push the rest off the screen
INDENT = 13


def banner(worker: Worker) -> str:
    """The lines that say what *worker* is about to do, without any password."""
    system = f"Python {platform.python_version()} on {platform.system()}"
    head = f"fastq {__version__} · {worker.hostname} · {system}"
    lines = [head, ""]
    lines += [f"  {name:{INDENT - 3}} {value}" for name, value in facts(worker)]
    tasks = sorted(name for name in worker.app.tasks if not name.startswith("celery."))
    shown = tasks[:MOST_TASKS] or ["none: import their modules with -I, or define them where the app is"]
    if len(tasks) > MOST_TASKS:
        shown.append(f"and {len(tasks) - MOST_TASKS} more")
    lines += ["", f"  {'tasks':{INDENT - 3}} {shown[0]}"]
    lines += [" " * INDENT + name for name in shown[1:]]
    return "\n".join(lines) + "\n"


def facts(worker: Worker) -> list[tuple[str, str]]:
    """The names and values of the banner's upper part."""
    conf = worker.app.conf
    return [
        ("app", f"{worker.app.main or 'unnamed'}"),
        ("broker", broker_line(worker)),
        ("results", results_line(worker)),
        ("queues", ", ".join(map(worker.app.router.called, worker.queue_names))),
        (
            "pool",
            f"{worker.pool_name}, {worker.concurrency} at once",
        ),
        ("prefetch", prefetch_line(conf.worker_prefetch_multiplier, worker.concurrency or 1)),
        ("lease", f"{conf.worker_lease:g} s: then another worker takes what a dead one held"),
        ("stop", f"TERM or Ctrl-C: running tasks get {conf.worker_shutdown_timeout:g} s, the rest goes back"),
    ]


def broker_line(worker: Worker) -> str:
    """Where the broker lies; an embedded one is said to be."""
    read, write = worker.app.read_broker, worker.app.broker
    if read is not write:
        return f"{read.description()}; what follows goes to {write.description()}"
    embedded = read.url == EMBEDDED_URL
    return read.description() + ("  (embedded: nothing else to start)" if embedded else "")


def results_line(worker: Worker) -> str:
    """Where results go."""
    backend = worker.app.backend
    if backend is None:
        return "disabled: set result_backend to keep them"
    if backend.shares_store_with(worker.app.read_broker):
        return "kept with the broker, each in one commit with its task"
    return backend.description()


def prefetch_line(multiplier: int | str, concurrency: int) -> str:
    """The size of the prefetch window."""
    if multiplier == "auto":
        return "auto: wide for short tasks, one per free slot for long ones"
    if not multiplier:
        return "unlimited"
    return f"{int(multiplier) * concurrency} ({multiplier} per slot)"
