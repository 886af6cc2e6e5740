"""What every pool must do; test_pools.py runs each in a new process."""

from __future__ import annotations

import sys

if __name__ == "__main__" and sys.argv[1] in ("gevent", "eventlet"):
    from fastq.worker.pools.patch import PATCHES

    PATCHES[sys.argv[1]]()

import threading
import time

from pool_driver import Driver, delivery, main, result

from fastq._core.message import Action, Delivery


def results(driver: Driver) -> None:
    sent = [delivery("add", number, 1) for number in range(500)]
    driver.pool.submit(sent[:3])
    driver.pool.submit(sent[3:])
    outcomes = driver.wait(500)
    assert {id(outcome.delivery) for outcome in outcomes} == {id(one) for one in sent}
    by_id = {outcome.delivery.message.id: result(outcome) for outcome in outcomes}
    assert [by_id[one.message.id] for one in sent] == list(range(1, 501))
    assert all(outcome.action == Action.ACK and outcome.state == "SUCCESS" for outcome in outcomes)
    assert driver.pool.running() == []
    assert driver.pool.take_back() == []


def failures(driver: Driver) -> None:
    outcome = driver.call("fail")
    assert outcome.state == "FAILURE", outcome
    assert result(outcome)["exc_type"] == "KeyError"
    assert result(driver.call("add", 1, 1)) == 2


def coroutines(driver: Driver) -> None:
    assert result(driver.call("anap", 0.01)) == "rested"


def concurrent_coroutines(driver: Driver) -> None:
    began = time.monotonic()
    driver.pool.submit([delivery("anap", 0.2) for _ in range(50)])
    assert {result(outcome) for outcome in driver.wait(50)} == {"rested"}
    assert time.monotonic() - began < 1.0


def soft_limit(driver: Driver) -> None:
    for task in ("nap", "anap"):
        began = time.monotonic()
        outcome = driver.call(task, 30, timelimit=[None, 0.2])
        assert result(outcome) == "interrupted"
        assert 0.15 < time.monotonic() - began < 2
        assert result(driver.call(task, 0.01, timelimit=[None, 5])) == "rested"
    # A limit that just misses the end of its task strikes nobody else.
    driver.pool.submit([delivery("nap", 0.0, timelimit=[None, 0.0001 * n]) for n in range(1, 100)])
    for outcome in driver.wait(99):
        assert outcome.state == "SUCCESS" or result(outcome)["exc_type"] == "SoftTimeLimitExceeded"


def hard_limit(driver: Driver) -> None:
    for task in ("anap",) if driver.name == "asyncio" else ("nap", "anap"):
        began = time.monotonic()
        outcome = driver.call(task, 30, timelimit=[0.3, None])
        assert outcome.state == "FAILURE"
        assert result(outcome)["exc_type"] == "TimeLimitExceeded"
        assert 0.25 < time.monotonic() - began < 2
        assert result(driver.call(task, 0.01, timelimit=[5, None])) == "rested"


def take_back(driver: Driver) -> None:
    sent = [delivery("sleep", 0.3) for _ in range(10)]
    driver.pool.submit(sent)
    driver.wait_until(driver.pool.running)
    assert all(one in sent and since <= time.monotonic() for one, since in driver.pool.running())
    taken = driver.pool.take_back()
    assert len(taken) >= 10 - driver.pool.options.concurrency
    ran = driver.wait(10 - len(taken))
    left = [outcome.delivery for outcome in ran] + taken
    assert {id(one) for one in left} == {id(one) for one in sent}
    assert len(left) == 10
    assert driver.pool.take_back() == []
    assert result(driver.call("add", 1, 2)) == 3


