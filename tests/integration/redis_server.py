"""A Redis server of a test's own: on a free port, in a folder of its own, to be killed and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from fastq.brokers.redis.connection import Connection, connect
from fastq.brokers.redis.endpoint import parse_endpoint
from fastq.exceptions import OperationalError


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def need_server() -> str:
    """The path of redis-server; without it the test is skipped here and fails in CI."""
    found = shutil.which("redis-server")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("redis-server is missing")
        pytest.skip("redis-server is missing")
    return found


class RedisServer:
    """One server process with append-only file; `options` are its command line's."""

    def __init__(self, folder: Path, *options: str, sentinel: str | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.socket_path = folder / f"{self.port}.sock"
        self._sentinel = sentinel
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        program = need_server()
        common = ["--port", str(self.port), "--dir", str(self.folder)]
        if self._sentinel is not None:
            config = self.folder / f"sentinel-{self.port}.conf"
            config.write_text(f"port {self.port}\n{self._sentinel}\n")
            command = [program, str(config), "--sentinel"]
        else:
            command = [program, *common, "--unixsocket", str(self.socket_path), "--save", ""]
            command += ["--appendonly", "yes", "--appendfsync", "always"]
            command += [
                "--dbfilename",
                f"{self.port}.rdb",
                "--appenddirname",
                f"aof-{self.port}",
                *self._options,
            ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for _ in range(500):
            with contextlib.suppress(OperationalError):
                self.connect().close()
                return
            time.sleep(0.01)
        raise AssertionError("redis-server did not start")

    def connect(self) -> Connection:
        """A connection of the test's own."""
        connection = connect(parse_endpoint(self.url, {}), 1.0)
        try:
            connection.call("PING", timeout=1.0)
        except OperationalError:
            connection.close()
            raise
        return connection

    def call(self, *arguments: str | bytes | int) -> object:
        """The reply to one command."""
        connection = self.connect()
        try:
            return connection.call(*arguments, timeout=5.0)
        finally:
            connection.close()

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
