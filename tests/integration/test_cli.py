"""The command as users run it, on the embedded broker."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from worker_process import Project, WorkerProcess


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["worker", "-A", "taks"], 2, "no module is named 'taks'; did you mean 'tasks'?"),
        (["worker", "-A", "tasks:ap"], 2, "module 'tasks' has no 'ap'; did you mean 'app'?"),
        (["worker", "-A", "broken"], 78, "broken.py:2: SyntaxError: "),
        (["worker", "-A", "missing"], 78, "missing.py:1: ModuleNotFoundError: No module named 'requestz'"),
        (["worker", "-I", "missing"], 78, "missing.py:1: ModuleNotFoundError: No module named 'requestz'"),
        (
            ["worker", "--concurency", "2"],
            2,
            "no option is named '--concurency'; did you mean '--concurrency'?",
        ),
        (["worker", "-P", "solo", "--time-limit", "5"], 78, "the solo pool can't keep time_limit=5"),
        (["worker", "-b", "rediss"], 78, "rediss"),
        (["queue"], 2, "no command is named 'queue'; did you mean 'queues'?"),
        (["queues", "-b", "redis://localhost:1"], 69, "localhost:1"),
        (["worker", "--config", "no_such_config"], 78, "no_such_config"),
        (["worker", "--workdir", "nowhere"], 2, "--workdir nowhere: No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(project, arguments, code, said):
    project.write("broken.py", "x = 1\ndef f(:\n")
    project.write("missing.py", "import requestz\n")
    done = project.fastq(*arguments)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.returncode == code


def test_traceback_shows_where_an_error_arose(project):
    done = project.fastq("worker", "-A", "taks", "--traceback")
    assert "Traceback" in done.stderr


def test_a_task_is_sent_found_and_run(project):
    task_id = project.call("tasks.add", "[2, 3]")
    assert project.fastq("result", task_id).stdout == "queued in queue 'celery'\n"
    later = project.fastq("call", "tasks.add", "--args", "[1, 1]", "--countdown", "3600").stdout.strip()
    assert json.loads(project.fastq("result", later, "--json").stdout)["place"] == "delayed"
    (info,) = json.loads(project.fastq("queues", "--json").stdout)
    assert (info["ready"], info["delayed"]) == (1, 1)
    with WorkerProcess(project, "-P", "solo").wait_until_ready():
        assert project.result("tasks.add", "[20, 3]") == "23"
        found = json.loads(project.fastq("result", task_id, "--json").stdout)
        assert (found["place"], found["result"]) == ("done", 5)
        running = project.call("tasks.nap", '[60, "a"]')
        place = {}
        while place.get("place") not in ("claimed", "running"):
            place = json.loads(project.fastq("result", running, "--json").stdout)
        assert place["worker"].startswith("fastq@")
    unknown = project.fastq("result", "no-such-id")
    assert (unknown.returncode, unknown.stdout.split(":")[0]) == (1, "unknown")


def test_a_failed_task_fails_the_command(project):
    with WorkerProcess(project, "-P", "solo").wait_until_ready():
        done = project.fastq("call", "tasks.fail", "--wait", "--timeout", "20")
        assert done.returncode == 1
        assert done.stderr.endswith("FAILURE: ValueError('boom')\n")
        assert "in fail" in done.stderr


def test_a_result_that_does_not_come_times_out(project):
    done = project.fastq("call", "tasks.add", "--args", "[1, 1]", "--wait", "--timeout", "0.2")
    assert done.returncode == 75
    assert "no result of" in done.stderr


def test_an_unknown_task_is_sent_with_a_warning_and_can_be_retried(project):
    done = project.fastq("call", "tasks.ad", "--args", "[1, 1]")
    assert done.returncode == 0
    assert "this app has no task 'tasks.ad'; did you mean 'tasks.add'?" in done.stderr
    with WorkerProcess(project, "-P", "solo").wait_until_ready() as worker:
        worker.wait_for_line("tasks.ad")
        entries = []
        while not entries:
            entries = json.loads(project.fastq("dead", "list", "--json").stdout)
    (entry,) = entries
    assert entry["task"] == "tasks.ad"
    shown = project.fastq("dead", "show", entry["id"])
    assert "args:     [1, 1]" in shown.stdout
    assert "sent 1 dead message back" in project.fastq("dead", "retry", entry["id"]).stdout
    assert project.fastq("dead", "list", "--json").stdout.strip() == "[]"
    assert json.loads(project.fastq("queues", "--json").stdout)[0]["ready"] == 1


def test_purge_asks(project):
    project.call("tasks.add", "[1, 1]")
    refused = project.fastq("purge", stdin="n\n")
    assert refused.returncode == 130
    assert "Remove 1 messages (1 in 'celery') for good?" in refused.stderr
    done = project.fastq("purge", stdin="y\n")
    assert done.stdout == "removed 1 messages from 'celery'\n"
    assert project.fastq("purge").stdout == "nothing to remove in 'celery'\n"


def test_report_masks_passwords(project):
    done = project.fastq("report", "-b", "redis://:hunter2@localhost:1")
    assert done.returncode == 69
    assert "hunter2" not in done.stdout + done.stderr
    done = project.fastq("report", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["broker"]["error"] is None


def test_report_works_without_an_app(project):
    (project.folder / "tasks.py").unlink()
    done = project.fastq("report")
    assert done.returncode == 0
    assert "app        none" in done.stdout


def test_the_demo_checks_every_result(project):
    done = project.fastq("demo", "--tasks", "500", "--json", "-P", "solo")
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert (seen["tasks"], seen["wrong"], seen["missing"]) == (500, 0, 0)


def test_a_program_can_be_the_worker(project):
    arguments = ["worker", "-P", "solo", "--time-limit", "3"]
    project.write("main.py", f"import sys\nfrom tasks import app\nsys.exit(app.worker_main({arguments}))\n")
    done = subprocess.run(
        [sys.executable, "main.py"], cwd=project.folder, env=project.env, capture_output=True, text=True
    )
    assert "the solo pool can't keep time_limit=3" in done.stderr
    assert done.returncode == 1
