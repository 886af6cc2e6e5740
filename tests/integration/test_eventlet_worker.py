"""A worker on the eventlet pool: its loop is a green thread beside the tasks."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from servers import RedisServer
from worker_process import PATIENCE, Project, WorkerProcess, wait_until

from fastq import FastQ


@pytest.fixture(params=["sqlite", "redis"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    """A project on each broker."""
    project = Project(tmp_path)
    url = f"sqlite:///{tmp_path}/q.db"
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        server.call("FLUSHALL")
        url = server.url
    project.env["FASTQ_BROKER_URL"] = project.env["FASTQ_RESULT_BACKEND"] = url
    return project


def test_tasks_wait_side_by_side_and_a_stop_lets_them_end(project: Project) -> None:
    url = project.env["FASTQ_BROKER_URL"]
    with (
        FastQ("client", broker=url, backend=url, set_as_current=False) as client,
        WorkerProcess(project, "-P", "eventlet", "-c", "50") as worker,
    ):
        worker.wait_until_ready()
        # One after the other they would sleep for 100 s.
        sleeps = [client.send_task("tasks.nap", (2, str(n))) for n in range(50)]
        sums = [client.send_task("tasks.add", (n, n)) for n in range(200)]
        assert [each.get(timeout=PATIENCE) for each in sums] == [2 * n for n in range(200)]
        assert [each.get(timeout=PATIENCE) for each in sleeps] == [str(n) for n in range(50)]
        last = client.send_task("tasks.nap", (1, "last"))
        wait_until(lambda: "last" in project.lines("started"), "the last task runs")
        time.sleep(0.1)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert last.get(timeout=PATIENCE) == "last"