def solo_take_back(driver: Driver) -> None:
    sent = [delivery("sleep", 0.2) for _ in range(5)]
    taken: list[Delivery] = []
    running: list[Delivery] = []

    def withdraw() -> None:
        running.extend(one for one, _ in driver.pool.running())
        taken.extend(driver.pool.take_back())

    timer = threading.Timer(0.3, withdraw)
    timer.start()
    driver.pool.submit(sent)
    timer.join()
    assert running == sent[1:2]
    assert taken == sent[2:]
    assert [outcome.delivery for outcome in driver.wait(2)] == sent[:2]


def forced_stop(driver: Driver) -> None:
    sent = [delivery("sleep", 5), delivery("sleep", 5)]
    driver.pool.submit(sent)
    driver.wait_until(driver.pool.running)
    taken = driver.pool.take_back()
    began = time.monotonic()
    driver.pool.stop(force=True)
    assert time.monotonic() - began < 1
    outcomes = driver.kept + driver.pool.outcomes()
    assert {id(outcome.delivery) for outcome in outcomes} == {id(one) for one in sent if one not in taken}
    assert all(outcome.action == Action.REQUEUE for outcome in outcomes)


def visible_at_once(driver: Driver) -> None:
    """D13: an outcome is there within 50 ms although the next task of the same thread sleeps."""
    driver.pool.submit([delivery("add", 1, 2), delivery("sleep", 1.0)])
    began = time.monotonic()
    quick = driver.wait(1)[0]
    assert result(quick) == 3
    assert time.monotonic() - began < 0.05
    assert result(driver.wait(1)[0]) == 1.0


def solo_visible_at_once(driver: Driver) -> None:
    seen: list[float] = []
    began = time.monotonic()

    def flush() -> None:
        while not seen:
            if driver.pool.outcomes():
                seen.append(time.monotonic() - began)
            time.sleep(0.005)

    thread = threading.Thread(target=flush)
    thread.start()
    driver.pool.submit([delivery("add", 1, 2), delivery("sleep", 0.5)])
    thread.join()
    assert seen[0] < 0.05
    assert len(driver.wait(1)) == 1


def exits(driver: Driver) -> None:
    """sys.exit() ends at most the process of the task, which has failed; not the pool."""
    for tag in (1, None):
        outcome = driver.call("leave", 3, tag=tag)
        assert (outcome.action, outcome.state) == (Action.ACK, "FAILURE")
        assert result(outcome)["exc_type"] == "WorkerLostError"
        assert "raised SystemExit(3)" in result(outcome)["exc_message"][0]
    assert driver.call("leave_again", 3).action == Action.REDELIVER
    assert result(driver.call("add", 1, 2)) == 3


def many_sleeps(driver: Driver) -> None:
    """2,000 tasks of 50 ms each."""
    concurrency = driver.pool.options.concurrency
    driver.pool.submit([delivery("sleep", 0.05) for _ in range(concurrency)])
    driver.wait(concurrency)
    sent = [delivery("sleep", 0.05) for _ in range(2000)]
    began = time.monotonic()
    driver.pool.submit(sent)
    driver.wait(2000)
    took, ideal = time.monotonic() - began, 2000 * 0.05 / concurrency
    print(f"{driver.name}: 2,000 tasks of 50 ms, {concurrency} at once: {took:.3f} s, ideal {ideal:.2f} s")
    assert took < 1.5 * ideal


def blocked_hub(driver: Driver) -> None:
    """A task that computes and never gives way does not stop the loop."""
    driver.pool.submit([delivery("echo", "x" * 10), delivery("spin", 0.5)])
    driver.wait(1)
    turns, until = 0, time.monotonic() + 0.3
    while time.monotonic() < until:
        driver.turn(0.01)
        turns += 1
    assert turns > 10
    driver.wait(1)


def idle(driver: Driver) -> None:
    """Nothing to do costs nothing."""
    driver.wait_until(lambda: True)
    driver.call("add", 1, 2)
    driver.turn(0.1)
    began = time.process_time()
    assert driver.pool.deadline() is None
    time.sleep(1.0)
    assert time.process_time() - began < 0.02
    assert driver.kept == []


if __name__ == "__main__":
    main(sys.modules[__name__])
