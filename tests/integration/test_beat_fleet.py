"""Several beats on one schedule, and `fastq schedule`, as real processes."""

from __future__ import annotations

import json
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from worker_process import Project, WorkerProcess, wait_until

from fastq import FastQ
from fastq.beat import SharedScheduler

TASKS = """
from fastq import FastQ

app = FastQ("tasks", broker={url!r}, backend={url!r})
app.conf.beat_lease = 1.5
app.conf.beat_schedule = {{"often": {{"task": "tasks.note", "schedule": 0.5, "args": ("often",)}}}}

@app.task
def note(text):
    with open("notes", "a") as file:
        file.write(text + "\\n")
"""


@pytest.fixture(params=["sqlite", "redis"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    project = Project(tmp_path)
    url = "sqlite:///queue.sqlite3"
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        server.call("FLUSHALL")
        url = server.url
    project.write("tasks.py", TASKS.format(url=url))
    return project


@pytest.fixture
def start(project: Project) -> Iterator[Callable[..., WorkerProcess]]:
    """A function that starts a beat, or another command, which ends with the test."""
    with ExitStack() as stack:
        yield lambda *arguments, command="beat": stack.enter_context(
            WorkerProcess(project, *arguments, command=command)
        )


def schedule(project: Project, *arguments: str) -> str:
    """What `fastq schedule` prints."""
    done = project.fastq("schedule", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def entries(project: Project) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads(schedule(project, "list", "--json"))}


def test_two_beats_send_once_and_follow_each_other(
    project: Project, start: Callable[..., WorkerProcess]
) -> None:
    first = start()
    first.wait_for_line(" leads")
    second = start()
    second.wait_for_line("looks on")
    first.wait_for_line("Sending due task often", 3)
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    second.wait_for_line("Sending due task often", 2)
    second.signal(signal.SIGTERM)
    assert second.wait() == 0
    sent = sum("Sending due task" in line for line in [*first.log, *second.log])
    assert entries(project)["often"]["total_run_count"] == sent
    queues = json.loads(project.fastq("queues", "--json").stdout)
    assert [each["ready"] for each in queues if each["name"] == "celery"] == [sent]


def test_every_worker_may_have_a_beat(project: Project, start: Callable[..., WorkerProcess]) -> None:
    workers = [start("-B", "-P", "threads", "-n", name, command="worker") for name in ("one", "two")]
    wait_until(lambda: len(project.lines("notes")) >= 4, "four runs")
    for worker in workers:
        worker.signal(signal.SIGTERM)
    for worker in workers:
        assert worker.wait() == 0
    assert entries(project)["often"]["total_run_count"] - len(project.lines("notes")) in (0, 1)


def test_entries_are_added_and_steered_while_a_beat_runs(
    project: Project, start: Callable[..., WorkerProcess]
) -> None:
    assert schedule(project, "add", "mine", "tasks.note", "--every", "0.3", "--args", '["mine"]') == (
        "added mine: tasks.note, every 0.30 seconds"
    )
    beat = start()
    start("-P", "threads", command="worker")
    beat.wait_for_line("Sending due task mine", 2)
    wait_until(lambda: {"mine", "often"} <= set(project.lines("notes")), "both have run")
    assert schedule(project, "pause", "often") == "paused often"
    wait_until(lambda: entries(project)["often"]["is_paused"], "it is paused")
    time.sleep(1.2)  # a beat looks once a second
    count = project.lines("notes").count("often")
    task_id = schedule(project, "run", "often")
    wait_until(lambda: project.lines("notes").count("often") == count + 1, "the run by hand")
    listed = entries(project)
    assert listed["often"]["task_id"] == task_id
    wait_until(lambda: entries(project)["often"]["task_state"] == "SUCCESS", "its result")
    assert listed["mine"]["is_in_code"] is False
    assert schedule(project, "remove", "mine") == "removed mine"
    time.sleep(1.2)
    count = project.lines("notes").count("mine")
    assert schedule(project, "resume", "often") == "resumed often"
    before = project.lines("notes").count("often")
    wait_until(lambda: project.lines("notes").count("often") > before + 1, "it runs again")
    assert project.lines("notes").count("mine") - count <= 1


WORKFLOW = """

@app.task
def slow(text):
    import time
    time.sleep(1.5)
    note.run(text)

@app.on_after_configure.connect
def setup(sender, **kwargs):
    from fastq import chain
    sender.add_periodic_task(0.5, chain(note.si("first"), slow.si("last")), name="flow", overlap="skip")
"""


def test_a_workflow_is_an_entry_too_and_ends_with_its_last_task(
    project: Project, start: Callable[..., WorkerProcess]
) -> None:
    project.write("tasks.py", (project.folder / "tasks.py").read_text() + WORKFLOW)
    start("-B", "-P", "threads", "-c", "4", command="worker")
    wait_until(lambda: project.lines("notes").count("last") >= 2, "two workflows")
    ran = [line for line in project.lines("notes") if line != "often"]
    assert ran[:4] == ["first", "last", "first", "last"]


def test_what_is_in_the_schedule_is_shown(project: Project) -> None:
    schedule(project, "add", "daily", "tasks.note", "--cron", "0 4 * * mon-fri", "--overlap", "skip")
    done = project.fastq("schedule", "list")
    assert "no beat leads: start one with `fastq beat`" in done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["name", "task", "schedule"]
    assert "0 4 * * mon-fri" in lines[2]
    assert "not seen by a beat yet" in lines[2]
    times = schedule(project, "next", "daily", "-n", "3").splitlines()
    assert len(times) == 3
    assert all(line.endswith("04:00:00 UTC") for line in times)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("add", "x", "tasks.note"), 2, "say when: one of --every, --cron and --solar"),
        (("add", "x", "tasks.note", "--every", "0"), 2, "--every 0: it must be more than 0 seconds"),
        (("add", "x", "tasks.note", "--cron", "61 * * * *"), 2, "--cron 61 * * * *: crontab(minute='61')"),
        (("add", "x", "tasks.note", "--solar", "sunset"), 2, "as in sunset,48.1,11.6"),
        (("add", "often", "tasks.note", "--every", "5"), 78, "'often' is defined in code: change it there"),
        (("remove", "often"), 78, "remove it there; meanwhile it can be paused"),
        (("pause", "oftn"), 1, "no entry is named 'oftn'; did you mean 'often'?; see `fastq schedule list`"),
        (("run", "nothing"), 1, "no entry is named 'nothing'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    project = Project(tmp_path)
    project.write("tasks.py", TASKS.format(url="sqlite:///queue.sqlite3"))
    done = project.fastq("schedule", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert message in done.stderr


def test_a_thousand_runs_of_one_moment_cost_less_than_to_make_and_send_as_many_messages(
    redis_server: Any,
) -> None:
    """They were made ahead. By the time of our own processor, so that nothing else on the machine counts."""
    redis_server.call("FLUSHALL")
    app = FastQ("beats", broker=redis_server.url, backend="disabled://", set_as_current=False)
    app.conf.beat_schedule = {
        str(n): {"task": "beats.note", "schedule": 0.7, "args": (n,)} for n in range(1000)
    }
    beat = SharedScheduler(app)
    taken: list[float] = []
    take = beat._runs.take

    def timed(planned: Any, version: int) -> Any:
        began = time.process_time()
        said = take(planned, version)
        if planned[0].messages:
            taken.append((time.process_time() - began) / len(planned))
        return said

    beat._runs.take = timed  # type: ignore[method-assign]
    sent: list[float] = []
    until = time.monotonic() + 4.0
    while time.monotonic() < until:
        time.sleep(beat.tick())
        began = time.process_time()
        app.send_many(("beats.note", (n,)) for n in range(100))
        sent.append((time.process_time() - began) / 100)
    beat.close()
    app.close()
    assert len(taken) >= 8
    assert statistics.median(taken) < statistics.median(sent), (taken, sent)
