"""A child of the prefork pool: reads deliveries, runs them, writes each outcome at once (D12, D13)."""

from __future__ import annotations

import logging
import os
import resource
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping
from multiprocessing import current_process
from time import monotonic
from types import FrameType
from typing import TYPE_CHECKING, Any

from fastq import signals
from fastq._core.board import Board, die_with_parent
from fastq._core.limits import SignalTimer
from fastq._core.message import Delivery, message_from_tuple
from fastq.worker import garbage
from fastq.worker.pools.coroutines import CoroutineRunner
from fastq.worker.pools.frames import LIMITS, SHOWS, FrameDecoder, encode
from fastq.worker.pools.tracing import exited, make_tracer

if TYPE_CHECKING:
    import socket

    from fastq.worker.pools.base import PoolOptions

logger = logging.getLogger(__name__)

# One read takes a whole batch of usual size.
READ_BYTES = 1 << 18

# What a child says of itself, where an outcome has its position.
READY = -1
LEAVING = -2

# Signals that reach every process of a terminal or a service: what they mean, the parent decides.
PARENTS_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

STATM = "/proc/self/statm"  # its second field: resident pages (proc(5))
PAGE_KIB = resource.getpagesize() // 1024


class Child:
    """The child's side. *sock* is its end of the socketpair, *row* its row of the board."""

    def __init__(self, app: Any, options: PoolOptions, board: Board, row: int, sock: socket.socket) -> None:
        self._app = app
        self._options = options
        self._board = board
        self._row = row
        self._sock = sock
        self._decoder = FrameDecoder()
        self._ran = 0
        self._has_quota = options.max_tasks_per_child is not None or options.max_memory_per_child is not None
        timer = SignalTimer()
        timer.install()
        self._tracer = make_tracer(app, options)
        self._tracer.arm = timer.arm
        self._tracer.disarm = timer.disarm
        self._tracer.run_coroutine = CoroutineRunner(timer.suspend).run

    def batches(self) -> Iterator[tuple[int, Any]]:
        """What comes from the parent, until it closes its end."""
        self._sock.sendall(encode((READY, None)))
        while data := self._sock.recv(READ_BYTES):
            yield from self._decoder.feed(data)

    def set_limits(self, limits: Mapping[str, tuple[float | None, float | None]]) -> None:
        """Have the runs of these tasks keep other limits than the tasks say."""
        for name, (hard, soft) in limits.items():
            task = self._app.tasks[name]
            task.time_limit, task.soft_time_limit = hard, soft
        self._tracer.forget_plans()

    def show_outcomes(self, shows: bool) -> None:
        """Let outcomes have what events tell of them, or not."""
        self._tracer.shows = shows

    def run(self, first: int, items: list[tuple[Any, ...]]) -> bool:
        """Run the deliveries that still are ours; False when this child is to be replaced."""
        start, row = self._board.start, self._row
        for position, (message, tag, queue, redelivered) in enumerate(items, first):
            if not start(row, position, monotonic()):
                continue  # the parent has taken it back
            delivery = Delivery(message_from_tuple(message), tag, queue, redelivered)
            try:
                outcome = self._tracer.run(delivery)
            except (SystemExit, KeyboardInterrupt) as exc:
                ended = exited(self._tracer, delivery, exc).to_tuple()
                self._sock.sendall(encode((position, ended)) + encode((LEAVING, f"its task raised {exc!r}")))
                raise
            self._sock.sendall(encode((position, outcome.to_tuple())))
            if self._has_quota and (why := self._spent()):
                self._sock.sendall(encode((LEAVING, why)))
                return False
        return True

    def _spent(self) -> str | None:
        """Why this child has run enough, or None."""
        self._ran += 1
        most_tasks, most_kib = self._options.max_tasks_per_child, self._options.max_memory_per_child
        if most_tasks is not None and self._ran >= most_tasks:
            return f"it has run {self._ran} tasks"
        if most_kib is not None and (kib := resident_kib()) > most_kib:
            return f"it holds {kib} KiB of memory, more than max_memory_per_child={most_kib}"
        return None


def run_child(
    app: Any,
    options: PoolOptions,
    board: Board,
    row: int,
    sock: socket.socket,
    parent: int,
    mask: Iterable[int],
    kind: str = "Fork",
) -> int:
    """Be a child, in the process that *parent* has just started; returns the exit code.

    The signals of *mask* stay blocked, others that were over the start no longer.
    """
    if die_with_parent() and os.getppid() != parent:
        return 0  # the parent died before we asked
    _leave_signals_to_parent()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    _detach_stdin()
    current_process().name = f"{kind}PoolWorker-{row + 1}"  # so logs name it, as Celery's do
    # To look through what the parent has loaded would unshare its memory.
    garbage.settle()
    code = 0
    try:
        signals.worker_process_init.send(sender=None)
        child = Child(app, options, board, row, sock)
        for first, items in child.batches():
            if first == LIMITS:
                child.set_limits(items)
            elif first == SHOWS:
                child.show_outcomes(items)
            elif not child.run(first, items):
                break
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    except (ConnectionError, KeyboardInterrupt):
        code = 1  # the parent is gone, or a task raised KeyboardInterrupt by itself
    except BaseException:
        logger.exception("child %d failed", os.getpid())
        code = 1
    signals.worker_process_shutdown.send(sender=None, pid=os.getpid(), exitcode=code)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def resident_kib() -> int:
    """Resident memory of this process in KiB; where only its peak is known, the peak."""
    try:
        with open(STATM, "rb") as statm:
            return int(statm.read().split()[1]) * PAGE_KIB
    except OSError:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak // 1024 if sys.platform == "darwin" else peak  # bytes on macOS


def _leave_signals_to_parent() -> None:
    """Give back every handler of the parent's, and let those signals pass that it alone acts upon."""
    signal.set_wakeup_fd(-1)
    child = os.getpid()

    def pass_by(number: int, frame: FrameType | None) -> None:
        # Not SIG_IGN, which programs that a task starts would inherit; and what a task forks
        # must be free to die of it.
        if os.getpid() != child:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in signal.valid_signals():
        if number in PARENTS_SIGNALS:
            signal.signal(number, pass_by)
        elif callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def _detach_stdin() -> None:
    """Let a task that reads standard input find it empty, not wait for a terminal."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
