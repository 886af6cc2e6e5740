"""The parent's end of one child: its process, its socket, and what it was given."""

from __future__ import annotations

import os
import signal
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from fastq.worker.pools.frames import LIMITS, SHOWS, FrameDecoder, encode

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping, Sequence

    from fastq._core.board import Board
    from fastq._core.message import Delivery

# One read takes many outcomes, or a good part of a large one.
READ_BYTES = 1 << 18

# A child that has started nothing for this long is stuck in a long task, and what it has not
# started may go to another. Seconds.
STALLED_AFTER = 0.010


class ChildHandle:
    """One child as its parent sees it. Used by the parent's loop alone; never blocks."""

    def __init__(self, pid: int, row: int, sock: socket.socket, board: Board) -> None:
        self.pid = pid
        self.row = row
        self.sock = sock
        self.board = board
        self.pidfd = _open_pidfd(pid)
        self.given: dict[int, Delivery] = {}  # by position, in order: not ended and not withdrawn
        self.started_at = monotonic()
        self.is_ready = False  # it has said that it takes deliveries
        self.is_late = False  # it was killed for not saying so in time
        self.is_leaving = False  # it starts nothing more
        self.is_unwanted = False  # it was killed because nobody needs what it ran
        self.revoked: str | None = None  # why the task for which it was killed was to end
        self.given_in_all = 0  # deliveries
        self.shows = False  # whether its outcomes have what events tell of them
        self.overran: float | None = None  # the hard limit (seconds) for which it was killed
        self.hard_limit: tuple[int, float | None] = (-1, None)  # of the delivery at this position, in seconds
        self._end = 0  # the position that the next delivery gets
        self._given_at = 0.0
        self._decoder = FrameDecoder()
        self._unsent: deque[memoryview] = deque()

    # -- deliveries -----------------------------------------------------------

    def give(self, deliveries: Sequence[Delivery]) -> None:
        """Hand *deliveries* over, to run in order behind those given before."""
        first = self._end
        items = []
        for position, delivery in enumerate(deliveries, first):
            self.given[position] = delivery
            # Tags mean something to the broker alone; whether there is one says if it acks late.
            tag = None if delivery.tag is None else position
            assert delivery.message is not None
            items.append((delivery.message.to_tuple(), tag, delivery.queue, delivery.redelivered))
        self._end = first + len(items)
        self.given_in_all += len(items)
        self._given_at = monotonic()
        self._unsent.append(memoryview(encode((first, items))))
        self.flush()

    def tell_limits(self, limits: Mapping[str, tuple[float | None, float | None]]) -> None:
        """Let the tasks that it starts from now on have these hard and soft limits, by name."""
        self._unsent.append(memoryview(encode((LIMITS, dict(limits)))))
        self.flush()

    def unstarted(self) -> list[Delivery]:
        """What waits here. From any thread."""
        first = self.board.next(self.row)
        return [delivery for position, delivery in list(self.given.items()) if position >= first]

    def show_outcomes(self, shows: bool) -> None:
        """Let the outcomes of what is given from now on have what events tell of them, or not."""
        self.shows = shows
        self._unsent.append(memoryview(encode((SHOWS, shows))))

    def withdraw(self) -> list[Delivery]:
        """Take back what has not started; it will not run there."""
        first = self.board.withdraw(self.row, self._end)
        return [self.given.pop(position) for position in list(self.given) if position >= first]

    def hold(self) -> list[Delivery] | None:
        """Let the child start nothing after the delivery that runs; returns what it so takes back.

        None: it has just gone on to another.
        """
        first = self.board.next(self.row)
        started = [position for position in self.given if position < first]
        if len(started) != 1 or not self.board.withdraw_from(self.row, first, self._end):
            return None
        self.is_leaving = True
        return [self.given.pop(position) for position in list(self.given) if position >= first]

    def head(self) -> int | None:
        """The lowest position whose outcome has not come."""
        return next(iter(self.given), None)

    def running(self) -> tuple[Delivery, float] | None:
        """The delivery that runs, and the monotonic time since which it does."""
        head = self.head()
        if head is None or head >= self.board.next(self.row):
            return None
        return self.given[head], self.board.started_at(self.row)

    def last_progress(self) -> float:
        """The monotonic time at which it last started or was given something."""
        running = self.running()
        return self._given_at if running is None else running[1]

    def is_stalled(self, now: float) -> bool:
        """Whether what it was given waits behind a long task."""
        return now - self.last_progress() >= STALLED_AFTER

    # -- its socket -------------------------------------------------------------

    @property
    def wants_to_write(self) -> bool:
        """Whether its socket was too full for all that is to be sent."""
        return bool(self._unsent)

    def flush(self) -> None:
        """Send what its socket takes now."""
        while self._unsent:
            chunk = self._unsent[0]
            try:
                sent = self.sock.send(chunk)
            except BlockingIOError:
                return
            except OSError:
                self._unsent.clear()  # it is dead, which its exit will say
                return
            if sent == len(chunk):
                self._unsent.popleft()
            else:
                self._unsent[0] = chunk[sent:]

    def receive(self) -> tuple[list[Any], bool]:
        """The frames that have arrived, and whether its end of the socket is still open."""
        try:
            data = self.sock.recv(READ_BYTES)
        except BlockingIOError:
            return [], True
        except OSError:
            return [], False
        return self._decoder.feed(data), bool(data)

    def drain(self) -> list[Any]:
        """All the frames that a dead child has left behind."""
        frames: list[Any] = []
        while True:
            try:
                data = self.sock.recv(READ_BYTES)
            except OSError:  # empty: a child of its own may still hold the other end
                return frames
            if not data:
                return frames
            frames += self._decoder.feed(data)

    # -- its end ------------------------------------------------------------------

    def kill(self) -> None:
        """End it at once."""
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # whoever reaps the dead was faster

    def close(self) -> None:
        """Close the parent's descriptors."""
        self.sock.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None


def _open_pidfd(pid: int) -> int | None:
    """A descriptor that is readable once *pid* has ended, where the system has them (Linux 5.3)."""
    opener = getattr(os, "pidfd_open", None)
    try:
        return None if opener is None else int(opener(pid))
    except OSError:
        return None
