"""The entry of the `fastq` command.

Nothing else may be imported before `main` has looked for the gevent or eventlet pool: these replace
parts of the standard library, and whoever imported them earlier keeps the originals.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastq.app.base import FastQ

# The pools that replace parts of the standard library.
PATCHING = ("gevent", "eventlet")


def main(arguments: list[str] | None = None) -> None:
    """Run the command that *arguments*, or the process's own, ask for, and exit with its code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    pool = wanted_pool(arguments, os.environ.get("FASTQ_WORKER_POOL", ""))
    if pool in PATCHING:
        from fastq.worker.pools.patch import PATCHES

        PATCHES[pool]()
    from fastq.cli.commands import Session

    with Session() as session:
        done = session.command(arguments)
        session.exit_code = done if isinstance(done, int) else done.start()
    leave(session.exit_code)


def leave(code: int) -> None:
    """Exit; at once when an abandoned task still has a thread, for which an ordinary exit would wait."""
    import threading

    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.current_thread()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def wanted_pool(arguments: list[str], default_pool: str) -> str:
    """The pool of the worker that *arguments* start, "" for no worker; *default_pool* if they name none."""
    if "worker" not in arguments:
        return ""
    pool = default_pool
    for at, argument in enumerate(arguments):
        if argument in ("-P", "--pool"):
            pool = arguments[at + 1] if at + 1 < len(arguments) else ""
        elif argument.startswith("--pool="):
            pool = argument[len("--pool=") :]
        elif argument.startswith("-P") and not argument.startswith("--"):
            pool = argument[2:]
    return pool


def worker_main(app: FastQ, argv: Sequence[str] | None = None) -> int:
    """Run ``fastq worker`` with the arguments *argv*, or the process's own, for *app*; returns its exit code.

    As with Celery's, the word ``worker`` may lead the arguments. Raises what is wrong with them.
    """
    from fastq.cli.worker import run_for

    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["worker"]:
        del arguments[0]
    return run_for(app, arguments)
