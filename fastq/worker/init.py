"""Being process 1 of a container: start the worker as a child, pass signals on, reap orphans.

Process 1 gets every orphan of its container as a child, and must wait for it or it stays a
zombie; and the kernel gives it no default handlers. The worker itself waits for its own
children by their ids, so the two do not mix in one process.
"""

from __future__ import annotations

import os
import signal

PASSED_ON = frozenset(
    {signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2}
)
# siginfo's si_code of a signal that the kernel itself sends, as for Ctrl-C (Linux, asm-generic/siginfo.h).
SI_KERNEL = 0x80


def split_from_init() -> None:
    """When this process is process 1, go on in a child, and be its init here; else do nothing.

    Must be called before a thread is started.
    """
    if os.getpid() != 1 or not hasattr(signal, "sigwaitinfo"):
        return
    waited = PASSED_ON | {signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, waited)
        return
    os._exit(_serve(child, waited))


def _serve(child: int, waited: frozenset[signal.Signals]) -> int:
    """Pass signals on to *child* and reap whoever ends, until it does; returns its exit code."""
    while True:
        info = signal.sigwaitinfo(waited)
        if info.si_signo == signal.SIGCHLD:
            if (code := _reap(child)) is not None:
                return code
        elif info.si_code != SI_KERNEL:  # a terminal's signal has reached the child already
            os.kill(child, info.si_signo)


def _reap(child: int) -> int | None:
    """Wait for every process that has ended; the exit code of *child* if it is among them."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if pid == 0:
            return None
        if pid == child:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
