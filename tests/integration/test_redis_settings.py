"""Settings of the result store's connections, against a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from servers import RedisServer
from worker_process import TASKS, Project, WorkerProcess

from fastq import FastQ
from fastq.backends.redis import RedisBackend
from fastq.brokers.redis.connection import Connection
from fastq.exceptions import OperationalError


@pytest.fixture
def open_backend(redis_server: RedisServer) -> Iterator[Any]:
    apps: list[FastQ] = []

    def open_backend(**settings: Any) -> RedisBackend:
        settings = {"result_backend": redis_server.url, **settings}
        app = FastQ("settings", broker="memory://", set_as_current=False, **settings)
        apps.append(app)
        assert isinstance(app.backend, RedisBackend)
        return app.backend

    yield open_backend
    for app in apps:
        app.close()


def test_connections_bear_the_clients_name(redis_server: RedisServer, open_backend: Any) -> None:
    backend = open_backend(redis_client_name="proj-results")
    assert backend.fetch(["id"]) == [None]
    assert b" name=proj-results " in redis_server.call("CLIENT", "LIST")


def test_a_credential_provider_logs_in(redis_server: RedisServer, open_backend: Any) -> None:
    class Vault:
        def get_credentials(self) -> tuple[str, str]:
            return ("carol", "of-today")

    redis_server.call("ACL", "SETUSER", "carol", "on", ">of-today", "~*", "&*", "+@all")
    backend = open_backend(redis_backend_credential_provider=Vault(), redis_password="of-yesterday")
    assert backend.fetch(["id"]) == [None]
    assert b" user=carol " in redis_server.call("CLIENT", "LIST")


def test_no_more_connections_are_opened_than_allowed(redis_server: RedisServer, open_backend: Any) -> None:
    backend = open_backend(redis_max_connections=2, redis_client_name="few", task_publish_deadline=0.3)
    barrier = threading.Barrier(3)
    threads = [
        threading.Thread(target=backend._pool.run, args=(lambda connection, left: barrier.wait(10), 10.0))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    with pytest.raises(OperationalError, match=r"all 2 connections .* redis_max_connections"):
        backend.fetch(["id"])
    barrier.wait(10)
    for thread in threads:
        thread.join()
    assert backend.fetch(["id"]) == [None]
    assert redis_server.call("CLIENT", "LIST").count(b" name=few ") == 2


def test_a_connection_that_was_idle_for_long_is_asked_first(open_backend: Any) -> None:
    backend = open_backend(redis_backend_health_check_interval=60)
    seen: list[int] = []

    def note(connection: Connection, left: float) -> None:
        seen.append(id(connection))

    backend._pool.run(note, 5.0)
    [connection] = backend._pool._idle
    connection.used_at -= 30
    backend._pool.run(note, 5.0)
    assert seen == [id(connection)] * 2
    connection.used_at -= 61
    # A firewall has forgotten it: what is asked on it comes to nothing.
    connection.send = lambda data, timeout: None  # type: ignore[method-assign]
    backend._pool.run(note, 1.0)
    assert seen[2] != id(connection)


@pytest.mark.parametrize("db", [0, 1])
def test_a_worker_that_always_retries_stores_its_results(
    tmp_path: Any, redis_server: RedisServer, db: int
) -> None:
    project = Project(tmp_path)
    project.write("tasks.py", f"{TASKS}\napp.conf.result_backend_always_retry = True\n")
    project.env |= {
        "FASTQ_BROKER_URL": redis_server.url,
        "FASTQ_RESULT_BACKEND": redis_server.url.replace("/0", f"/{db}"),
    }
    with WorkerProcess(project, "-P", "solo"):
        assert project.result("tasks.add", "[1, 2]") == "3"
