"""Flower, under Celery, watches and steers workers of fastq."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest
from servers import free_port, skip_or_fail
from worker_process import Project, WorkerProcess

# Flower takes seconds to start, and asks workers every five seconds for their events.
PATIENCE = 60.0
SEND = "/api/task/send-task"
APP = """
import os
from celery import Celery
app = Celery("tasks", broker=os.environ["BROKER"], backend=os.environ["STORE"])

@app.task(name="tasks.add")  # Flower limits only what its app knows
def add(x, y): ...
"""


class Flower:
    """Flower and its HTTP API."""

    def __init__(self, folder: Path, broker: str, store: str) -> None:
        (folder / "flower_app.py").write_text(APP)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "celery",
                "-A",
                "flower_app",
                "flower",
                f"--port={port}",
            ],
            cwd=folder,
            env={**os.environ, "BROKER": broker, "STORE": store, "FLOWER_UNAUTHENTICATED_API": "true"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def get(self, path: str, **query: Any) -> Any:
        with urlopen(f"{self.url}{path}?{urlencode(query)}", timeout=PATIENCE) as response:
            return json.load(response)

    def post(self, path: str, body: Any = None, **form: Any) -> Any:
        data = json.dumps(body).encode() if body is not None else urlencode(form).encode()
        with urlopen(Request(f"{self.url}{path}", data), timeout=PATIENCE) as response:
            return json.load(response)

    def wait_for(self, look: Callable[[], Any], wanted: Callable[[Any], Any]) -> Any:
        """What *look* gives once that is *wanted*; errors of HTTP are looked past."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                found: Any = look()
            except URLError as exc:
                found = exc
            if not isinstance(found, URLError) and wanted(found):
                return found
            assert time.monotonic() < until, found
            time.sleep(0.1)

    def state(self, task_id: str, *wanted: str) -> Any:
        """What Flower knows of a task in one of these states."""
        return self.wait_for(
            lambda: self.get(f"/api/task/info/{task_id}"), lambda info: info["state"] in wanted
        )


@pytest.fixture(params=["redis", "rabbitmq"])
def urls(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The broker and the store of results."""
    for package in ("celery", "flower", "redis"):
        if find_spec(package) is None:
            skip_or_fail(f"{package} is missing")
    store = request.getfixturevalue("redis_server").url.replace("/0", "/6")
    if request.param == "redis":
        return store, store
    return request.getfixturevalue("rabbitmq_server").url(), store


@pytest.fixture
def flower(tmp_path: Path, urls: tuple[str, str]) -> Iterator[Flower]:
    flower = Flower(tmp_path, *urls)
    yield flower
    flower.process.terminate()
    flower.process.wait(PATIENCE)


def test_flower_watches_and_steers_our_workers(tmp_path: Path, urls: tuple[str, str], flower: Flower) -> None:
    broker, store = urls
    node = "w1@here"
    options = ("-b", broker, "--result-backend", store, "-c", "2", "-n", node)
    with WorkerProcess(Project(tmp_path), *options) as worker:
        worker.wait_until_ready()
        known = flower.wait_for(
            lambda: flower.get("/api/workers", refresh="1"), lambda found: "stats" in found.get(node, ())
        )[node]
        assert {"tasks.add", "tasks.nap", "tasks.fail"} <= set(known["registered"])
        assert [queue["name"] for queue in known["active_queues"]] == ["celery"]
        assert known["stats"]["pool"]["max-concurrency"] == 2 and known["stats"]["broker"]
        flower.wait_for(lambda: flower.get("/api/workers", status="1"), lambda found: found.get(node))

        # Flower has asked for the events of tasks by now, or soon does.
        def add() -> Any:
            sent = flower.post(f"{SEND}/tasks.add", {"args": [2, 3]})["task-id"]
            time.sleep(1.0)
            return flower.get("/api/task/info/" + sent)

        info = flower.wait_for(add, lambda found: found["state"] == "SUCCESS")
        told = [info[field] for field in ("name", "args", "result", "worker")]
        assert told == ["tasks.add", "[2, 3]", "5", node]
        assert info["runtime"] < info["succeeded"] - info["received"] + 1
        failed = flower.post(f"{SEND}/tasks.fail", {})["task-id"]
        info = flower.state(failed, "FAILURE")
        assert info["exception"] == "ValueError('boom')" and "boom" in info["traceback"]
        listed = flower.get("/api/tasks", taskname="tasks.add")
        assert {task["state"] for task in listed.values()} == {"SUCCESS"}

        napping = flower.post(f"{SEND}/tasks.nap", {"args": [600, "long"]})["task-id"]
        flower.state(napping, "STARTED")
        flower.post(f"/api/task/revoke/{napping}", terminate="true")
        assert flower.state(napping, "REVOKED")["worker"] == node
        limited = flower.post("/api/task/rate-limit/tasks.add", workername=node, ratelimit="1/h")
        assert limited == {"message": "new rate limit set successfully"}
        first, second = (flower.post(f"{SEND}/tasks.add", {"args": [n, n]})["task-id"] for n in (1, 2))
        assert flower.state(first, "SUCCESS")["result"] == "2"
        grown = flower.post(f"/api/worker/pool/grow/{node}", n=1)
        assert "1" in grown["message"]
        flower.wait_for(
            lambda: flower.get("/api/workers", refresh="1", workername=node)[node]["stats"]["pool"],
            lambda pool: pool["max-concurrency"] == 3,
        )
        flower.state(second, "RECEIVED")  # and waits for its turn
