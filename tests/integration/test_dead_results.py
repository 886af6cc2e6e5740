"""Whoever waits for a task whose workers were killed too often is told so, whatever store results have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from servers import RedisServer
from worker_process import PATIENCE, Project, WorkerProcess, wait_until

from fastq import FastQ
from fastq.exceptions import WorkerLostError

TASKS = """
import os, signal
from fastq import FastQ

app = FastQ("tasks", broker=os.environ["BROKER"], backend=os.environ["BACKEND"])
app.conf.update(worker_lease=0.5, task_max_redeliveries=1)

@app.task
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("broker", "backend"), [("redis", "redis"), ("sqlite", "sqlite"), ("redis", "sqlite")]
)
def test_a_task_that_kills_its_workers_has_failed(
    tmp_path: Path, start_redis: Callable[..., RedisServer], broker: str, backend: str
) -> None:
    stores = {"sqlite": f"sqlite:///{tmp_path}/store.db"}
    if broker == "redis":
        stores["redis"] = start_redis().url
    project = Project(tmp_path)
    project.write("tasks.py", TASKS)
    environment = {"BROKER": stores[broker], "BACKEND": stores[backend]}
    app = FastQ("sender", broker=stores[broker], backend=stores[backend], set_as_current=False)
    sent = app.send_task("tasks.kill")
    for _ in range(2):
        with WorkerProcess(project, "-A", "tasks", "-P", "solo", **environment) as worker:
            assert worker.wait() == -9
    with WorkerProcess(project, "-A", "tasks", "-P", "solo", **environment):
        with pytest.raises(WorkerLostError, match="died 2 times"):
            sent.get(timeout=PATIENCE)
        wait_until(app.broker.dead, "the message lies in the dead set")
    [dead] = app.broker.dead()
    assert dead.id == sent.id
    app.close()
