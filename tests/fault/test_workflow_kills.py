"""Children and workers killed while workflows run: each ends as it must, and every effect happens once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from stage import forms
from workflows.building import start
from workflows.errors import UNKNOWN_TASK
from workflows.journal import JournalReader
from workflows.judging import missing, repeated, wrongs
from workflows.observing import outcome_of
from workflows.sampling import sample
from workflows.stage import Client, kill_group, settings_of, start_worker

from fastq.brokers.redis.connection import connect
from fastq.brokers.redis.endpoint import parse_endpoint

PATIENCE = 60.0  # seconds; only a workflow that never ends waits for so long
LEASE = 1.0  # seconds
WORKERS = 2
IN_FLIGHT = 10  # workflows that are under way at a time


class Kills:
    """Two workers on *url*; `strike` kills one of them, or a child, and sees that there are two again."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self._settings = settings_of("fastq", url, url) | {
            "worker_lease": LEASE,
            # Many deaths are no fault of the tasks here.
            "task_max_redeliveries": 1000,
        }
        self.journal = folder / "journal"
        self.reader = JournalReader(self.journal)
        self.client = Client("fastq", self._settings, self.reader, self.journal)
        self.deaths = {"child": 0, "worker": 0}
        self._rng = random.Random(3)
        self._started = 0
        self.workers: list[subprocess.Popen[bytes]] = [self._start() for _ in range(WORKERS)]
        self._killed: set[int] = set()

    def _start(self) -> subprocess.Popen[bytes]:
        self._started += 1
        name = f"w{self._started}"
        return start_worker(
            "fastq",
            self._settings,
            self.folder / f"{name}.log",
            self.journal,
            "prefork",
            "2",
            "-n",
            name,
            WORKFLOWS_NAP="0.02",
        )

    def wait_until_ready(self) -> None:
        """Return when every worker takes tasks and signals."""
        deadline = time.monotonic() + PATIENCE
        while {worker.pid for worker in self.workers} - self._ready():
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)

    def _ready(self) -> set[int]:
        lines = self.reader.notes("worker").lines
        return {line["pid"] for line in lines if line["kind"] == "ready"}

    def _children(self, worker: subprocess.Popen[bytes]) -> list[int]:
        """The process ids of the children of *worker* that have not been killed."""
        lines = self.reader.notes("worker").lines
        return sorted({line["pid"] for line in lines if line.get("worker") == worker.pid} - self._killed)

    def strike(self) -> None:
        """Kill a child, and after every two a worker."""
        at = self._rng.randrange(WORKERS)
        worker = self.workers[at]
        if self.deaths["child"] >= 2 * (self.deaths["worker"] + 1):
            worker.kill()  # its children are left to find out
            worker.wait()
            self.workers[at] = self._start()
            self.deaths["worker"] += 1
            return
        if children := self._children(worker):
            child = self._rng.choice(children)
            self._killed.add(child)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
                self.deaths["child"] += 1

    def pause(self) -> None:
        """Let them work for a while."""
        time.sleep(self._rng.uniform(0.02, 0.2))

    def stop(self) -> None:
        """Stop the workers as a service manager does, once they have done what the dead held."""
        self.wait_until_ready()
        deadline = time.monotonic() + PATIENCE
        broker = self.client.api.app.broker
        while leases(self.url) > WORKERS or any(info.ready or info.claimed for info in broker.queues()):
            assert time.monotonic() < deadline, self.logs()
            time.sleep(0.05)
        for worker in self.workers:
            worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            assert worker.wait(PATIENCE) == 0, self.logs()

    def logs(self) -> str:
        """The end of each log."""
        ends = {path.name: path.read_text(errors="replace")[-1500:] for path in self.folder.glob("*.log")}
        return "\n".join(f"--- {name}\n{text}" for name, text in sorted(ends.items()))

    def close(self) -> None:
        """Kill what is left."""
        for worker in self.workers:
            kill_group(worker)
        self.client.close()
        self.reader.close()


@pytest.fixture
def kills(broker_url: str, tmp_path: Path) -> Iterator[Kills]:
    kills = Kills(broker_url, tmp_path)
    try:
        kills.wait_until_ready()
        yield kills
    finally:
        kills.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("broker_url", ["redis", "sqlite"], indirect=True)
