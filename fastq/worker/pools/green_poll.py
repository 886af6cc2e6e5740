"""`select.poll` for eventlet, which takes the system's away and has none of its own."""

from __future__ import annotations

import select
from typing import Any

POLLIN, POLLPRI, POLLOUT, POLLERR, POLLHUP, POLLNVAL = 1, 2, 4, 8, 16, 32


class Poll:
    """Waits as `select.poll` does, while other green threads run."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = POLLIN | POLLPRI | POLLOUT) -> None:
        """Wait for *fd*, too."""
        self._wanted[fd if isinstance(fd, int) else fd.fileno()] = eventmask

    modify = register

    def unregister(self, fd: Any) -> None:
        """Wait for it no more."""
        del self._wanted[fd if isinstance(fd, int) else fd.fileno()]

    def poll(self, timeout: float | None = None) -> list[tuple[int, int]]:
        """What is ready within *timeout* milliseconds (None: whenever), as pairs of descriptor and events."""
        reads = [fd for fd, mask in self._wanted.items() if mask & (POLLIN | POLLPRI)]
        writes = [fd for fd, mask in self._wanted.items() if mask & POLLOUT]
        seconds = None if timeout is None or timeout < 0 else timeout / 1000
        readable, writable, broken = select.select(reads, writes, list(self._wanted), seconds)
        found = dict.fromkeys(readable, POLLIN)
        for fd in writable:
            found[fd] = found.get(fd, 0) | POLLOUT
        for fd in broken:
            found[fd] = found.get(fd, 0) | POLLERR
        return list(found.items())


def install() -> None:
    """Have `select` know it."""
    names = {"POLLIN": POLLIN, "POLLPRI": POLLPRI, "POLLOUT": POLLOUT, "POLLERR": POLLERR,
             "POLLHUP": POLLHUP, "POLLNVAL": POLLNVAL, "poll": Poll}  # fmt: skip
    vars(select).update(names)
