"""Servers that tests start for themselves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from fastq.brokers.redis.connection import Connection, connect
from fastq.brokers.redis.endpoint import parse_endpoint

# Arguments of a server that keeps what it has confirmed when it is killed.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")
SERVER_START = 10.0  # seconds that a server may take until it listens
RABBITMQ_START = 90.0  # it takes 6 on an idle machine
RABBITMQ_SCRIPTS = Path("/usr/lib/rabbitmq/bin")  # Debian's; the ones in PATH change the user


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


@dataclass
class RabbitServer:
    """A RabbitMQ node that belongs to the tests, with an Erlang name server of its own.

    *settings* are lines of its rabbitmq.conf, *plugins* the ones to enable.
    """

    folder: Path
    port: int
    settings: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.epmd_port, self._dist_port = free_port(), free_port()
        config = self.folder / "rabbitmq.conf"
        lines = (f"listeners.tcp.1 = 127.0.0.1:{self.port}", "log.console = false", *self.settings)
        config.write_text("\n".join(lines) + "\n")
        (self.folder / "enabled_plugins").write_text(f"[{','.join(self.plugins)}].\n")
        self._environment = os.environ | {
            "HOME": str(self.folder),  # where Erlang keeps its cookie
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_RELAXED_COMMAND_CHECK": "true",  # so that it can be ended right after its node
            "ERL_EPMD_PORT": str(self.epmd_port),
            "RABBITMQ_NODENAME": "fastq@localhost",
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": str(self.folder / "no-such-file"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RUNNING_UNDER_SYSTEMD": "1",  # the node itself, without a shell around it
        }

    def url(self, virtual_host: str = "/") -> str:
        """*virtual_host* of it, for the user guest."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{quote(virtual_host, safe='')}"

    def start(self) -> None:
        """Start it, with what its folder keeps from before, and return when it takes a login."""
        self.process = subprocess.Popen(
            [RABBITMQ_SCRIPTS / "rabbitmq-server"],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + RABBITMQ_START
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"RabbitMQ on port {self.port} does not answer; see {self.folder / 'log'}")
            time.sleep(0.1)

    def control(self, *arguments: str) -> str:
        """What ``rabbitmqctl`` says."""
        command = [RABBITMQ_SCRIPTS / "rabbitmqctl", "--quiet", "--node", "fastq@localhost", *arguments]
        ran = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=60)
        if ran.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {ran.stdout}{ran.stderr}")
        return ran.stdout

    def kill(self) -> None:
        """End it at once, as a crash does, and its name server with it."""
        self._end(signal.SIGKILL)
        subprocess.run(["epmd", "-kill"], env=self._environment, capture_output=True)

    def shut_down(self) -> None:
        """End it as a service manager does."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, number)
            self.process.wait()
            self.process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1.0) as sock:
                sock.settimeout(1.0)
                sock.sendall(b"AMQP\0\0\x09\x01")
                return sock.recv(1) == b"\x01"
        except OSError:
            return False
