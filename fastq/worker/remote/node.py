"""A worker as remote control sees it: what every command gets as its first argument."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from fastq._core.consume import Gate
    from fastq._core.message import Delivery
    from fastq._core.window import PrefetchWindow
    from fastq.app.base import FastQ
    from fastq.brokers.base import Broker
    from fastq.worker.loop import Loop
    from fastq.worker.pools.base import Pool
    from fastq.worker.revocations import Revocations
    from fastq.worker.worker import Worker

T = TypeVar("T")

LOOKS = 10  # at a table that another thread changes


class Node:
    """One worker. Its methods may be called from any thread."""

    def __init__(
        self,
        worker: Worker,
        loop: Loop,
        pool: Pool,
        gate: Gate,
        window: PrefetchWindow,
        revocations: Revocations,
    ) -> None:
        self.app: FastQ = worker.app
        self.hostname: str = worker.hostname
        self.worker = worker
        self.loop = loop
        self.pool = pool
        self.gate = gate
        self.window = window
        self.revocations = revocations
        self.broker: Broker = worker.app.broker  # the pidbox gives its own
        self.started_at = time.monotonic()
        self.samples: list[str] = []  # of its memory, as people say it

    @property
    def consumer(self) -> Node:
        """Itself: commands that were written for Celery look here for what the worker has."""
        return self

    @property
    def events(self) -> Any:
        """What sends events: with ``enable`` and ``disable``, which tell whether that changed anything."""
        if self.worker.events is None:
            raise NotImplementedError("this worker sends no events")
        return self.worker.events

    def uptime(self) -> float:
        """Seconds since the worker started."""
        return time.monotonic() - self.started_at

    def active(self) -> list[tuple[Delivery, float]]:
        """What runs, with the monotonic time of its start."""
        return _looked(self.pool.running)

    def reserved(self) -> list[Delivery]:
        """What is held here and does not run."""
        return _looked(self.loop.waiting)

    def info(self, delivery: Delivery, started: float | None = None, *, safe: bool = False) -> dict[str, Any]:
        """What Celery shows of a task (docs/PROTOCOL.md §7.4); *safe*: its arguments as text."""
        message = delivery.message
        assert message is not None
        headers = message.headers
        args: Any = headers.get("argsrepr") or "()"
        kwargs: Any = headers.get("kwargsrepr") or "{}"
        if not safe:
            try:
                args, kwargs = self.app.load_body(message)[:2]
            except Exception:  # shown as its sender has described it
                pass
        return {
            "id": message.id,
            "name": headers.get("shadow") or message.task,
            "args": args,
            "kwargs": kwargs,
            "type": message.task,
            "hostname": self.hostname,
            "time_start": None if started is None else time.time() - (time.monotonic() - started),
            "acknowledged": delivery.tag is None,
            "delivery_info": {
                "exchange": message.exchange,
                "routing_key": message.routing_key,
                "priority": message.priority or 0,
                "redelivered": bool(delivery.redelivered),
            },
            "worker_pid": None if started is None else self.pool.pid_of(delivery),
        }

    def memory(self) -> str:
        """The resident memory of the worker's own process, as people say it."""
        from fastq.worker.pools.child import resident_kib

        return f"{resident_kib() / 1024:.3f}MB"

    @property
    def pid(self) -> int:
        """The worker's process."""
        return os.getpid()


def _looked(look: Callable[[], list[T]]) -> list[T]:
    """What *look* finds in tables that the loop's thread changes meanwhile."""
    for _ in range(LOOKS):
        try:
            return look()
        except RuntimeError:  # a dict has changed its size
            continue
    return look()
