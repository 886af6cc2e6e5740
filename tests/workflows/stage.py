"""One worker that runs workflows, of Celery's or of fastq's, and a client that sends them and judges."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reference.canvas import Expected, expected
from workflows import observing
from workflows.building import celery_api, fastq_api, start
from workflows.description import Node
from workflows.errors import CELERYS_REFUSAL, OUR_REFUSAL
from workflows.journal import Journal, JournalReader
from workflows.tasks import define

REPOSITORY = Path(__file__).parents[2]
CELERY_WORKER = ["-O", "fair", "--without-gossip", "--without-mingle", "--without-heartbeat"]
STARTS_WITHIN = 30.0  # seconds; a busy machine takes some


class Stage:
    """A worker process with *pool* on the broker *url*, with results at *backend*."""

    def __init__(self, kind: str, url: str, backend: str, folder: Path, *pool: str) -> None:
        self.kind = kind
        self.folder = folder
        self._path = folder / "journal"
        self._journal = Journal(self._path)
        self.reader = JournalReader(self._path)
        self._sent = 0
        settings: dict[str, Any] = {"broker_url": url, "result_backend": backend}
        if kind == "celery":
            settings |= {"broker_connection_retry_on_startup": True, "worker_enable_remote_control": False}
        self.api = self._client(settings)
        define(self.api, self._journal)
        self.worker = self._start(settings, pool)

    def _client(self, settings: dict[str, Any]) -> Any:
        if self.kind == "celery":
            from celery import Celery

            app: Any = Celery("flows", set_as_current=False)
            app.conf.update(settings)
            return celery_api(app)
        from fastq import FastQ

        app = FastQ("flows", set_as_current=False)
        app.conf.update(settings)
        return fastq_api(app)

    def _start(self, settings: dict[str, Any], pool: Sequence[str]) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", self.kind, "-A", "workflows.app", "worker"]
        command += ["-l", "WARNING", *pool, *(CELERY_WORKER if self.kind == "celery" else ())]
        with (self.folder / "worker.log").open("wb") as log:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment(self.kind, settings, self._path),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_until_ready(self) -> None:
        """Return when the worker runs tasks."""
        self.api.app.tasks["flow.pick"].delay(["ready/0", 1]).get(timeout=STARTS_WITHIN)

    def expected(self, node: Node, given: Sequence[Any]) -> Expected:
        """What *node* must come to here."""
        return expected(node, given, CELERYS_REFUSAL if self.kind == "celery" else OUR_REFUSAL)

    def run(self, node: Node, given: Sequence[Any] = (), patience: float = observing.PATIENCE) -> None:
        """Run *node* and raise `AssertionError` unless it comes to what it must, soon."""
        self._sent += 1
        token = f"w{self._sent}"
        awaited = self.expected(node, given)
        deadline = time.monotonic() + patience
        try:
            observing.check(awaited, start(self.api, node, token, given), token, self.reader, deadline)
        except (AssertionError, self.timeout) as exc:
            raise AssertionError(f"{exc}\n{node}\ngiven {given}\n{self.log()}") from exc

    @property
    def timeout(self) -> type[Exception]:
        """What waiting in vain raises."""
        if self.kind == "celery":
            from celery.exceptions import TimeoutError
        else:
            from fastq.exceptions import TimeoutError
        return TimeoutError

    def log(self) -> str:
        """The end of the worker's log."""
        return (self.folder / "worker.log").read_text(errors="replace")[-3000:]

    def close(self) -> None:
        """Kill the worker and close the client."""
        if self.worker.poll() is None:
            os.killpg(self.worker.pid, signal.SIGKILL)
            self.worker.wait()
        app = self.api.app
        if self.kind == "celery":
            app.backend.result_consumer.stop()
            app.backend.result_consumer._pubsub = None  # results that are collected later unsubscribe
            app.backend.client.close()
            app.pool.force_close_all()
        app.close()
        self.reader.close()
        self._journal.close()


def environment(kind: str, settings: dict[str, Any], journal: Path, **more: str) -> dict[str, str]:
    """The environment of a process whose app is `workflows.app`."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("FASTQ_", "CELERY_"))}
    return clean | {
        "WORKFLOWS_KIND": kind,
        "WORKFLOWS_SETTINGS": json.dumps(settings),
        "WORKFLOWS_JOURNAL": str(journal),
        "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'tests'}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "C_FORCE_ROOT": "1",
        **more,
    }
