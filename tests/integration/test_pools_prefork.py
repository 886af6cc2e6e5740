"""Children die in every way, and no delivery is lost or blamed wrongly."""

import os
import subprocess
import sys
import time

import pytest
from test_pools import HERE, run_script

MODULE = "prefork_scripts.py"


@pytest.mark.parametrize(
    "script",
    [
        "killed_under_load",
        "replaced",
        "too_often",
        "large",
        "odd_values",
        "stuck",
        "limit_strikes_one",
        "ends_one",
        "signals_pass",
        "interrupt_at_exit",
        "template_outlives_signals",
    ],
)
def test_prefork(script: str) -> None:
    run_script("prefork", script, MODULE, concurrency=2)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_replacement_has_nothing_of_the_running_worker() -> None:
    run_script("prefork", "replacement_is_clean", MODULE, concurrency=1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the children live on until they are told")
def test_worker_ends_when_no_child_can_be_started() -> None:
    run_script("prefork", "template_dies", MODULE, concurrency=2)


def test_starting_a_child_is_tried_again() -> None:
    said = run_script("prefork", "no_more_processes", MODULE, concurrency=1)
    assert "a child can't be started: no more (attempt 1)" in said
    assert "a child can't be started: none (attempt 2)" in said


def test_child_that_is_not_ready_in_time_is_replaced() -> None:
    said = run_script("prefork", "late", MODULE, concurrency=1, proc_alive_timeout=0.5)
    assert "took more than worker_proc_alive_timeout=0.5 s and was killed before it was ready" in said


def test_child_is_replaced_after_its_share_of_tasks() -> None:
    run_script("prefork", "max_tasks", MODULE, concurrency=2, max_tasks_per_child=3)


def test_child_is_replaced_when_it_holds_too_much_memory() -> None:
    run_script("prefork", "max_memory", MODULE, concurrency=1, max_memory_per_child=200_000)


def test_lost_task_is_logged_with_its_signal() -> None:
    said = run_script("prefork", "too_often", MODULE, concurrency=1)
    assert "WorkerLostError" in said
    assert "signal 11 (SIGSEGV)" in said


def test_child_that_dies_at_its_start_is_tried_again() -> None:
    said = run_script("prefork", "failing_start", MODULE, concurrency=1)
    assert "exited with code 7 before it was ready (attempt 2)" in said


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a child notices when it next writes")
def test_children_die_with_their_parent() -> None:
    process = subprocess.run(
        [sys.executable, str(HERE / MODULE), "prefork", "orphans", '{"concurrency": 2}'],
        stdout=subprocess.PIPE,
        text=True,
        timeout=20,
        env={**os.environ, "PYTHONPATH": str(HERE.parent.parent)},
    )
    pids = [int(word) for word in process.stdout.split()]
    assert len(pids) == 3
    until = time.monotonic() + 5
    while any(_is_alive(pid) for pid in pids):
        assert time.monotonic() < until, f"children {pids} outlive their parent"
        time.sleep(0.02)


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
