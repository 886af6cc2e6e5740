"""What starts the children of the prefork pool and collects their exits."""

from __future__ import annotations

import os
import signal
import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from fastq import signals

if TYPE_CHECKING:
    import socket

    from fastq._core.board import Board


class Exit(NamedTuple):
    """How a process ended, as wait4(2) tells it."""

    status: int
    peak: int  # of its resident memory, in units of the system

    @property
    def signal(self) -> int | None:
        """The number of the signal that killed it."""
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None

    def describe(self) -> str:
        """How it ended, in the past tense, for people."""
        number = self.signal
        if number is None:
            return f"exited with code {os.waitstatus_to_exitcode(self.status)}"
        # KiB, but bytes on macOS (getrusage(2))
        peak_mib = self.peak / (1024 * 1024 if sys.platform == "darwin" else 1024)
        return f"was killed by signal {number} ({_signal_name(number)}) at {peak_mib:.0f} MiB of peak memory"


class Launcher(ABC):
    """Starts children, each with its end of a socketpair and its row of the board.

    A pid stays its child's until `reap`, so that it may be sent signals.
    """

    board: Board

    @abstractmethod
    def start(self) -> None:
        """Make ready; before fastq has opened a connection or started a thread."""

    @abstractmethod
    def launch(self, row: int, sock: socket.socket) -> int:
        """Start a child and return its pid; the caller then closes *sock*. Raises `OSError`."""

    @abstractmethod
    def reap(self, pid: int) -> Exit | None:
        """Collect the exit of a child that is dead; None if somebody else has."""

    def fileno(self) -> int | None:
        """A descriptor that is readable when no child can be started any more."""
        return None

    @abstractmethod
    def close(self) -> None:
        """End what is left of it, when no child lives."""


def before_start() -> None:
    """What goes before each new process, in the one that starts it."""
    signals.worker_before_create_process.send(sender=None)
    # What is buffered would be written twice.
    sys.stdout.flush()
    sys.stderr.flush()


def wait_for_exit(pid: int) -> Exit | None:
    """Wait until the child *pid* of this process ends; None if somebody else has."""
    try:
        _, status, usage = os.wait4(pid, 0)
    except ChildProcessError:
        return None
    return Exit(status, usage.ru_maxrss)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "a real-time signal"
