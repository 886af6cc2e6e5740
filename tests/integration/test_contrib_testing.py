"""Helpers for users' tests: workers in the process, what was sent, drain, travel, the pytest plugin."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from worker_process import REPOSITORY

from fastq import FastQ, chord, group
from fastq.contrib.testing import TestApp as make_app
from fastq.contrib.testing import capture, drain, start_worker, travel
from fastq.exceptions import ImproperlyConfigured

PATIENCE = 30.0


@pytest.fixture(params=["memory", "sqlite"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FastQ]:
    """An app with tasks, on each broker that goes by this process's clock."""
    app = make_app()
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/queue.db"
        app.conf.update(broker_url=url, result_backend=url)

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(name="fail")
    def fail() -> None:
        raise ValueError("boom")

    @app.task(name="again", bind=True, max_retries=3)
    def again(self) -> int:
        if self.request.retries < 2:
            raise self.retry(countdown=60)
        return self.request.retries

    yield app
    app.close()


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_worker_in_a_thread_runs_tasks_and_leaves_the_app_as_it_was(app: FastQ, pool: str) -> None:
    for _ in range(2):
        with start_worker(app, pool=pool) as worker:
            assert app.tasks["add"].delay(2, 3).get(timeout=PATIENCE) == 5
            assert worker.pool_name == pool
    waiting = app.tasks["add"].delay(1, 1)
    assert waiting.state == "PENDING"


def test_a_worker_that_can_not_start_says_why(app: FastQ) -> None:
    with pytest.raises(ImproperlyConfigured, match="no queue"), start_worker(app, exclude_queues=["celery"]):
        pass


def test_a_task_that_outlives_the_shutdown_is_an_error(app: FastQ) -> None:
    begun, release = threading.Event(), threading.Event()

    @app.task(name="hang")
    def hang() -> None:
        begun.set()
        release.wait(PATIENCE)

    with (
        pytest.raises(RuntimeError, match="shutdown_timeout"),
        start_worker(app, pool="threads", shutdown_timeout=0.1),
    ):
        hang.delay()
        assert begun.wait(PATIENCE)
    release.set()


def test_drain_runs_all_that_is_queued_and_what_comes_of_it(app: FastQ) -> None:
    add, total = app.tasks["add"], app.tasks["total"]
    results = [add.delay(n, n) for n in range(200)]
    whole = chord(group(add.s(n, 1) for n in range(5)), total.s())()
    failed = app.tasks["fail"].delay()
    assert drain(app) >= 200 + 6 + 1
    assert [result.get(timeout=0) for result in results] == [2 * n for n in range(200)]
    assert whole.get(timeout=0) == 15
    assert failed.state == "FAILURE"
    assert drain(app) == 0


def test_drain_takes_the_queues_that_it_is_told(app: FastQ) -> None:
    add = app.tasks["add"]
    mail, other = add.apply_async((1, 1), queue="mail"), add.delay(1, 1)
    assert drain(app, ["mail"]) == 1
    assert (mail.state, other.state) == ("SUCCESS", "PENDING")


def test_what_is_not_due_runs_when_time_has_passed(app: FastQ) -> None:
    add = app.tasks["add"]
    soon = add.apply_async((1, 1), countdown=60)
    late = add.apply_async((1, 1), eta=datetime.now(timezone.utc) + timedelta(hours=2))
    stale = add.apply_async((1, 1), expires=30)
    drain(app, after=5)
    assert (soon.state, late.state, stale.state) == ("PENDING", "PENDING", "SUCCESS")
    stale = add.apply_async((1, 1), expires=30)
    drain(app, after=timedelta(hours=1))
    assert (soon.state, late.state, stale.state) == ("SUCCESS", "PENDING", "REVOKED")
    with travel(app, timedelta(hours=1)):
        later = add.apply_async((1, 1), countdown=3600)
        drain(app)
        assert later.state == "PENDING"
        with travel(app, timedelta(hours=1, seconds=1)):
            drain(app)
    assert (late.state, later.state) == ("SUCCESS", "SUCCESS")


def test_a_worker_in_a_thread_travels_too(app: FastQ) -> None:
    with start_worker(app):
        result = app.tasks["add"].apply_async((2, 3), countdown=3600)
        with travel(app, 3601):
            assert result.get(timeout=PATIENCE) == 5


def test_retries_come_when_time_has_passed(app: FastQ) -> None:
    result = app.tasks["again"].delay()
    for minutes in range(3):
        assert result.state == ("PENDING" if not minutes else "RETRY")
        drain(app, after=timedelta(minutes=minutes, seconds=minutes))
    assert result.get(timeout=0) == 2


def test_nobody_travels_in_the_time_of_a_server() -> None:
    app = FastQ("far", broker="redis://127.0.0.1:1/0", set_as_current=False)
    with pytest.raises(ImproperlyConfigured, match="its own clock"), travel(app, 60):
        pass


