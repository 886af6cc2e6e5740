"""The sides of a comparison: what starts a worker and a client of fastq, of Celery, of the floor."""

from __future__ import annotations

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

from benches.processes import run_python, running

# How many tasks run at once on each pool; gevent and asyncio are for tasks that wait.
CONCURRENCY = {"solo": 1, "prefork": 2, "threads": 2, "gevent": 100, "asyncio": 100}

Settings = Mapping[str, Any]


class Side(ABC):
    """One contender."""

    name: str
    pools: tuple[str, ...]
    body_encoding: str | None = None  # how its client writes a body into the envelope
    drained: int  # tasks in a drain that lasts about two seconds

    def __init__(self, folder: Path) -> None:
        self.marks = folder / "marks"
        self.log = folder / f"{self.name}.log"

    @abstractmethod
    def command(self, url: str, pool: str, prefetch: str, results: bool) -> list[str]:
        """The command line of a worker."""

    @contextmanager
    def worker(
        self,
        url: str,
        pool: str,
        prefetch: str = "",
        results: bool = True,
        settings: Settings | None = None,
    ) -> Iterator[Popen[bytes]]:
        """Run a worker until the end of the block."""
        self.marks.unlink(missing_ok=True)
        command = [sys.executable, *self.command(url, pool, prefetch, results)]
        with running(command, self.log, self.environment(url, settings)) as process:
            yield process

    def client(self, url: str, action: str, count: int, settings: Settings | None = None) -> dict[str, Any]:
        """Let a program send tasks: see `benches.client`."""
        output = run_python(
            "-m",
            "benches.client",
            self.name,
            action,
            str(count),
            environment=self.environment(url, settings),
        )
        answer: dict[str, Any] = json.loads(output)
        return answer

    def environment(self, url: str, settings: Settings | None = None) -> dict[str, str]:
        """What its processes find in their environment: *settings* are those of the application."""
        return {
            "BENCH_URL": url,
            "BENCH_MARKS": str(self.marks),
            "BENCH_SETTINGS": json.dumps(settings or {}),
        }


class FastqSide(Side):
    """fastq with everything that is on by default."""

    name = "fastq"
    pools = ("solo", "prefork", "threads", "gevent", "asyncio")
    drained = 60_000

    def command(self, url: str, pool: str, prefetch: str, results: bool) -> list[str]:
        """`fastq worker`."""
        options = ["-P", pool, "-c", str(CONCURRENCY[pool]), "-l", "WARNING"]
        if prefetch:
            options += ["--prefetch-multiplier", prefetch]
        return ["-m", "fastq", "-A", "benches.fastq_app", "worker", *options]


class CelerySide(Side):
    """Celery without gossip, mingle, heartbeats, events and remote control, and with late acks.

    Its prefetch multiplier is its default, 4: `bench_prefetch` finds none that is better on no-op tasks.
    """

    name = "celery"
    pools = ("solo", "prefork", "threads", "gevent")
    body_encoding = "base64"
    drained = 4_000

    def command(self, url: str, pool: str, prefetch: str, results: bool) -> list[str]:
        """`celery worker`."""
        options = ["-P", pool, "-c", str(CONCURRENCY[pool]), "-l", "WARNING"]
        options += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        if prefetch:
            options += ["--prefetch-multiplier", prefetch]
        return ["-m", "celery", "-A", "benches.celery_app", "worker", *options]


class FloorSide(Side):
    """The plain loop of `benches.floor`, in batches of 64 unless *prefetch* says otherwise."""

    name = "floor"
    pools = ("solo",)
    drained = 60_000

    def command(self, url: str, pool: str, prefetch: str, results: bool) -> list[str]:
        """The loop as a process."""
        return ["-m", "benches.floor", url, prefetch or "64", "results" if results else "no-results"]
