"""Where messages and results lie during a bench, seen from outside: fill, clear, read what came out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from subprocess import Popen
from typing import Any, TypeVar

import orjson

from benches.data import BODY, QUEUE, calls, workload
from benches.floor import Connection, push_in_bulk

LOOK_SECONDS = 0.1  # between two looks: rare enough to cost the sides nothing
TIMEOUT = 180.0  # seconds
RABBITMQ_SECONDS = 30.0  # that one answer of RabbitMQ may take
AT_ONCE = 1000  # messages that are published and confirmed as one

T = TypeVar("T")


class RedisStore:
    """A Redis database that holds nothing but the bench."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = Connection(url)

    def clear(self) -> None:
        """Delete everything."""
        self.connection.call("FLUSHDB")

    def fill(self, ids: list[str], body_encoding: str | None, results: bool) -> None:
        """Enqueue no-op tasks with *ids*."""
        push_in_bulk(self.connection, list(workload(ids, body_encoding=body_encoding, results=results)))

    def documents(self, ids: Sequence[str]) -> list[bytes | None]:
        """The result documents of *ids*."""
        found: list[bytes | None] = []
        for start in range(0, len(ids), 1000):
            found += self.connection.call(
                "MGET", *(f"celery-task-meta-{id}" for id in ids[start : start + 1000])
            )
        return found

    def load(self) -> tuple[int, int]:
        """How many requests the server has read, and how many clients it has, without this one.

        Its count of commands would include those that scripts call.
        """
        info = self._info()
        return int(info["total_reads_processed"]), int(info["connected_clients"]) - 1

    def bytes_received(self) -> int:
        """How many bytes the server has read from all its clients."""
        return int(self._info()["total_net_input_bytes"])

    @property
    def version(self) -> str:
        """The server's."""
        return self._info()["redis_version"]

    def _info(self) -> dict[str, str]:
        lines = self.connection.call("INFO").decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)


class RabbitStore:
    """The default queue in a virtual host of RabbitMQ that holds nothing but the bench."""

    def __init__(self, url: str) -> None:
        # Imported here for runs that do not have fastq's extensions: the floor and Celery alone.
        from fastq.brokers.rabbitmq.connection import connect
        from fastq.brokers.rabbitmq.endpoint import parse_endpoint

        self.url = url
        endpoint = parse_endpoint(url, {})
        self._connection = connect(endpoint, endpoint.nodes[0], RABBITMQ_SECONDS)
        self._channel = self._connection.open_channel(RABBITMQ_SECONDS)
        self._call("confirm.select")
        self._sent = 0

    @property
    def version(self) -> str:
        """RabbitMQ's."""
        return str(self._connection.server_properties["version"])

    def clear(self, durable: bool = True, queue_type: str = "classic") -> None:
        """Delete the queue and declare it anew."""
        self._call("queue.delete", queue=QUEUE)
        arguments = {} if queue_type == "classic" else {"x-queue-type": queue_type}
        self._call("queue.declare", queue=QUEUE, durable=durable, arguments=arguments)

    def fill(self, ids: list[str], results: bool, delivery_mode: int = 2) -> None:
        """Enqueue no-op tasks with *ids*, in the same bytes for every side."""
        waiting = list(calls(ids, results))
        for start in range(0, len(ids), AT_ONCE):
            self._publish(waiting[start : start + AT_ONCE], delivery_mode)

    def _publish(self, batch: list[dict[str, Any]], delivery_mode: int) -> None:
        channel, encoder = self._channel, self._connection.encoder
        for call in batch:
            encoder.publish(
                channel.number,
                "",
                QUEUE,
                BODY,
                headers=call,
                properties={"correlation_id": call["id"], "delivery_mode": delivery_mode},
                content_type="application/json",
                content_encoding="utf-8",
            )
        self._sent += len(batch)
        self._connection.wait_until(
            lambda: bool(channel.confirms) and channel.confirms[-1].delivery_tag >= self._sent,
            RABBITMQ_SECONDS,
            "confirms",
        )
        channel.confirms.clear()

    def _call(self, name: str, **fields: Any) -> None:
        self._connection.call(self._channel, name, RABBITMQ_SECONDS, **fields)


class SqliteStore:
    """An embedded fastq store in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._number = 0
        self.clear()

    def clear(self) -> None:
        """Begin a new file."""
        self._number += 1
        self.path = self._folder / f"bench-{self._number}.db"
        self.url = f"sqlite:///{self.path}"

    def documents(self, ids: Sequence[str]) -> list[bytes | None]:
        """The result documents of *ids*."""
        # Imported here for runs that do not have fastq's extensions: the floor and Celery alone.
        from fastq.backends.base import BackendOptions
        from fastq.backends.schemes import open_backend

        backend = open_backend(self.url, BackendOptions())
        try:
            return backend.fetch(ids)
        finally:
            backend.close()


def wait_done(store: RedisStore | SqliteStore, ids: Sequence[str], worker: Popen[bytes]) -> list[float]:
    """The unix times at which the tasks of *ids* ended, once all have; checks that each succeeded."""

    def documents() -> list[bytes] | None:
        # Most looks are at the end of the queue alone: reading everything costs the sides time.
        if None in store.documents(ids[-100:]):
            return None
        found = store.documents(ids)
        return None if None in found else [document for document in found if document is not None]

    results = [orjson.loads(document) for document in wait(documents, worker)]
    failed = [result for result in results if result["status"] != "SUCCESS"]
    if failed:
        raise RuntimeError(f"{len(failed)} tasks failed, the first with {failed[0]['result']!r}")
    return [datetime.fromisoformat(result["date_done"]).timestamp() for result in results]


def wait_marks(path: Path, worker: Popen[bytes]) -> list[float]:
    """The two times that the marks of a workload without results wrote to *path*."""

    def marks() -> list[float] | None:
        times = path.read_text().split() if path.exists() else []
        return [float(moment) for moment in times] if len(times) == 2 else None

    return wait(marks, worker)


def wait(look: Callable[[], T | None], worker: Popen[bytes]) -> T:
    """What *look* finds, once it does; raises when *worker* ends before or takes too long."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        has_ended = worker.poll() is not None
        found = look()
        if found is not None:
            return found
        if has_ended:
            raise RuntimeError(f"the worker ended with {worker.returncode} before its tasks were done")
        if time.monotonic() > deadline:
            raise TimeoutError(f"the tasks were not done within {TIMEOUT:g} s")
        time.sleep(LOOK_SECONDS)
