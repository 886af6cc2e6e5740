"""What every test may use: `--long`, and servers of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SERVER_START = 10.0  # seconds that a server may take until it listens


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run soak and fault tests in their long form too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="takes long: chosen by --long")
    for item in items:
        if item.get_closest_marker("long") is not None:
            item.add_marker(skip)


def skip_or_fail(missing: str) -> None:
    """Skip the test for want of *missing*; where CI is set, fail it."""
    if os.environ.get("CI"):
        pytest.fail(f"{missing}, and CI must run this test")
    pytest.skip(missing)


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@dataclass
class RedisServer:
    """A redis-server that belongs to the tests."""

    binary: str
    folder: Path
    port: int
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, with what its folder keeps from before, and return when it answers."""
        self.process = subprocess.Popen(
            [self.binary, "--port", str(self.port), "--dir", str(self.folder), "--save", "", *self.arguments],
            stdout=subprocess.DEVNULL,
        )
        until = time.monotonic() + SERVER_START
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"redis-server on port {self.port} does not answer")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def shut_down(self) -> None:
        """End it as a service manager does: it first writes what it holds."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(64).startswith(b"+PONG")
        except OSError:
            return False


@pytest.fixture(scope="session")
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RedisServer]]:
    """A function that starts a redis-server on a free port, with more of its arguments if need be."""
    binary = shutil.which("redis-server")
    if binary is None:
        skip_or_fail("no redis-server is installed")
        return
    started: list[RedisServer] = []

    def start(*arguments: str) -> RedisServer:
        server = RedisServer(binary, tmp_path_factory.mktemp("redis"), free_port(), arguments)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def redis_server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """A redis-server that the tests of a session share; each uses names of its own."""
    return start_redis()
