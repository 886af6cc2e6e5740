"""What a program waits for before its first message: which modules are imported, and their time."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FIRST_DELAY = """
import sys
before = set(sys.modules)  # an interpreter may be set up to import anything by itself
from fastq import FastQ

app = FastQ("first", broker={url!r})

@app.task
def add(a, b):
    return a + b

{call}
print(*sorted(set(sys.modules) - before))
"""

# What a client never needs, or not yet. Those that Python's own modules import take 1 to 30 ms each.
NEVER = {
    "ast",
    "asyncio",
    "celery",
    "click",
    "concurrent.futures",
    "ctypes",
    "dataclasses",
    "decimal",
    "fastq._core.consume",
    "fastq._core.tags",
    "fastq._core.trace",
    "gevent",
    "hashlib",
    "importlib.metadata",
    "inspect",
    "json",
    "kombu",
    "logging",
    "msgpack",
    "multiprocessing",
    "orjson",
    "pickle",
    "pydantic",
    "random",
    "redis",
    "rich",
    "ssl",
    "subprocess",
    "traceback",
    "typing_extensions",
    "uuid",
    "yaml",
    "zoneinfo",
}
SQLITE = {"sqlite3", "pathlib", "urllib.parse"}
REDIS = {"hiredis", "socket", "select", "urllib.parse"}

# The CPU time of a program that sends its first task, over that of one that imports what a program
# with a network connection has anyway: 1.1 with memory://, 1.4 with SQLite and Redis on CPython 3.11.
ORDINARY = "import datetime, json, logging, socket, threading, typing, urllib.parse"
LIMIT = 1.8
ROUNDS = 9


def run(script: str, folder: Path) -> str:
    """What *script* prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def cpu_seconds(script: str, folder: Path) -> float:
    """CPU time of an interpreter that runs *script*: of itself alone, whoever else keeps the machine busy."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run(script, folder)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.fixture(params=["memory", "sqlite", "redis"])
def url(request, tmp_path):
    """A broker of each kind."""
    if request.param == "redis":
        return request.getfixturevalue("redis_server").url
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/queue.db"


def imported(script: str, folder: Path) -> set[str]:
    return set(run(script, folder).split())


def test_importing_fastq_brings_no_client_and_nothing_heavy(tmp_path):
    modules = imported(FIRST_DELAY.format(url="redis://localhost:1", call=""), tmp_path)
    assert not modules & (NEVER | SQLITE | REDIS)
    assert not {
        name for name in modules if name.startswith(("fastq.cli", "fastq.worker", "fastq.brokers.redis"))
    }


def test_the_first_delay_brings_the_client_of_its_own_broker_alone(url, tmp_path):
    modules = imported(FIRST_DELAY.format(url=url, call="add.delay(1, 2)"), tmp_path)
    allowed = {"memory": {"select"}, "sqlite": SQLITE | {"select"}, "redis": REDIS}[url.partition(":")[0]]
    assert not modules & ((NEVER | SQLITE | REDIS) - allowed)
    assert not {name for name in modules if name.startswith(("fastq.cli", "fastq.worker"))}


def test_the_first_delay_comes_about_as_soon_as_in_any_program(url, tmp_path):
    script = FIRST_DELAY.format(url=url, call="add.delay(1, 2)")
    run(script, tmp_path)  # writes the bytecode
    ratios = [cpu_seconds(script, tmp_path) / cpu_seconds(ORDINARY, tmp_path) for _ in range(ROUNDS)]
    assert statistics.median(ratios) < LIMIT, ratios
