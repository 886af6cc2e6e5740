"""Remote control between Celery and fastq: the command lines of each against the workers of the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from interop_fleet import PATIENCE, REPOSITORY, Fleet, WorkerProcess

FOLDER = Path(__file__).parent
# (the worker's kind, the command line's)
SIDES = [("fastq", "celery"), ("celery", "fastq")]
# What one of both may say in other words, or a pool or library can't do.
SAID = {
    "rate_limit tasks.none 1/s": "unknown task",
    "time_limit proj.add 30 60": "time limits set successfully",
    "rate_limit proj.add 10/m": "new rate limit set successfully",
    "rate_limit proj.add 0": "rate limit",
    "pool_grow 1": "pool will grow",
    "pool_shrink 1": "pool will shrink",
    "pool_restart": "reload started",
    "autoscale 3 2": "Autoscale not enabled",
    "add_consumer control-extra": "add consumer control-extra",
    "cancel_consumer control-extra": "no longer consuming from control-extra",
    "revoke some-id other-id": "flagged as revoked",
    "revoke_by_stamped_headers tenant=acme": "flagged as revoked",
    "terminate SIGKILL no-such-id": "tasks unknown",
}
EVENTS = {
    "enable_events": "task events enabled",
    "disable_events": "task events disabled",
    "heartbeat": "None",
}
INSPECTED = [
    "ping",
    "clock",
    "conf",
    "stats",
    "active",
    "reserved",
    "scheduled",
    "revoked",
    "registered",
    "report",
    "active_queues",
    "memsample",
    "memdump",
    "query_task no-such-id",
]


@pytest.fixture(scope="module", params=SIDES, ids=lambda side: f"{side[1]}-asks-{side[0]}")
def side(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[Side]:
    """A worker of the one kind, and the command line of the other."""
    kind, asker = request.param
    side = Side(fleet, kind, asker)
    yield side
    side.worker.kill()


class Side:
    """One worker, which answers remote control, and the other kind's command line."""

    def __init__(self, fleet: Fleet, kind: str, asker: str) -> None:
        self.fleet, self.kind, self.asker = fleet, kind, asker
        settings = {
            "worker_enable_remote_control": True,
            "worker_pool_restarts": True,
            "worker_prefetch_multiplier": 2,
        }
        self.queue = f"control-{kind}-{uuid4()}"
        self.worker: WorkerProcess = fleet.start(
            kind, "plain", self.queue, "-P", "prefork", "-c", "2", **settings
        )
        log = self.worker.log
        self.node = f"{log.stem}@host"
        until = time.monotonic() + PATIENCE
        while "ready" not in log.read_text():
            assert time.monotonic() < until
            time.sleep(0.05)

    def run(self, *commands: str, timeout: float = 3.0) -> list[tuple[int, str]]:
        """The exit codes and outputs of commands to this worker alone."""
        options = ["-d", self.node, "-t", str(timeout)]
        lines = [["-A", "interop_app", *command.split(), *options] for command in commands]
        env = {key: value for key, value in os.environ.items() if not key.startswith(("FASTQ_", "CELERY_"))}
        env |= {
            "INTEROP_KIND": self.asker,
            "INTEROP_SETTINGS": json.dumps(self.fleet.settings(self.asker, "plain")),
            "INTEROP_NOTES_URL": self.fleet.notes_url,
            "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{FOLDER}",
            "NO_COLOR": "1",
        }
        ran = subprocess.run(
            [sys.executable, str(FOLDER / "interop_cli.py")],
            input=json.dumps(lines),
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode == 0, ran.stderr
        return [(code, output) for code, output in json.loads(ran.stdout)]

    def asked(self, *commands: str) -> list[Any]:
        """What the worker replies to each command, by JSON."""
        found = []
        for code, output in self.run(*(f"{command} --json" for command in commands)):
            assert code == 0, output
            replies = json.loads(output)
            found.append((replies[0] if isinstance(replies, list) else replies)[self.node])
        return found


def test_the_status_shows_the_worker(side: Side) -> None:
    (code, output), (_, pinged) = side.run("status", "inspect ping")
    assert code == 0, output
    assert f"{side.node}: OK" in output
    assert "1 node online." in output
    assert "pong" in pinged


def test_everything_can_be_inspected(side: Side) -> None:
    replies = dict(zip(INSPECTED, side.asked(*(f"inspect {each}" for each in INSPECTED)), strict=True))
    for command, reply in replies.items():
        assert not (isinstance(reply, dict) and "error" in reply), (command, reply)
    assert replies["ping"] == {"ok": "pong"}
    assert "proj.add" in replies["registered"]
    assert [each["name"] for each in replies["active_queues"]] == [side.queue]
    parts = {"total", "pid", "clock", "uptime", "pool", "broker", "prefetch_count", "rusage"}
    assert parts <= replies["stats"].keys()


def test_every_control_command_is_answered(side: Side) -> None:
    # Celery's workers of these tests have no events.
    said = SAID | (EVENTS if side.kind == "fastq" else {})
    *replies, revoked = side.asked(*(f"control {each}" for each in said), "inspect revoked")
    for (command, wanted), reply in zip(said.items(), replies, strict=True):
        assert wanted in str(reply), (command, reply)
    assert {"some-id", "other-id"} <= set(revoked)


def test_a_running_task_is_seen_and_terminated(side: Side) -> None:
    client = side.fleet.client(side.asker)
    slow, kept = (client.send_task("proj.nap", (seconds,), queue=side.queue) for seconds in (60, 60))
    until = time.monotonic() + PATIENCE
    while len(found := side.asked("inspect active")[0]) < 2:
        assert time.monotonic() < until
    assert {each["id"] for each in found} == {slow.id, kept.id}
    assert all(type(each["worker_pid"]) is int and each["type"] == "proj.nap" for each in found)
    (reply,) = side.asked(f"control terminate SIGKILL {slow.id}")
    assert slow.id in str(reply)
    with pytest.raises(Exception, match="terminated"):
        slow.get(timeout=PATIENCE)
    (left, _) = side.asked("inspect active", f"control terminate SIGKILL {kept.id}")
    assert [each["id"] for each in left] == [kept.id]


def test_a_revoked_task_does_not_run(side: Side) -> None:
    client = side.fleet.client(side.asker)
    task_id = str(uuid4())
    side.asked(f"control revoke {task_id}")
    sent = client.send_task("proj.add", (1, 2), task_id=task_id, queue=side.queue)
    with pytest.raises(Exception, match="revoked"):
        sent.get(timeout=PATIENCE)
    assert client.send_task("proj.add", (1, 2), queue=side.queue).get(timeout=PATIENCE) == 3


def test_the_worker_shuts_down(side: Side) -> None:
    side.run("control shutdown", timeout=0.5)
    assert side.worker.process.wait(PATIENCE) == 0
