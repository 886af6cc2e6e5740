"""`fastq beat`, and `fastq worker -B`, as real processes."""

from __future__ import annotations

import os
import shelve
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import celery.beat
import pytest
from worker_process import Project, WorkerProcess, wait_until

TASKS = """
import os
from fastq import FastQ
from fastq.beat import Scheduler

app = FastQ("tasks")
app.conf.beat_schedule = {"often": {"task": "tasks.note", "schedule": 0.2, "args": ("tick",)}}

@app.task
def note(text):
    with open("notes", "a") as file:
        file.write(text + "\\n")

class Mine(Scheduler):
    info = "my own"
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write("tasks.py", TASKS)
    return project


@pytest.fixture
def beat(project: Project) -> Iterator[WorkerProcess]:
    with WorkerProcess(project, "-s", "schedule", command="beat") as process:
        process.wait_for_line("Sending due task often (tasks.note)", 2)
        yield process


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_beat_sends_until_it_is_told_to_stop(
    project: Project, beat: WorkerProcess, stop: signal.Signals
) -> None:
    beat.signal(stop)
    assert beat.wait() == 0
    log = "".join(beat.log)
    assert "celerybeat@" in log
    assert "scheduler  fastq.beat.persistent.PersistentScheduler in the file schedule" in log
    assert "beat: has stopped" in log
    with shelve.open(str(project.folder / "schedule")) as file:
        entry = file["entries"]["often"]
    assert type(entry) is celery.beat.ScheduleEntry
    assert entry.total_run_count == sum("Sending due task" in line for line in beat.log)


def test_a_second_beat_on_the_same_pid_file_is_refused(project: Project) -> None:
    with WorkerProcess(project, "--pidfile", "beat.pid", "-s", "one", command="beat") as beat:
        beat.wait_for_line("Sending due task")
        assert (project.folder / "beat.pid").read_text() == f"{beat.process.pid}\n"
        second = project.fastq("beat", "--pidfile", "beat.pid", "-s", "two")
        assert second.returncode != 0
        assert "runs already with the pid file beat.pid" in second.stderr
        beat.signal(signal.SIGTERM)
        beat.wait()
    assert not (project.folder / "beat.pid").exists()


def test_a_beat_in_the_background(project: Project) -> None:
    done = project.fastq("beat", "--detach", "-l", "INFO", "-s", "schedule")
    assert done.returncode == 0, done.stderr
    home = project.folder / "home"
    pid = int((home / "celerybeat.pid").read_text())
    assert f"runs as process {pid}" in done.stdout
    log = home / "celerybeat.log"
    wait_until(lambda: "Sending due task often" in log.read_text(), "a task is sent")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not (home / "celerybeat.pid").exists(), "it has ended")
    assert "beat: has stopped" in log.read_text()


def test_another_scheduler(project: Project) -> None:
    with WorkerProcess(project, "-S", "tasks:Mine", command="beat") as beat:
        beat.wait_for_line("scheduler  tasks.Mine my own")
        beat.wait_for_line("Sending due task often")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-S", "tasks:Nothing"), "the scheduler 'tasks:Nothing' can't be had"),
        (("-l", "LOUD"), "no log level is named 'LOUD'"),
        (("--max-interval", "0"), "--max-interval"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    project: Project, arguments: tuple[str, ...], message: str
) -> None:
    done = project.fastq("beat", *arguments)
    assert done.returncode not in (0, 1)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_a_beat_on_a_memory_broker_reaches_its_worker(project: Project, pool: str) -> None:
    with WorkerProcess(project, "-b", "memory://", "-B", "-P", pool, "-c", "1") as worker:
        wait_until(lambda: len(project.lines("notes")) >= 3, "three runs")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


@pytest.mark.parametrize("pool", ["prefork", "solo", "gevent"])
def test_a_worker_with_a_beat_runs_what_it_sends(project: Project, pool: str) -> None:
    with WorkerProcess(project, "-B", "-P", pool, "-c", "1", "-s", "schedule") as worker:
        wait_until(lambda: len(project.lines("notes")) >= 3, "three runs")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert any("beat: has stopped" in line for line in worker.log)


def beats(project: Project) -> list[int]:
    """The ids of all processes with our schedule file in their arguments that have no worker's children."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes()
            folder = os.readlink(entry / "cwd")
        except (OSError, ValueError):
            continue
        if folder == str(project.folder) and b"fastq" in line:
            found.append(int(entry.name))
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_the_beat_of_a_worker_that_was_killed_ends(project: Project) -> None:
    with WorkerProcess(project, "-B", "-P", "threads", "-c", "1", "-s", "schedule") as worker:
        wait_until(lambda: project.lines("notes"), "a run")
        worker.process.kill()
        worker.process.wait()
        wait_until(lambda: not beats(project), "all have ended")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_beat_that_was_killed_is_started_anew(project: Project) -> None:
    with WorkerProcess(project, "-B", "-P", "threads", "-c", "1", "-s", "schedule") as worker:
        wait_until(lambda: project.lines("notes"), "a run")
        service = max(beats(project))  # forked last
        os.kill(service, signal.SIGKILL)
        worker.wait_for_line("beat: ended with -9; it is started anew")
        before = len(project.lines("notes"))
        wait_until(lambda: len(project.lines("notes")) > before + 2, "more runs")
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
