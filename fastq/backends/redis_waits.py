"""Waiting for results in Redis: one subscribed connection, read by whichever of the waiting threads is first.

A waiter subscribes to the channels of its results and reads their keys in the same
write, so nothing that is stored in between is missed. Whoever waits while nobody leads
connects or reads for all: a single waiting thread gets its result without a hop over
another one. A server without RESP3, where a subscribed connection can't read keys, is
polled instead.
"""

from __future__ import annotations

import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastq._core.resp import NO_REPLY, Packer
from fastq.backends.base import Pulse
from fastq.brokers.backoff import FIRST_BACKOFF, LAST_BACKOFF
from fastq.brokers.redis.connection import Connection, ServerRefused, checked, connect
from fastq.brokers.redis.endpoint import Endpoint
from fastq.exceptions import OperationalError

# Documents that one reply may hold: a server cuts off subscribers who leave too much unread.
IDS_PER_READ = 100
# Ids that are asked for at once when, as the last replies say, few have a document yet.
MOST_IDS_PER_READ = 1000
# Channels that nobody waits for any more are left in batches: leaving one costs as much as waiting for it.
CHANNELS_LEFT_AT_ONCE = 100
# So many at once, when nobody else waits, are left by closing the connection: the server would confirm each.
CHANNELS_LEFT_WITH_THE_CONNECTION = 1000
# Seconds after which keys are read again: finds a dead connection, and results stored without a notice.
LOOK_AGAIN = 10.0
SEND_SECONDS = 5.0  # for a write of some kilobytes
FIRST_POLL, LAST_POLL = 0.002, 0.1  # seconds between looks at a server without RESP3

Fetch = Callable[[Sequence[str]], list[bytes | None]]


class Waiter:
    """What one call of `WaitHub.wait` waits for and what has come for it. All times are monotonic."""

    def __init__(self, task_ids: Collection[str], prefix: str) -> None:
        self._task_ids = task_ids  # those that are still to come, if it is a dict
        self._prefix = prefix
        self.names = self.open_names()  # every key that it has listened to
        self.unread: deque[str] = deque()  # to be subscribed to and read yet
        self.at_once = IDS_PER_READ
        self.inbox: list[tuple[str, bytes]] = []
        self.generation = 0  # of the connection it uses
        self.asked_at: float | None = None  # when it sent the read whose reply is owed
        self.look_at = math.inf
        self.failing_since: float | None = None

    def open_names(self) -> list[str]:
        """The keys of the results that are still to come."""
        return [self._prefix + task_id for task_id in self._task_ids]


