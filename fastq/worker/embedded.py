"""A worker inside another program: in a thread beside it, or in its own thread until nothing is left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from fastq.worker import garbage
from fastq.worker.loop import Loop
from fastq.worker.worker import Worker

if TYPE_CHECKING:
    from fastq._core.message import Delivery


@dataclass(eq=False)
class EmbeddedWorker(Worker):
    """A worker that leaves its process alone: signals, logging unless asked, and the app's connections.

    `start` runs in any thread, `stop` may be called from any other.
    """

    quiet: bool = True
    logging: bool = False  # set up logging, as a worker of its own process does
    has_started: threading.Event = field(init=False, default_factory=threading.Event)

    def stop(self, timeout: float) -> None:
        """Take no more, and let what runs end within *timeout* seconds; `start` returns then."""
        if self._loop is not None:
            self._loop.stop(timeout)
            if self._pool.runs_inline:
                self._pool.stop()

    def shut_down(self) -> None:
        """Stop, and leave the program alone."""
        self.stop(self.app.conf.worker_shutdown_timeout)

    @contextmanager
    def _signal_handlers(self, loop: Loop) -> Iterator[Any]:
        yield SimpleNamespace(exit_code=0, wants_restart=False)

    def _announce(self) -> None:
        super()._announce()
        self.has_started.set()

    def _set_up_logging(self) -> None:
        if self.logging:
            super()._set_up_logging()

    def _start_events(self, loop: Loop) -> None:
        """Be silent, unless events of tasks are wanted."""
        if self.app.conf.worker_send_task_events:
            super()._start_events(loop)

    def _end(self) -> None:
        self._is_over = True
        self._stop_steps()
        self._end_control()
        if self._metrics is not None:
            self._metrics.stop()
        self._stop_events()
        self._waker.close()
        self._release_pidfile()
        garbage.unsettle()  # the program goes on


# Seconds that a broker which pushes messages is given to send one.
PUSH_PATIENCE = 0.2


class DrainLoop(Loop):
    """A loop that ends when the broker has nothing more to run."""

    patience = 0.0  # seconds for a message to arrive
    _is_idle = False

    def _patience(self) -> float:
        return min(self.patience, super()._patience())

    def _turn(self) -> list[Delivery]:
        ready = super()._turn()
        self._is_idle = not (ready or self._outcomes or self._kept or self._suspects or self._followups)
        return ready

    def _is_over(self) -> bool:
        return self._is_idle or super()._is_over()


class DrainWorker(EmbeddedWorker):
    """Runs what is in the queues now, and what comes of it, in the thread that calls `start`."""

    loop_class = DrainLoop

    def _start_control(self, loop: Loop) -> None:
        """Answer nobody: it is here for a moment."""

    @property
    def ran(self) -> int:
        """How many deliveries have been settled."""
        return 0 if self._loop is None else self._loop.state.settled

    def _make_loop(self) -> Loop:
        loop = super()._make_loop()
        assert isinstance(loop, DrainLoop)
        if self.app.read_broker.routes:
            loop.patience = PUSH_PATIENCE
        return loop
