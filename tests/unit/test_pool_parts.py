"""The parts that pools are made of: frames, mailbox, waker, limits, coroutines."""

import asyncio
import select
import signal
import sys
import threading
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastq import FastQ
from fastq._core.limits import SignalTimer, ThreadLimits
from fastq._core.message import Action, Delivery, Message, Outcome
from fastq.exceptions import SoftTimeLimitExceeded
from fastq.wakeup import Waker
from fastq.worker.pools.base import PoolOptions
from fastq.worker.pools.coroutines import CoroutineRunner, Interruptible
from fastq.worker.pools.frames import FrameDecoder, encode
from fastq.worker.pools.mailbox import Mailbox
from fastq.worker.pools.solo import SoloPool

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.lists(st.tuples(st.integers(), values), max_size=8), st.data())
def test_frames_survive_any_split(sent: list[tuple[Any, ...]], data: st.DataObject) -> None:
    wire, decoder, got = b"".join(map(encode, sent)), FrameDecoder(), []
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        got += decoder.feed(wire[:cut])
        wire = wire[cut:]
    assert got == sent


def test_frame_of_what_marshal_refuses() -> None:
    assert FrameDecoder().feed(encode((1, Decimal("1.5")))) == [(1, Decimal("1.5"))]


def is_readable(waker: Waker) -> bool:
    return bool(select.select([waker.fileno()], [], [], 0)[0])


def an_outcome() -> Outcome:
    return Outcome(Delivery(Message("t", "i", {}, b"", queue="q"), 1, "q"))


def test_mailbox_wakes_once_between_two_takes() -> None:
    waker = Waker()
    box = Mailbox(waker)
    first, second, third = an_outcome(), an_outcome(), an_outcome()
    box.put(first)
    assert is_readable(waker)
    waker.clear()
    box.put(second)
    assert not is_readable(waker)
    assert box.take() == [first, second]
    box.put(third)
    assert is_readable(waker)
    assert box.take() == [third]
    waker.close()


def test_waker_passes_on_what_it_watches() -> None:
    waker, other = Waker(), Waker()
    waker.watch(other.fileno())
    assert not is_readable(waker)
    other.set()
    waker.clear()
    assert is_readable(waker)
    other.clear()
    assert not is_readable(waker)
    waker.set()
    assert is_readable(waker)
    waker.clear()
    other.set()
    waker.unwatch(other.fileno())
    assert not is_readable(waker)
    waker.close()
    other.close()


def test_signal_timer_raises_only_while_armed() -> None:
    before = signal.getsignal(signal.SIGALRM)
    timer = SignalTimer()
    timer.install()
    try:
        timer.arm(60)
        with pytest.raises(SoftTimeLimitExceeded, match="60"):
            timer.expire(signal.SIGALRM, None)
        timer.expire(signal.SIGALRM, None)
        timer.arm(60)
        timer.disarm()
        timer.expire(signal.SIGALRM, None)
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        timer.disarm()
        signal.signal(signal.SIGALRM, before)


def test_thread_is_interrupted_at_its_deadline() -> None:
    limits = ThreadLimits()
    armed, caught = threading.Event(), threading.Event()

    def task() -> None:
        limits.arm(100.0)
        armed.set()
        try:
            while True:
                pass
        except SoftTimeLimitExceeded:
            caught.set()
        limits.disarm()

    thread = threading.Thread(target=task)
    thread.start()
    armed.wait()
    assert limits.expire(99.0) == 100.0
    assert not caught.is_set()
    assert limits.expire(100.0) is None
    thread.join()
    assert caught.is_set()


@pytest.mark.timeout(20)
def test_a_limit_that_has_struck_leaves_nothing_to_look_for() -> None:
    """As long as CPython looks for an exception from outside, no function that is profiled ever begins."""
    limits = ThreadLimits()
    limits.arm(1.0)
    with pytest.raises(SoftTimeLimitExceeded):
        limits.expire(2.0)
        (lambda: None)()
    limits.disarm()
    seen: list[str] = []
    sys.setprofile(lambda frame, event, _: seen.append(event))
    (lambda: None)()
    sys.setprofile(None)
    assert seen[0] == "call"


def test_limit_of_a_thread_does_not_outlast_disarm() -> None:
    """The exception is on its way when the task ends: it must not strike what comes next."""
    limits = ThreadLimits()
    ended: list[str] = []
    armed, expired = threading.Event(), threading.Event()

    def task() -> None:
        limits.arm(1.0)
        limits.disarm()
        armed.set()
        expired.wait()
        ended.append("well")

    thread = threading.Thread(target=task)
    thread.start()
    armed.wait()
    assert limits.expire(2.0) is None
    expired.set()
    thread.join()
    assert ended == ["well"]


def test_suspended_limits_strike_nobody() -> None:
    limits = ThreadLimits()
    limits.arm(5.0)
    assert limits.suspend() == 5.0
    assert limits.suspend() is None
    assert limits.expire(6.0) is None


def test_suspended_timer_tells_what_was_left() -> None:
    timer = SignalTimer()
    assert timer.suspend() is None
    timer.arm(60)
    left = timer.suspend()
    assert left is not None
    assert 59 < left <= 60
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_runner_keeps_the_limit_of_a_coroutine() -> None:
    async def task() -> str:
        try:
            await asyncio.Event().wait()
        except SoftTimeLimitExceeded:
            return "interrupted"
        return "woken"

    runner = CoroutineRunner(lambda: 0.0)
    assert runner.run(task()) == "interrupted"
    runner.close()


def test_interruption_is_raised_where_the_coroutine_waits() -> None:
    async def inner() -> str:
        try:
            await asyncio.Event().wait()
        except SoftTimeLimitExceeded:
            return "interrupted"
        return "woken"

    async def outer() -> tuple[str, bool]:
        job = Interruptible(inner())
        task = job.start(asyncio.get_running_loop())
        await asyncio.sleep(0)
        job.interrupt(SoftTimeLimitExceeded(1))
        return await task, task.cancelled()

    assert asyncio.run(outer()) == ("interrupted", False)


def test_interruption_passes_through_what_the_coroutine_waits_for() -> None:
    cancelled: list[str] = []

    async def part(name: str) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(name)
            raise

    async def whole() -> None:
        await asyncio.gather(part("a"), part("b"))

    async def outer() -> None:
        job = Interruptible(whole())
        task = job.start(asyncio.get_running_loop())
        for _ in range(3):
            await asyncio.sleep(0)
        job.interrupt(SoftTimeLimitExceeded(1))
        with pytest.raises(SoftTimeLimitExceeded):
            await task

    asyncio.run(outer())
    assert cancelled == ["a", "b"]


@pytest.mark.parametrize(("is_stopped", "action"), [(False, Action.ACK), (True, Action.REQUEUE)])
def test_a_task_that_a_stop_has_ended_runs_again_and_one_that_exits_has_failed(
    is_stopped: bool, action: Action
) -> None:
    app, waker = FastQ("solo", broker="memory://solo", set_as_current=False), Waker()

    @app.task(name="leave")
    def leave() -> None:
        if is_stopped:
            pool.stop()
        raise SystemExit

    app.finalize()
    pool = SoloPool(app, PoolOptions(), waker)
    pool.submit([Delivery(Message("leave", "i", {}, b"[[],{},{}]", queue="q"), 1, "q")])
    assert [outcome.action for outcome in pool.outcomes()] == [action]
    waker.close()
    app.close()
