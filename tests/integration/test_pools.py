"""Every pool runs tasks, reports at once, keeps its limits, gives back and stops."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fastq.exceptions import ImproperlyConfigured
from fastq.wakeup import Waker
from fastq.worker.pools.base import PoolOptions
from fastq.worker.pools.table import open_pool, pool_class

HERE = Path(__file__).parent
POOLS = ("solo", "prefork", "threads", "gevent", "eventlet", "asyncio")


def run_script(pool: str, script: str, module: str = "pool_scripts.py", **options: object) -> str:
    """Run one script against *pool* in a new process; returns what it printed."""
    root = HERE.parent.parent
    process = subprocess.run(
        [sys.executable, str(HERE / module), pool, script, json.dumps(options)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=root,
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin", "PYTHONWARNINGS": "default"},
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout + process.stderr


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("script", ["results", "failures", "coroutines", "soft_limit", "exits", "idle"])
def test_pool(pool: str, script: str) -> None:
    run_script(pool, script, concurrency=2)


@pytest.mark.parametrize("pool", ["prefork", "gevent", "eventlet", "asyncio"])
def test_hard_limit_ends_a_task(pool: str) -> None:
    run_script(pool, "hard_limit", concurrency=2)


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "eventlet", "asyncio"])
@pytest.mark.parametrize("script", ["take_back", "forced_stop"])
def test_giving_back(pool: str, script: str) -> None:
    run_script(pool, script, concurrency=2)


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "eventlet", "asyncio"])
def test_outcome_is_visible_while_the_next_task_sleeps(pool: str) -> None:
    run_script(pool, "visible_at_once", concurrency=1)


@pytest.mark.parametrize("script", ["solo_visible_at_once", "solo_take_back"])
def test_solo_answers_another_thread_during_a_batch(script: str) -> None:
    run_script("solo", script)


@pytest.mark.parametrize("pool", ["gevent", "eventlet", "asyncio"])
def test_coroutines_run_concurrently(pool: str) -> None:
    run_script(pool, "concurrent_coroutines", concurrency=50)


@pytest.mark.parametrize(("pool", "concurrency"), [("gevent", 200), ("eventlet", 200), ("threads", 100)])
def test_sleeping_tasks_take_little_more_than_their_sleep(pool: str, concurrency: int) -> None:
    print(run_script(pool, "many_sleeps", concurrency=concurrency))


def test_blocked_hub_does_not_stop_the_loop() -> None:
    run_script("gevent", "blocked_hub", concurrency=2)


@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_hard_limits_are_refused_by_pools_that_cannot_keep_them(pool: str) -> None:
    from pool_driver import app

    waker = Waker()
    with pytest.raises(ImproperlyConfigured, match="can't keep time_limit=5"):
        open_pool(pool, app, PoolOptions(time_limit=5), waker)
    waker.close()


def test_unknown_pool_is_named_with_the_nearest() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"no pool is named 'treads'; did you mean 'threads'\?"):
        pool_class("treads")


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_green_pools_refuse_an_unpatched_library(pool: str) -> None:
    # Not in this process: eventlet, once imported, warns at every fork.
    assert f"fastq worker -P {pool}" in run_script(pool, "unpatched", module="unpatched_pool.py")


def test_a_pool_may_be_a_class_of_the_users() -> None:
    assert pool_class("fastq.worker.pools.threads:ThreadsPool").name == "threads"
    for name, said in (
        ("no_such_module:Pool", "can't be loaded: No module named 'no_such_module'"),
        ("fastq.worker.pools.threads:Nothing", "has no attribute 'Nothing'"),
        ("pathlib:Path", "derive it from fastq.worker.pools.base.Pool"),
    ):
        with pytest.raises(ImproperlyConfigured, match=said):
            pool_class(name)
