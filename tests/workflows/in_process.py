"""A worker whose client is a thread of it, for a broker that lives in one process: ``POOL CONCURRENCY``.

Reads workflows from standard input, a JSON map a line, and answers each with what is wrong about it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

from reference.canvas import expected
from workflows.app import api, app
from workflows.building import start
from workflows.description import from_map
from workflows.journal import JournalReader
from workflows.observing import check

from fastq.worker.worker import Worker


def answer() -> None:
    """Run what is asked for, one workflow after another."""
    reader = JournalReader(Path(os.environ["WORKFLOWS_JOURNAL"]))
    for line in sys.stdin:
        asked = json.loads(line)
        node, given, token = from_map(asked["node"]), asked["given"], asked["token"]
        deadline = time.monotonic() + asked["patience"]
        wrong = None
        try:
            check(expected(node, given), start(api, node, token, given), token, reader, deadline)
        except Exception as exc:
            wrong = f"{type(exc).__name__}: {exc}"
        # A worker takes standard output for its log.
        print(json.dumps(wrong), file=sys.__stdout__, flush=True)


def main(pool: str, concurrency: str) -> None:
    """Run the worker until it is killed."""
    client = threading.Thread(target=answer, daemon=True)
    Worker(app, pool=pool, concurrency=int(concurrency), loglevel="WARNING", on_started=client.start).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
