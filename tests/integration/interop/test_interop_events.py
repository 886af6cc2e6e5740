"""Events of Celery's workers and of ours, as monitors of both kinds hear them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

KINDS = ("celery", "fastq")
PATIENCE = 60.0
HERE = Path(__file__).parent
# How many events of each type one client's `send` makes, on any broker.
ENDS = {"succeeded": 3, "failed": 1, "retried": 1, "rejected": 1}

Event = dict[str, Any]


class Process:
    """A program of one kind, killed at the end; what it prints as JSON is collected."""

    def __init__(self, kind: str, env: dict[str, str], *command: str) -> None:
        self.events: list[Event] = []
        self.listens = threading.Event()
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, *command],
            cwd=HERE,
            env={**os.environ, **env, "EVENTS_KIND": kind, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.strip() == "listening":
                self.listens.set()
            elif line.startswith("{"):
                with self._changed:
                    self.events.append(json.loads(line))
                    self._changed.notify_all()

    def wait_for(self, wanted: Any) -> None:
        """Until *wanted*, given the events, is true."""
        with self._changed:
            met = self._changed.wait_for(lambda: wanted(self.events), PATIENCE)
        assert met, Counter((event["type"], event["hostname"]) for event in self.events)

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(PATIENCE)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Stage:
    """A broker, and the programs that use it."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env
        self.processes: list[Process] = []

    def start(self, kind: str, *command: str) -> Process:
        process = Process(kind, self.env, *command)
        self.processes.append(process)
        return process

    def worker(self, kind: str, *options: str) -> Process:
        node = ("-n", f"{kind}@host", "-c", "1", "-P", "solo")
        quiet = ("--without-gossip", "--without-mingle")
        return self.start(kind, "-m", kind, "-A", "events_app", "worker", *node, *quiet, *options)

    def send(self, kind: str) -> None:
        env = {**os.environ, **self.env, "EVENTS_KIND": kind}
        command = [sys.executable, "events_app.py", "send"]
        subprocess.run(command, cwd=HERE, env=env, check=True, timeout=PATIENCE)


@contextmanager
def staged(env: dict[str, str]) -> Iterator[Stage]:
    stage = Stage(env)
    try:
        yield stage
    finally:
        for process in stage.processes:
            process.kill()


@pytest.fixture(params=["redis", "rabbitmq"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    pytest.importorskip("celery")
    store = request.getfixturevalue("redis_server").url.replace("/0", "/5")
    broker = store
    if request.param == "rabbitmq":
        broker = request.getfixturevalue("rabbitmq_server").url()
    with staged({"EVENTS_BROKER": broker, "EVENTS_BACKEND": store}) as stage:
        yield stage


def of(events: list[Event], hostname: str) -> dict[str, list[Event]]:
    """The events of one node by type."""
    found: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event["hostname"] == hostname:
            found[event["type"]].append(event)
    return found


def has_all(events: list[Event]) -> bool:
    """Whether both workers have told of all tasks, and have beaten."""
    for kind in KINDS:
        told = of(events, f"{kind}@host")
        if not told["worker-heartbeat"]:
            return False
        if any(len(told[f"task-{end}"]) < count for end, count in ENDS.items()):
            return False
    return True


def test_monitors_of_both_kinds_hear_the_same_of_workers_of_both_kinds(stage: Stage) -> None:
    monitors = {kind: stage.start(kind, "events_app.py", "monitor") for kind in KINDS}
    for monitor in monitors.values():
        assert monitor.listens.wait(PATIENCE)
    workers = [stage.worker(kind, "-E") for kind in KINDS]
    for kind in KINDS:
        monitors["fastq"].wait_for(lambda events, kind=kind: of(events, f"{kind}@host")["worker-online"])
    for kind in KINDS:
        stage.send(kind)
    for monitor in monitors.values():
        monitor.wait_for(has_all)
    for worker in workers:
        worker.stop()
    for monitor in monitors.values():
        monitor.wait_for(lambda events: all(of(events, f"{kind}@host")["worker-offline"] for kind in KINDS))
    heard = monitors["celery"].events
    ours, theirs = of(heard, "fastq@host"), of(heard, "celery@host")

    # The same types with the same fields.
    assert set(ours) == set(theirs)
    for type_, events in theirs.items():
        for event in ours[type_]:
            assert set(event) == set(events[0]), type_
    sent = {kind: [] for kind in KINDS}
    for event in heard:
        if event["type"] == "task-sent" and not event["hostname"].endswith("@host"):
            sent[event["queue"].removeprefix("of-")].append(event)
    # Five or six calls, and a retry that the worker sends.
    assert [set(event) for event in sent["fastq"]] == [set(sent["celery"][0])] * len(sent["celery"])
    said = [sorted((each["name"], each["args"], each["retries"]) for each in sent[kind]) for kind in KINDS]
    assert said[0] == said[1]

    # What they say, but for what differs between any two runs.
    said = [sorted(event["result"] for event in told["task-succeeded"]) for told in (ours, theirs)]
    assert said[0] == said[1]
    assert [event["exception"] for event in ours["task-retried"]] == ["KeyError('again')"]
    assert [event["exception"] for event in ours["task-failed"]] == ["ValueError('boom')"]
    assert {event["name"] for event in ours["task-received"]} >= {"proj.add", "proj.shown", "proj.again"}
    assert [each["args"] for each in ours["task-received"] if each["name"] == "proj.shown"] == ["<hidden>"]
    assert all((event["expired"], event["terminated"]) == (True, False) for event in ours["task-revoked"])
    assert "boom" in ours["task-failed"][0]["traceback"]

    # In the order in which it happened; and our monitor has heard all that Celery's has.
    for uuid in {event["uuid"] for event in ours["task-succeeded"]}:
        own = [event for event in heard if event.get("uuid") == uuid and event["hostname"] == "fastq@host"]
        own = [event for event in own if event["type"] != "task-sent"]
        assert [event["type"] for event in own][-3:] == ["task-received", "task-started", "task-succeeded"]
        assert [event["timestamp"] for event in own] == sorted(event["timestamp"] for event in own)
        assert [event["clock"] for event in own] == sorted(event["clock"] for event in own)
    for name in ("fastq@host", "celery@host"):
        for type_, events in of(heard, name).items():
            if type_.startswith("task-"):
                also = of(monitors["fastq"].events, name)[type_]
                assert {(each["uuid"], each["timestamp"]) for each in also} == {
                    (each["uuid"], each["timestamp"]) for each in events
                }


def test_without_e_a_worker_tells_of_itself_alone(stage: Stage) -> None:
    monitor = stage.start("fastq", "events_app.py", "monitor")
    assert monitor.listens.wait(PATIENCE)
    stage.worker("fastq")
    monitor.wait_for(lambda events: of(events, "fastq@host")["worker-online"])
    stage.send("fastq")
    beats = "worker-heartbeat"
    monitor.wait_for(lambda events: any(each["processed"] >= 5 for each in of(events, "fastq@host")[beats]))
    told = of(monitor.events, "fastq@host")
    assert not any(type_.startswith("task-") and type_ != "task-sent" for type_ in told)
    assert {event["freq"] for event in told[beats]} == {2.0}
    times = [event["timestamp"] for event in told[beats]]
    assert all(later - earlier > 1.9 for earlier, later in pairwise(times))
