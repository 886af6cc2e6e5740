"""gevent: greenlets in the main thread's hub, the worker's loop in a native thread beside it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import gevent
from gevent import monkey
from gevent.event import Event

from fastq.exceptions import SoftTimeLimitExceeded
from fastq.result.joining import set_task_join_will_block
from fastq.worker.pools.base import Pool, PoolOptions
from fastq.worker.pools.coroutines import CoroutineLoop
from fastq.worker.pools.mailbox import Mailbox
from fastq.worker.pools.patch import check_patched
from fastq.worker.pools.tracing import EndOfTask, exited, make_tracer

if TYPE_CHECKING:
    from fastq._core.message import Delivery, Outcome
    from fastq._core.trace import Tracer
    from fastq.wakeup import Waker


class GeventPool(Pool):
    """Up to `concurrency` greenlets. Each runs one delivery after the other while there are any.

    `submit` and its like are called in the loop's thread, the rest happens in the hub's. A
    task that never gives way stops the other tasks, but not the loop.
    """

    name = "gevent"
    keeps_soft_limits = True
    keeps_hard_limits = True

    def __init__(self, app: Any, options: PoolOptions, waker: Waker) -> None:
        super().__init__(app, options, waker)
        self._tracer = make_tracer(app, options)
        self._tracer.arm = self._arm
        self._tracer.disarm = self._disarm
        self._tracer.run_coroutine = self._run_coroutine
        self._waiting: deque[Delivery] = deque()
        self._workers = 0
        # By greenlet. Whoever removes an entry decides its outcome: the greenlet, or a forced stop.
        self._running: dict[Any, tuple[Delivery, float]] = {}
        self._soft_limits: dict[Any, gevent.Timeout] = {}
        self._mailbox = Mailbox(waker)
        self._arrival: Any = None  # an async watcher of the hub's: something waits
        self._ending: Any = None  # another: something is to end
        self._doomed: deque[tuple[Delivery, str]] = deque()
        self._coroutines: CoroutineLoop | None = None  # made by the first `async def` task

    def main(self, loop: Callable[[], None]) -> Callable[[], None]:
        """The hub, with *loop* in a native thread."""
        return partial(self._run_hub, loop)

    def _run_hub(self, loop: Callable[[], None]) -> None:
        hub = gevent.get_hub()
        self._arrival = hub.loop.async_()
        self._arrival.start(self._spawn)
        self._ending = hub.loop.async_()
        self._ending.start(self._end_doomed)
        try:
            hub.threadpool.apply(loop)
        finally:
            self._arrival.close()
            self._ending.close()
            if self._coroutines is not None:
                self._coroutines.stop()

    def start(self) -> None:
        """Check that the standard library is patched, and let tasks wait for others."""
        check_patched()
        set_task_join_will_block(False)

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        self._waiting.extend(deliveries)
        self._arrival.send()

    def outcomes(self) -> list[Outcome]:
        return self._mailbox.take()

    def running(self) -> list[tuple[Delivery, float]]:
        return list(self._running.values())

    def take_back(self) -> list[Delivery]:
        taken = []
        try:
            while True:
                taken.append(self._waiting.popleft())
        except IndexError:
            return taken

    def waiting(self) -> list[Delivery]:
        return list(self._waiting)

    def tracers(self) -> list[Tracer]:
        return [self._tracer]

    def terminate(self, delivery: Delivery, reason: str) -> None:
        """Raise `EndOfTask` where its greenlet waits."""
        self._doomed.append((delivery, reason))
        self._ending.send()

    def resize(self, concurrency: int) -> None:
        super().resize(concurrency)
        self._arrival.send()

    def start_thread(self, run: Callable[[], None], name: str) -> None:
        """A native thread, with a hub of its own."""
        _start_native_thread(run)

    def stop(self, *, force: bool = False) -> None:
        """Abandon the greenlets that still run, if *force*; they end with the process."""
        if force:
            for greenlet in list(self._running):
                if (run := self._running.pop(greenlet, None)) is not None:
                    self._mailbox.put(self._tracer.interrupted(run[0]))

    # -- in the hub's thread ----------------------------------------------------

    def _spawn(self) -> None:
        """Start as many greenlets as what waits can use. Called by the hub, so it must not wait."""
        for _ in range(min(self.options.concurrency - self._workers, len(self._waiting))):
            self._workers += 1
            gevent.spawn(self._work)

    def _end_doomed(self) -> None:
        """End what is to end. Called by the hub, while each greenlet waits in what it runs."""
        while self._doomed:
            delivery, reason = self._doomed.popleft()
            for greenlet, run in list(self._running.items()):
                if run[0] is delivery:
                    greenlet.throw(EndOfTask(reason))

    def _work(self) -> None:
        """Run what waits, until nothing does."""
        greenlet = gevent.getcurrent()
        try:
            while self._waiting:
                try:
                    delivery = self._waiting.popleft()
                except IndexError:  # taken back meanwhile
                    return
                self._running[greenlet] = (delivery, monotonic())
                outcome = self._trace(delivery)
                if self._running.pop(greenlet, None) is None:
                    return  # a forced stop has abandoned this greenlet
                self._mailbox.put(outcome)
        finally:
            self._workers -= 1

    def _trace(self, delivery: Delivery) -> Outcome:
        seconds = self._tracer.limits(delivery)[0]
        hard_limit = gevent.Timeout.start_new(seconds)  # of None: never
        try:
            return self._tracer.run(delivery)
        except BaseException as exc:
            if exc is hard_limit and seconds is not None:
                return self._tracer.timed_out(delivery, seconds)
            return exited(self._tracer, delivery, exc)
        finally:
            hard_limit.close()

    def _arm(self, seconds: float) -> None:
        timeout = gevent.Timeout(seconds, SoftTimeLimitExceeded(seconds))
        self._soft_limits[gevent.getcurrent()] = timeout
        timeout.start()

    def _disarm(self) -> None:
        self._soft_limits.pop(gevent.getcurrent()).close()

    def _run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run *coroutine* in the event loop that serves them all, while this greenlet waits."""
        if self._coroutines is None:
            self._coroutines = CoroutineLoop(_native_event_loop(), _start_native_thread)
        ended = Event()
        wake = gevent.get_hub().loop.async_()
        wake.start(ended.set)
        call = self._coroutines.call(coroutine, wake.send)
        try:
            while True:
                try:
                    ended.wait()
                    return call.result()
                except (SoftTimeLimitExceeded, gevent.Timeout, EndOfTask) as exc:
                    if ended.is_set():
                        raise  # the coroutine let it pass
                    # SystemExit would end the event loop that serves the others.
                    call.interrupt(asyncio.CancelledError() if isinstance(exc, EndOfTask) else exc)
                    if not isinstance(exc, SoftTimeLimitExceeded):
                        raise  # a hard limit, or revoked: no more waiting
        finally:
            call.forget()
            wake.close()


def _native_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop that waits in the system, not in a hub of gevent's."""
    return asyncio.SelectorEventLoop(monkey.get_original("selectors", "DefaultSelector")())


def _start_native_thread(run: Callable[[], None]) -> None:
    monkey.get_original("_thread", "start_new_thread")(run, ())
