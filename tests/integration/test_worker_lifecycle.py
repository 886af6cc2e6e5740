"""Real workers on the embedded broker: starting, stopping, restarting, running in the background."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest
from worker_process import PATIENCE, Project, WorkerProcess, wait_until

POOLS = ["prefork", "threads", "gevent", "asyncio", "solo"]


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def queue(project: Project) -> dict[str, int]:
    """What the default queue holds."""
    return json.loads(project.fastq("queues", "--json").stdout)[0]


def send_naps(project: Project, seconds: float, names: list[str]) -> None:
    for name in names:
        project.call("tasks.nap", json.dumps([seconds, name]))


@pytest.mark.parametrize("pool", POOLS)
def test_a_stop_finishes_what_runs_and_gives_back_the_rest(project, pool):
    send_naps(project, 1.0, ["a", "b", "c", "d"])
    with WorkerProcess(project, "-P", pool, "-c", "1", "--prefetch-multiplier", "4") as worker:
        wait_until(lambda: project.lines("started"), "a task runs")
        worker.signal(signal.SIGTERM)
        worker.wait_for_line("Stopping: 1 task runs, at most 25 s left")
        assert worker.wait() == 0
    started = project.lines("started")
    assert started == project.lines("ended")
    assert len(started) < 4
    held = queue(project)
    assert (held["ready"], held["claimed"]) == (4 - len(started), 0)


@pytest.mark.parametrize("pool", POOLS)
def test_a_second_signal_gives_everything_back_at_once(project, pool):
    send_naps(project, 60, ["a", "b"])
    with WorkerProcess(project, "-P", pool, "-c", "1") as worker:
        wait_until(lambda: project.lines("started"), "a task runs")
        worker.signal(signal.SIGINT)
        worker.wait_for_line("Stopping: 1 task runs")
        worker.signal(signal.SIGINT)
        began = time.monotonic()
        assert worker.wait() == 128 + signal.SIGINT
        assert time.monotonic() - began < 10
    held = queue(project)
    assert (held["ready"], held["claimed"]) == (2, 0)
    assert project.lines("ended") == []


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_that_outlasts_the_stop_is_given_back(project, pool):
    send_naps(project, 60, ["a"])
    with WorkerProcess(project, "-P", pool, "-c", "1", SHUTDOWN="0.5") as worker:
        wait_until(lambda: project.lines("started"), "a task runs")
        worker.signal(signal.SIGTERM)
        began = time.monotonic()
        assert worker.wait() == 0
        assert time.monotonic() - began < 10
    held = queue(project)
    assert (held["ready"], held["claimed"]) == (1, 0)


def test_quit_gives_everything_back(project):
    send_naps(project, 60, ["a"])
    with WorkerProcess(project, "-c", "1") as worker:
        wait_until(lambda: project.lines("started"), "a task runs")
        worker.signal(signal.SIGQUIT)
        assert worker.wait() == 128 + signal.SIGQUIT
    assert queue(project)["ready"] == 1


@pytest.mark.parametrize("pool", POOLS)
def test_quit_leaves_running_tasks_the_soft_timeout(project, pool):
    send_naps(project, 1.0, ["a"])
    with WorkerProcess(project, "-P", pool, "-c", "1", SOFT_SHUTDOWN="20") as worker:
        wait_until(lambda: project.lines("started"), "a task runs")
        worker.signal(signal.SIGQUIT)
        worker.wait_for_line("Stopping: 1 task runs, at most 20 s left")
        assert worker.wait() == 128 + signal.SIGQUIT
    assert project.lines("ended") == ["a"]


@pytest.mark.parametrize("pool", POOLS)
def test_a_task_that_outlasts_the_soft_timeout_is_given_back(project, pool):
    send_naps(project, 60, ["a"])
    with WorkerProcess(project, "-P", pool, "-c", "1", SOFT_SHUTDOWN="0.5") as worker:
        wait_until(lambda: project.lines("started"), "a task runs")
        worker.signal(signal.SIGQUIT)
        began = time.monotonic()
        assert worker.wait() == 128 + signal.SIGQUIT
        assert 0.5 <= time.monotonic() - began < 10
    held = queue(project)
    assert (held["ready"], held["claimed"]) == (1, 0)


def test_an_idle_worker_stops_at_once(project):
    with WorkerProcess(project).wait_until_ready() as worker:
        began = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert time.monotonic() - began < 3


def test_hang_up_restarts_with_the_new_code(project):
    with WorkerProcess(project).wait_until_ready() as worker:
        assert project.result("tasks.add", "[2, 3]") == "5"
        project.write("tasks.py", (project.folder / "tasks.py").read_text().replace("x + y", "x * y"))
        worker.signal(signal.SIGHUP)
        worker.wait_until_ready(count=2)
        assert project.result("tasks.add", "[2, 3]") == "6"
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


def test_usr1_shows_every_stack_and_the_worker_goes_on(project):
    with WorkerProcess(project, "-P", "threads").wait_until_ready() as worker:
        worker.signal(signal.SIGUSR1)
        worker.wait_for_line("Stack of thread MainThread")
        assert project.result("tasks.add", "[1, 1]") == "2"
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


def test_the_banner_says_what_is_done(project):
    with WorkerProcess(project, "-n", "w1@here", "-Q", "mail,web", "-c", "2").wait_until_ready() as worker:
        banner = "".join(worker.log)
        for part in (
            "w1@here",
            "sqlite:///",
            "mail, web",
            "prefork, 2 at once",
            "tasks.add",
            str(project.folder),
        ):
            assert part in banner
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


def test_purge_empties_the_queues_first(project):
    send_naps(project, 0, ["a", "b"])
    with WorkerProcess(project, "--purge", "-P", "solo").wait_until_ready() as worker:
        worker.wait_for_line("Purged 2 messages from celery")
        assert project.result("tasks.add", "[1, 1]") == "2"
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert project.lines("started") == []


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_in_the_background_has_a_pid_file_and_a_log(project, pool):
    started = project.fastq("worker", "-D", "-n", "bg", "-P", pool, "-l", "INFO")
    assert started.returncode == 0, started.stderr
    (pid_file,) = (project.folder / "home").glob("*.pid")
    assert pid_file.name == "bg.pid"
    pid = int(pid_file.read_text())
    try:
        assert f"process {pid}" in started.stdout
        assert (project.result("tasks.pid") == str(pid)) == (pool == "threads")
        second = project.fastq("worker", "-D", "-n", "bg", "-P", "threads")
        assert second.returncode == 1
        assert f"runs already with the pid file {pid_file} (process {pid})" in second.stderr
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not pid_file.exists(), "the pid file is gone")
    log = (project.folder / "home" / "bg.log").read_text()
    assert "is ready" in log
    wait_until(
        lambda: "has stopped" in (project.folder / "home" / "bg.log").read_text(), "the worker stopped"
    )


def test_an_error_before_the_terminal_is_left_is_said_there(project):
    project.write("tasks.py", "import nothing_of_that_name\nfrom fastq import FastQ\napp = FastQ('x')\n")
    done = project.fastq("worker", "-D", "-A", "tasks")
    assert done.returncode == 1
    assert done.stderr == "fastq: tasks.py:1: ModuleNotFoundError: No module named 'nothing_of_that_name'\n"
    assert not list((project.folder / "home").glob("*.pid"))


def test_changed_code_starts_the_worker_anew(project):
    good = (project.folder / "tasks.py").read_text()
    with WorkerProcess(project, "--reload", "-P", "solo").wait_until_ready() as worker:
        assert project.result("tasks.add", "[2, 3]") == "5"
        project.write("tasks.py", good.replace("x + y", "x * y"))
        worker.wait_for_line("tasks.py changed: the worker starts anew")
        worker.wait_until_ready(count=2)
        assert project.result("tasks.add", "[2, 3]") == "6"
        project.write("tasks.py", good.replace("def add(", "def add(("))
        worker.wait_for_line("SyntaxError")
        worker.wait_for_line("waiting for a change of the code")
        project.write("tasks.py", good)
        worker.wait_until_ready(count=3)
        assert project.result("tasks.add", "[2, 3]") == "5"
        worker.signal(signal.SIGINT)
        assert worker.wait() == 0
    assert not any("Traceback" in line for line in worker.log)


def can_be_process_1() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    try:
        return subprocess.run(command, capture_output=True, timeout=PATIENCE).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not can_be_process_1(), reason="needs unshare and the right to use it")
@pytest.mark.parametrize("pool", POOLS)
def test_the_traceback_of_a_task_shows_its_own_error_and_nothing_around_it(project, pool):
    project.call("tasks.nap", json.dumps(["long", "a"]))
    with WorkerProcess(project, "-P", pool, "-c", "1") as worker:
        worker.wait_for_line("raised unexpected")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    log = "".join(worker.log)
    assert log.count("Traceback") == 1 and "TypeError" in log
    assert "During handling" not in log


def test_process_1_of_a_container_stops_and_reaps(project):
    orphan = "\n@app.task\ndef orphan() -> None:\n    os.system('(sleep 0.2 &)')\n"
    count = (
        "\n@app.task\ndef zombies() -> int:\n    stats = Path('/proc').glob('[0-9]*/stat')\n"
        "    return sum(file.read_text().rsplit(') ', 1)[1][0] == 'Z' for file in stats)\n"
    )
    project.write("tasks.py", (project.folder / "tasks.py").read_text() + orphan + count)
    prefix = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    with WorkerProcess(project, "-c", "1", prefix=prefix).wait_until_ready() as worker:
        init = int(subprocess.check_output(["pgrep", "-P", str(worker.process.pid)]).split()[0])
        project.result("tasks.orphan")
        wait_until(lambda: project.result("tasks.zombies") == "0", "the orphan was reaped")
        project.call("tasks.nap", '[0.5, "a"]')
        wait_until(lambda: project.lines("started"), "a task runs")
        os.kill(init, signal.SIGTERM)
        assert worker.wait() == 0
    assert project.lines("ended") == ["a"]
