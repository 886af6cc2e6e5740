"""What the prefork pool must survive; test_pools_prefork.py runs each in a new process."""

from __future__ import annotations

import os
import random
import signal
import socket
import stat
import sys
import tempfile
import time
from collections import Counter

import pool_driver
from pool_driver import Driver, app, delivery, result

from fastq import signals
from fastq._core.message import Action
from fastq.exceptions import FastQError

# Shared with the children over their forks.
TRAIL = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
_starts = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115


@app.task(name="trail", bind=True)
def trail(self: object, seconds: float) -> None:
    """Leave a trace of the start and of the end, in one write each."""
    task_id = self.request.id  # type: ignore[attr-defined]
    os.write(TRAIL.fileno(), f"start {task_id}\n".encode())
    time.sleep(seconds)
    os.write(TRAIL.fileno(), f"end {task_id}\n".encode())


@app.task(name="sockets")
def sockets() -> list[int]:
    """The inodes of the sockets that this process has open."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            status = os.stat(f"/proc/self/fd/{fd}")
        except FileNotFoundError:  # the listing's own
            continue
        if stat.S_ISSOCK(status.st_mode):
            found.append(status.st_ino)
    return found


def children(driver: Driver) -> list[int]:
    return [child.pid for child in driver.pool._children if child.is_ready]


def warm_up(driver: Driver) -> None:
    """Let the pool measure that tasks are short, so that it gives batches."""
    driver.pool.submit([delivery("add", 1, 1) for _ in range(300)])
    driver.wait(300)


def killed_under_load(driver: Driver) -> None:
    warm_up(driver)
    sent = [delivery("trail", random.uniform(0, 0.002)) for _ in range(3000)]
    driver.pool.submit(sent)
    redelivered: Counter[str] = Counter()
    states: Counter[str] = Counter()
    kills = 0
    while len(states) < len(sent):
        if kills < 20 and len(states) > kills * 100:
            os.kill(random.choice(driver.wait_until(lambda: children(driver))), signal.SIGKILL)
            kills += 1
        for outcome in driver.wait(1):
            task_id = outcome.delivery.message.id
            if outcome.action == Action.REDELIVER:
                redelivered[task_id] += 1
                driver.pool.submit([outcome.delivery])
            else:
                assert outcome.state == "SUCCESS"
                states[task_id] += 1
    assert kills == 20
    assert set(states.values()) == {1}
    TRAIL.seek(0)
    lines = [line.split() for line in TRAIL.read().decode().splitlines()]
    starts = Counter(task_id for word, task_id in lines if word == "start")
    ends = Counter(task_id for word, task_id in lines if word == "end")
    print(f"{kills} kills, {sum(redelivered.values())} redelivered")
    assert sum(redelivered.values()) <= kills
    for one in sent:
        task_id = one.message.id
        # Nothing but what a killed child had in hand ran twice, or half.
        assert 1 <= ends[task_id] <= starts[task_id] <= 1 + redelivered[task_id]
    assert len(driver.pool._children) == 2


def replaced(driver: Driver) -> None:
    driver.wait_until(lambda: len(children(driver)) == 2)
    driver.pool.submit([delivery("sleep", 60)])
    driver.wait_until(driver.pool.running)
    before = children(driver)
    victim = next(child.pid for child in driver.pool._children if child.given)
    os.kill(victim, signal.SIGKILL)
    began = time.monotonic()
    outcome = driver.wait(1)[0]
    assert outcome.action == Action.REDELIVER
    driver.wait_until(lambda: len(children(driver)) == 2)
    assert time.monotonic() - began < 1
    assert len(set(children(driver)) - set(before)) == 1


def replacement_is_clean(driver: Driver) -> None:
    """A child that replaces another has nothing of what the worker opened after its start."""
    connection, _ = socket.socketpair()
    first = driver.wait_until(lambda: children(driver))[0]
    os.kill(first, signal.SIGKILL)
    driver.wait_until(lambda: children(driver) not in ([], [first]))
    inodes = result(driver.call("sockets"))
    assert len(inodes) == 1
    assert os.fstat(connection.fileno()).st_ino not in inodes


def template_outlives_signals(driver: Driver) -> None:
    """Signals to a whole process group leave children replaceable."""
    first = driver.wait_until(lambda: children(driver))[0]
    for number in ("INT", "TERM", "HUP", "QUIT", "USR1", "USR2"):
        os.kill(driver.pool._launcher._pid, signal.Signals[f"SIG{number}"])
    os.kill(first, signal.SIGKILL)
    assert result(driver.call("add", 1, 2)) == 3


def template_dies(driver: Driver) -> None:
    """Without the process that children are forked from a worker gives back what runs, and ends."""
    driver.pool.submit([delivery("sleep", 60)])
    driver.wait_until(driver.pool.running)
    os.kill(driver.pool._launcher._pid, signal.SIGKILL)
    try:
        driver.wait(1)
    except FastQError as exc:
        assert "no child can be started any more" in str(exc)
    else:
        raise AssertionError("it went on")
    driver.pool.stop(force=True)
    assert [outcome.action for outcome in driver.pool.outcomes()] == [Action.REQUEUE]


def no_more_processes(driver: Driver) -> None:
    """A system that lets no more processes be is asked again."""
    launch, failures = driver.pool._launcher.launch, iter((BlockingIOError("no more"), OSError("none")))

    def fails_twice(row: int, sock: socket.socket) -> int:
        for failure in failures:
            raise failure
        return launch(row, sock)

    driver.pool._launcher.launch = fails_twice
    os.kill(driver.wait_until(lambda: children(driver))[0], signal.SIGKILL)
    driver.wait_until(lambda: not children(driver))
    assert result(driver.call("add", 1, 2)) == 3


def ends_one(driver: Driver) -> None:
    """A task that is ended costs what shares the child's batch nothing, and counts for no crash."""
    warm_up(driver)
    sent = [delivery("sleep", 30)] + [delivery("add", 1, 2) for _ in range(50)]
    driver.pool.submit(sent)
    driver.wait_until(lambda: sent[0] in [running for running, _ in driver.pool.running()])
    driver.pool.end([sent[0]])
    outcomes = driver.wait(51)
    assert Counter(outcome.state for outcome in outcomes) == {"SUCCESS": 50, None: 1}
    assert [outcome.action for outcome in outcomes if outcome.delivery is sent[0]] == [Action.REQUEUE]


