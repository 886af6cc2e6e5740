"""`fastq doctor` finds what is wrong: each fault is planted in a fleet that is well otherwise."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from servers import DURABLE, RedisServer, free_port
from worker_process import Project, WorkerProcess, wait_until

from fastq import FastQ
from fastq.cli.checkup import CHECKS, Checkup, Finding
from fastq.contrib.testing import drain, start_worker

TIMEOUT = 1.0  # seconds for answers, which take milliseconds on an idle machine


@pytest.fixture(scope="module")
def server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """A Redis that is as it should be."""
    return start_redis(*DURABLE)


def make_app(url: str, *tasks: str) -> FastQ:
    """An app with *tasks*."""
    app = FastQ("clinic", broker=url, backend=url, set_as_current=False)
    for name in tasks:
        app.task(name=name)(lambda: None)
    return app


class Clinic:
    """An app, a worker that serves it, and what is planted there."""

    def __init__(self, url: str, stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.url = url
        self.stack = stack
        self.monkeypatch = monkeypatch
        self.app = make_app(url, "tasks.add")
        self.app.conf.task_send_timestamp = True
        self.now: Callable[[], float] = time.time

    def start_worker(self, app: FastQ | None = None, **options: object) -> None:
        """Have a worker until the end of the test."""
        app = app or make_app(self.url, "tasks.add")
        self.stack.enter_context(start_worker(app, pool="threads", perform_ping_check=False, **options))  # type: ignore[arg-type]

    def findings(self) -> list[Finding]:
        """What the doctor finds."""
        return Checkup(self.app, timeout=TIMEOUT, now=self.now).run()


@pytest.fixture
def clinic(server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clinic]:
    server.call("FLUSHALL")
    monkeypatch.setenv("FASTQ_HOME", str(tmp_path))
    with ExitStack() as stack:
        yield Clinic(server.url, stack, monkeypatch)


def unused_setting(clinic: Clinic) -> None:
    clinic.start_worker()
    clinic.app.conf.worker_lost_wait = 3


def pickle_that_is_accepted(clinic: Clinic) -> None:
    clinic.start_worker()
    clinic.app.conf.accept_content = ["json", "pickle"]


def no_tasks(clinic: Clinic) -> None:
    clinic.start_worker()
    clinic.app = make_app(clinic.url)


def state_directory_that_is_blocked(clinic: Clinic) -> None:
    clinic.start_worker()
    (Path(os.environ["FASTQ_HOME"]) / ".doctor").mkdir()


def broker_that_is_away(clinic: Clinic) -> None:
    clinic.app.conf.update(broker_url=f"redis://127.0.0.1:{free_port()}/0", task_publish_deadline=0.3)


def backend_that_is_away(clinic: Clinic) -> None:
    clinic.start_worker()
    clinic.app.conf.update(
        result_backend=f"redis://127.0.0.1:{free_port()}/0", redis_socket_connect_timeout=0.3
    )


def clock_that_is_late(clinic: Clinic) -> None:
    clinic.start_worker()
    clinic.now = lambda: time.time() - 60


def queue_that_nobody_consumes(clinic: Clinic) -> None:
    clinic.start_worker()
    clinic.app.send_task("tasks.add", queue="misspelt")


def message_that_waits_for_long(clinic: Clinic) -> None:
    clinic.start_worker(queues=["other"])
    sent = int((time.time() - 3600) * 1000)
    clinic.app.conf.task_send_timestamp = False
    with make_app(clinic.url) as stalled:
        stalled.send_task("tasks.add", headers={"timestamp_in_ms": sent})
    clinic.monkeypatch.setattr(Checkup, "consumed", {"celery"})  # by a worker that is slow to take it


def queue_that_is_paused(clinic: Clinic) -> None:
    clinic.start_worker()
    clinic.app.send_task("tasks.add", queue="misc", expires=0.001)
    clinic.app.control.pause_queue("misc")
    clinic.monkeypatch.setattr(Checkup, "consumed", {"celery", "misc"})


def no_worker(clinic: Clinic) -> None:
    clinic.app.send_task("tasks.add")


def two_of_one_name(clinic: Clinic) -> None:
    for _ in range(2):
        clinic.start_worker(hostname="twin")


def message_in_the_dead_set(clinic: Clinic) -> None:
    clinic.app.send_task("tasks.nobody_has_this")
    drain(make_app(clinic.url))
    clinic.start_worker()


def another_version(clinic: Clinic) -> None:
    clinic.start_worker()
    clinic.monkeypatch.setattr("fastq.worker.remote.inspecting.__version__", "0.0.1")


def worker_with_older_code(clinic: Clinic) -> None:
    clinic.start_worker(make_app(clinic.url, "tasks.other"))


# By what plants it: the check that finds it, its level, and what it says.
FAULTS = {
    unused_setting: ("settings", "warning", "worker_lost_wait has no effect"),
    pickle_that_is_accepted: ("settings", "warning", "accept_content has pickle"),
    no_tasks: ("tasks", "warning", "no tasks"),
    state_directory_that_is_blocked: ("state directory", "error", "can't be written to"),
    broker_that_is_away: ("broker", "error", "can't be used"),
    backend_that_is_away: ("results", "error", "can't be used"),
    clock_that_is_late: ("clock", "error", "clock is 60 s behind the broker's"),
    queue_that_nobody_consumes: ("queues", "error", "1 messages wait in misspelt"),
    message_that_waits_for_long: ("queues", "warning", "has waited for 60 min"),
    queue_that_is_paused: ("paused queues", "warning", "the queue misc is paused"),
    no_worker: ("workers", "error", "no worker answers"),
    two_of_one_name: ("workers", "warning", "several workers are called twin@"),
    message_in_the_dead_set: ("dead set", "warning", "1 messages of celery could not be run"),
    another_version: ("versions", "warning", "has fastq 0.0.1"),
    worker_with_older_code: ("registered tasks", "warning", "does not know tasks.add"),
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found_and_nothing_else(clinic: Clinic, plant: Callable[[Clinic], None]) -> None:
    plant(clinic)
    check, level, said = FAULTS[plant]
    findings = clinic.findings()
    assert len(findings) == 1, findings
    (finding,) = findings
    assert (finding.check, finding.level) == (check, level), finding
    assert said in finding.what
    assert finding.advice


def test_nothing_is_found_where_all_is_well(clinic: Clinic) -> None:
    clinic.start_worker()
    checkup = Checkup(clinic.app, timeout=0.5)
    assert checkup.run() == []
    assert checkup.passed == list(CHECKS) and checkup.skipped == {}


def test_what_a_dead_worker_holds_is_found(clinic: Clinic, tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.env["FASTQ_BROKER_URL"] = clinic.url
    clinic.app.send_task("tasks.nap", (60, "long"))
    with WorkerProcess(project, "-P", "solo") as worker:
        wait_until(lambda: project.lines("started") == ["long"], "the long task runs")
        worker.signal(signal.SIGKILL)
        worker.wait()
    found = {finding.check: finding for finding in clinic.findings()}
    assert "1 messages are held by workers that do not answer" in found["leases"].what
    assert found["workers"].level == "warning"  # nothing waits


def test_a_redis_that_may_lose_messages_is_found(
    start_redis: Callable[..., RedisServer], clinic: Clinic
) -> None:
    careless = start_redis("--maxmemory-policy", "allkeys-lru")
    clinic.app.conf.broker_url = careless.url
    said = [finding.what for finding in clinic.findings() if finding.check == "broker"]
    assert any("drops keys when it is full" in what for what in said)
    assert any("keeps nothing on disk" in what for what in said)


def test_the_command_says_what_to_do(clinic: Clinic, tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.env["FASTQ_BROKER_URL"] = project.env["FASTQ_RESULT_BACKEND"] = clinic.url
    clinic.app.send_task("tasks.add")
    done = project.fastq("doctor", "--timeout", "0.3")
    assert done.returncode == 1, done.stderr
    assert "✗ workers: no worker answers within 0.3 s, and 1 messages wait" in done.stdout
    assert "start one: `fastq worker`" in done.stdout
    assert "- versions: not checked: no worker answers" in done.stdout
    clinic.start_worker(
        make_app(clinic.url, *(f"tasks.{name}" for name in ("add", "nap", "fail", "pid", "parent_pid")))
    )
    done = project.fastq("doctor", "--json")
    assert (done.returncode, json.loads(done.stdout)["findings"]) == (0, [])
