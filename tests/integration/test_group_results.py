"""Groups of results with workers, stores and terminals as users have them."""

from __future__ import annotations

import gc
import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import RedisServer
from worker_process import PATIENCE, Project, WorkerProcess

from fastq import FastQ, GroupResult, ResultSet
from fastq._core.message import new_id
from fastq.backends.base import StoredResult
from fastq.result import result_from_tuple

TASKS = """
import os
from fastq import FastQ, ResultSet

app = FastQ("tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"])

@app.task
def add(x, y):
    return x + y

@app.task
def fail(x):
    raise ValueError(x)

@app.task
def wait_for(ids):
    return ResultSet([app.AsyncResult(each) for each in ids]).get(timeout=20)

@app.task
async def await_them(ids):
    return await ResultSet([app.AsyncResult(each) for each in ids])
"""


@pytest.fixture(params=["redis", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A broker and backend in one, empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/queue.db"
    server: RedisServer = request.getfixturevalue("redis_server")
    server.call("FLUSHALL")
    return server.url


@pytest.fixture
def project(tmp_path: Path, url: str) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    project = Project(folder)
    project.write("tasks.py", TASKS)
    project.env["BROKER"] = url
    return project


@pytest.fixture
def app(url: str) -> Iterator[FastQ]:
    app = FastQ("client", broker=url, backend=url, set_as_current=False)
    yield app
    app.close()


def worker(project: Project, *arguments: str) -> WorkerProcess:
    return WorkerProcess(project, "-A", "tasks", "-l", "WARNING", *arguments)


def sent(app: FastQ, calls: int, name: str = "tasks.add") -> GroupResult[Any]:
    """The group of so many tasks, on their way."""
    results = app.send_many(
        (name, (number, number) if name == "tasks.add" else (number,)) for number in range(calls)
    )
    return GroupResult(new_id(), results, app=app)


def ended(task_id: str, result: Any) -> StoredResult:
    document = b'{"status": "SUCCESS", "result": %d, "traceback": null, "children": [], "task_id": "%s"}'
    return StoredResult(task_id, "SUCCESS", document % (result, task_id.encode()))


# ---- with a worker ----


def test_ten_thousand_results_of_a_worker_are_joined(project: Project, app: FastQ) -> None:
    group = sent(app, 10_000)
    with worker(project, "-P", "solo"):
        assert group.join(timeout=60) == [2 * number for number in range(10_000)]
        again = GroupResult("again", [app.AsyncResult(each.id) for each in group], app=app)
        assert again.completed_count() == 10_000
        assert again.join(timeout=0) == group.join(timeout=0)


def test_the_first_failure_is_raised_while_others_wait(project: Project, app: FastQ) -> None:
    failing = sent(app, 1, "tasks.fail")
    failing.update([app.AsyncResult(new_id())])  # which never ends
    with worker(project, "-P", "solo"):
        with pytest.raises(ValueError, match="0"):
            failing.join(timeout=PATIENCE)
        assert isinstance(ResultSet(failing[:1]).join(propagate=False)[0], ValueError)


def test_a_group_is_awaited(project: Project, app: FastQ) -> None:
    group = sent(app, 100)
    group.save()
    client = f"""
import asyncio
from tasks import app
async def main():
    group = app.GroupResult.restore({group.id!r})
    ticks = []
    async def tick():
        while True:
            ticks.append(1)
            await asyncio.sleep(0.001)
    ticking = asyncio.create_task(tick())
    assert await group.aget(timeout=30) == await group == [2 * number for number in range(100)]
    assert ticks
    ticking.cancel()
asyncio.run(main())
"""
    with worker(project, "-P", "solo"):
        done = subprocess.run(
            [sys.executable, "-c", client],
            cwd=project.folder, env=project.env, timeout=60, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("pool", ["solo", "prefork", "threads", "asyncio"])
def test_a_task_may_not_wait_for_others(project: Project, app: FastQ, pool: str) -> None:
    group = sent(app, 2)
    waits = app.send_task("tasks.wait_for", ([each.id for each in group],))
    with worker(project, "-P", pool, "-c", "2"), pytest.raises(RuntimeError, match="within a task"):
        waits.get(timeout=PATIENCE)


def test_a_greenlet_may_wait_for_others(project: Project, app: FastQ) -> None:
    group = sent(app, 2)
    waits = app.send_task("tasks.wait_for", ([each.id for each in group],))
    with worker(project, "-P", "gevent", "-c", "2"):
        assert waits.get(timeout=PATIENCE) == [0, 2]


def test_a_coroutine_may_await_others(project: Project, app: FastQ) -> None:
    group = sent(app, 2)
    waits = app.send_task("tasks.await_them", ([each.id for each in group],))
    with worker(project, "-P", "asyncio", "-c", "2"):
        assert waits.get(timeout=PATIENCE) == [0, 2]


# ---- how the time grows ----

FEW, MANY = 2_000, 20_000


def cpu_to_join(app: FastQ, count: int, arriving: bool) -> float:
    """CPU seconds of this process for each of *count* results that it waits for."""
    names = [new_id() for _ in range(count)]
    group = GroupResult(new_id(), [app.AsyncResult(each) for each in names], app=app)
    documents = [ended(each, number) for number, each in enumerate(names)]
    store = FastQ("writer", broker="memory://", backend=app.conf.result_backend, set_as_current=False)
    backend = store.backend
    assert backend is not None

    def store_all() -> None:
        for start in range(0, count, 500):
            backend.store(documents[start : start + 500])

    if not arriving:
        store_all()
        began = time.thread_time()
        assert group.join(timeout=60) == list(range(count))
        return (time.thread_time() - began) / count
    feeder = threading.Thread(target=store_all)
    began = time.thread_time()
    beats: list[int] = []

    def beat() -> None:
        beats.append(1)
        if len(beats) == 1:
            feeder.start()

    # The pulse shows that all is subscribed to before the first result comes.
    assert group.join(timeout=60, on_interval=beat, interval=0.05) == list(range(count))
    spent = time.thread_time() - began
    feeder.join()
    store.close()
    return spent / count


@pytest.mark.parametrize("arriving", [False, True], ids=["finished", "arriving"])
def test_a_join_takes_as_long_for_each_of_many(app: FastQ, arriving: bool) -> None:
    # What other tests have left is not to be looked through again and again while many results are made.
    gc.collect()
    gc.freeze()
    try:
        few = min(cpu_to_join(app, FEW, arriving) for _ in range(3))
        many = min(cpu_to_join(app, MANY, arriving) for _ in range(2))
    finally:
        gc.unfreeze()
    assert many < 3 * few, (few, many)


def test_a_join_of_thousands_asks_redis_a_few_times(redis_server: RedisServer) -> None:
    redis_server.call("FLUSHALL")
    app = FastQ("client", broker="memory://", backend=redis_server.url, set_as_current=False)
    names = [new_id() for _ in range(10_000)]
    group = GroupResult(new_id(), [app.AsyncResult(each) for each in names], app=app)
    app.backend.store([ended(each, number) for number, each in enumerate(names)])  # type: ignore[union-attr]
    redis_server.call("CONFIG", "RESETSTAT")
    assert group.join(timeout=60) == list(range(10_000))
    commands = redis_server.call("INFO", "commandstats").decode()
    asked = dict(re.findall(r"cmdstat_(\w+):calls=(\d+)", commands))
    assert int(asked["mget"]) == 10
    assert "subscribe" not in asked
    app.close()


# ---- one group, several programs ----


CELERY = """
import json, sys
from celery import Celery
from celery.result import GroupResult

app = Celery("theirs", backend=sys.argv[1])
restored = GroupResult.restore("g", app=app)
print(json.dumps(restored.as_tuple()))
GroupResult("h", [app.AsyncResult("c")], parent=restored, app=app).save()
"""


def test_celery_restores_what_fastq_saves_and_the_other_way_round(redis_server: RedisServer) -> None:
    redis_server.call("FLUSHALL")
    app = FastQ("ours", broker="memory://", backend=redis_server.url, set_as_current=False)
    group = GroupResult("g", [app.AsyncResult("a"), app.AsyncResult("b")], app.AsyncResult("p"), app)
    group.save()
    assert 86_000 < redis_server.call("TTL", "celery-taskset-meta-g") <= 86_400
    # In a process of its own: Celery's results connect once more when they are collected.
    command = [sys.executable, "-c", CELERY, redis_server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert result_from_tuple(json.loads(done.stdout), app) == group
    again = app.GroupResult.restore("h")
    assert again is not None
    assert (again.parent, again[0].id) == (group, "c")
    again.delete()
    assert redis_server.call("EXISTS", "celery-taskset-meta-g", "celery-taskset-meta-h") == 1
    app.close()


# ---- in a terminal ----

BAR = """
import sys, threading
from fastq import FastQ, GroupResult
from fastq.backends.base import StoredResult

app = FastQ("bar", broker="memory://bar")
names = [str(number) for number in range(1200)]

def document(name):
    meta = {"status": "SUCCESS", "result": int(name), "traceback": None, "children": [], "task_id": name}
    if name == "7":
        meta |= {"status": "FAILURE", "result": app.dump_exception(KeyError(name))}
    return StoredResult(name, meta["status"], app.dump_document(meta))

beats = []
def beat():
    app.backend.store([document(each) for each in names[len(beats) * 300:][:300]])
    beats.append(1)

group = GroupResult("g", [app.AsyncResult(each) for each in names], app=app)
values = group.METHOD(progress=PROGRESS, propagate=False, on_interval=beat, interval=0.2)
assert values[1199] == 1199
print("imported rich:", "rich" in sys.modules)
"""


def in_terminal(script: str) -> str:
    """What *script* writes to a terminal."""
    ours, its = pty.openpty()
    environment = os.environ | {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TERM": "xterm",
        "COLUMNS": "100",
    }
    with subprocess.Popen([sys.executable, "-c", script], stdout=its, stderr=its, env=environment) as process:
        os.close(its)
        written = b""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    written += os.read(ours, 65536)
                except OSError:  # the other end is closed
                    break
        assert process.wait(PATIENCE) == 0, written.decode()
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written.decode())


@pytest.mark.parametrize("method", ["join", "join_native", "get"])
def test_a_bar_shows_how_many_have_come(method: str) -> None:
    shown = in_terminal(BAR.replace("METHOD", method).replace("PROGRESS", "True"))
    counts = [int(each) for each in re.findall(r"(\d+)/1200", shown)]
    assert counts == sorted(counts)
    assert counts[-1] == 1200
    assert len(set(counts) - {0, 1200}) >= 1
    assert "1 failed" in shown
    assert "imported rich: True" in shown


def test_without_being_asked_for_there_is_no_bar() -> None:
    shown = in_terminal(BAR.replace("METHOD", "join").replace("PROGRESS", "False"))
    assert shown.strip() == "imported rich: False"


def test_where_there_is_no_terminal_there_is_no_bar() -> None:
    script = BAR.replace("METHOD", "join").replace("PROGRESS", "True")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=60
    )
    assert (done.stderr, done.stdout) == ("", "imported rich: False\n")
