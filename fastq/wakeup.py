"""A wake-up call that any thread or signal handler can give to a loop that waits on descriptors."""

from __future__ import annotations

import os

# Read as much as one pipe can hold: a waker is cleared once however often it was set.
PIPE_BYTES = 65536


class Waker:
    """A pipe whose readable end says "look again".

    `set` never blocks and may be called from a signal handler or a foreign thread;
    `fileno` is for select, poll and epoll. After a fork the child must make its own.
    """

    def __init__(self) -> None:
        self._read_fd, self._write_fd = os.pipe()
        os.set_blocking(self._read_fd, False)
        os.set_blocking(self._write_fd, False)

    def fileno(self) -> int:
        """The descriptor that is readable from `set` until `clear`."""
        return self._read_fd

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
        """Make `fileno` unreadable until the next `set`."""
        try:
            os.read(self._read_fd, PIPE_BYTES)
        except (BlockingIOError, OSError):
            pass

    def close(self) -> None:
        """Close both ends; `set` and `clear` do nothing from then on."""
        for fd in (self._read_fd, self._write_fd):
            os.close(fd)
        self._read_fd = self._write_fd = -1
