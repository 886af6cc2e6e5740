"""Servers that are restarted, and connections that are reset, under load."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from judge import Fault
from servers import RabbitServer, RedisServer
from stage import POOLS, Stage, flush, forms
from tcp_proxy import Proxy

# With appendfsync everysec a write may be held back for two seconds while the disk is busy.
HELD_BACK = 2.0
# Seconds until the worker runs tasks again: since Redis was ended, since RabbitMQ takes a login.
COMES_BACK_WITHIN = 6.0


@pytest.fixture(scope="module")
def start_server(
    request: pytest.FixtureRequest, start_redis: Callable[..., RedisServer]
) -> Callable[[str], RedisServer | RabbitServer]:
    """A function that gives a server which keeps what it has confirmed: a Redis by its fsync, or RabbitMQ.

    RabbitMQ takes so long to start that all tests share one.
    """
    started: list[RabbitServer] = []

    def start(kind: str) -> RedisServer | RabbitServer:
        if kind != "rabbitmq":
            return start_redis("--appendonly", "yes", "--appendfsync", kind)
        if not started:
            started.append(request.getfixturevalue("start_rabbitmq")())
        return started[0]

    return start


def restarts() -> Iterator[Any]:
    """Pool, server, how it ends and how often: RabbitMQ takes long to start, so seldom in the short form."""
    for pool in POOLS:
        for kind in ("always", "everysec", "rabbitmq"):
            for how in ("kill", "shut_down"):
                if pool == "prefork" or kind == "always" or (kind, how) == ("rabbitmq", "kill"):
                    yield pytest.param(pool, kind, how, 1 if kind == "rabbitmq" else 2)
                marks = [pytest.mark.long, pytest.mark.timeout(20 * 60)]
                yield pytest.param(pool, kind, how, 20, marks=marks)


@pytest.mark.parametrize(("pool", "kind", "how", "restarts"), list(restarts()))
def test_a_server_restarted(
    start_server: Callable[[str], Any],
    make_stage: Callable[..., Stage],
    pool: str,
    kind: str,
    how: str,
    restarts: int,
) -> None:
    rng = random.Random(6)
    server = start_server(kind)
    if kind == "rabbitmq":
        flush(server.url())
        stage = make_stage(server.url(), pool, server=server)
    else:
        stage = make_stage(server.url, pool)
    worker = stage.start_worker().wait_until_ready()
    with stage.load():
        for _ in range(restarts):
            time.sleep(rng.uniform(0.2, 0.6))
            began = time.monotonic()
            getattr(server, how)()
            time.sleep(rng.uniform(0.0, 0.4))
            server.start()
            started = time.monotonic() if kind == "rabbitmq" else began
            # From here on a task that ends was claimed after the restart, or is settled after it.
            ended = len(stage.ids("end"))
            stage.wait_for(lambda _, most=ended + 20: len(stage.ids("end")) > most, "tasks after the restart")
            came_back = time.monotonic()
            assert came_back - started < COMES_BACK_WITHIN, stage.logs()
            forgets = how == "kill" and kind == "everysec"
            stage.faults.append(Fault(began, came_back, loses_after=began - HELD_BACK if forgets else None))
    verdict = stage.verdict()
    assert verdict.is_good and not verdict.dead, f"{verdict}\n{stage.logs()}"
    assert stage.missing_results() == set()
    assert worker.stop() == 0
    assert "Traceback" not in stage.logs()
    if kind != "rabbitmq":
        server.kill()


@pytest.fixture
def proxied(
    request: pytest.FixtureRequest, make_stage: Callable[..., Stage], pool: str
) -> Iterator[tuple[Stage, Proxy, bool]]:
    """A stage whose workers reach the server through a proxy, that proxy, and whether a login takes long."""
    server = request.getfixturevalue(f"{request.param}_server")
    proxy = Proxy(server.port)
    url, through = (
        (server.url(), f"amqp://127.0.0.1:{proxy.port}//")
        if request.param == "rabbitmq"
        else (server.url, f"redis://127.0.0.1:{proxy.port}/0")
    )
    flush(url)
    # A login at RabbitMQ takes many steps; without time for it no task would ever be cut.
    yield make_stage(through, pool, sender_url=url), proxy, request.param == "rabbitmq"
    proxy.close()


@pytest.mark.parametrize("resets", forms(40, 500))
@pytest.mark.parametrize("proxied", ["redis", "rabbitmq"], indirect=True)
@pytest.mark.parametrize("pool", POOLS)
def test_connections_that_are_reset(proxied: tuple[Stage, Proxy, bool], resets: int) -> None:
    """A reset is no reason to run a task twice: the worker lives, and its claims are its own."""
    rng = random.Random(7)
    stage, proxy, needs_time = proxied
    worker = stage.start_worker().wait_until_ready()
    done = 0
    with stage.load():
        while done < resets:
            time.sleep(rng.uniform(0.0, 0.1))
            if needs_time and done % 4:
                ended = len(stage.ids("end"))
                stage.wait_for(lambda _, most=ended: len(stage.ids("end")) > most, "a task after the reset")
            began = time.monotonic()
            if proxy.cut():
                stage.breaks.append(Fault(began, time.monotonic()))
                done += 1
    verdict = stage.verdict()
    assert verdict.is_good and not verdict.dead, f"{verdict}\n{stage.logs()}"
    if not verdict.excused:
        assert verdict.runs == verdict.published > 0
    assert len(verdict.excused) < verdict.published / 20
    assert stage.missing_results() == set()
    assert worker.stop() == 0
    assert "Traceback" not in stage.logs()
