"""Children that are fresh interpreters do what forked ones do, with the worker's own application."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from test_pools import run_script
from worker_process import Project, WorkerProcess, wait_until

from fastq import FastQ
from fastq.exceptions import ImproperlyConfigured
from fastq.worker.pools.spawn import path_of

MORE = """
import multiprocessing, os
from tasks import app

@app.task
def told() -> list:
    conf = app.conf
    name = multiprocessing.current_process().name.rstrip("0123456789")
    return [conf.task_soft_time_limit, conf.result_expires, name]
"""

SCRIPT = """
import os
from fastq import FastQ

app = FastQ(broker="sqlite:///store.db")

@app.task
def name() -> str:
    return name.name

if __name__ == "__main__":
    app.worker_main(["worker", "-q", "-l", "INFO", "-c", "1", "--pool-start-method", "spawn"])
"""


@pytest.mark.parametrize("script", ["results", "failures", "hard_limit", "take_back", "forced_stop"])
def test_pool(script: str) -> None:
    run_script("prefork", script, concurrency=2, start_method="spawn", proc_alive_timeout=30)


@pytest.mark.parametrize("script", ["too_often", "stuck", "signals_pass", "interrupt_at_exit"])
def test_prefork(script: str) -> None:
    options = {"concurrency": 2, "start_method": "spawn", "proc_alive_timeout": 30}
    run_script("prefork", script, "prefork_scripts.py", **options)


def test_children_have_the_settings_and_modules_of_the_worker(tmp_path) -> None:
    project = Project(tmp_path)
    project.write("more.py", MORE)
    project.write("told.py", "result_expires = 77\n")
    options = ("--pool-start-method", "spawn", "-c", "1", "--soft-time-limit", "7", "-I", "more")
    with WorkerProcess(project, "--config", "told", *options).wait_until_ready() as worker:
        assert json.loads(project.result("more.told")) == [7, 77, "SpawnPoolWorker-"]
        worker.wait_for_line("SpawnPoolWorker-")  # it logs where the worker does
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child notices when it next writes")
def test_children_die_with_the_worker(tmp_path) -> None:
    project = Project(tmp_path)
    with WorkerProcess(project, "--pool-start-method", "spawn", "-c", "1").wait_until_ready() as worker:
        child = int(project.result("tasks.pid"))
        assert int(project.result("tasks.parent_pid")) == worker.process.pid
        worker.signal(signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{child}"), "the child is gone")


def test_an_app_in_the_script_that_is_run(tmp_path) -> None:
    project = Project(tmp_path)
    project.write("script.py", SCRIPT)
    ask = "import script; print(script.name.delay().get(timeout=30))"
    with subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, env=project.env) as worker:
        try:
            done = subprocess.run(
                [sys.executable, "-c", ask], cwd=tmp_path, env=project.env, capture_output=True, text=True
            )
        finally:
            worker.terminate()
    assert done.stdout == "script.name\n", done.stderr


def test_an_app_that_no_module_has_can_not_be_spawned() -> None:
    with FastQ("hidden", set_as_current=True) as app, pytest.raises(ImproperlyConfigured, match="'hidden'"):
        path_of(app)
