"""Real Celery and fastq workers on one broker, and clients of both kinds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interop_queues import declared
from interop_tasks import define
from servers import RabbitServer

from fastq import FastQ
from fastq.brokers.base import DeadMessage
from fastq.exceptions import Ignore, Reject

REPOSITORY = Path(__file__).parents[3]
# Generous: the machine may be busy with other things. Only failing tests wait for so long.
PATIENCE = 30.0
LOOK_EVERY = 0.02  # seconds
LEASE = 3.0  # seconds; short, so that the claims of a killed worker soon come back

KINDS = ("celery", "fastq")
EVERY_SERIALIZER = ["json", "yaml", "msgpack", "pickle"]
# What both sides are set to. "wide" has all that differs from Celery's defaults in keys and bodies.
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "wide": {
        "accept_content": EVERY_SERIALIZER,
        "result_serializer": "pickle",
        "result_accept_content": ["pickle"],
        "result_extended": True,
        "result_expires": 60,
        "result_failure_expires": 600,
        "result_backend_transport_options": {"global_keyprefix": "myapp"},
    },
    "msgpack": {
        "result_serializer": "msgpack",
        "result_accept_content": ["msgpack"],
        "result_compression": "gzip",
    },
    "yaml": {"result_serializer": "yaml", "result_accept_content": ["yaml"]},
    "protocol-1": {"task_protocol": 1},
    "extended": {"result_extended": True, "task_track_started": True},
    "rpc": {"result_backend": "rpc://", "task_track_started": True},
}
# What "wide" has beside that on each broker.
WIDE: dict[str, dict[str, Any]] = {
    "redis": {"broker_transport_options": {"global_keyprefix": "pfx:", "priority_steps": list(range(10))}},
    "amqp": {"task_queue_max_priority": 10, "task_default_delivery_mode": "transient"},
}
CELERY_WORKER = ["-O", "fair", "--without-gossip", "--without-mingle", "--without-heartbeat"]


@dataclass
class WorkerProcess:
    """One worker, or a beat; its log is a file."""

    kind: str
    log: Path
    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """End it at once, with its children."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, 9)
            self.process.wait()