class WaitHub:
    """The shared subscription of one process. Safe over threads and greenlets, not over forks."""

    def __init__(self, endpoint: Endpoint, key_prefix: str, deadline: float, fetch: Fetch) -> None:
        self._endpoint = endpoint
        self._prefix = key_prefix
        self._deadline = deadline  # seconds without a connection until waiting fails
        self._fetch = fetch
        # Guards everything below. The leader lets go of it while it waits for the server.
        self._changed = threading.Condition()
        self._is_led = False
        self._connection: Connection | None = None
        self._generation = 0  # counts connections
        self._must_poll = False  # the server has no RESP3
        self._retry_at = 0.0
        self._backoff = FIRST_BACKOFF
        self._asked: deque[tuple[Waiter, list[str]]] = deque()  # reads whose replies are owed
        self._waiters: dict[str, list[Waiter]] = {}  # by key
        self._subscribed: set[str] = set()
        self._unwanted: set[str] = set()

    def wait(
        self, task_ids: Collection[str], timeout: float | None, pulse: Pulse | None = None
    ) -> Generator[tuple[str, bytes], None, None]:
        """Yield (id, document) as `Backend.wait` says."""
        ends = math.inf if timeout is None else time.monotonic() + timeout
        waiter = Waiter(task_ids, self._prefix)
        try:
            while not self._must_poll:
                found = self._next(waiter, ends if pulse is None else min(ends, pulse.due))
                yield from found
                if pulse is not None:
                    pulse.beat()
                if not found and time.monotonic() >= ends:
                    return
            yield from self._poll(task_ids, ends, pulse)
        finally:
            self._leave(waiter)

    def close(self) -> None:
        """Close the connection; whoever still waits opens another."""
        with self._changed:
            self._drop()

    def _next(self, waiter: Waiter, until: float) -> list[tuple[str, bytes]]:
        """What has come for *waiter*, as soon as there is something; nothing at the time *until*."""
        with self._changed:
            while not waiter.inbox and not self._must_poll:
                now = time.monotonic()
                if now >= until:
                    return []
                if self._connection is not None:
                    self._attend(waiter, now)
                pause = min(until - now, LOOK_AGAIN)
                if self._is_led:
                    self._changed.wait(pause)
                elif self._connection is None and now < self._retry_at:
                    self._changed.wait(min(pause, self._retry_at - now))
                else:
                    self._lead(waiter, pause)
            found, waiter.inbox = waiter.inbox, []
            return found

    def _poll(
        self, task_ids: Collection[str], ends: float, pulse: Pulse | None
    ) -> Iterator[tuple[str, bytes]]:
        """Look for results now and then; each document comes once for every change of it."""
        seen: dict[str, bytes] = {}
        pause = FIRST_POLL
        while time.monotonic() < ends:
            wanted = list(task_ids)
            for task_id, document in zip(wanted, self._fetch(wanted), strict=True):
                if document is not None and seen.get(task_id) != document:
                    seen[task_id] = document
                    yield task_id, document
                    pause = FIRST_POLL
            until = ends
            if pulse is not None:
                pulse.beat()
                until = min(ends, pulse.due)
            time.sleep(max(min(pause, until - time.monotonic()), 0))
            pause = min(pause * 2, LAST_POLL)

    # -- with the lock held ---------------------------------------------------------------------

    @contextmanager
    def _leading(self) -> Iterator[None]:
        """Let go of the lock while waiting for the server on everybody's behalf."""
        self._is_led = True
        self._changed.release()
        try:
            yield
        finally:
            self._changed.acquire()
            self._is_led = False
            self._changed.notify_all()

    def _lead(self, waiter: Waiter, seconds: float) -> None:
        """Connect, or read once, for all who wait."""
        connection = self._connection
        try:
            if connection is None:
                with self._leading():
                    connection = connect(self._endpoint, min(max(seconds, 0.05), self._deadline))
                self._adopt(connection)
            else:
                with self._leading():
                    is_ready = connection.wait_readable(seconds)
                if is_ready and connection is self._connection:
                    self._take_in(connection)
        except OperationalError as exc:
            self._fail(waiter, exc)

    def _adopt(self, connection: Connection) -> None:
        self._backoff = FIRST_BACKOFF
        if connection.is_resp3:
            self._connection = connection
            self._generation += 1
        else:
            self._must_poll = True
            connection.close()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._asked.clear()
        self._subscribed.clear()
        self._unwanted.clear()

    def _fail(self, waiter: Waiter, exc: OperationalError) -> None:
        """Note a fault; *waiter* gives up when it has seen nothing else for the deadline."""
        self._drop()
        now = time.monotonic()
        # Jitter keeps a fleet from coming back in step.
        self._retry_at = now + self._backoff * random.uniform(0.5, 1.0)
        self._backoff = min(self._backoff * 2, LAST_BACKOFF)
        if waiter.failing_since is None:
            waiter.failing_since = now
        if isinstance(exc, ServerRefused) or now - waiter.failing_since >= self._deadline:
            raise exc

    def _attend(self, waiter: Waiter, now: float) -> None:
        """Send what *waiter* has to ask next: its next hundred keys, or all of them again."""
        if waiter.generation != self._generation:
            waiter.generation = self._generation
            waiter.at_once = IDS_PER_READ
            waiter.unread = deque(waiter.open_names())
            waiter.asked_at = None
        if waiter.asked_at is not None:
            if now - waiter.asked_at > LOOK_AGAIN:
                self._fail(waiter, OperationalError(f"{self._endpoint.describe()} does not answer"))
            return
        if not waiter.unread and now >= waiter.look_at:
            waiter.unread.extend(waiter.open_names())
        if waiter.unread:
            names = [waiter.unread.popleft() for _ in range(min(len(waiter.unread), waiter.at_once))]
            waiter.asked_at = now
            waiter.look_at = now + LOOK_AGAIN
            self._ask(waiter, names)

    def _ask(self, waiter: Waiter, names: list[str]) -> None:
        packer = Packer()
        for name in names:
            listening = self._waiters.setdefault(name, [])
            if waiter not in listening:
                listening.append(waiter)
        fresh = [name for name in names if name not in self._subscribed]
        self._unwanted.difference_update(names)
        self._subscribed.update(fresh)
        if fresh:
            packer.command("SUBSCRIBE", *fresh)
        packer.command("MGET", *names)
        self._asked.append((waiter, names))
        self._send(waiter, packer)

    def _send(self, waiter: Waiter | None, packer: Packer) -> None:
        assert self._connection is not None
        try:
            self._connection.send(packer.take(), SEND_SECONDS)
        except OperationalError as exc:
            if waiter is None:
                self._drop()
            else:
                self._fail(waiter, exc)

    def _take_in(self, connection: Connection) -> None:
        """Read what is there and hand it to those who wait for it."""
        connection.receive(SEND_SECONDS)
        while (reply := connection.replies.next_reply()) is not NO_REPLY:
            waiter, names = self._asked.popleft()
            waiter.asked_at = None
            waiter.failing_since = None
            before = len(waiter.inbox)
            for name, document in zip(names, checked(reply), strict=True):
                if document is not None:
                    waiter.inbox.append((name[len(self._prefix) :], document))
            is_empty = len(waiter.inbox) == before
            waiter.at_once = min(waiter.at_once * 2, MOST_IDS_PER_READ) if is_empty else IDS_PER_READ
        pushes: list[Any] = connection.replies.pushes
        for push in pushes:
            if push[0] == b"message":
                name = push[1].decode()
                for waiter in self._waiters.get(name, ()):
                    waiter.inbox.append((name[len(self._prefix) :], push[2]))
        pushes.clear()

    def _leave(self, waiter: Waiter) -> None:
        """Forget *waiter*, and leave channels that nobody waits for, many at a time."""
        with self._changed:
            for name in waiter.names:
                listening = self._waiters.get(name, [])
                if waiter in listening:
                    listening.remove(waiter)
                    if not listening:
                        del self._waiters[name]
                        self._unwanted.add(name)
            self._unwanted &= self._subscribed
            if len(self._unwanted) >= CHANNELS_LEFT_WITH_THE_CONNECTION and not self._waiters:
                self._drop()
            elif len(self._unwanted) >= CHANNELS_LEFT_AT_ONCE and self._connection is not None:
                packer = Packer()
                packer.command("UNSUBSCRIBE", *self._unwanted)
                self._subscribed -= self._unwanted
                self._unwanted = set()
                self._send(None, packer)
