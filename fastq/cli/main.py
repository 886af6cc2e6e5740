"""The entry of the `fastq` command.

Nothing else may be imported before `main` has looked for the gevent pool: gevent replaces
parts of the standard library, and whoever imported them earlier keeps the originals.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastq.app.base import FastQ


def main() -> None:
    """Run the command that the process's arguments ask for, and exit with its code."""
    arguments = sys.argv[1:]
    if wants_gevent(arguments, os.environ.get("FASTQ_WORKER_POOL", "")):
        from fastq.worker.pools.patch import patch_gevent

        patch_gevent()
    from fastq.cli.commands import run

    sys.exit(run(arguments))


def wants_gevent(arguments: list[str], default_pool: str) -> bool:
    """Whether *arguments* start a worker on the gevent pool; *default_pool* counts when they name none."""
    if "worker" not in arguments:
        return False
    pool = default_pool
    for at, argument in enumerate(arguments):
        if argument in ("-P", "--pool"):
            pool = arguments[at + 1] if at + 1 < len(arguments) else ""
        elif argument.startswith("--pool="):
            pool = argument[len("--pool=") :]
        elif argument.startswith("-P") and not argument.startswith("--"):
            pool = argument[2:]
    return pool == "gevent"


def worker_main(app: FastQ, argv: Sequence[str] | None = None) -> int:
    """Run ``fastq worker`` with the arguments *argv*, or the process's own, for *app*; returns its exit code.

    As with Celery's, the word ``worker`` may lead the arguments. Raises what is wrong with them.
    """
    from fastq.cli.worker import run_for

    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["worker"]:
        del arguments[0]
    return run_for(app, arguments)
