"""Long waits: for a broker that takes nothing, and for tasks that let no heartbeat pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from servers import RabbitServer
from stage import HERE, PATIENCE, POOLS, Stage, flush
from tcp_proxy import Proxy

DEADLINE = 2.0  # seconds, of the publisher
# How late a tick of the hub may be, beside what it is without load in the same run. What else the machine
# does may make it later, but not each time.
LATE_MS, ATTEMPTS = 20.0, 5


class Publisher:
    """A gevent program that publishes 10,000 messages whenever it is asked to, and says how its hub fared."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, HERE / "gevent_publisher.py", url, str(DEADLINE)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._read() == "ready"

    def publish(self) -> tuple[float, float, float, str]:
        """The worst tick in ms without and with the publishing, how long that took, and what came of it."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        alone, late, seconds, what = self._read().split(" ", 3)
        return float(alone), float(late), float(seconds), what

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")


@contextmanager
def stopped(server: RabbitServer, proxy: Proxy) -> Iterator[None]:
    """A node that hangs."""
    assert server.process is not None
    os.killpg(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(server.process.pid, signal.SIGCONT)


@contextmanager
def alarmed(server: RabbitServer, proxy: Proxy) -> Iterator[None]:
    """A node that is short of memory."""
    server.control("set_vm_memory_high_watermark", "0.00001")
    try:
        yield
    finally:
        server.control("set_vm_memory_high_watermark", "0.4")


@contextmanager
def slow(server: RabbitServer, proxy: Proxy) -> Iterator[None]:
    """A network that lets 64 KiB through in each quarter of a second."""
    proxy.delay = 0.25
    try:
        yield
    finally:
        proxy.delay = 0.0


@contextmanager
def unread(server: RabbitServer, proxy: Proxy) -> Iterator[None]:
    """A network that takes nothing."""
    proxy.delay = DEADLINE + 1.0
    try:
        yield
    finally:
        proxy.delay = 0.0


@pytest.mark.parametrize("blocks", [stopped, alarmed, slow, unread])
def test_a_blocked_connection_never_stops_the_hub(
    rabbitmq_server: RabbitServer, blocks: Callable[[RabbitServer, Proxy], Iterator[None]]
) -> None:
    flush(rabbitmq_server.url())
    proxy = Proxy(rabbitmq_server.port)
    publisher = Publisher(f"amqp://127.0.0.1:{proxy.port}//")
    try:
        for _ in range(ATTEMPTS):
            with blocks(rabbitmq_server, proxy):
                alone, late, seconds, what = publisher.publish()
            print(f"JUDGED {blocks.__name__}: {alone:.1f} ms alone, {late:.1f} ms in {seconds:.2f} s: {what}")
            assert "in vain" in what
            assert DEADLINE * 0.9 < seconds < DEADLINE + 1.0
            if late < alone + LATE_MS:
                break
        else:
            pytest.fail(f"the hub stood still for {late:.1f} ms each time")
    finally:
        publisher.close()
        proxy.cut()
        proxy.close()


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("heartbeat", "seconds"),
    [(1, 4.0), pytest.param(10, 180.0, marks=[pytest.mark.long, pytest.mark.timeout(900)])],
)
def test_heartbeats_go_on_whatever_the_worker_does(
    make_stage: Callable[..., Stage], rabbitmq_server: RabbitServer, pool: str, heartbeat: int, seconds: float
) -> None:
    """RabbitMQ hangs up on those who are silent for two heartbeats: idle, waiting, or computing."""
    flush(rabbitmq_server.url())
    stage = make_stage(rabbitmq_server.url(), pool, heartbeat=heartbeat)
    worker = stage.start_worker().wait_until_ready()
    # One for tasks, one for remote control.
    told = rabbitmq_server.control("list_connections", "timeout").split()
    assert told == ["timeout", str(heartbeat), str(heartbeat)]
    time.sleep(4.0 * heartbeat)
    for task in ("work", "compute", "compute_in_slices"):
        ids = set(stage.publish([(task, (seconds,))]))
        deadline = time.monotonic() + 2 * seconds + PATIENCE
        while not ids <= stage.ids("end"):
            assert time.monotonic() < deadline, stage.logs()
            time.sleep(0.05)
    verdict = stage.verdict()
    assert verdict.is_good and verdict.runs == verdict.published == 3, f"{verdict}\n{stage.logs()}"
    assert stage.missing_results() == set()
    assert worker.stop() == 0
    assert "WARNING" not in stage.logs() and "ERROR" not in stage.logs(), stage.logs()


@pytest.fixture(scope="module")
def impatient_server(start_rabbitmq: Callable[..., RabbitServer]) -> RabbitServer:
    """A node that takes back what is not acknowledged within two seconds; as a rule it is half an hour."""
    server = start_rabbitmq("consumer_timeout = 2000")
    # It looks every 500 ms; as a rule once a minute.
    server.control("eval", "application:set_env(rabbit, channel_tick_interval, 500).")
    return server


@pytest.mark.parametrize("pool", POOLS)
def test_a_consumer_timeout_is_explained_and_nothing_runs_twice(
    make_stage: Callable[..., Stage], impatient_server: RabbitServer, pool: str
) -> None:
    flush(impatient_server.url())
    stage = make_stage(impatient_server.url(), pool, server=impatient_server)
    worker = stage.start_worker().wait_until_ready()
    stage.publish([("work", (5.0,))])
    stage.wait_for(lambda _: len(stage.ids("end")) == 1, "the end of the long task")
    stage.publish([("work", (0.0,))] * 20)
    verdict = stage.verdict()
    assert verdict.is_good and verdict.runs == verdict.published == 21, f"{verdict}\n{stage.logs()}"
    assert stage.missing_results() == set()
    told = [line for line in stage.logs().splitlines() if "longer than the broker's consumer_timeout" in line]
    assert told and all("raise that in rabbitmq.conf. Trying again" in line for line in told), stage.logs()
    assert worker.stop() == 0
    assert "Traceback" not in stage.logs()
