"""The process that children are forked from: it holds the application and nothing of a running worker (D12).

It is forked before the worker has opened a connection or started a thread, and stays as it was
then. So a child that replaces another begins as the first ones did. The worker asks, one request
at a time over a socketpair, and waits for the reply:

    FORK row + the child's end of its socket  →  pid, or minus the error number
    REAP pid                                  →  status and peak memory, or NOBODY

It keeps the dead as zombies until it is asked, so the worker may send signals to a pid and open
a pidfd of it. At the end of the stream, or of the worker, it ends; so do the children that live.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Any

from fastq._core.board import Board, die_with_parent
from fastq.worker.pools.base import NewChild
from fastq.worker.pools.child import run_child
from fastq.worker.pools.launcher import Exit, Launcher, before_start, wait_for_exit

if TYPE_CHECKING:
    from fastq.worker.pools.base import PoolOptions

FORK, REAP = 1, 2
REQUEST = Struct("<qq")  # what to do, and its number
REPLY = Struct("<qq")
NOBODY = -1, 0


class Template(Launcher):
    """The worker's end. *leave* closes, in the new process, what the worker has open."""

    def __init__(self, app: Any, options: PoolOptions, rows: int, leave: Callable[[], None]) -> None:
        self._app = app
        self._options = options
        self.board = Board(rows)
        self._leave = leave
        self._pid = 0  # 0: not started
        self._control: socket.socket

    def start(self) -> None:
        """Fork it. Raises `NewChild` in each of its children, and never returns in itself."""
        ours, theirs = socket.socketpair()
        worker = os.getpid()
        before_start()
        # No signal may reach the new process while it still has the worker's handlers, nor later: what they
        # mean, the worker decides.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._pid = os.fork()
        if self._pid == 0:
            try:
                if die_with_parent() and os.getppid() != worker:
                    os._exit(0)  # the worker died before we asked
                ours.close()
                self._leave()
                # Never garbage; looking through it would unshare the children's memory.
                gc.freeze()
                self._serve(theirs, mask)
            except NewChild:
                raise
            except BaseException:
                os._exit(1)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        self._control = ours

    def launch(self, row: int, sock: socket.socket) -> int:
        pid, _ = self._ask(FORK, row, sock.fileno())
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def reap(self, pid: int) -> Exit | None:
        try:
            reply = self._ask(REAP, pid)
        except ConnectionError:
            return None  # it took its children with it
        return None if reply == NOBODY else Exit(*reply)

    def fileno(self) -> int:
        return self._control.fileno()

    def close(self) -> None:
        if self._pid:
            self._control.close()
            wait_for_exit(self._pid)

    def _ask(self, what: int, number: int, *fds: int) -> tuple[int, int]:
        request = REQUEST.pack(what, number)
        if fds:
            socket.send_fds(self._control, [request], fds)
        else:
            self._control.sendall(request)
        reply = self._control.recv(REPLY.size)
        if not reply:
            raise ConnectionResetError(f"process {self._pid}, which children are forked from, has ended")
        pid_or_status, peak = REPLY.unpack(reply)
        return pid_or_status, peak

    # -- in the new process ---------------------------------------------------------

    def _serve(self, control: socket.socket, mask: set[int]) -> None:
        """Do what is asked until the worker ends."""
        while True:
            request, fds, _, _ = socket.recv_fds(control, REQUEST.size, 1)
            if not request:
                os._exit(0)
            what, number = REQUEST.unpack(request)
            if what == FORK:
                sock = socket.socket(fileno=fds[0])
                sock.set_inheritable(False)
                reply = self._fork_child(number, sock, control, mask), 0
                sock.close()
            else:
                reply = wait_for_exit(number) or NOBODY
            control.sendall(REPLY.pack(*reply))

    def _fork_child(self, row: int, sock: socket.socket, control: socket.socket, mask: set[int]) -> int:
        """The pid of a new child, or minus the error number. Returns in the template alone."""
        parent = os.getpid()
        before_start()
        try:
            pid = os.fork()
        except OSError as exc:
            return -(exc.errno or 1)
        if pid == 0:
            control.close()
            raise NewChild(partial(run_child, self._app, self._options, self.board, row, sock, parent, mask))
        return pid
