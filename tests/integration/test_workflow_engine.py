"""Workflows on real workers, on every pool and pair of stores, with all the ways in which a part can end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from servers import RabbitServer, RedisServer
from worker_process import PATIENCE, Project, WorkerProcess, wait_until

from fastq import FastQ, chain, chord, group
from fastq._core.message import new_id
from fastq.exceptions import ChordError, TimeLimitExceeded, WorkerLostError

TASKS = """
import os, signal, time
from datetime import datetime, timezone
from fastq import FastQ, chain, group

app = FastQ("flow", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(
    worker_lease=2.0, task_max_redeliveries=1, result_chord_retry_interval=0.2,
    task_default_queue=os.environ["QUEUE"],
)

def note(name, *words):
    with open(name, "a") as file:
        file.write("|".join(map(str, words)).replace(" ", "") + "\\n")

@app.task(name="add")
def add(x, y=0):
    return x + y

@app.task(name="sum")
def total(values):
    return sum(values)

@app.task(name="same")
def same(value):
    return value

@app.task(name="fail")
def fail(*args):
    raise ValueError("boom")

@app.task(name="noted")
def noted(*args):
    note("noted", *args)
    return list(args)

@app.task(name="told")
def told(request, exc, traceback):
    note("told", request.id, type(exc).__name__, os.getpid())

@app.task(name="told_id")
def told_id(task_id):
    note("told_id", task_id)

@app.task(name="pid")
def pid(*args):
    return os.getpid()

@app.task(name="replaced", bind=True)
def replaced(self, x):
    return self.replace(chain(add.s(x, 1), add.s(1)))

@app.task(name="replaced_by_group", bind=True)
def replaced_by_group(self, n):
    return self.replace(group(add.s(i, 1) for i in range(n)))

@app.task(name="grow", bind=True)
def grow(self, n):
    for x in range(n):
        self.add_to_chord(add.s(x, 100))
    return 1

@app.task(name="retried", bind=True)
def retried(self, value):
    if self.request.retries < 2:
        raise self.retry(countdown=0.01)
    return value

@app.task(name="nap")
def nap(seconds):
    time.sleep(seconds)
    return seconds

@app.task(name="kill", reject_on_worker_lost=False)
def kill(*args):
    os.kill(os.getpid(), signal.SIGKILL)

@app.task(name="kill_worker")
def kill_worker(*args):
    note("killed", os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)
"""


class Place(NamedTuple):
    """A worker in a folder, and an app that sends to it."""

    app: FastQ
    project: Project
    worker: WorkerProcess

    def s(self, name: str, *args: Any, **options: Any) -> Any:
        return self.app.signature(name, args=args, **options)

    def lines(self, name: str) -> list[list[str]]:
        return [line.split("|") for line in self.project.lines(name)]


def client(broker: str, backend: str) -> tuple[FastQ, dict[str, str]]:
    """An app that sends, and what a worker that serves it must know."""
    queue = f"flow-{new_id()}"
    app = FastQ("client", broker=broker, backend=backend, set_as_current=False)
    app.conf.task_default_queue = queue
    return app, {"BROKER": broker, "BACKEND": backend, "QUEUE": queue}


def open_place(folder: Path, broker: str, backend: str, pool: str, *arguments: str) -> Iterator[Place]:
    project = Project(folder)
    project.write("flow.py", TASKS)
    app, environment = client(broker, backend)
    options = ("-A", "flow", "-P", pool, "-c", "1" if pool == "solo" else "3", *arguments)
    with WorkerProcess(project, *options, **environment) as worker:
        worker.wait_until_ready()
        yield Place(app, project, worker)
    app.close()


STORES = ("redis", "sqlite", "redis+sqlite", "redis+redis", "rabbitmq+redis", "rabbitmq+sqlite")


def urls(store: str, folder: Path, request: pytest.FixtureRequest) -> tuple[str, str]:
    """The broker and the backend of *store*."""

    def url(kind: str, number: int) -> str:
        if kind == "sqlite":
            return f"sqlite:///{folder}/{number}.db"
        if kind == "rabbitmq":
            server: RabbitServer = request.getfixturevalue("rabbitmq_server")
            return server.url()
        start: Callable[..., RedisServer] = request.getfixturevalue("start_redis")
        return start().url

    broker, _, backend = store.partition("+")
    first = url(broker, 0)
    return first, url(backend, 1) if backend else first


WORKERS = [
    *(
        pytest.param(("redis", pool), id=f"redis-{pool}")
        for pool in ("prefork", "threads", "solo", "gevent", "asyncio")
    ),
    *(pytest.param((store, "prefork"), id=f"{store}-prefork") for store in STORES[1:]),
    *(pytest.param((store, "threads"), id=f"{store}-threads") for store in ("sqlite", "rabbitmq+redis")),
]


@pytest.fixture(scope="module", params=WORKERS)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A worker of each pool, and on each pair of stores."""
    store, pool = request.param
    folder = tmp_path_factory.mktemp(f"{store}-{pool}")
    yield from open_place(folder, *urls(store, folder, request), pool)


def get(result: Any) -> Any:
    return result.get(timeout=PATIENCE)


def failure_of(result: Any) -> Any:
    """What the task of *result* itself raised, whatever came before it."""
    wait_until(result.ready, f"{result.id} is ready")
    return result.get(timeout=PATIENCE, propagate=False)


# ---- values ----


def test_a_chain(place: Place) -> None:
    result = chain(place.s("add", 1, 2), place.s("add", 10), place.s("add", 100)).apply_async()
    assert (get(result), get(result.parent), get(result.parent.parent)) == (113, 13, 3)
    assert [child.id for child in result.parent.children] == [result.id]


def test_a_group(place: Place) -> None:
    assert get(group(place.s("add", n, n) for n in range(20)).apply_async()) == [2 * n for n in range(20)]


def test_a_chord(place: Place) -> None:
    assert get(chord([place.s("add", n, n) for n in range(20)], place.s("sum")).apply_async()) == 380


def test_many_chords_at_once(place: Place) -> None:
    results = [
        chord([place.s("add", n, k) for k in range(4)], place.s("sum")).apply_async() for n in range(30)
    ]
    assert [get(result) for result in results] == [4 * n + 6 for n in range(30)]


def test_a_chord_of_a_thousand(place: Place) -> None:
    header = group(place.s("add", n, 1) for n in range(1000))
    assert get(chord(header, place.s("same")).apply_async()) == list(range(1, 1001))


def test_all_of_it_nested(place: Place) -> None:
    s = place.s
    inner = chord([s("add", 1, 1), s("add", 2, 2)], s("sum"))
    header = [inner, s("add", 1, 1) | s("add", 5), s("add", 1, 2) | group(s("add", 1), s("add", 2))]
    flow = s("add", 0, 1) | group(s("add", 1), s("add", 2)) | s("sum") | s("add", 1)
    assert get(chord([*header, flow], s("same")).apply_async()) == [6, 7, [4, 5], 6]


def test_a_chord_five_deep(place: Place) -> None:
    flow = place.s("add", 1, 1)
    for _ in range(5):
        flow = chord([flow, place.s("add", 1, 0)], place.s("sum"))
    assert get(flow.apply_async()) == 7


def test_links_and_what_has_no_arguments(place: Place) -> None:
    name = f"link-{time.time()}"
    task = place.s("add", 1, 2)
    task.link(place.s("noted", name, "one", immutable=True))
    task.link(place.s("noted", name, "two", immutable=True))
    assert get(task.apply_async()) == 3
    wait_until(lambda: len([x for x in place.lines("noted") if x[0] == name]) == 2, "both callbacks have run")


def test_a_task_may_be_replaced(place: Place) -> None:
    s = place.s
    assert get(s("replaced", 5).apply_async()) == 7
    assert get((s("replaced", 5) | s("add", 10)).apply_async()) == 17
    assert get(s("replaced_by_group", 3).apply_async()) == [1, 2, 3]
    flow = chord(
        [s("replaced_by_group", 2), s("replaced", 1), s("replaced_by_group", 1) | s("sum")], s("same")
    )
    assert get(flow.apply_async()) == [[1, 2], 3, 1]


def test_a_task_may_add_to_its_chord(place: Place) -> None:
    result = chord([place.s("grow", 3), place.s("add", 2, 0)], place.s("sum")).apply_async()
    assert get(result) == 1 + 2 + 100 + 101 + 102


def test_a_part_that_is_retried_counts_once(place: Place) -> None:
    assert get(chord([place.s("retried", n) for n in range(3)], place.s("same")).apply_async()) == [0, 1, 2]


# ---- failures ----


def test_a_failure_is_that_of_all_later_steps(place: Place) -> None:
    result = chain(place.s("fail"), place.s("add", 1), place.s("add", 2)).apply_async()
    for each in (result.parent.parent, result.parent, result):
        with pytest.raises(ValueError, match="boom"):
            get(each)


def test_a_failed_part_fails_the_body_when_all_have_ended(place: Place) -> None:
    body = place.s("sum")
    body.link_error(place.s("told"))
    body.link_error(place.s("told_id"))
    result = chord([place.s("fail"), place.s("add", 1, 1)], body).apply_async()
    error = failure_of(result)
    assert isinstance(error, ChordError) and "raised ValueError('boom')" in str(error)
    wait_until(lambda: [result.id] in place.lines("told_id"), "the errback got the id")
    [(_, kind, _)] = [line for line in place.lines("told") if line[0] == result.id]
    assert kind == "ChordError"


def test_a_failure_goes_through_nested_chords(place: Place) -> None:
    flow = chord([place.s("fail"), place.s("add", 1, 1)], place.s("sum"))
    for _ in range(3):
        flow = chord([flow | place.s("add", 1), place.s("add", 1, 0)], place.s("sum"))
    result = (flow | place.s("add", 1)).apply_async()
    assert isinstance(failure_of(result), ChordError)


def test_the_errbacks_of_an_inner_chord_are_called_once(place: Place) -> None:
    body = place.s("sum")
    body.link_error(place.s("told"))
    inner = chord([place.s("add", 1, 1), place.s("fail")], body)
    result = chord([inner], place.s("sum")).apply_async()
    assert isinstance(failure_of(result), ChordError)
    get(chord([chord([place.s("add", 1, 1)], place.s("sum"))], place.s("sum")).apply_async())
    failed = result.parent.results[0].id
    assert [line[0] for line in place.lines("told")].count(failed) == 1


def test_errbacks_that_take_the_failure_are_called_where_it_happened(place: Place) -> None:
    pid = get(place.s("pid").apply_async())
    task = place.s("fail")
    task.link_error(place.s("told"))
    result = task.apply_async()
    with pytest.raises(ValueError, match="boom"):
        get(result)
    wait_until(lambda: any(line[0] == result.id for line in place.lines("told")), "the errback was called")
    called_in = next(int(line[2]) for line in place.lines("told") if line[0] == result.id)
    parent = place.worker.process.pid
    assert called_in != parent or pid == parent  # never in the parent of a prefork worker


def test_parts_that_end_without_a_run_count_too(place: Place) -> None:
    unknown, expired = place.s("not.there"), place.s("add", 1, 1, expires=-1)
    for part in (unknown, expired):
        result = chord([part, place.s("add", 1, 1)], place.s("sum")).apply_async()
        assert isinstance(failure_of(result), ChordError)
    refused = chain(place.s("not.there", link_error=[place.s("told")]), place.s("add", 1)).apply_async()
    failure_of(refused)
    wait_until(
        lambda: any(line[0] == refused.parent.id for line in place.lines("told")), "the errback was called"
    )


def test_nothing_is_left_of_chords(place: Place) -> None:
    result = chord([place.s("add", n, n) for n in range(3)], place.s("sum")).apply_async()
    get(result)
    backend = place.app.backend
    assert backend is not None
    wait_until(lambda: backend.parts(result.parent.id) is None, "the chord has ended")


# ---- processes that die, and time limits ----


@pytest.fixture(params=["redis", "sqlite", "rabbitmq+redis"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    return urls(request.param, tmp_path, request)


@pytest.fixture
def limited(stores: tuple[str, str], tmp_path: Path) -> Iterator[Place]:
    yield from open_place(tmp_path, *stores, "prefork", "--time-limit", "1.5")


@pytest.mark.parametrize(("task", "error"), [("kill", WorkerLostError), ("nap", TimeLimitExceeded)])
def test_a_part_whose_child_dies_or_overruns_counts_as_failed(
    limited: Place, task: str, error: type[Exception]
) -> None:
    part = limited.s(task, 60)
    part.link_error(limited.s("told"))
    result = chord([part, limited.s("add", 1, 1)], limited.s("sum")).apply_async()
    assert isinstance(failure_of(result), ChordError)
    failed = result.parent.results[0]
    assert isinstance(failure_of(failed), error)
    wait_until(lambda: any(line[0] == failed.id for line in limited.lines("told")), "the errback was called")
    [(_, kind, pid)] = [line for line in limited.lines("told") if line[0] == failed.id]
    assert kind == error.__name__
    assert int(pid) != limited.worker.process.pid


def test_a_part_that_kills_its_workers_is_buried_and_counts_as_failed(
    stores: tuple[str, str], tmp_path: Path
) -> None:
    project = Project(tmp_path)
    project.write("flow.py", TASKS)
    app, environment = client(*stores)
    part = app.signature("kill_worker")
    part.link_error(app.signature("told"))
    part.link_error(app.signature("told_id"))
    header = [part, app.signature("add", args=(1, 1))]
    result = chord(header, app.signature("sum")).apply_async()
    for _ in range(2):
        with WorkerProcess(project, "-A", "flow", "-P", "solo", **environment) as worker:
            assert worker.wait() == -9
    with WorkerProcess(project, "-A", "flow", "-P", "threads", **environment):
        assert isinstance(failure_of(result), ChordError)
        killer = result.parent.results[0].id
        wait_until(lambda: killer in [each.id for each in app.broker.dead()], "it lies in the dead set")
        wait_until(lambda: len(project.lines("told")) == 1, "one errback was called")
        wait_until(lambda: len(project.lines("told_id")) == 1, "the other was sent")
    app.close()


def test_a_worker_that_dies_before_it_has_joined_a_chord(stores: tuple[str, str], tmp_path: Path) -> None:
    """Its last part runs again elsewhere, is not counted twice, and completes the chord again."""
    project = Project(tmp_path)
    project.write("flow.py", TASKS + HALTS)
    app, environment = client(*stores)
    result = chord(
        [app.signature("add", args=(n, n)) for n in range(3)], app.signature("noted")
    ).apply_async()
    with WorkerProcess(project, "-A", "flow", "-P", "threads", **environment, HALT="1") as worker:
        wait_until(lambda: project.lines("joining") == ["now"], "the join has begun")
        worker.signal(signal.SIGKILL)
        worker.wait()
    with WorkerProcess(project, "-A", "flow", "-P", "threads", **environment):
        assert get(result) == [[0, 2, 4]]
    assert len(project.lines("noted")) == 1
    app.close()


HALTS = """
from fastq.canvas import follow

def halt(self, *args):
    with open("joining", "a") as file:
        file.write("now\\n")
    time.sleep(600)

if os.environ.get("HALT"):
    follow.Join.run = halt
"""


def test_a_store_that_is_away_delays_a_join(tmp_path: Path, start_redis: Callable[..., RedisServer]) -> None:
    messages, results = start_redis(), start_redis("--appendonly", "yes")
    for place in open_place(tmp_path, messages.url, results.url, "threads"):
        get(chord([place.s("add", 1, 1)], place.s("sum")).apply_async())
        late = chord([place.s("nap", 1.0), place.s("add", 1, 1)], place.s("sum")).apply_async()
        time.sleep(0.3)
        results.kill()
        time.sleep(1.5)
        results.start()
        assert get(late) == 3.0