def too_often(driver: Driver) -> None:
    """A message that keeps killing its child is buried, and the reason names the signal."""
    driver.pool.submit([delivery("crash", redelivered=3)])
    outcome = driver.wait(1)[0]
    assert outcome.action == Action.BURY
    assert "SIGSEGV" in outcome.reason
    assert "crash" in outcome.reason
    assert result(driver.call("add", 1, 2)) == 3


def large(driver: Driver) -> None:
    text = "x" * (50 << 20)
    sent = [delivery("echo", text) for _ in range(3)] + [delivery("add", 1, 2)]
    driver.pool.submit(sent)
    sizes = sorted(len(str(result(outcome))) for outcome in driver.wait(4, timeout=50))
    assert sizes == [1] + [len(text)] * 3


def odd_values(driver: Driver) -> None:
    """What marshal does not know still crosses."""
    from decimal import Decimal

    outcome = driver.call("add", 1, 2, price=Decimal("1.5"))
    assert result(outcome) == 3


def max_tasks(driver: Driver) -> None:
    driver.pool.submit([delivery("pid") for _ in range(30)])
    runs = Counter(result(outcome) for outcome in driver.wait(30))
    assert max(runs.values()) == 3
    # Two children that are free at the end share the last tasks, so there may be one more than needed.
    assert 10 <= len(runs) <= 11, runs


def max_memory(driver: Driver) -> None:
    first = result(driver.call("hoard", 1000))
    assert result(driver.call("hoard", 300 << 20)) == first
    assert result(driver.call("hoard", 1000)) != first


def stuck(driver: Driver) -> None:
    """What waits behind a long task goes to the idle child."""
    warm_up(driver)
    driver.pool.submit([delivery("sleep", 1.5)] + [delivery("add", 1, 2) for _ in range(40)])
    began = time.monotonic()
    assert {result(outcome) for outcome in driver.wait(40)} == {3}
    assert time.monotonic() - began < 0.5
    driver.wait(1)


def limit_strikes_one(driver: Driver) -> None:
    """A hard limit costs what shares the child's batch nothing."""
    warm_up(driver)
    sent = [delivery("sleep", 30, timelimit=[0.3, None])] + [delivery("add", 1, 2) for _ in range(50)]
    driver.pool.submit(sent)
    outcomes = driver.wait(51)
    assert Counter(outcome.state for outcome in outcomes) == {"SUCCESS": 50, "FAILURE": 1}
    assert outcomes[-1].delivery is sent[0]


def signals_pass(driver: Driver) -> None:
    """The signals of a terminal are the parent's to act upon."""
    driver.pool.submit([delivery("nap", 0.5)])
    driver.wait_until(driver.pool.running)
    for pid in children(driver):
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    assert result(driver.wait(1)[0]) == "rested"


def interrupt_at_exit(driver: Driver) -> None:
    """Children leave when told, after what they run."""
    driver.pool.submit([delivery("sleep", 0.3)])
    driver.wait_until(driver.pool.running)
    pids = children(driver)
    driver.pool.stop()
    assert [result(outcome) for outcome in driver.kept + driver.pool.outcomes()] == [0.3]
    for pid in pids:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        raise AssertionError(f"child {pid} lives")


def _fail_twice(**_: object) -> None:
    os.write(_starts.fileno(), b".")
    _starts.seek(0)
    if len(_starts.read()) < 3:
        os._exit(7)


def failing_start(driver: Driver) -> None:
    """Children that die before they are ready are tried again, ever later."""
    assert result(driver.call("add", 1, 2)) == 3


def _hang_at_first(**_: object) -> None:
    os.write(_starts.fileno(), b".")
    _starts.seek(0)
    if len(_starts.read()) < 2:
        time.sleep(60)


def late(driver: Driver) -> None:
    """A child that is not ready in time is replaced."""
    assert result(driver.call("add", 1, 2)) == 3


if sys.argv[2] == "failing_start":
    signals.worker_process_init.connect(_fail_twice, weak=False)
elif sys.argv[2] == "late":
    signals.worker_process_init.connect(_hang_at_first, weak=False)


def orphans(driver: Driver) -> None:
    """Print the ids of the children and of the process that they are forked from, and die."""
    driver.wait_until(lambda: len(children(driver)) == 2)
    driver.pool.submit([delivery("sleep", 60)])
    driver.wait_until(driver.pool.running)
    print(*children(driver), driver.pool._launcher._pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    pool_driver.main(sys.modules[__name__])