@pytest.mark.parametrize("count", forms(60, 1000))
def test_workflows_end_as_they_must_whoever_is_killed(kills: Kills, broker_url: str, count: int) -> None:
    client, waiting, wrong = kills.client, [], []
    todo = [
        (node, given, client.expected(node, given), client.new_token()) for node, given in sample(count, 11)
    ]
    judged = list(todo)
    while todo or waiting:
        while todo and len(waiting) < IN_FLIGHT:
            node, given, expected, token = todo.pop()
            waiting.append((start(client.api, node, token, given), expected, token, node, time.monotonic()))
        kills.pause()
        kills.strike()
        waiting = [each for each in waiting if not _has_ended(each, wrong)]
    # Errbacks and callbacks may be under way still.
    deadline = time.monotonic() + PATIENCE
    while (unfinished := _unfinished(judged, kills.reader)) and time.monotonic() < deadline:
        time.sleep(0.05)
    repeats = 0
    for node, given, expected, token in judged:
        notes = kills.reader.notes(token)
        wrong += [f"{each}\n    {node}\n    given {given}" for each in wrongs(node, expected, notes)]
        repeats += repeated(notes)
    print(f"JUDGED {len(judged)} workflows, {kills.deaths} killed, {repeats} runs repeated")
    assert not wrong, "\n".join(wrong[:5]) + f"\n{len(wrong)} wrong\n{kills.logs()}"
    assert not unfinished, unfinished
    assert all(kills.deaths.values()), f"there was nobody to kill: {kills.deaths}"
    kills.stop()
    # A task that nobody knows waits in the dead set for somebody to see to it; nothing else may be there.
    broker = client.api.app.broker
    assert {entry.task for entry in broker.dead(limit=count)} <= {UNKNOWN_TASK}
    broker.drop_dead(None)
    assert what_stays(broker_url) == []


def _has_ended(each: Any, wrong: list[str]) -> bool:
    result, expected, token, node, since = each
    if result is not None and not result.ready():
        if time.monotonic() - since < PATIENCE:
            return False
        wrong.append(f"{token} never ended: {node}")
        return True
    outcome = outcome_of(result, time.monotonic() + 1.0)
    if outcome != expected.outcome:
        wrong.append(f"{token} came to {outcome}, not {expected.outcome}: {node}")
    return True


def _unfinished(judged: list[Any], reader: JournalReader) -> list[str]:
    """What has still to run."""
    return [
        f"{token}: {each}"
        for node, _, expected, token in judged
        for each in missing(node, expected, reader.notes(token))
    ]


# What tells of the queues and exchanges there are, and not of any task.
PERMANENT = (b"fastq:queues", b"fastq:exchanges", b"_kombu.binding")
PERMANENT_TABLES = {"fastq_counters", "fastq_bindings"}


def what_stays(url: str) -> list[str]:
    """Keys or rows that would stay for ever."""
    return _rows_that_stay(url) if url.startswith("sqlite") else _keys_that_stay(url)


def leases(url: str) -> int:
    """How many workers have, or left behind, a lease."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:
            (count,) = db.execute("SELECT count(*) FROM fastq_workers").fetchone()
            return int(count)
    connection = connect(parse_endpoint(url, {}), 5.0)
    try:
        return int(connection.call("ZCARD", "fastq:leases", timeout=5.0))
    finally:
        connection.close()


def _keys_that_stay(url: str) -> list[str]:
    connection = connect(parse_endpoint(url, {}), 5.0)
    keys = connection.call("KEYS", "*", timeout=5.0)
    try:
        return [
            str(key)
            for key in keys
            if connection.call("TTL", key, timeout=5.0) == -1 and not key.startswith(PERMANENT)
        ]
    finally:
        connection.close()


def _rows_that_stay(url: str) -> list[str]:
    found = []
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in set(tables) - PERMANENT_TABLES:
            columns = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
            which = "WHERE expires IS NULL" if "expires" in columns else ""
            (count,) = db.execute(f"SELECT count(*) FROM {table} {which}").fetchone()
            if count and table.startswith("fastq_"):
                found.append(f"{count} rows of {table}")
    return found
