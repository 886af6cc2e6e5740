"""`fastq shell`, `graph`, `migrate`, `upgrade settings`, completion, and pools of the user's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from servers import RedisServer
from worker_process import REPOSITORY, Project, WorkerProcess

from fastq import FastQ
from fastq.app.defaults import SETTINGS
from fastq.cli.graph import fleet
from fastq.cli.upgrade import unknown, upgraded


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with a worker's tasks."""
    return Project(tmp_path)


def test_the_shell_has_the_app_its_tasks_and_the_canvas(project: Project) -> None:
    script = "print(app.main, add.name, group([add.s(1, 1)]).tasks[0].task, chord.__name__, Task.__name__)"
    done = project.fastq("shell", "-P", stdin=script)
    assert done.stdout.split() == ["tasks", "tasks.add", "tasks.add", "chord", "Task"], done.stderr
    without = project.fastq("shell", "-P", "-T", stdin="print('add' in globals())")
    assert without.stdout == "False\n"


def test_the_graph_of_a_fleet(project: Project) -> None:
    with WorkerProcess(project, "-P", "threads", "-n", "w1", "-Q", "celery,mail") as worker:
        worker.wait_until_ready()
        done = project.fastq("graph", "workers")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("digraph fleet {")
    assert '"mail" -> "w1@' in done.stdout and '"celery" -> "w1@' in done.stdout
    assert "no worker answers" in project.fastq("graph", "workers", "--timeout", "0.1").stderr


def test_names_in_graphs_are_quoted() -> None:
    app = FastQ("graph", broker="memory://", set_as_current=False)
    assert '"a\\"b" -> "w@h";' in fleet(app, {"w@h": ['a"b']})


def test_the_graph_of_a_result(project: Project) -> None:
    task_id = project.call("tasks.add", "[1, 1]")
    done = project.fastq("graph", "result", task_id)
    assert task_id in done.stdout and done.stdout.startswith("digraph")


def test_messages_move_from_one_broker_to_another(project: Project, redis_server: RedisServer) -> None:
    redis_server.call("FLUSHALL")
    old, new = f"sqlite:///{project.folder}/old.db", redis_server.url
    with FastQ("client", broker=old, set_as_current=False) as client:
        for n in range(1200):
            client.send_task("tasks.add", (n, n))
        client.send_task("tasks.add", (1, 1), queue="mail", priority=3)
        client.send_task("tasks.add", (1, 1), countdown=3600)
    some = project.fastq("migrate", old, new, "-n", "700", "-Q", "celery")
    assert (some.returncode, some.stdout) == (0, "moved 700 messages of 'celery'\n"), some.stderr
    rest = project.fastq("migrate", old, new)
    assert rest.stdout == "moved 500 messages of 'celery'\nmoved 1 messages of 'mail'\n", rest.stderr
    assert "1 delayed messages stay" in rest.stderr
    assert project.fastq("migrate", old, new).stdout == "nothing waits there\n"
    with FastQ("client", broker=new, set_as_current=False) as client:
        counts = {queue.name: queue.ready for queue in client.broker.queues()}
    assert counts == {"celery": 1200, "mail": 1}
    project.env["FASTQ_BROKER_URL"] = project.env["FASTQ_RESULT_BACKEND"] = new
    with WorkerProcess(project, "-P", "solo", "-Q", "mail") as worker:
        worker.wait_for_line("succeeded")


OLD_SETTINGS = """\
import os

# CELERYD_CONCURRENCY stays in comments
BROKER_URL = os.environ["BROKER_URL"]
CELERYD_CONCURRENCY = 4
if BROKER_URL:
    CELERY_TASK_RESULT_EXPIRES = 60  # seconds
app.conf.CELERY_ALWAYS_EAGER = True
app.conf.update(CELERY_TIMEZONE="UTC", CELERYD_PREFETCH_MULTIPLIER=1)
MY_OWN = "CELERYD_CONCURRENCY"
CELERY_NO_SUCH = 1
"""


def test_old_names_of_settings_become_those_of_now() -> None:
    assert upgraded(OLD_SETTINGS).splitlines() == [
        "import os",
        "",
        "# CELERYD_CONCURRENCY stays in comments",
        'broker_url = os.environ["BROKER_URL"]',
        "worker_concurrency = 4",
        "if broker_url:",
        "    result_expires = 60  # seconds",
        "app.conf.task_always_eager = True",
        'app.conf.update(timezone="UTC", worker_prefetch_multiplier=1)',
        'MY_OWN = "CELERYD_CONCURRENCY"',
        "CELERY_NO_SUCH = 1",
    ]
    assert upgraded(upgraded(OLD_SETTINGS)) == upgraded(OLD_SETTINGS)
    assert unknown(upgraded(OLD_SETTINGS)) == [(11, "CELERY_NO_SUCH")]
    assert "CELERY_WORKER_CONCURRENCY = 4" in upgraded(OLD_SETTINGS, django=True)


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_old_name_has_its_new_one(setting) -> None:
    for old in setting.old_names:
        assert upgraded(f"{old} = 1\n") == f"{setting.name} = 1\n"


def test_a_file_is_upgraded_and_kept(project: Project) -> None:
    project.write("celeryconfig.py", OLD_SETTINGS)
    shown = project.fastq("upgrade", "settings", "celeryconfig.py", "--dry-run")
    assert "+worker_concurrency = 4" in shown.stdout
    assert (project.folder / "celeryconfig.py").read_text() == OLD_SETTINGS
    done = project.fastq("upgrade", "settings", "celeryconfig.py")
    assert "changed 6 lines" in done.stdout
    assert "celeryconfig.py:11: no setting is named CELERY_NO_SUCH" in done.stderr
    assert (project.folder / "celeryconfig.py").read_text() == upgraded(OLD_SETTINGS)
    assert (project.folder / "celeryconfig.py.orig").read_text() == OLD_SETTINGS
    again = project.fastq("upgrade", "settings", "celeryconfig.py")
    assert "nothing to change" in again.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str, tmp_path: Path) -> None:
    def ask(what: str, **words: str) -> str:
        environment = os.environ | {"_FASTQ_COMPLETE": f"{shell}_{what}", **words}
        done = subprocess.run(
            [sys.executable, "-m", "fastq"],
            env=environment,
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    if shell != "bash":  # whose own version click asks for
        assert "_FASTQ_COMPLETE" in ask("source")
    last = {"COMP_CWORD": "wor" if shell == "fish" else "1"}
    assert "worker" in ask("complete", COMP_WORDS="fastq wor", **last)
    last = {"COMP_CWORD": "--conc" if shell == "fish" else "2"}
    assert "--concurrency" in ask("complete", COMP_WORDS="fastq worker --conc", **last)


def test_a_worker_on_a_pool_of_the_users(project: Project) -> None:
    project.write(
        "mypool.py",
        "from fastq.worker.pools.threads import ThreadsPool\n"
        "class Pool(ThreadsPool):\n"
        "    name = 'mine'\n"
        "    def submit(self, deliveries):\n"
        "        open('submitted', 'a').write('x')\n"
        "        super().submit(deliveries)\n",
    )
    with WorkerProcess(project, "-P", "mypool:Pool", "-c", "2") as worker:
        worker.wait_until_ready()
        assert project.result("tasks.add", "[2, 3]") == "5"
    assert (project.folder / "submitted").exists()
