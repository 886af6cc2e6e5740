"""Runs many commands of one kind's command line in one process: a JSON list of argument lists on stdin.

Prints, as JSON, the exit code and the output of each. To start Python for each would take a second.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout

from interop_tasks import KIND


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    try:
        if KIND == "fastq":
            from fastq.cli.main import main

            main(arguments)
        else:
            from celery.bin.celery import celery

            celery(arguments, prog_name="celery")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    return 0


said = []
for arguments in json.load(sys.stdin):
    output = io.StringIO()
    with redirect_stdout(output), redirect_stderr(output):
        code = run(arguments)
    said.append([code, output.getvalue()])
json.dump(said, sys.stdout)