@dataclass
class Fleet:
    """Workers are started when they are first wanted and live until the end."""

    store: str  # URL of the Redis in which results and notes are, and queues if there is no RabbitMQ
    folder: Path
    rabbit: RabbitServer | None = None
    workers: dict[tuple[str, str], WorkerProcess] = field(default_factory=dict)
    clients: dict[tuple[str, str], Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Of the broker."""
        return self.store if self.rabbit is None else self.rabbit.url()

    @property
    def transport(self) -> str:
        """What carries the messages: redis or amqp."""
        return self.url.partition(":")[0]

    def settings(self, kind: str, variant: str) -> dict[str, Any]:
        """The settings of an app of *kind*."""
        common = {"broker_url": self.url, "result_backend": self.store, **VARIANTS[variant]}
        if variant == "wide":
            common |= WIDE[self.transport]
        if kind == "fastq":
            return {**common, "worker_lease": LEASE}
        return {**common, "broker_connection_retry_on_startup": True, "worker_enable_remote_control": False}

    def client(self, kind: str, variant: str = "plain") -> Any:
        """A client's app of *kind*."""
        key = (kind, variant)
        if key not in self.clients:
            self.clients[key] = _client(kind, self.settings(kind, variant))
        return self.clients[key]

    def declaring(self, kind: str, rows: list[list[str]], **settings: Any) -> Any:
        """One more client's app of *kind*, which declares the queues *rows*."""
        queues = {"task_queues": declared(kind, rows)} if rows else {}
        # Celery's clients share their connections: none is closed before the end.
        app = self.clients[kind, f"queues {len(self.clients)}"] = _client(
            kind, {**self.settings(kind, "plain"), **settings, **queues}
        )
        return app

    def serve(self, kind: str, variant: str = "plain") -> str:
        """See that a worker of *kind* runs; returns the queue that no other worker serves."""
        queue = f"{kind}-{variant}"
        if (kind, variant) not in self.workers:
            queues = f"{queue},shared" if variant == "plain" else queue
            pool = ("-P", "prefork", "-c", "2") if variant == "plain" else ("-P", "solo")
            self.workers[kind, variant] = self.start(kind, variant, queues, *pool)
        return queue

    def start(self, kind: str, variant: str, queues: str, *options: str, **settings: Any) -> WorkerProcess:
        """Start one more worker."""
        node = self._new_name(kind)
        arguments = ["worker", "-n", f"{node}@host", "-Q", queues, *options]
        if kind == "celery":
            arguments += CELERY_WORKER
        return self._run(kind, node, arguments, self.settings(kind, variant) | settings)

    def start_beat(self, kind: str, entries: dict[str, Any]) -> WorkerProcess:
        """Start a beat of *kind*, whose ``beat_schedule`` are *entries*."""
        node = self._new_name(kind)
        arguments = ["beat", "-s", f"{node}.schedule"] if kind == "celery" else ["beat"]
        return self._run(kind, node, arguments, self.settings(kind, "plain") | {"beat_schedule": entries})

    def _new_name(self, kind: str) -> str:
        return f"{kind}{len(list(self.folder.glob('*.log')))}"

    def _run(self, kind: str, node: str, arguments: list[str], settings: dict[str, Any]) -> WorkerProcess:
        """Start a program of *kind* whose app has *settings*."""
        log = self.folder / f"{node}.log"
        command = [sys.executable, "-m", kind, "-A", "interop_app", *arguments, "-l", "INFO"]
        env = {key: value for key, value in os.environ.items() if not key.startswith(("FASTQ_", "CELERY_"))}
        env |= {
            "INTEROP_KIND": kind,
            "INTEROP_SETTINGS": json.dumps(settings),
            "INTEROP_NOTES_URL": self.notes_url,
            "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{Path(__file__).parent}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "C_FORCE_ROOT": "1",
        }
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return WorkerProcess(kind, log, process)

    def buried(self, queue: str, task_id: str, variant: str = "plain") -> DeadMessage:
        """The message of *task_id* once it lies in the dead set of *queue*, from where this takes it."""
        broker = self.client("fastq", variant).broker
        dead = wait_until(
            lambda: [entry for entry in broker.dead(queue) if entry.id == task_id],
            f"{task_id} is in the dead set",
        )
        assert len(dead) == 1
        place = broker.locate(task_id, [queue])
        assert place is not None and (place.state, place.reason) == ("dead", dead[0].reason)
        assert broker.drop_dead([task_id], queue) == 1
        found: DeadMessage = dead[0]
        return found

    def is_idle(self, queue: str) -> bool:
        """Whether nothing of *queue* is held or waits."""
        if self.rabbit is not None:
            listed = self.rabbit.control("list_queues", "--no-table-headers", "name", "messages")
            return f"{queue}\t0" in listed.splitlines()
        if queue.startswith("celery"):
            return not any(f'"{queue}"]' in entry for entry in self.redis().hvals("unacked"))
        (info,) = self.client("fastq").broker.queues([queue])
        return not info.ready and not info.claimed

    @property
    def notes_url(self) -> str:
        """The database in which tasks note what they did."""
        return self.store.replace("/0", "/1")

    def redis(self, database: int = 0, *, decodes: bool = True) -> Any:
        """A connection to *database*, for what a test itself looks at."""
        from redis import Redis  # comes with the peer, which may be missing

        return Redis.from_url(self.store.replace("/0", f"/{database}"), decode_responses=decodes)

    def close(self) -> None:
        """Kill the workers and close the clients."""
        for worker in self.workers.values():
            worker.kill()
        for app in self.clients.values():
            _close(app)


def _client(kind: str, settings: dict[str, Any]) -> Any:
    if kind == "fastq":
        app: Any = FastQ("proj", set_as_current=False)
        app.conf.update(settings)
        define(app, ignore=Ignore, reject=Reject)
        return app
    from celery import Celery, exceptions

    app = Celery("proj", set_as_current=False)
    app.conf.update(settings)
    define(app, ignore=exceptions.Ignore, reject=exceptions.Reject)
    return app


def _close(app: Any) -> None:
    """Close *app* and its connections, so that none is left to the garbage collector."""
    if not isinstance(app, FastQ):
        consumer = app.backend.result_consumer
        if app.conf.result_backend != "rpc://":
            consumer.stop()
            consumer._pubsub = None  # results that are collected later unsubscribe
            app.backend.client.close()
        elif consumer._consumer is not None:
            consumer.stop()
        app.pool.force_close_all()
    app.close()


def wait_until(claim: Callable[[], Any], what: str) -> Any:
    """What *claim* gives when that is true at last."""
    deadline = time.monotonic() + PATIENCE
    while not (found := claim()):
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(LOOK_EVERY)
    return found
