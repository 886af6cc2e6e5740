"""When a consumer looks at the file again: soon after it was written to, hardly ever when it is not (D8)."""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fastq.brokers.sqlite.file_watch import FileWatch, try_watch
from fastq.brokers.sqlite.store import POLL_MIN, poll_interval

if TYPE_CHECKING:
    from fastq.wakeup import Waker

# Seconds after a write until the watch is armed again: while other queues of the file are busy this bounds
# the looks.
SETTLING = 0.03

# The longest time, in seconds, between looks while the file is watched. A commit can be seen only when its
# fsync has ended, so a write is followed by ever rarer looks; and some file systems tell of no writes.
WATCHED_POLL = 0.25


class Pause:
    """Waits for the waker, a write to the file, or the time of the next look.

    Where no file can be watched it waits ever longer between looks, up to `POLL_MAX`.
    """

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._watch: FileWatch | None = None
        self._is_armed = False
        self._active_at = time.monotonic()

    def watch(self, log: Path) -> None:
        """Watch the write-ahead log *log* from now on, if the system can."""
        self.unwatch()
        self._watch = try_watch(log)

    def unwatch(self) -> None:
        """Close the watch."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        self._is_armed = False

    def touch(self) -> None:
        """Note that there was something to do."""
        self._active_at = time.monotonic()
        self._is_armed = False

    def until(self, deadline: float) -> bool:
        """Return False when it is time to look again, True when the waker is set or *deadline* has passed.

        *deadline* is on the monotonic clock. Clears the waker.
        """
        now = time.monotonic()
        seconds = max(min(self._interval(now), deadline - now), 0.0)
        poll = select.poll()
        poll.register(self._waker.fileno(), select.POLLIN)
        watched = self._watch if self._is_armed else None
        if watched is not None:
            poll.register(watched.fileno(), select.POLLIN)
        ready = {fd for fd, _ in poll.poll(seconds * 1000)}
        if watched is not None and watched.fileno() in ready:
            ready.remove(watched.fileno())
            self.touch()
        if ready:
            self._waker.clear()
            return True
        return time.monotonic() >= deadline

    def _interval(self, now: float) -> float:
        idle = now - self._active_at
        if self._watch is None:
            return poll_interval(idle)
        if idle >= SETTLING and not self._is_armed:
            self._watch.clear()
            self._is_armed = True
            return 0.0  # look at once: what was written until here calls no more
        return min(max(idle / 2, POLL_MIN), WATCHED_POLL)
