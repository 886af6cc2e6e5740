"""`fastq multi` and `fastq stop` with real workers in the background."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from worker_process import PATIENCE, Project, wait_until

from fastq.worker.roster import holder


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project whose background workers are ended with the test."""
    project = Project(tmp_path)
    yield project
    for file in (tmp_path / "home").glob("*.pid"):
        if (pid := holder(file)) is not None:
            os.kill(pid, signal.SIGKILL)


def pid_of(project: Project, name: str) -> int | None:
    """The process of a node."""
    return holder(project.folder / "home" / f"{name}.pid")


def test_nodes_are_started_shown_restarted_and_stopped(project: Project) -> None:
    multi = project.fastq
    done = multi("multi", "start", "mail", "web", "-A", "tasks", "-P", "solo", "-Q:mail", "mail")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("started as process") == 2
    mail, web = pid_of(project, "mail"), pid_of(project, "web")
    assert mail and web and f"process {mail}" in done.stdout
    assert project.result("tasks.pid") == str(web)  # which has the default queue

    again = multi("multi", "start", "web", "-A", "tasks")
    assert again.returncode == 1 and "runs already" in again.stderr
    shown = multi("multi", "show")
    assert f"runs as process {mail}" in shown.stdout and "-Q mail" in shown.stdout
    assert [line.partition("@")[0] for line in multi("multi", "names").stdout.split()] == ["mail", "web"]
    assert "-Q mail" in multi("multi", "get", "mail").stdout
    assert multi("multi", "expand", "/log/%n", "2").stdout.split() == ["/log/fastq1", "/log/fastq2"]

    # By its name alone, from another folder: as it was started.
    project.env["PYTHONPATH"] += os.pathsep + str(project.folder)
    restarted = subprocess.run(
        [sys.executable, "-m", "fastq", "multi", "restart", "mail"],
        cwd="/", env=project.env, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert restarted.returncode == 0, restarted.stderr
    fresh = pid_of(project, "mail")
    assert fresh is not None and fresh != mail and pid_of(project, "web") == web
    assert "-Q mail" in multi("multi", "get", "mail").stdout

    stopped = multi("multi", "stopwait")
    assert stopped.returncode == 0 and stopped.stdout.count("has stopped") == 2
    assert pid_of(project, "mail") is pid_of(project, "web") is None
    nothing = multi("multi", "stopwait")
    assert nothing.returncode == 1 and "no node was started" in nothing.stderr


def test_a_node_that_does_not_start_says_why(project: Project) -> None:
    done = project.fastq("multi", "start", "one", "two", "-A:one", "tasks", "-A:two", "nothing", "-P", "solo")
    assert done.returncode == 1
    assert "one@" in done.stdout and pid_of(project, "one")
    assert "two@" in done.stderr and "nothing" in done.stderr
    killed = project.fastq("multi", "kill", "one")
    assert killed.returncode == 0 and "sent SIGKILL" in killed.stdout
    wait_until(lambda: pid_of(project, "one") is None, "it is dead")


def test_stop_ends_what_runs_in_the_background(project: Project) -> None:
    assert "no worker runs" in project.fastq("stop").stderr
    for name in ("one", "two"):
        done = project.fastq("worker", "-D", "-A", "tasks", "-P", "solo", "-n", name)
        assert done.returncode == 0, done.stderr
    several = project.fastq("stop")
    assert several.returncode == 2 and "name some of" in several.stderr
    wrong = project.fastq("stop", "onne")
    assert wrong.returncode == 1 and "did you mean" in wrong.stderr
    one = project.fastq("stop", "one")
    assert one.returncode == 0 and "has stopped" in one.stdout
    assert pid_of(project, "one") is None and pid_of(project, "two")
    assert project.fastq("stop").returncode == 0  # only one is left
    assert pid_of(project, "two") is None


def test_a_stop_waits_no_longer_than_it_is_told(project: Project) -> None:
    project.env["SHUTDOWN"] = "20"
    assert project.fastq("multi", "start", "one", "-A", "tasks", "-P", "threads").returncode == 0
    project.call("tasks.nap", '[20, "long"]')
    wait_until(lambda: project.lines("started") == ["long"], "the task runs")
    late = project.fastq("multi", "stopwait", "--timeout", "0.3")
    assert late.returncode == 75 and "still runs" in late.stderr
    assert project.fastq("stop", "--force").returncode == 0
    assert project.lines("ended") == []


def test_nodes_outlive_the_terminal_they_were_started_from(project: Project) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project.folder)
        os.execvpe(shutil.which("sh") or "/bin/sh", ["sh"], project.env | {"PS1": "$ "})
    try:
        os.write(
            terminal, f"{sys.executable} -m fastq multi start 1 -A tasks -P solo; echo code=$?\n".encode()
        )
        seen, until = b"", time.monotonic() + PATIENCE
        while b"code=0" not in seen:
            assert time.monotonic() < until, seen.decode()
            if select.select([terminal], [], [], 0.2)[0]:
                seen += os.read(terminal, 65536)
        assert b"fastq1@" in seen and b"started as process" in seen
    finally:
        os.close(terminal)  # hangs up
        os.waitpid(pid, 0)
    assert project.result("tasks.add", "[2, 3]") == "5"
    assert project.fastq("stop").returncode == 0
