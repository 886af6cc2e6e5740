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
from uuid import uuid4

from reference.canvas import Expected, expected
from workflows import observing
from workflows.building import celery_api, fastq_api, start
from workflows.description import Node, Task, to_map
from workflows.errors import CELERYS_REFUSAL, OUR_REFUSAL
from workflows.journal import Journal, JournalReader
from workflows.tasks import define

REPOSITORY = Path(__file__).parents[2]
CELERY_WORKER = ["-O", "fair", "--without-gossip", "--without-mingle", "--without-heartbeat"]
STARTS_WITHIN = 30.0  # seconds; a busy machine takes some


class Stage:
    """A worker process on the broker *url*, with results at *backend*; *pool* is its name and concurrency."""

    def __init__(self, kind: str, url: str, backend: str, folder: Path, *pool: str) -> None:
        self.folder = folder
        self.journal = folder / "journal"
        self.reader = JournalReader(self.journal)
        settings = settings_of(kind, url, backend)
        self.client = Client(kind, settings, self.reader, self.journal)
        self.worker = self._start(kind, settings, *pool)
        self._passed: list[tuple[str, Node, Expected]] = []

    def _start(self, kind: str, settings: dict[str, Any], *pool: str) -> subprocess.Popen[bytes]:
        return start_worker(kind, settings, self.folder / "worker.log", self.journal, *pool)

    def wait_until_ready(self) -> None:
        """Return when the worker runs tasks."""
        self.run(Task(label="1"), patience=STARTS_WITHIN)

    def run(self, node: Node, given: Sequence[Any] = (), patience: float = observing.PATIENCE) -> None:
        """Run *node*; raise `AssertionError` unless it comes to what it must within *patience* seconds."""
        token = self.client.new_token()
        wrong = self._judge(node, given, token, patience)
        assert wrong is None, f"{wrong}\n{node}\ngiven {given}\n{self.log()}"
        self._passed.append((token, node, self.client.expected(node, given)))

    def too_much(self) -> list[str]:
        """What ran after all that was expected of a workflow, which `run` did not wait to see."""
        found = []
        for token, node, awaited in self._passed:
            wrong = observing.wrong_counts(awaited, self.reader.notes(token))
            found += [f"{wrong}\n{node}"] if wrong else []
        return found

    def _judge(self, node: Node, given: Sequence[Any], token: str, patience: float) -> str | None:
        return self.client.judge(node, given, patience, token=token)

    def log(self) -> str:
        """The end of the worker's log."""
        return (self.folder / "worker.log").read_text(errors="replace")[-3000:]

    def close(self) -> None:
        """Kill the worker and close the client."""
        kill_group(self.worker)
        self.client.close()
        self.reader.close()


class MemoryStage(Stage):
    """A worker of ours on a broker in its own memory: its client is a thread of it."""

    def __init__(self, folder: Path, *pool: str) -> None:
        super().__init__("fastq", "memory://", "memory://", folder, *pool)

    def _start(self, kind: str, settings: dict[str, Any], *pool: str) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = ("-m", "workflows.in_process", *pool)
        return spawn(kind, settings, self.folder / "worker.log", self.journal, *command, **pipes)

    def _judge(self, node: Node, given: Sequence[Any], token: str, patience: float) -> str | None:
        asked = {"node": to_map(node), "given": list(given), "token": token, "patience": patience}
        assert self.worker.stdin is not None and self.worker.stdout is not None
        self.worker.stdin.write(json.dumps(asked).encode() + b"\n")
        self.worker.stdin.flush()
        wrong: str | None = json.loads(self.worker.stdout.readline() or '"the worker has ended"')
        return wrong

    def close(self) -> None:
        """Kill the worker and close the client."""
        super().close()
        assert self.worker.stdin is not None and self.worker.stdout is not None
        self.worker.stdin.close()
        self.worker.stdout.close()


class Client:
    """An app of *kind* that sends workflows, whose tasks write to *journal*."""

    def __init__(self, kind: str, settings: dict[str, Any], reader: JournalReader, journal: Path) -> None:
        self.kind = kind
        self.reader = reader
        self._journal = Journal(journal)
        if kind == "celery":
            from celery import Celery

            app: Any = Celery("flows", set_as_current=False)
            self.api = celery_api(app)
        else:
            from fastq import FastQ

            app = FastQ("flows", set_as_current=False)
            self.api = fastq_api(app)
        app.conf.update(settings)
        define(self.api, self._journal)

    def new_token(self) -> str:
        """A name for one more workflow."""
        return f"{self.kind}-{uuid4().hex[:12]}"

    def expected(self, node: Node, given: Sequence[Any] = ()) -> Expected:
        """What *node* must come to where all workers are of this kind."""
        return expected(node, given, CELERYS_REFUSAL if self.kind == "celery" else OUR_REFUSAL)

    def judge(
        self,
        node: Node,
        given: Sequence[Any],
        patience: float,
        queues: dict[str, str] | None = None,
        token: str | None = None,
    ) -> str | None:
        """Run *node*, each label on its queue; returns what is wrong about how it ran."""
        token, awaited = token or self.new_token(), self.expected(node, given)
        deadline = time.monotonic() + patience
        try:
            result = start(self.api, node, token, given, queues)
            observing.check(awaited, result, token, self.reader, deadline)
        except Exception as exc:
            return f"{type(exc).__name__}: {exc}"
        return None

    def close(self) -> None:
        """Close the app and its connections, so that none is left to the garbage collector."""
        app = self.api.app
        if self.kind == "celery":
            app.backend.result_consumer.stop()
            app.backend.result_consumer._pubsub = None  # results that are collected later unsubscribe
            app.backend.client.close()
            app.pool.force_close_all()
        app.close()
        self._journal.close()


def settings_of(kind: str, url: str, backend: str) -> dict[str, Any]:
    """The settings of an app of *kind*."""
    settings: dict[str, Any] = {"broker_url": url, "result_backend": backend}
    if kind == "celery":
        settings |= {"broker_connection_retry_on_startup": True, "worker_enable_remote_control": False}
    return settings


def start_worker(
    kind: str,
    settings: dict[str, Any],
    log: Path,
    journal: Path,
    pool: str,
    concurrency: str,
    *options: str,
    **more: str,
) -> subprocess.Popen[bytes]:
    """Start a worker of *kind*; *more* goes into its environment."""
    command = ["-m", kind, "-A", "workflows.app", "worker"]
    command += ["-l", "WARNING", "-P", pool, "-c", concurrency, *options]
    command += CELERY_WORKER if kind == "celery" else ()
    return spawn(kind, settings, log, journal, *command, **more)


def spawn(
    kind: str, settings: dict[str, Any], log: Path, journal: Path, *command: str, **more: Any
) -> subprocess.Popen[bytes]:
    """Start Python with *command* and `workflows.app` at hand; its pipes may be among *more*."""
    pipes = {name: more.pop(name) for name in ("stdin", "stdout") if name in more}
    with log.open("ab") as file:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=log.parent,
            env=environment(kind, settings, journal, **more),
            stderr=file,
            start_new_session=True,
            **({"stdin": subprocess.DEVNULL, "stdout": file} | pipes),
        )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill *process*, which leads a session, and its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


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
