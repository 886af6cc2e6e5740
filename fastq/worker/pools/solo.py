"""One thread: the loop's own. What is submitted runs before `submit` returns."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from fastq._core.limits import SignalTimer
from fastq.exceptions import ImproperlyConfigured
from fastq.worker.pools.base import Pool, PoolOptions
from fastq.worker.pools.tracing import exited, make_tracer

if TYPE_CHECKING:
    from fastq._core.message import Delivery, Outcome
    from fastq.wakeup import Waker


class SoloPool(Pool):
    """Runs every delivery in the thread that submits it.

    The other methods may be called from another thread meanwhile, so that outcomes
    become visible while the batch goes on (D13).
    """

    name = "solo"
    keeps_soft_limits = True
    keeps_hard_limits = False

    def __init__(self, app: Any, options: PoolOptions, waker: Waker) -> None:
        super().__init__(app, options, waker)
        self._tracer = make_tracer(app, options)
        self._lock = threading.Lock()  # guards what follows, but for appending to _done
        self._batch: Sequence[Delivery] = ()
        self._batch_began = 0.0  # monotonic
        self._done: list[Outcome] = []  # of the batch, and of the last one what was not yet taken
        self._taken = 0  # outcomes taken, ever
        self._before = 0  # outcomes before the batch, ever
        self._withdrawn: list[Delivery] = []
        self._interrupt = threading.Event()

    def start(self) -> None:
        """Take over SIGALRM for soft limits; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            timer = SignalTimer()
            timer.install()
            self._tracer.arm = timer.arm
            self._tracer.disarm = timer.disarm
        elif self.options.soft_time_limit is not None:
            raise ImproperlyConfigured(
                f"the solo pool keeps soft_time_limit={self.options.soft_time_limit:g} in the main thread "
                "alone: run the worker there, or choose the threads pool"
            )

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Run *deliveries* in order; `take_back` and `stop` from elsewhere end it after the current one."""
        with self._lock:
            self._before = self._taken + len(self._done)
            self._batch = deliveries
            self._batch_began = monotonic()
            self._interrupt.clear()
        while (rest := self._unfinished()) and not self._interrupt.is_set():
            try:
                self._tracer.run_many(rest, self._done, self._interrupt)
            except (SystemExit, Exception) as exc:
                self._done.append(exited(self._tracer, self._unfinished()[0], exc))
        rest = self._unfinished()
        with self._lock:
            self._withdrawn += rest
            self._batch = ()
        self.waker.set()

    def _unfinished(self) -> Sequence[Delivery]:
        """The batch from the delivery on whose outcome is next."""
        with self._lock:
            return self._batch[self._taken + len(self._done) - self._before :]

    def outcomes(self) -> list[Outcome]:
        with self._lock:
            # The tracer appends to this very list meanwhile, so take what it has and leave the rest.
            done = self._done[:]
            del self._done[: len(done)]
            self._taken += len(done)
        return done

    def running(self) -> list[tuple[Delivery, float]]:
        """The delivery that runs, with the time at which its batch began."""
        return [(delivery, self._batch_began) for delivery in self._unfinished()[:1]]

    def take_back(self) -> list[Delivery]:
        """Withdraw what the current batch has not begun.

        From another thread while a batch runs, the batch is told to end, and the next
        call returns what it left: what is about to start can't be told from here.
        """
        self._interrupt.set()
        with self._lock:
            withdrawn, self._withdrawn = self._withdrawn, []
        return withdrawn

    def stop(self, *, force: bool = False) -> None:
        """End the batch after the current delivery; *force* can't end that one either."""
        self._interrupt.set()
