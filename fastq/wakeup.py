"""A wake-up call that any thread or signal handler can give to a loop that waits on descriptors."""

from __future__ import annotations

import os
import select
import selectors

# Read as much as one pipe can hold: a waker is cleared once however often it was set.
PIPE_BYTES = 65536


class Waker:
    """A pipe whose readable end says "look again", and the descriptors that say so by themselves.

    `set` never blocks and may be called from a signal handler or a foreign thread;
    `fileno` is for select, poll and epoll. After a fork the child must make its own.
    """

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)
        # The pipe and what is watched, behind one descriptor of epoll or kqueue; made when first needed.
        self._watched: selectors.DefaultSelector | None = None

    def fileno(self) -> int:
        """The descriptor that is readable from `set` until `clear`, and while a watched one is."""
        return self._read_fd if self._watched is None else self._watched.fileno()

    @property
    def write_fd(self) -> int:
        """The descriptor to write a byte to, for `signal.set_wakeup_fd`."""
        return self._write_fd

    def set(self) -> None:
        """Make `fileno` readable."""
        try:
            os.write(self._write_fd, b"!")
        except (BlockingIOError, OSError):
            pass  # full: it is set already; closed: nobody waits any more

    def clear(self) -> None:
        """Make `fileno` unreadable until the next `set`; a watched descriptor keeps its say."""
        try:
            os.read(self._read_fd, PIPE_BYTES)
        except (BlockingIOError, OSError):
            pass

    def wait(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds for `fileno` to become readable; whether it is."""
        return bool(select.select([self.fileno()], [], [], timeout)[0])

    def watch(self, fd: int) -> None:
        """Make `fileno` readable whenever *fd* is.

        The first call changes `fileno`, so it must come before any wait.
        """
        if self._watched is None:
            self._watched = selectors.DefaultSelector()
            self._watched.register(self._read_fd, selectors.EVENT_READ)
        self._watched.register(fd, selectors.EVENT_READ)

    def unwatch(self, fd: int) -> None:
        """Forget *fd*, before it is closed."""
        if self._watched is not None:
            self._watched.unregister(fd)

    def close(self) -> None:
        """Close every descriptor of its own; `set` and `clear` do nothing from then on."""
        if self._watched is not None:
            self._watched.close()
            self._watched = None
        for fd in (self._read_fd, self._write_fd):
            os.close(fd)
        self._read_fd = self._write_fd = -1
