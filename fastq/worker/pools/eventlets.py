"""eventlet: green threads in the main thread, the worker's loop one of them."""

from __future__ import annotations

import asyncio
import os
import select
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import eventlet
from eventlet import patcher
from eventlet.hubs import trampoline

from fastq import signals
from fastq.exceptions import SoftTimeLimitExceeded
from fastq.result.joining import set_task_join_will_block
from fastq.worker.pools.base import Pool, PoolOptions
from fastq.worker.pools.coroutines import CoroutineLoop
from fastq.worker.pools.mailbox import Mailbox
from fastq.worker.pools.patch import check_eventlet_patched
from fastq.worker.pools.tracing import EndOfTask, exited, make_tracer

if TYPE_CHECKING:
    from fastq._core.message import Delivery, Outcome
    from fastq._core.trace import Tracer
    from fastq.wakeup import Waker

# As the system has them. Loaded here: an import gives way to other green threads, which would find half
# a module.
_selectors, _thread = map(patcher.original, ("selectors", "_thread"))


class EventletPool(Pool):
    """Up to `concurrency` green threads. Each runs one delivery after the other while there are any.

    Locks of eventlet's do not hold between native threads, so the loop is a green thread too. A
    task that never gives way stops the loop with the other tasks: its lease may run out meanwhile.
    """

    name = "eventlet"
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
        self._soft_limits: dict[Any, eventlet.Timeout] = {}
        self._mailbox = Mailbox(waker)
        self._coroutines: CoroutineLoop | None = None  # made by the first `async def` task

    def main(self, loop: Callable[[], None]) -> Callable[[], None]:
        """The hub, with *loop* in a green thread."""
        return partial(self._run, loop)

    def _run(self, loop: Callable[[], None]) -> None:
        signals.eventlet_pool_started.send(sender=self)
        try:
            eventlet.spawn(loop).wait()
        finally:
            if self._coroutines is not None:
                self._coroutines.stop()
            signals.eventlet_pool_postshutdown.send(sender=self)

    def start(self) -> None:
        """Check that the standard library is patched, and let tasks wait for others."""
        check_eventlet_patched()
        set_task_join_will_block(False)

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        self._waiting.extend(deliveries)
        self._spawn()
        eventlet.sleep(0)  # what the loop does next may not give way

    def outcomes(self) -> list[Outcome]:
        return self._mailbox.take()

    def running(self) -> list[tuple[Delivery, float]]:
        return list(self._running.values())

    def take_back(self) -> list[Delivery]:
        taken = list(self._waiting)
        self._waiting.clear()
        return taken

    def waiting(self) -> list[Delivery]:
        return list(self._waiting)

    def tracers(self) -> list[Tracer]:
        return [self._tracer]

    def terminate(self, delivery: Delivery, reason: str) -> None:
        """Raise `EndOfTask` where its green thread waits."""
        for greenlet, run in list(self._running.items()):
            if run[0] is delivery:
                eventlet.kill(greenlet, EndOfTask(reason))

    def resize(self, concurrency: int) -> None:
        super().resize(concurrency)
        self._spawn()

    def stop(self, *, force: bool = False) -> None:
        """Abandon the green threads that still run, if *force*; they end with the process."""
        signals.eventlet_pool_preshutdown.send(sender=self)
        if force:
            for greenlet in list(self._running):
                if (run := self._running.pop(greenlet, None)) is not None:
                    self._mailbox.put(self._tracer.interrupted(run[0]))

    def _spawn(self) -> None:
        """Start as many green threads as what waits can use."""
        for _ in range(min(self.options.concurrency - self._workers, len(self._waiting))):
            self._workers += 1
            eventlet.spawn(self._work)

    def _work(self) -> None:
        """Run what waits, until nothing does."""
        greenlet = eventlet.getcurrent()
        try:
            while self._waiting and self._workers <= self.options.concurrency:
                delivery = self._waiting.popleft()
                self._running[greenlet] = (delivery, monotonic())
                outcome = self._trace(delivery)
                if self._running.pop(greenlet, None) is None:
                    return  # a forced stop has abandoned this green thread
                self._mailbox.put(outcome)
        finally:
            self._workers -= 1

    def _trace(self, delivery: Delivery) -> Outcome:
        if signals.eventlet_pool_apply.receivers:
            signals.eventlet_pool_apply.send(
                sender=self, target=self._tracer.run, args=(delivery,), kwargs={}
            )
        seconds = self._tracer.limits(delivery)[0]
        hard_limit = eventlet.Timeout(seconds)  # of None: never
        try:
            return self._tracer.run(delivery)
        except BaseException as exc:
            if exc is hard_limit and seconds is not None:
                return self._tracer.timed_out(delivery, seconds)
            return exited(self._tracer, delivery, exc)
        finally:
            hard_limit.cancel()

    def _arm(self, seconds: float) -> None:
        self._soft_limits[eventlet.getcurrent()] = eventlet.Timeout(seconds, SoftTimeLimitExceeded(seconds))

    def _disarm(self) -> None:
        self._soft_limits.pop(eventlet.getcurrent()).cancel()

    def _run_coroutine(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run *coroutine* in the event loop that serves them all, while this green thread waits."""
        if self._coroutines is None:
            self._coroutines = CoroutineLoop(_native_event_loop(), _start_native_thread)
        ended, end = os.pipe()  # an event of eventlet's can't be set from another thread
        call = self._coroutines.call(coroutine, partial(_write, end))
        try:
            while True:
                try:
                    trampoline(ended, read=True)
                    return call.result()
                except (SoftTimeLimitExceeded, eventlet.Timeout, EndOfTask) as exc:
                    if select.select([ended], [], [], 0)[0]:
                        raise  # the coroutine let it pass
                    # SystemExit would end the event loop that serves the others.
                    call.interrupt(asyncio.CancelledError() if isinstance(exc, EndOfTask) else exc)
                    if not isinstance(exc, SoftTimeLimitExceeded):
                        raise  # a hard limit, or revoked: no more waiting
        finally:
            call.forget()
            os.close(ended)
            os.close(end)


def _write(fd: int) -> None:
    try:
        os.write(fd, b".")
    except OSError:
        pass  # nobody waits any more


def _native_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop that waits in the system, not in a hub of eventlet's."""
    return asyncio.SelectorEventLoop(_selectors.DefaultSelector())


def _start_native_thread(run: Callable[[], None]) -> None:
    _thread.start_new_thread(run, ())
