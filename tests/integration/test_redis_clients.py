"""Clients and servers of Redis that are not as usual: RESP2 alone, proxies that hang up, greenlets."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import RedisServer, free_port
from worker_process import PATIENCE, Project, WorkerProcess

from fastq.brokers.redis.connection import connect
from fastq.brokers.redis.endpoint import parse_endpoint

TASKS = """
import os, time
from fastq import FastQ

app = FastQ("tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"])

@app.task
def nap(seconds):
    time.sleep(seconds)
    return seconds
"""

# A hundred naps of 0.1 s would take 10 s one after another.
GREENLETS = """
from gevent import monkey
monkey.patch_all()
import time
import gevent
import tasks

def call(number):
    return tasks.nap.delay(0.1).get(timeout=30)

began = time.monotonic()
greenlets = [gevent.spawn(call, number) for number in range(100)]
gevent.joinall(greenlets, raise_error=True)
assert [each.value for each in greenlets] == [0.1] * 100
assert time.monotonic() - began < 5.0
"""


@pytest.fixture(scope="module")
def resp2(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """A server that does not know HELLO, so that it speaks RESP2 alone."""
    return start_redis("--rename-command", "HELLO", "")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write("tasks.py", TASKS)
    return project


class ShyProxy:
    """Passes connections on to *port*, but hangs up when one begins with HELLO."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.port: int = self._listener.getsockname()[1]
        self.hung_up = 0
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            first = client.recv(65536)
            if b"HELLO" in first:
                self.hung_up += 1
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._port))
            server.sendall(first)
            self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                thread = threading.Thread(target=self._pump, args=(source, target), daemon=True)
                thread.start()
                self._threads.append(thread)

    @staticmethod
    def _pump(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # closed by the test

    def close(self) -> None:
        """Cut everything and join the threads."""
        for each in (self._listener, *self._sockets):
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed at the other end
        for thread in self._threads:
            thread.join(PATIENCE)
        for each in (self._listener, *self._sockets):
            each.close()


@pytest.fixture
def shy_proxy(redis_server: RedisServer) -> Iterator[ShyProxy]:
    proxy = ShyProxy(redis_server.port)
    yield proxy
    proxy.close()


def speaks_resp3(url: str) -> bool:
    connection = connect(parse_endpoint(url, {}), 5.0)
    answer = connection.call("PING", timeout=5.0)
    connection.close()
    assert answer == b"PONG"
    return connection.is_resp3


def test_a_server_without_hello_is_spoken_to_in_resp2(redis_server: RedisServer, resp2: RedisServer) -> None:
    assert speaks_resp3(redis_server.url)
    assert not speaks_resp3(resp2.url)


def test_a_proxy_that_hangs_up_on_hello_is_spoken_to_in_resp2(shy_proxy: ShyProxy) -> None:
    assert not speaks_resp3(f"redis://127.0.0.1:{shy_proxy.port}/0")
    assert shy_proxy.hung_up == 1


def test_a_worker_and_its_clients_get_on_with_resp2(project: Project, resp2: RedisServer) -> None:
    project.env["BROKER"] = resp2.url
    with WorkerProcess(project, "-A", "tasks", "-P", "threads", "-c", "4") as worker:
        worker.wait_until_ready()
        assert project.result("tasks.nap", "[0.01]") == "0.01"


@pytest.mark.parametrize("server", ["redis_server", "resp2"])
def test_a_hundred_greenlets_wait_at_once(
    project: Project, server: str, request: pytest.FixtureRequest
) -> None:
    project.env["BROKER"] = request.getfixturevalue(server).url
    with WorkerProcess(project, "-A", "tasks", "-P", "gevent", "-c", "100") as worker:
        worker.wait_until_ready()
        done = subprocess.run(
            [sys.executable, "-c", GREENLETS],
            cwd=project.folder,
            env=project.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    assert done.returncode == 0, done.stderr
