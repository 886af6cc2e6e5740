"""What signals ask of a running worker: stop, stop at once, restart, show your stacks."""

from __future__ import annotations

import _thread
import logging
import math
import os
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

from fastq.signals import worker_shutting_down

if TYPE_CHECKING:
    from types import FrameType

    from fastq.wakeup import Waker
    from fastq.worker.loop import Loop
    from fastq.worker.pools.base import Pool

logger = logging.getLogger(__name__)

# Seconds between two lines that say how a stop gets on.
REPORT_EVERY = 5.0
# Seconds between two looks at whether it has come to its end.
LOOK_EVERY = 0.1


class SignalHandlers:
    """Handles the signals of one worker while it is entered; only in the main thread.

    The first INT or TERM stops the loop, the second aborts it, the third leaves on the spot.
    QUIT aborts at once. With a *soft_timeout* running tasks have that many seconds before they are
    aborted, unless one more signal comes. HUP stops, and `wants_restart` is set then, unless the
    terminal that started us hung up. USR1 logs the stack of every thread. Handlers only set flags
    and start threads: they may interrupt any line of the program.

    A pool that runs tasks in the loop's own thread keeps the loop from seeing that it shall
    stop. There a thread of ours ends the batch, and has the task that runs end with
    `SystemExit` when its time is up.
    """

    def __init__(
        self, node: str, loop: Loop, pool: Pool, waker: Waker, timeout: float, soft_timeout: float = 0.0
    ) -> None:
        self.node = node
        self.loop = loop
        self.pool = pool
        self.waker = waker
        self.timeout = timeout  # seconds that running tasks have to end after the first signal
        self.soft_timeout = soft_timeout  # seconds that they have before they are aborted; 0: none
        self.wants_restart = False
        self.exit_code = 0
        self._asked = 0  # how often a stop was asked for
        self._is_soft = False  # whether the soft timeout runs, or has run
        self._ends_at = math.inf  # monotonic: when running tasks have had their time
        self._is_aborted = False
        self._breaks_task = False  # whether the next USR2 is ours
        self._ended = threading.Event()
        self._had_terminal = os.isatty(0)
        self._previous: dict[int, Any] = {}
        self._previous_fd = -1

    def __enter__(self) -> SignalHandlers:
        # Celery's own switch, for platforms that can send nothing but TERM.
        term = self._quit if os.environ.get("REMAP_SIGTERM") == "SIGQUIT" else self._stop
        handlers = {
            signal.SIGINT: self._stop,
            signal.SIGTERM: term,
            signal.SIGQUIT: self._quit,
            signal.SIGHUP: self._hang_up,
            signal.SIGUSR1: self._show_stacks,
            signal.SIGUSR2: self._break_task,
        }
        # Python runs a handler between two of its own instructions: a loop that waits in poll
        # must be woken for that.
        self._previous_fd = signal.set_wakeup_fd(self.waker.write_fd, warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        self._ended.set()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_fd)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        if self._asked == 1:
            self._finish_within(self.timeout)
            self._report(number, "Warm")
        elif self._asked == 2 and self.soft_timeout > 0 and not self._is_soft:
            self._asked = 1
            self._is_soft = True
            self.exit_code = 128 + number
            self._finish_within(self.soft_timeout)
        elif self._asked == 2:
            self.exit_code = 128 + number
            self._is_aborted = True
            self._ends_at = time.monotonic()
            self.loop.abort()
        else:
            os._exit(128 + number)

    def _quit(self, number: int, frame: FrameType | None) -> None:
        is_first = self._asked == 0
        if is_first:
            self._asked = 1
        self._stop(number, frame)
        if is_first:
            self._report(number, "Cold")

    def _finish_within(self, seconds: float) -> None:
        self._ends_at = min(self._ends_at, time.monotonic() + seconds)
        self.loop.stop(seconds)

    def _report(self, number: int, how: str) -> None:
        # Not `threading.Thread`: its start takes locks that the interrupted line may hold.
        _thread.start_new_thread(self._report_stop, (signal.Signals(number).name, how))

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        if self._asked == 0:
            self.wants_restart = not self._had_terminal
            self._stop(number, frame)

    def _show_stacks(self, number: int, frame: FrameType | None) -> None:
        _thread.start_new_thread(log_stacks, ())

    def _break_task(self, number: int, frame: FrameType | None) -> None:
        if self._breaks_task:
            self._breaks_task = False
            raise SystemExit("the worker was stopped while this task ran")

    def _report_stop(self, signal_name: str, how: str) -> None:
        """Say how the stop gets on until it has; runs in a thread of its own."""
        worker_shutting_down.send(sender=self.node, sig=signal_name, how=how, exitcode=self.exit_code)
        if self.pool.runs_inline:
            self.pool.stop()
        said_at, said_of = -math.inf, math.inf
        is_broken = False
        while not self._ended.is_set():
            now = time.monotonic()
            ends_at = self._ends_at
            if now - said_at >= REPORT_EVERY or ends_at < said_of:
                said_at, said_of = now, ends_at
                running = len(self.loop.running())
                line = stop_line(running, ends_at - now, 0.0 if self._is_soft else self.soft_timeout)
                logger.log(logging.WARNING if running else logging.INFO, line)
            if self.pool.runs_inline and not is_broken and (self._is_aborted or now >= ends_at):
                is_broken = self._end_inline_task()
            self._ended.wait(LOOK_EVERY)

    def _end_inline_task(self) -> bool:
        """Have SystemExit raised in the task that runs in the main thread; whether one does."""
        if not self.loop.running():
            return False
        self._breaks_task = True
        main = threading.main_thread().ident
        assert main is not None
        signal.pthread_kill(main, signal.SIGUSR2)
        return True


def stop_line(running: int, left: float, soft: float = 0.0) -> str:
    """What to say of a stop with so many tasks *running* and so many seconds *left*.

    *soft* is how many seconds the next signal leaves them.
    """
    if not running:
        return "Stopping: no task runs"
    tasks = "1 task runs" if running == 1 else f"{running:,} tasks run"
    if left <= 0:
        return f"Stopping: the time is up; {tasks} and will be given back"
    after = f"another signal leaves {soft:g} s" if soft else "another signal gives everything back at once"
    return f"Stopping: {tasks}, at most {left:.0f} s left; {after}"


def log_stacks() -> None:
    """Log the stack of every thread."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        stack = "".join(traceback.format_stack(frame))
        logger.warning("Stack of thread %s (%s):\n%s", names.get(ident, "?"), ident, stack)
