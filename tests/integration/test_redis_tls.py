"""Redis over TLS, with certificates that this test makes for itself."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import RedisServer, free_port, skip_or_fail
from worker_process import Project, WorkerProcess

from fastq._core.message import Message
from fastq.backends.base import BackendOptions, StoredResult
from fastq.backends.redis import RedisBackend
from fastq.brokers.base import BrokerOptions
from fastq.brokers.redis.broker import RedisBroker
from fastq.exceptions import OperationalError
from fastq.wakeup import Waker

TASKS = """
import os
from fastq import FastQ

app = FastQ("tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"])

@app.task
def add(x, y):
    return x + y
"""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    if shutil.which("openssl") is None:
        skip_or_fail("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "server.crt", folder / "server.key"
    rest = ["-nodes", "-days", "1", "-keyout", str(key), "-out", str(certificate)]
    rest += ["-subj", "/CN=fastq-test", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", *rest],
        check=True,
        capture_output=True,
    )
    return certificate, key


@pytest.fixture(scope="module")
def address(start_redis: Callable[..., RedisServer], certificate: tuple[Path, Path]) -> str:
    """Where a server speaks TLS, to whoever shows a certificate or none."""
    return _start_tls(start_redis, certificate, "optional")


def _start_tls(start_redis: Callable[..., RedisServer], certificate: tuple[Path, Path], asks: str) -> str:
    port = free_port()
    files = ["--tls-cert-file", str(certificate[0]), "--tls-key-file", str(certificate[1])]
    files += ["--tls-ca-cert-file", str(certificate[0])]
    try:
        start_redis("--tls-port", str(port), *files, "--tls-auth-clients", asks)
    except RuntimeError:
        skip_or_fail("this redis-server was built without TLS")
    return f"127.0.0.1:{port}"


@pytest.fixture
def trusted(address: str, certificate: tuple[Path, Path]) -> str:
    """The URL of a client that trusts the server's certificate."""
    return f"rediss://{address}/0?ssl_ca_certs={certificate[0]}"


@pytest.fixture
def opened() -> Iterator[list[Any]]:
    """What is put in here is closed at the end."""
    those: list[Any] = []
    yield those
    for each in reversed(those):
        each.close()


def publish(url: str, opened: list[Any], body: bytes = b"[[], {}, {}]", **options: Any) -> RedisBroker:
    broker = RedisBroker(url, BrokerOptions(**options))
    opened.append(broker)
    broker.publish([Message("t", "a", {"task": "t", "id": "a"}, body, queue="q")], 2.0)
    return broker


def test_messages_of_many_records_come_and_go(trusted: str, opened: list[Any]) -> None:
    body = b'["' + b"x" * 300_000 + b'"]'
    broker = publish(trusted, opened, body)
    waker = Waker()
    consumer = broker.consumer(["q"], "w@here", waker)
    opened += [waker, consumer]
    (delivery,) = consumer.turn((), 10, 5.0)
    assert delivery.message is not None and delivery.message.body == body
    publish(trusted, opened, body)
    assert len(consumer.turn((), 10, 5.0)) == 1


def test_results_are_announced(trusted: str, opened: list[Any]) -> None:
    backend = RedisBackend(trusted, BackendOptions())
    opened.append(backend)
    document = b'{"status": "SUCCESS", "result": "' + b"x" * 300_000 + b'"}'
    waiting = backend.wait(["a"], 10.0)
    backend.store([StoredResult("a", "SUCCESS", document)])
    assert next(iter(waiting)) == ("a", document)
    waiting.close()  # type: ignore[attr-defined]


def test_a_certificate_that_nobody_vouches_for_is_refused(address: str, opened: list[Any]) -> None:
    with pytest.raises(OperationalError, match="certificate"):
        publish(f"rediss://{address}/0", opened)


def test_a_certificate_of_another_host_is_refused(
    address: str, certificate: tuple[Path, Path], opened: list[Any]
) -> None:
    url = f"rediss://{address.replace('127.0.0.1', 'localhost')}/0?ssl_ca_certs={certificate[0]}"
    with pytest.raises(OperationalError, match="certificate"):
        publish(url, opened)
    publish(url + "&ssl_check_hostname=false", opened)


@pytest.mark.parametrize("wanted", ["none", "CERT_NONE"])
def test_checks_can_be_turned_off(address: str, opened: list[Any], wanted: str) -> None:
    publish(f"rediss://{address}/0?ssl_cert_reqs={wanted}", opened)


def test_celerys_setting_turns_tls_on(
    address: str, certificate: tuple[Path, Path], opened: list[Any]
) -> None:
    publish(f"redis://{address}/0", opened, ssl={"ssl_ca_certs": str(certificate[0])})


def test_a_client_shows_its_certificate(
    start_redis: Callable[..., RedisServer], certificate: tuple[Path, Path], opened: list[Any]
) -> None:
    url = f"rediss://{_start_tls(start_redis, certificate, 'yes')}/0?ssl_ca_certs={certificate[0]}"
    with pytest.raises(OperationalError):
        publish(url, opened)
    publish(f"{url}&ssl_certfile={certificate[0]}&ssl_keyfile={certificate[1]}", opened)


def test_a_worker_serves_over_tls(tmp_path: Path, trusted: str) -> None:
    project = Project(tmp_path)
    project.write("tasks.py", TASKS)
    project.env["BROKER"] = trusted
    with WorkerProcess(project, "-A", "tasks", "-P", "solo") as worker:
        worker.wait_until_ready()
        assert project.result("tasks.add", "[2, 3]") == "5"
