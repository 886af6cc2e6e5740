"""A worker's metrics, read as Prometheus does, and whether /live and /ready tell progress."""

from __future__ import annotations

import http.client
import os
import signal
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from servers import RedisServer, free_port
from worker_process import PATIENCE, Project, WorkerProcess, wait_until

from fastq import FastQ

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Scraper:
    """Asks a worker as Prometheus and Kubernetes do."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> tuple[int, str]:
        """Status and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def samples(self) -> Samples:
        """Every sample by its name and labels."""
        status, text = self.get("/metrics")
        assert status == 200
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """The value of one sample; 0 if there is none yet."""
        return self.samples().get((name, frozenset(labels.items())), 0.0)


@pytest.fixture
def scraper() -> Scraper:
    """For the worker that is started on its port."""
    return Scraper(free_port())


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Tasks whose messages tell when they were sent, with a short lease."""
    project = Project(tmp_path)
    project.write("conf.py", "task_send_timestamp = True\nworker_prefetch_multiplier = 1\nworker_lease = 1\n")
    source = (tmp_path / "tasks.py").read_text()
    project.write("tasks.py", source.replace('FastQ("tasks")', 'FastQ("tasks", config_source="conf")'))
    project.env["FASTQ_BROKER_URL"] = project.env["FASTQ_RESULT_BACKEND"] = f"sqlite:///{tmp_path}/q.db"
    return project


@pytest.fixture(params=["sqlite", "redis"])
def broker(request: pytest.FixtureRequest, project: Project) -> None:
    """The project uses it."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        url = f"{server.url.removesuffix('/0')}/7"
        server.call("FLUSHALL")
        project.env["FASTQ_BROKER_URL"] = project.env["FASTQ_RESULT_BACKEND"] = url


def send(project: Project, *names: str, args: tuple[object, ...] = ()) -> None:
    """Send tasks as another process would."""
    with FastQ("tasks", broker=project.env["FASTQ_BROKER_URL"], set_as_current=False) as client:
        client.conf.task_send_timestamp = True
        for name in names:
            client.send_task(f"tasks.{name}", args)


@pytest.mark.parametrize("pool", ["solo", "prefork"])
@pytest.mark.usefixtures("broker")
def test_tasks_are_counted_by_name_and_state(project: Project, scraper: Scraper, pool: str) -> None:
    send(project, "add", "add", "add", args=(1, 1))
    send(project, "fail", "nobody_has_this")
    with WorkerProcess(project, "-P", pool, "-c", "2", "--metrics", str(scraper.port)) as worker:
        worker.wait_until_ready()
        value = scraper.value
        wait_until(lambda: value("fastq_tasks_total", task="tasks.add", state="SUCCESS") == 3, "they ran")
        wait_until(lambda: value("fastq_claims") == 0, "nothing is left")
        assert value("fastq_tasks_total", task="tasks.fail", state="FAILURE") == 1
        assert value("fastq_tasks_total", task="unknown", state="FAILURE") == 1
        assert value("fastq_task_run_seconds_count", task="tasks.add") == 3
        assert value("fastq_task_run_seconds_bucket", task="tasks.add", le="+Inf") == 3
        assert value("fastq_task_wait_seconds_count", task="tasks.add") == 3
        # Sent before the worker started, which takes a moment; and the test has not run for ever.
        assert 0.05 * 3 < value("fastq_task_wait_seconds_sum", task="tasks.add") < 3 * PATIENCE
        assert value("fastq_claims_total") == 5
        assert value("fastq_prefetch_limit") == (1 if pool == "solo" else 2)
        wait_until(lambda: value("fastq_queue_ready", queue="celery") == 0, "none waits in the queue")
        wait_until(lambda: scraper.value("fastq_queue_dead", queue="celery") == 1, "the dead set is counted")
        assert value("fastq_connected") == 1
        assert value("process_resident_memory_bytes") > 5e6
        children = value("fastq_children")
        assert children >= 2 if pool == "prefork" else children == 0
        assert (value("fastq_children_resident_memory_bytes") > 5e6) is (pool == "prefork")
        assert scraper.get("/live") == (200, "ok\n")
        assert scraper.get("/ready") == (200, "ok\n")
        assert scraper.get("/other")[0] == 404
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


@pytest.mark.usefixtures("broker")
def test_what_waits_is_told_with_its_age(project: Project, scraper: Scraper) -> None:
    with WorkerProcess(project, "-P", "threads", "-c", "1", "--metrics", str(scraper.port)) as worker:
        worker.wait_until_ready()
        send(project, "nap", args=(60, "long"))
        wait_until(lambda: project.lines("started") == ["long"], "the long task runs")
        send(project, "add", "add", "add", args=(1, 1))
        wait_until(lambda: scraper.value("fastq_queue_ready", queue="celery") == 3, "three wait")
        assert scraper.value("fastq_tasks_running") == 1
        assert scraper.value("fastq_claims") == 1
        first = scraper.value("fastq_queue_oldest_age_seconds", queue="celery")
        assert first > 0
        wait_until(
            lambda: scraper.value("fastq_queue_oldest_age_seconds", queue="celery") > first, "it grows older"
        )
        assert scraper.get("/live")[0] == 200  # a task that runs for long is no fault


