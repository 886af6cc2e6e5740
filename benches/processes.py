"""The processes that a bench starts, and what the system says about them (Linux: /proc)."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
STOP_SECONDS = 15.0


class Memory(NamedTuple):
    """What one process holds, in MiB."""

    resident: float  # RSS: pages shared with its parent count here too
    private: float  # pages that are its own


def free_port() -> int:
    """A TCP port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run a Redis server that keeps nothing on disk; its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("benches: no redis-server in PATH: install it, or name a server with --redis URL")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with running([program, *options, "--dir", str(folder)], folder / "redis.log"):
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def rabbitmq_server(folder: Path) -> Iterator[str | None]:
    """Run a RabbitMQ node; its URL, or None where it is not installed."""
    from tests.servers import RABBITMQ_SCRIPTS, RabbitServer

    if not (RABBITMQ_SCRIPTS / "rabbitmq-server").exists():
        yield None
        return
    folder.mkdir()
    server = RabbitServer(folder, free_port())
    server.start()
    try:
        yield server.url()
    finally:
        server.kill()


@contextmanager
def running(
    command: list[str], log: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run *command* with its output in *log*. Ends it, by force if it does not stop."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=output,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_python(*arguments: str, environment: dict[str, str] | None = None) -> str:
    """Run this interpreter with *arguments*; what it printed."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments[:4])} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout


def family(pid: int) -> list[int]:
    """*pid* and its descendants."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            pids += family(int(child))
    return pids


def cpu_seconds(pid: int) -> float:
    """Processor time that *pid* and its descendants have used, to the nanosecond."""
    nanoseconds = 0
    for member in family(pid):
        for task in Path(f"/proc/{member}/task").iterdir():
            nanoseconds += int((task / "schedstat").read_text().split()[0])
    return nanoseconds / 1e9


def memory(pid: int) -> Memory:
    """What *pid* alone holds."""
    resident = private = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        field, kilobytes = line.split()[:2]
        if field == "Rss:":
            resident = int(kilobytes)
        elif field.startswith("Private_") and field != "Private_Hugetlb:":
            private += int(kilobytes)
    return Memory(resident / 1024, private / 1024)
