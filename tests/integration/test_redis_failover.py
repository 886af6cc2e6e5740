"""Several Redis servers as one broker, and the bound on a client's connections."""

from __future__ import annotations

import threading

import pytest
from servers import free_port
from worker_process import Project, WorkerProcess, wait_until

from fastq import FastQ
from fastq.brokers.redis.broker import RedisBroker
from fastq.exceptions import OperationalError


@pytest.fixture
def make_app():
    apps = []

    def make(broker, **settings):
        app = FastQ("failover", set_as_current=False, **settings)
        app.conf.broker_url = broker
        app.task(name="tasks.add")(lambda a, b: None)
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.close()


def ready(server):
    return server.call("LLEN", "celery")


@pytest.mark.parametrize("joined", [True, False])
def test_a_client_goes_on_to_the_server_that_answers(start_redis, make_app, joined):
    server = start_redis()
    urls = [f"redis://127.0.0.1:{free_port()}/0", server.url]
    app = make_app(";".join(urls) if joined else urls)
    app.send_task("tasks.add", (1, 2))
    app.send_task("tasks.add", (1, 2), retry=False)
    assert ready(server) == 2


def test_a_client_stays_with_the_server_that_answered_last(start_redis, make_app):
    first, second = start_redis(), start_redis()
    app = make_app([first.url, second.url])
    app.send_task("tasks.add", (1, 2))
    assert (ready(first), ready(second)) == (1, 0)
    first.kill()
    app.send_task("tasks.add", (1, 2))
    first.start()
    app.send_task("tasks.add", (1, 2))
    assert (ready(first), ready(second)) == (0, 2)


def test_no_server_at_all_is_an_error_that_names_them(make_app):
    urls = [f"redis://127.0.0.1:{free_port()}/0" for _ in range(2)]
    app = make_app(urls, task_publish_deadline=0.2)
    with pytest.raises(OperationalError, match="no broker answers: ") as raised:
        app.send_task("tasks.add", (1, 2))
    assert all(url.split("/")[2] in str(raised.value) for url in urls)


def test_a_worker_goes_on_to_the_server_that_answers(tmp_path, start_redis, make_app):
    first, second = start_redis(), start_redis()
    project = Project(tmp_path)
    project.env |= {
        "FASTQ_BROKER_URL": f"{first.url};{second.url}",
        "FASTQ_RESULT_BACKEND": f"sqlite:///{tmp_path}/results.db",
    }
    with WorkerProcess(project, "-P", "threads", "-c", "2") as worker:
        assert project.result("tasks.add", "[1, 2]") == "3"
        make_app(first.url).send_task("tasks.nap", (0.5, "over"))
        wait_until(lambda: "over" in project.lines("started"), "the nap to begin")
        first.kill()
        assert project.result("tasks.add", "[2, 2]") == "4"
        # The claim on the nap is known to the server that is gone: it runs again when that is back.
        worker.wait_for_line("1 messages are no longer this worker's")


@pytest.mark.parametrize(("limit", "kept"), [(2, 2), (None, 0), (0, 0)])
def test_a_clients_pool_keeps_and_opens_no_more_than_its_limit(start_redis, make_app, limit, kept):
    server = start_redis()
    app = make_app(
        server.url,
        broker_pool_limit=limit,
        broker_pool_acquire_timeout=0.05,
        broker_transport_options={"client_name": "pooled"},
    )
    assert isinstance(app.broker, RedisBroker)
    barrier = threading.Barrier(3)
    pool = app.broker._pool
    threads = [
        threading.Thread(target=pool.run, args=(lambda connection, left: barrier.wait(10), 10.0))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: server.call("CLIENT", "LIST").count(b" name=pooled ") == 2, "two connections")
    if limit:
        with pytest.raises(OperationalError, match=r"all 2 connections .* 0\.05 s: raise broker_pool_limit"):
            app.send_task("tasks.add", (1, 2))
    else:
        app.send_task("tasks.add", (1, 2))
    barrier.wait(10)
    for thread in threads:
        thread.join()
    app.send_task("tasks.add", (1, 2))
    wait_until(lambda: server.call("CLIENT", "LIST").count(b" name=pooled ") == kept, "the connections kept")