def test_redeliveries_are_counted(project: Project, scraper: Scraper) -> None:
    send(project, "nap", args=(60, "long"))
    with WorkerProcess(project, "-P", "solo") as first:
        wait_until(lambda: project.lines("started") == ["long"], "the long task runs")
        first.signal(signal.SIGKILL)
        first.wait()
    with WorkerProcess(project, "-P", "solo", "--metrics", str(scraper.port)) as worker:
        worker.wait_until_ready()
        wait_until(lambda: scraper.value("fastq_redeliveries_total") == 1, "the dead worker's task is here")


def test_a_worker_is_not_ready_while_the_broker_is_away(
    project: Project, scraper: Scraper, start_redis
) -> None:
    server: RedisServer = start_redis()
    project.env["FASTQ_BROKER_URL"] = server.url
    with WorkerProcess(project, "-P", "threads", "--metrics", str(scraper.port)) as worker:
        worker.wait_until_ready()
        assert scraper.get("/ready")[0] == 200
        server.kill()
        wait_until(lambda: scraper.get("/ready") == (503, "the broker is away\n"), "it says so")
        assert scraper.get("/live")[0] == 200  # to start it anew would not help
        assert scraper.value("fastq_queues_known") == 0
        server.start()
        wait_until(lambda: scraper.get("/ready")[0] == 200, "it is ready again")
        assert scraper.value("fastq_reconnects_total") >= 1


def test_a_loop_that_stands_still_is_not_alive(project: Project, scraper: Scraper) -> None:
    project.write(
        "stuck.py",
        "import time\n"
        "from fastq.brokers.sqlite.consumer import SQLiteConsumer\n"
        "from fastq.worker import metrics\n"
        "from pathlib import Path\n"
        "metrics.STUCK_AFTER = 2.0\n"
        "real = SQLiteConsumer.turn\n"
        "def turn(self, outcomes, room, timeout):\n"
        "    while Path('hang').exists():\n"
        "        time.sleep(0.05)\n"
        "    return real(self, outcomes, room, min(timeout, 0.2))\n"
        "SQLiteConsumer.turn = turn\n",
    )
    with WorkerProcess(
        project, "-P", "threads", "-I", "stuck", "--metrics", f"127.0.0.1:{scraper.port}"
    ) as worker:
        worker.wait_until_ready()
        assert scraper.get("/live") == (200, "ok\n")
        project.write("hang", "")
        wait_until(lambda: scraper.get("/live")[0] == 503, "it is seen that the loop stands still")
        assert "the loop has taken no turn for" in scraper.get("/live")[1]
        assert scraper.get("/ready")[0] == 503
        os.remove(project.folder / "hang")
        wait_until(lambda: scraper.get("/ready")[0] == 200, "it goes on")


def test_a_worker_that_takes_nothing_though_messages_wait_is_not_alive(
    project: Project, scraper: Scraper
) -> None:
    project.write(
        "deaf.py",
        "from fastq.brokers.sqlite.consumer import SQLiteConsumer\n"
        "from fastq.worker import metrics\n"
        "metrics.STARVED_AFTER = 0.5\n"
        "metrics.QUEUES_KEPT = 0.0\n"
        "real = SQLiteConsumer.turn\n"
        "SQLiteConsumer.turn = lambda self, outcomes, room, timeout: real(self, outcomes, 0, 0.05)\n",
    )
    with WorkerProcess(project, "-P", "threads", "-I", "deaf", "--metrics", str(scraper.port)) as worker:
        worker.wait_until_ready()
        time.sleep(1.0)
        assert scraper.get("/live")[0] == 200  # nothing waits, so there is nothing to take
        send(project, "add", args=(1, 1))
        wait_until(lambda: scraper.get("/live")[0] == 503, "it is seen that it takes nothing")
        assert "none was taken" in scraper.get("/live")[1]


def test_a_port_that_is_taken_is_said_at_the_start(project: Project, redis_server: RedisServer) -> None:
    done = project.fastq("worker", "-P", "solo", "--metrics", str(redis_server.port))
    assert done.returncode == 78
    assert f"metrics can't be served at 127.0.0.1:{redis_server.port}" in done.stderr
    done = project.fastq("worker", "-P", "solo", "--metrics", "here")
    assert done.returncode == 78
    assert "--metrics here: not a PORT or HOST:PORT" in done.stderr
