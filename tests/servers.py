"""Servers that tests start for themselves."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fastq.brokers.redis.connection import Connection, connect
from fastq.brokers.redis.endpoint import parse_endpoint

# Arguments of a server that keeps what it has confirmed when it is killed.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
SERVER_START = 10.0  # seconds that a server may take until it listens


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
    sentinel: str | None = None  # what it watches, if it is a sentinel
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def socket_path(self) -> Path:
        """Its unix socket."""
        return self.folder / "redis.sock"

    def start(self) -> None:
        """Start it, with what its folder keeps from before, and return when it answers."""
        common = ["--port", str(self.port), "--dir", str(self.folder)]
        if self.sentinel is None:
            options = [*common, "--unixsocket", str(self.socket_path), "--save", "", *self.arguments]
        else:
            config = self.folder / "sentinel.conf"
            config.write_text(f"{self.sentinel}\n")
            options = [str(config), "--sentinel", *common]
        self.process = subprocess.Popen([self.binary, *options], stdout=subprocess.DEVNULL)
        until = time.monotonic() + SERVER_START
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"redis-server on port {self.port} does not answer")
            time.sleep(0.01)

    def connect(self) -> Connection:
        """A connection of the test's own."""
        return connect(parse_endpoint(self.url, {}), 5.0)

    def call(self, *arguments: str | bytes | int) -> Any:
        """The reply to one command."""
        connection = self.connect()
        try:
            return connection.call(*arguments, timeout=5.0)
        finally:
            connection.close()

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
