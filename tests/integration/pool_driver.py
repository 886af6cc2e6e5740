"""A tiny app, and a loop without a broker that drives one pool; scripts run in a process of their own.

A script is called as ``script(driver)`` in the thread where a worker's loop would run.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import select
import sys
import time
from collections.abc import Callable
from typing import Any

from fastq import FastQ
from fastq._core.message import Delivery, Message, Outcome, new_id
from fastq.exceptions import SoftTimeLimitExceeded
from fastq.wakeup import Waker
from fastq.worker.pools.base import NewChild, PoolOptions
from fastq.worker.pools.table import open_pool

app = FastQ("pools", broker="memory://")


@app.task(name="add")
def add(a: int, b: int) -> int:
    return a + b


@app.task(name="sleep")
def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.task(name="nap")
def nap(seconds: float) -> str:
    """Sleep so that an interruption from another thread is seen soon."""
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            time.sleep(0.01)
    except SoftTimeLimitExceeded:
        return "interrupted"
    return "rested"


@app.task(name="anap")
async def anap(seconds: float) -> str:
    try:
        await asyncio.sleep(seconds)
    except SoftTimeLimitExceeded:
        return "interrupted"
    return "rested"


@app.task(name="fail")
def fail() -> None:
    raise KeyError("nothing here")


@app.task(name="leave")
def leave(code: int) -> None:
    sys.exit(code)


@app.task(name="leave_again", reject_on_worker_lost=True)
def leave_again(code: int) -> None:
    sys.exit(code)


@app.task(name="crash")
def crash() -> None:
    ctypes.string_at(0)


@app.task(name="echo")
def echo(text: str) -> str:
    return text


@app.task(name="spin")
def spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@app.task(name="pid")
def pid() -> int:
    return os.getpid()


@app.task(name="hoard")
def hoard(size: int) -> int:
    _hoarded.append(bytearray(os.urandom(1)) * size)
    return os.getpid()


_hoarded: list[bytearray] = []


def delivery(task: str, *args: Any, tag: object = 0, redelivered: int = 0, **headers: Any) -> Delivery:
    task_id = new_id()
    body = json.dumps([args, {}, None]).encode()
    message = Message(task, task_id, {"task": task, "id": task_id, **headers}, body, queue="celery")
    return Delivery(message, task_id if tag == 0 else tag, "celery", redelivered)


def result(outcome: Outcome) -> Any:
    assert outcome.result is not None, outcome
    return json.loads(outcome.result)["result"]


class Driver:
    """What a worker's loop does with its pool."""

    def __init__(self, pool: str, **options: Any) -> None:
        app.finalize()
        self.name = pool
        self.waker = Waker()
        self.pool = open_pool(pool, app, PoolOptions(hostname="test@here", **options), self.waker)
        self.kept: list[Outcome] = []  # arrived and not yet asked for

    def run(self, script: Callable[[Driver], None]) -> None:
        try:
            self.pool.start()
            self.pool.main(lambda: script(self))()
        except NewChild as child:
            os._exit(child.serve())
        self.pool.stop(force=True)
        self.waker.close()

    def turn(self, timeout: float) -> None:
        """Wait for the pool as a loop does, at most *timeout* seconds, and keep its outcomes."""
        deadline = self.pool.deadline()
        if deadline is not None:
            timeout = max(0.0, min(timeout, deadline - time.monotonic()))
        poll = select.poll()
        poll.register(self.waker.fileno(), select.POLLIN)
        poll.poll(timeout * 1000)
        self.waker.clear()
        self.kept += self.pool.outcomes()

    def wait(self, count: int, timeout: float = 20.0) -> list[Outcome]:
        """The next *count* outcomes."""
        until = time.monotonic() + timeout
        self.kept += self.pool.outcomes()
        while len(self.kept) < count:
            assert time.monotonic() < until, f"{len(self.kept)} outcomes of {count} after {timeout} s"
            self.turn(1.0)
        wanted, self.kept = self.kept[:count], self.kept[count:]
        return wanted

    def wait_until(self, condition: Callable[[], Any], timeout: float = 10.0) -> Any:
        """Take turns until *condition* holds; returns what it gave."""
        until = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < until, f"not within {timeout} s"
            self.turn(0.01)
        return value

    def call(self, task: str, *args: Any, **headers: Any) -> Outcome:
        self.pool.submit([delivery(task, *args, **headers)])
        return self.wait(1)[0]


def main(module: Any) -> None:
    """Run the script of *module* that the command line names: POOL SCRIPT OPTIONS-AS-JSON."""
    pool, script, options = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    Driver(pool, **json.loads(options)).run(getattr(module, script))
