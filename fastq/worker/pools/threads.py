"""Threads: one task each, for work that waits more than it computes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from fastq._core.limits import Strikes, ThreadLimits
from fastq.worker.pools.base import Pool, PoolOptions
from fastq.worker.pools.coroutines import CoroutineRunner
from fastq.worker.pools.mailbox import Mailbox
from fastq.worker.pools.tracing import EndOfTask, exited, make_tracer

if TYPE_CHECKING:
    from fastq._core.message import Delivery, Outcome
    from fastq._core.trace import Tracer
    from fastq.wakeup import Waker


class ThreadsPool(Pool):
    """Up to `concurrency` threads that take from one queue. They are started as work needs them."""

    name = "threads"
    keeps_soft_limits = True
    keeps_hard_limits = False

    def __init__(self, app: Any, options: PoolOptions, waker: Waker) -> None:
        super().__init__(app, options, waker)
        self._tracer = make_tracer(app, options)
        self._limits = SoftLimitWatch()
        self._tracer.arm = self._limits.arm
        self._tracer.disarm = self._limits.disarm
        self._coroutines = CoroutineRunner(self._limits.suspend)
        self._tracer.run_coroutine = self._coroutines.run
        self._queue: SimpleQueue[Delivery | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unsettled = 0  # submitted, and neither taken back nor seen to end
        # By thread id. Whoever removes an entry decides its outcome: the thread, or a forced stop.
        self._running: dict[int, tuple[Delivery, float]] = {}
        self._strikes = Strikes(EndOfTask)
        self._mailbox = Mailbox(waker)

    def start(self) -> None:
        """Do nothing: `submit` starts threads."""

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._queue.put(delivery)
        self._unsettled += len(deliveries)
        for _ in range(min(self._unsettled, self.options.concurrency) - len(self._threads)):
            # A daemon, because a forced stop leaves it behind.
            thread = threading.Thread(target=self._work, name=f"fastq-task-{len(self._threads)}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def outcomes(self) -> list[Outcome]:
        outcomes = self._mailbox.take()
        self._unsettled -= len(outcomes)
        return outcomes

    def running(self) -> list[tuple[Delivery, float]]:
        return list(self._running.values())

    def take_back(self) -> list[Delivery]:
        found = self._empty()
        taken = [delivery for delivery in found if delivery is not None]
        for _ in range(len(found) - len(taken)):
            self._queue.put(None)  # for those that are to leave
        self._unsettled -= len(taken)
        return taken

    def waiting(self) -> list[Delivery]:
        # A queue can't be looked into: take all out, and put it back in its order.
        found = self._empty()
        for each in found:
            self._queue.put(each)
        return [each for each in found if each is not None]

    def _empty(self) -> list[Delivery | None]:
        """All that is in the queue, taken out of it."""
        found: list[Delivery | None] = []
        try:
            while True:
                found.append(self._queue.get_nowait())
        except Empty:
            return found

    def info(self) -> dict[str, Any]:
        info = super().info()
        return {name: info[name] for name in ("implementation", "max-concurrency", "processes")} | {
            "threads": len(self._threads)
        }

    def tracers(self) -> list[Tracer]:
        return [self._tracer]

    def terminate(self, delivery: Delivery, reason: str) -> None:
        """Raise `EndOfTask` in its thread, which a call of C's that blocks hears when it is back."""
        self._strikes.strike(self._running, delivery)

    def resize(self, concurrency: int) -> None:
        super().resize(concurrency)
        for _ in range(len(self._threads) - concurrency):
            self._threads.pop()
            self._queue.put(None)  # whichever comes to it first leaves

    def stop(self, *, force: bool = False) -> None:
        """End the threads; *force* abandons those that run a task, whose outcome then is "interrupted"."""
        for _ in self._threads:
            self._queue.put(None)
        if not force:
            for thread in self._threads:
                thread.join()
        for thread_id in list(self._running):
            if (run := self._running.pop(thread_id, None)) is not None:
                self._mailbox.put(self._tracer.interrupted(run[0]))
        self._threads.clear()
        self._limits.close()

    def _work(self) -> None:
        """Run deliveries in this thread until None comes."""
        try:
            self._work_off()
        finally:
            self._coroutines.close()

    def _work_off(self) -> None:
        thread_id = threading.get_ident()
        running, get, run, put = self._running, self._queue.get, self._tracer.run, self._mailbox.put
        end = self._strikes.end
        while (delivery := get()) is not None:
            running[thread_id] = (delivery, monotonic())
            try:
                try:
                    outcome = run(delivery)
                except BaseException as exc:
                    outcome = exited(self._tracer, delivery, exc)
                run_here = end(running)
            except EndOfTask as exc:  # it ended at the very moment
                outcome = exited(self._tracer, delivery, exc)
                run_here = end(running)
            if run_here is None:
                return  # a forced stop has abandoned this thread
            put(outcome)


class SoftLimitWatch:
    """A thread that interrupts others at their soft limits. It is started by the first limit."""

    def __init__(self) -> None:
        self._limits = ThreadLimits()
        self.disarm = self._limits.disarm
        self._changed = threading.Condition()  # guards what follows
        self._thread: threading.Thread | None = None
        self._looks_at = 0.0  # monotonic: when the thread will look again by itself
        self._is_closed = False

    def arm(self, seconds: float) -> None:
        """Let SoftTimeLimitExceeded be raised in the calling thread after *seconds*, until `disarm`."""
        deadline = monotonic() + seconds
        self._limits.arm(deadline)
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="fastq-soft-limits", daemon=True)
                self._thread.start()
            elif deadline < self._looks_at:
                self._changed.notify()

    def suspend(self) -> float | None:
        """Disarm, and return the seconds that were left to the calling thread; None if it was not armed."""
        deadline = self._limits.suspend()
        return None if deadline is None else max(0.0, deadline - monotonic())

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._is_closed:
                now = monotonic()
                deadline = self._limits.expire(now)
                self._looks_at = float("inf") if deadline is None else deadline
                self._changed.wait(None if deadline is None else deadline - now)
