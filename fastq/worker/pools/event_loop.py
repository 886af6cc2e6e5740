"""asyncio: one event loop in the main thread for `async def` tasks, threads for plain functions."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any

from fastq.exceptions import SoftTimeLimitExceeded
from fastq.worker.pools.base import Pool, PoolOptions
from fastq.worker.pools.coroutines import Interruptible, end_loop
from fastq.worker.pools.mailbox import Mailbox
from fastq.worker.pools.threads import ThreadsPool
from fastq.worker.pools.tracing import exited, make_tracer

if TYPE_CHECKING:
    from fastq._core.message import Delivery, Outcome
    from fastq._core.trace import Tracer
    from fastq.wakeup import Waker


class AsyncioPool(Pool):
    """Up to `concurrency` coroutines at once in the event loop, and as many plain functions in threads.

    Limits end a coroutine where it waits: one that never awaits can't be ended. Plain
    functions have the soft limits of threads and no hard ones.
    """

    name = "asyncio"
    keeps_soft_limits = True
    keeps_hard_limits = True

    def __init__(self, app: Any, options: PoolOptions, waker: Waker) -> None:
        super().__init__(app, options, waker)
        self._tracer = make_tracer(app, options)
        self._threads = ThreadsPool(app, options, waker)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[Delivery] = deque()
        self._is_called = False  # whether _spawn is on its way
        self._keys = count()
        # Whoever removes an entry decides its outcome: the coroutine, its hard limit, or a forced stop.
        self._running: dict[int, tuple[Delivery, float]] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}  # by the same keys
        self._mailbox = Mailbox(waker)

    def main(self, loop: Callable[[], None]) -> Callable[[], None]:
        """The event loop, with *loop* in a thread beside it."""
        return partial(self._run_beside, loop)

    def _run_beside(self, loop: Callable[[], None]) -> None:
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        consumer = _LoopThread(loop, self._loop)
        consumer.start()
        while consumer.is_alive() and not consumer.is_over:
            try:
                self._loop.run_forever()
            except SystemExit:
                pass  # of a coroutine that a task has started by itself; the others go on
        self._abandon()
        end_loop(self._loop)
        self._loop = None
        consumer.join()
        if consumer.error is not None:
            raise consumer.error

    def start(self) -> None:
        """Do nothing: `run` has made the event loop."""

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        is_async = self._tracer.is_async
        plain = [delivery for delivery in deliveries if not is_async(delivery)]
        if plain:
            self._threads.submit(plain)
        if len(plain) < len(deliveries):
            self._waiting.extend(delivery for delivery in deliveries if is_async(delivery))
            self._call_spawn()

    def outcomes(self) -> list[Outcome]:
        return self._mailbox.take() + self._threads.outcomes()

    def running(self) -> list[tuple[Delivery, float]]:
        return list(self._running.values()) + self._threads.running()

    def take_back(self) -> list[Delivery]:
        taken = []
        try:
            while True:
                taken.append(self._waiting.popleft())
        except IndexError:
            return taken + self._threads.take_back()

    def waiting(self) -> list[Delivery]:
        return list(self._waiting) + self._threads.waiting()

    def tracers(self) -> list[Tracer]:
        return [self._tracer, *self._threads.tracers()]

    def terminate(self, delivery: Delivery, reason: str) -> None:
        """Cancel its coroutine, or raise `EndOfTask` in its thread."""
        if not self._tracer.is_async(delivery):
            self._threads.terminate(delivery, reason)
        elif self._loop is not None:
            self._loop.call_soon_threadsafe(self._cancel, delivery, reason)

    def resize(self, concurrency: int) -> None:
        super().resize(concurrency)
        self._threads.resize(concurrency)
        self._call_spawn()

    def stop(self, *, force: bool = False) -> None:
        """End the threads; *force* abandons coroutines too. `run` cancels those when it ends."""
        if force:
            self._abandon()
        self._threads.stop(force=force)

    def _abandon(self) -> None:
        for key in list(self._running):
            if (run := self._running.pop(key, None)) is not None:
                self._mailbox.put(self._tracer.interrupted(run[0]))

    # -- in the event loop ------------------------------------------------------

    def _call_spawn(self) -> None:
        """From any thread: let `_spawn` be called."""
        # Read after the append of the caller, and cleared before _spawn looks: nothing stays behind.
        if not self._is_called and self._loop is not None:
            self._is_called = True
            self._loop.call_soon_threadsafe(self._spawn)

    def _spawn(self) -> None:
        """Begin what waits, as far as there is room."""
        assert self._loop is not None
        self._is_called = False
        while len(self._running) < self.options.concurrency:
            try:
                delivery = self._waiting.popleft()
            except IndexError:  # taken back meanwhile
                return
            key = next(self._keys)
            self._running[key] = (delivery, monotonic())
            job = Interruptible(self._trace(delivery, key))
            task = self._tasks[key] = job.start(self._loop)
            self._set_limits(job, task, key, delivery)

    def _set_limits(
        self, job: Interruptible[None], task: asyncio.Task[None], key: int, delivery: Delivery
    ) -> None:
        assert self._loop is not None
        hard, soft = self._tracer.limits(delivery)
        if soft is not None:
            timer = self._loop.call_later(soft, job.interrupt, SoftTimeLimitExceeded(soft))
            task.add_done_callback(lambda _: timer.cancel())
        if hard is not None:
            end = self._loop.call_later(hard, self._time_out, task, key, hard)
            task.add_done_callback(lambda _: end.cancel())

    async def _trace(self, delivery: Delivery, key: int) -> None:
        try:
            outcome = await self._tracer.run_async(delivery, lambda: key not in self._running)
        except BaseException as exc:  # SystemExit would end the event loop
            if key not in self._running:
                return  # cancelled by its hard limit or a forced stop, which have given its outcome
            outcome = exited(self._tracer, delivery, exc)
        self._end(key, outcome)

    def _time_out(self, task: asyncio.Task[None], key: int, seconds: float) -> None:
        if key in self._running:
            self._end(key, self._tracer.timed_out(self._running[key][0], seconds))
            task.cancel()

    def _cancel(self, delivery: Delivery, reason: str) -> None:
        for key, run in self._running.items():
            if run[0] is delivery:
                task = self._tasks[key]
                self._end(key, self._tracer.revoked(delivery, reason))
                task.cancel()
                return

    def _end(self, key: int, outcome: Outcome) -> None:
        """Give *outcome* to the loop unless another was given, and begin what waits."""
        self._tasks.pop(key, None)
        if self._running.pop(key, None) is not None:
            self._mailbox.put(outcome)
            if self._waiting:
                self._call_spawn()


class _LoopThread(threading.Thread):
    """Runs the worker's loop beside the event loop, which it stops at its end."""

    def __init__(self, run: Callable[[], None], event_loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(name="fastq-loop")
        self._run_loop = run
        self._event_loop = event_loop
        self.is_over = False
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self._run_loop()
        except BaseException as exc:  # raised again in the main thread
            self.error = exc
        self.is_over = True
        self._event_loop.call_soon_threadsafe(self._event_loop.stop)
