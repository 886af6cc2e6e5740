"""Revokes by the thousand, and terminated tasks, while a worker is at it: docs/PROTOCOL.md §7."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest
from servers import RedisServer
from worker_process import Project, WorkerProcess

from fastq import FastQ

PATIENCE = 60.0
# Seconds between the confirmation and the first line of a task that had started before it, at most.
ON_ITS_WAY = 0.5

TASKS = """
import os, time
from fastq import FastQ

app = FastQ("tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"])

@app.task(bind=True)
def note(self, seconds):
    with open("ran", "a") as file:
        file.write(f"{self.request.id} {time.time()}\\n")
    time.sleep(seconds)

@app.task
def nap(seconds):
    time.sleep(seconds)

@app.task
def compute(seconds):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))
"""


def sender(url: str) -> FastQ:
    return FastQ("sender", broker=url, backend=url, set_as_current=False)


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(2000, id="short"),
        pytest.param(100_000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1200)]),
    ],
)
def test_no_revoked_task_starts_and_no_other_is_lost(
    tmp_path: Path, redis_server: RedisServer, count: int
) -> None:
    project = Project(tmp_path)
    project.write("tasks.py", TASKS)
    rng = random.Random(5)
    with (
        WorkerProcess(project, "-A", "tasks", "-c", "2", BROKER=redis_server.url) as worker,
        sender(redis_server.url) as app,
    ):
        worker.wait_until_ready()
        sent = []
        for number in range(count):
            options: dict[str, Any] = {"countdown": rng.uniform(0.5, 2)} if number % 5 == 0 else {}
            sent.append(app.send_task("tasks.note", (0.001,), **options))
        chosen = rng.sample([each.id for each in sent], count // 2)
        confirmed: dict[str, float] = {}
        for start in range(0, len(chosen), 100):
            batch = chosen[start : start + 100]
            (reply,) = app.control.revoke(batch, reply=True, limit=1, timeout=PATIENCE) or ()
            confirmed |= dict.fromkeys(batch, time.time())
            assert "flagged as revoked" in str(reply)
            if start % 500 == 0:  # and one that runs is ended, with no harm to others
                for each in app.control.inspect(limit=1, timeout=PATIENCE).active()[next(iter(reply))][:1]:
                    app.control.terminate(each["id"], reply=True, limit=1, timeout=PATIENCE)
                    confirmed[each["id"]] = time.time()
        states = {each.id: wait_for_end(each) for each in sent}
    ran = [line.split() for line in (tmp_path / "ran").read_text().splitlines()]
    late = {id: float(at) - confirmed[id] for id, at in ran if id in confirmed}
    assert not {id: seconds for id, seconds in late.items() if seconds > ON_ITS_WAY}
    once = sorted(id for id, _ in ran if id not in confirmed)
    assert once == sorted(states.keys() - confirmed.keys())
    assert {states[id] for id in once} == {"SUCCESS"}
    assert {states[id] for id in confirmed} <= {"SUCCESS", "REVOKED"}
    assert sum(states[id] == "REVOKED" for id in confirmed) > count // 10


def wait_for_end(result: Any) -> str:
    result.get(timeout=PATIENCE, propagate=False)
    return str(result.state)


# Seconds; it takes some hundredths, and more only where the machine itself is busy.
ANSWERED_WITHIN = 1.0


@pytest.mark.parametrize("pool", ["solo", "threads", "prefork", "gevent", "asyncio"])
def test_a_busy_worker_answers_and_ends_the_task_that_is_named(
    tmp_path: Path, redis_server: RedisServer, pool: str
) -> None:
    project = Project(tmp_path)
    project.write("tasks.py", TASKS)
    node = f"{pool}@test"
    options = ("-A", "tasks", "-P", pool, "-c", "2", "-n", node, "-Q", pool)
    with (
        WorkerProcess(project, *options, BROKER=redis_server.url) as worker,
        sender(redis_server.url) as app,
    ):
        worker.wait_until_ready()
        asked = app.control.inspect(destination=[node], timeout=PATIENCE)
        slots = 1 if pool == "solo" else 2
        # On gevent and asyncio one that computes stops the others, but not the answers.
        name = "tasks.compute" if pool in ("solo", "gevent") else "tasks.nap"
        for _ in range(slots):
            app.send_task(name, (2 if pool == "gevent" else 60,), queue=pool)
        until = time.monotonic() + PATIENCE
        while len(active := asked.active()[node]) < (1 if name == "tasks.compute" else slots):
            assert time.monotonic() < until
        times = []
        for command in (asked.ping, asked.stats, asked.active) * 3:
            begun = time.monotonic()
            assert command()[node]
            times.append(time.monotonic() - begun)
        assert sorted(times)[len(times) // 2] < ANSWERED_WITHIN
        if pool in ("solo", "prefork"):
            (doomed, *others) = active
            app.control.terminate(doomed["id"], reply=True, destination=[node], timeout=PATIENCE)
            assert wait_for_end(app.AsyncResult(doomed["id"])) == "REVOKED"
            assert {each["id"] for each in asked.active()[node]} == {each["id"] for each in others}


def test_the_pool_follows_the_work_up_and_down(tmp_path: Path, redis_server: RedisServer) -> None:
    project = Project(tmp_path)
    project.write("tasks.py", TASKS)
    node = "scaled@test"
    options = ("-A", "tasks", "-n", node, "-Q", "scaled", "--autoscale", "6,1")
    environment = {"BROKER": redis_server.url, "AUTOSCALE_KEEPALIVE": "1"}
    with WorkerProcess(project, *options, **environment) as worker, sender(redis_server.url) as app:
        worker.wait_until_ready()
        asked = app.control.inspect(destination=[node], timeout=PATIENCE)

        def size() -> int:
            return int(asked.stats()[node]["autoscaler"]["current"])

        assert size() == 1
        sent = [app.send_task("tasks.nap", (0.3,), queue="scaled") for _ in range(60)]
        until = time.monotonic() + PATIENCE
        while size() < 6:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert {wait_for_end(each) for each in sent} == {"SUCCESS"}
        while size() > 1:
            assert time.monotonic() < until
            time.sleep(0.05)
        assert wait_for_end(app.send_task("tasks.nap", (0,), queue="scaled")) == "SUCCESS"
