"""One thread: the loop's own. What is submitted runs before `submit` returns."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from fastq._core.limits import SignalTimer
from fastq._core.request import current_request
from fastq.exceptions import ImproperlyConfigured, PoolRefused
from fastq.worker.pools.base import Pool, PoolOptions
from fastq.worker.pools.coroutines import CoroutineRunner
from fastq.worker.pools.tracing import EndOfTask, exited, make_tracer

if TYPE_CHECKING:
    from fastq._core.message import Delivery, Outcome
    from fastq._core.trace import Tracer
    from fastq.wakeup import Waker


class SoloPool(Pool):
    """Runs every delivery in the thread that submits it.

    The other methods may be called from one other thread meanwhile, so that outcomes
    become visible while the batch goes on (D13), and what has not begun can be withdrawn.
    """

    name = "solo"
    runs_inline = True
    keeps_soft_limits = True
    keeps_hard_limits = False

    def __init__(self, app: Any, options: PoolOptions, waker: Waker) -> None:
        super().__init__(app, options, waker)
        self._tracer = make_tracer(app, options)
        self._waiting: deque[Delivery] = deque()
        self._current: tuple[Delivery, float] | None = None  # and the monotonic time of its start
        self._done: list[Outcome] = []
        self._is_stopped = False
        self._timer: SignalTimer | None = None
        self._coroutines: CoroutineRunner | None = None  # in the main thread, where soft limits are kept

    def start(self) -> None:
        """Take over SIGALRM for soft limits; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            self._timer = timer = SignalTimer()
            timer.install()
            self._tracer.arm = timer.arm
            self._tracer.disarm = timer.disarm
            self._coroutines = CoroutineRunner(timer.suspend)
            self._tracer.run_coroutine = self._coroutines.run
        elif self.options.soft_time_limit is not None:
            raise ImproperlyConfigured(
                f"the solo pool keeps soft_time_limit={self.options.soft_time_limit:g} in the main thread "
                "alone: run the worker there, or choose the threads pool"
            )

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Run *deliveries* in order, but for those that another thread takes back meanwhile."""
        self._waiting.extend(deliveries)
        while self._waiting and not self._is_stopped:
            try:
                self._tracer.run_many(iter(self._next, None), self._done)
            except (SystemExit, Exception) as exc:
                assert self._current is not None
                delivery = self._current[0]
                if self._is_stopped:  # the stop has ended it, so it counts for no crash
                    self._done.append(self._tracer.interrupted(delivery))
                else:
                    self._done.append(exited(self._tracer, delivery, exc))
        self._current = None

    def _next(self) -> Delivery | None:
        """Begin the next delivery, if there is one. Each goes to this or to `take_back`."""
        if self._is_stopped:
            return None
        try:
            delivery = self._waiting.popleft()
        except IndexError:
            return None
        self._current = (delivery, monotonic())
        return delivery

    def outcomes(self) -> list[Outcome]:
        # The tracer appends to this very list meanwhile, so take what it has and leave the rest.
        done = self._done[:]
        del self._done[: len(done)]
        return done

    def running(self) -> list[tuple[Delivery, float]]:
        current = self._current
        return [] if current is None else [current]

    def take_back(self) -> list[Delivery]:
        taken = []
        try:
            while True:
                taken.append(self._waiting.popleft())
        except IndexError:
            return taken

    def waiting(self) -> list[Delivery]:
        return list(self._waiting)

    def info(self) -> dict[str, Any]:
        info = super().info()
        return info | {"max-tasks-per-child": None, "put-guarded-by-semaphore": True, "timeouts": []}

    def tracers(self) -> list[Tracer]:
        return [self._tracer]

    def terminate(self, delivery: Delivery, reason: str) -> None:
        """Raise `EndOfTask` in the main thread, by a signal that interrupts what it waits for."""
        if self._timer is None:
            raise PoolRefused("the solo pool can end a task in the main thread alone")

        def decide() -> EndOfTask | None:
            # A task that has ended has no request any more, and its outcome stands.
            is_running = self._current is not None and self._current[0] is delivery
            return EndOfTask(reason) if is_running and current_request() is not None else None

        self._timer.strike(decide)

    def resize(self, concurrency: int) -> None:
        raise PoolRefused("the solo pool runs one task at a time")

    def stop(self, *, force: bool = False) -> None:
        """End the batch after the current delivery; *force* can't end that one either."""
        self._is_stopped = True
        if self._coroutines is not None and self._current is None:
            self._coroutines.close()
