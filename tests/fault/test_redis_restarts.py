"""Redis that is restarted, and connections that are reset, under load."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from judge import Fault
from stage import POOLS, Stage, flush, forms
from tcp_proxy import Proxy

# With appendfsync everysec a write may be held back for two seconds while the disk is busy.
HELD_BACK = 2.0
# Seconds from the end of Redis until the worker runs tasks again.
COMES_BACK_WITHIN = 6.0


@pytest.mark.parametrize("restarts", forms(2, 20))
@pytest.mark.parametrize("how", ["kill", "shut_down"])
@pytest.mark.parametrize(
    ("pool", "fsync"),
    [(pool, "always") for pool in POOLS]
    + [("prefork", "everysec")]
    + [pytest.param(pool, "everysec", marks=pytest.mark.long) for pool in POOLS if pool != "prefork"],
)
def test_redis_restarted(
    start_redis: Callable[..., Any],
    make_stage: Callable[..., Stage],
    pool: str,
    fsync: str,
    how: str,
    restarts: int,
) -> None:
    rng = random.Random(6)
    server = start_redis("--appendonly", "yes", "--appendfsync", fsync)
    stage = make_stage(server.url, pool)
    worker = stage.start_worker().wait_until_ready()
    with stage.load():
        for _ in range(restarts):
            time.sleep(rng.uniform(0.2, 0.6))
            began = time.monotonic()
            getattr(server, how)()
            time.sleep(rng.uniform(0.0, 0.4))
            server.start()
            # From here on a task that ends was claimed after the restart, or is settled after it.
            ended = len(stage.ids("end"))
            stage.wait_for(lambda _, most=ended + 20: len(stage.ids("end")) > most, "tasks after the restart")
            came_back = time.monotonic()
            assert came_back - began < COMES_BACK_WITHIN, stage.logs()
            forgets = how == "kill" and fsync == "everysec"
            stage.faults.append(Fault(began, came_back, loses_after=began - HELD_BACK if forgets else None))
    verdict = stage.verdict()
    assert verdict.is_good and not verdict.dead, f"{verdict}\n{stage.logs()}"
    assert stage.missing_results() == set()
    assert worker.stop() == 0
    assert "Traceback" not in stage.logs()
    server.kill()


@pytest.fixture
def proxy(redis_server: Any) -> Iterator[Proxy]:
    flush(redis_server.url)
    proxy = Proxy(redis_server.port)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("resets", forms(40, 500))
@pytest.mark.parametrize("pool", POOLS)
def test_connections_that_are_reset(
    redis_server: Any, make_stage: Callable[..., Stage], proxy: Proxy, pool: str, resets: int
) -> None:
    """A reset is no reason to run a task twice: the worker lives, and its claims are its own."""
    rng = random.Random(7)
    stage = make_stage(f"redis://127.0.0.1:{proxy.port}/0", pool, sender_url=redis_server.url)
    worker = stage.start_worker().wait_until_ready()
    done = 0
    with stage.load():
        while done < resets:
            time.sleep(rng.uniform(0.0, 0.1))
            done += proxy.cut() > 0
    verdict = stage.verdict()
    assert verdict.is_good and not verdict.dead, f"{verdict}\n{stage.logs()}"
    assert verdict.runs == verdict.published > 0
    assert stage.missing_results() == set()
    assert worker.stop() == 0
    assert "Traceback" not in stage.logs()