def test_what_is_sent_can_be_asserted(app: FastQ) -> None:
    add = app.tasks["add"]
    with capture(app) as sent:
        result = add.delay(2, 3)
        add.apply_async((1,), {"y": 2}, queue="mail", priority=3, countdown=90, headers={"tenant": "a"})
        app.send_task("elsewhere.report", kwargs={"day": "monday"})
        with app.pipeline():
            add.delay(7, 7)
        add.apply_many([(8, 8), (9, 9)])
    assert sent.names == ["add", "add", "elsewhere.report", "add", "add", "add"]
    assert sent.assert_sent(add, (2, 3)).id == result.id
    call = sent.assert_sent("add", (1,), {"y": 2}, queue="mail", priority=3, countdown=timedelta(seconds=90))
    assert call.headers["tenant"] == "a"
    sent.assert_sent(add, count=5)
    sent.assert_sent("elsewhere.report", [], {"day": "monday"}, count=1)
    sent.assert_not_sent(add, (2, 4))
    sent.assert_not_sent(app.tasks["total"])
    for wrong in (
        lambda: sent.assert_sent(add, (2, 4)),
        lambda: sent.assert_sent(add, queue="post"),
        lambda: sent.assert_sent(add, (1,), {"y": 2}, countdown=10),
        lambda: sent.assert_sent(add, count=1),
        lambda: sent.assert_not_sent(add, (2, 3)),
        sent.assert_nothing_sent,
    ):
        with pytest.raises(AssertionError, match="sent"):
            wrong()
    assert drain(app) == 0  # nothing went out
    assert result.state == "PENDING"


def test_a_capture_may_let_through(app: FastQ) -> None:
    with capture(app, publish=True) as sent:
        result = app.tasks["add"].delay(2, 3)
        group(app.tasks["add"].s(n, n) for n in range(3)).apply_async()
    sent.assert_sent("add", (2, 3))
    assert drain(app) == len(sent) == 4
    assert result.get(timeout=0) == 5
    app.tasks["add"].delay(1, 1)
    assert len(sent) == 4  # the capture is over


PLUGIN_TESTS = """
import pytest
from fastq import current_app, shared_task

@shared_task
def mul(x, y):
    return x * y

@pytest.fixture(scope="session")
def celery_config():
    return {"task_default_queue": "from-celery-config"}

@pytest.fixture(scope="session")
def fastq_worker_parameters():
    return {"concurrency": 2}

@pytest.fixture(scope="session")
def celery_worker_pool():
    return "threads"

def test_by_celerys_names(celery_app, celery_worker):
    assert celery_app.tasks["test_plugin.mul"].delay(4, 4).get(timeout=10) == 16
    assert celery_worker.pool_name == "threads" and celery_worker.concurrency == 2
    assert celery_worker.queue_names == ["from-celery-config"]

def test_by_our_names(fastq_app, fastq_worker):
    assert fastq_app.tasks["test_plugin.mul"].delay(4, 4).get(timeout=10) == 16

def test_a_task_made_here(celery_session_app, celery_session_worker):
    @celery_session_app.task
    def add(x, y):
        return x + y
    assert add.delay(1, 2).get(timeout=10) == 3

@pytest.mark.celery(task_default_queue="outer", result_extended=True)
class TestMarks:
    @pytest.mark.celery(task_default_queue="marked")
    def test_the_nearest_mark_wins(self, fastq_app):
        assert fastq_app.conf.task_default_queue == "marked"
        assert fastq_app.conf.result_extended is True

    @pytest.mark.fastq(result_extended=False)
    def test_our_mark(self, celery_app):
        assert celery_app.conf.task_default_queue == "outer"
        assert celery_app.conf.result_extended is False

@pytest.mark.usefixtures("depends_on_current_app")
def test_the_app_is_the_current_one(celery_app):
    assert current_app.conf is celery_app.conf
    assert mul.delay(1, 1).app is celery_app
"""

TRAP_TESTS = """
import pytest
from fastq import current_app

@pytest.fixture(scope="session")
def use_celery_app_trap():
    return True

def test_the_current_app_is_out_of_reach(celery_app):
    with pytest.raises(RuntimeError, match="depends on the current app"):
        current_app.conf
"""


def test_the_plugin_has_celerys_fixtures_and_ours(tmp_path: Path) -> None:
    (tmp_path / "test_plugin.py").write_text(PLUGIN_TESTS)
    (tmp_path / "test_trap.py").write_text(TRAP_TESTS)
    arguments = ["--strict-markers", "-W", "error", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *arguments, str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "7 passed" in done.stdout, done.stdout + done.stderr
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--fixtures", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    names = (
        "app",
        "worker",
        "session_app",
        "session_worker",
        "config",
        "parameters",
        "enable_logging",
        "includes",
    )
    for name in (*names, "worker_pool", "worker_parameters", "class_tasks"):
        for prefix in ("celery", "fastq"):
            assert f"{prefix}_{name}" in listed.stdout


def test_the_plugin_imports_no_worker_before_one_is_asked_for() -> None:
    script = "import sys, fastq.contrib.pytest; print('fastq.worker.worker' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "False", done.stderr
