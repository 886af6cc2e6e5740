"""A descriptor that says that a file was written to: inotify on Linux, kqueue on macOS and BSD."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path
from typing import Protocol

IN_MODIFY = 0x2  # inotify(7)
O_EVTONLY = 0x8000  # open(2) on macOS: only to watch, which does not keep a volume from being unmounted
READ_BYTES = 4096


class FileWatch(Protocol):
    """Readable from the first write to the file until `clear`."""

    def fileno(self) -> int:
        """The descriptor for select and poll."""

    def clear(self) -> None:
        """Make `fileno` unreadable until the next write."""

    def close(self) -> None:
        """Close the descriptor."""


if sys.platform == "linux":

    class SystemWatch:
        """A watch by inotify(7), which Python's standard library does not have."""

        def __init__(self, path: Path) -> None:
            import ctypes  # a client that only publishes need not wait for this import

            libc = ctypes.CDLL(None, use_errno=True)
            self._fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
            if self._fd < 0 or libc.inotify_add_watch(self._fd, os.fsencode(path), IN_MODIFY) < 0:
                code = ctypes.get_errno()
                if self._fd >= 0:
                    os.close(self._fd)
                raise OSError(code, os.strerror(code), str(path))

        def fileno(self) -> int:
            """The descriptor for select and poll."""
            return self._fd

        def clear(self) -> None:
            """Make `fileno` unreadable until the next write."""
            try:
                while len(os.read(self._fd, READ_BYTES)) > READ_BYTES // 2:
                    pass
            except BlockingIOError:
                pass

        def close(self) -> None:
            """Close the descriptor."""
            os.close(self._fd)

else:

    class SystemWatch:
        """A watch by kqueue(2)."""

        def __init__(self, path: Path) -> None:
            self._file = os.open(path, O_EVTONLY if sys.platform == "darwin" else os.O_RDONLY)
            self._queue = select.kqueue()
            writes = select.kevent(
                self._file,
                filter=select.KQ_FILTER_VNODE,
                flags=select.KQ_EV_ADD | select.KQ_EV_CLEAR,
                fflags=select.KQ_NOTE_WRITE | select.KQ_NOTE_EXTEND,
            )
            self._queue.control([writes], 0)

        def fileno(self) -> int:
            """The descriptor for select and poll."""
            return self._queue.fileno()

        def clear(self) -> None:
            """Make `fileno` unreadable until the next write."""
            self._queue.control(None, 1, 0)

        def close(self) -> None:
            """Close the descriptors."""
            self._queue.close()
            os.close(self._file)


def try_watch(path: Path) -> FileWatch | None:
    """Watch the file at *path*, or return None where the system has no watch to spare."""
    try:
        return SystemWatch(path)
    except OSError:
        return None
