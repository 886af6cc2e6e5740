"""The connections that the clients of one process share."""

from __future__ import annotations

import math
import os
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

from fastq.brokers.backoff import pauses
from fastq.brokers.retry_policy import RetryPolicy
from fastq.exceptions import OperationalError


class Pooled(Protocol):
    """What a pool can hold."""

    used_at: float  # monotonic seconds

    def close(self) -> None:
        """Leave the server, without waiting for it."""


C = TypeVar("C", bound=Pooled)
T = TypeVar("T")


class Pool(ABC, Generic[C]):
    """Idle connections of one process, newest first. Safe over threads, greenlets and forks.

    A connection belongs to whoever took it until it is given back. It grows as far as
    there are callers at a time, or to *limit*: then they wait for each other, at most *patience*
    seconds. Faults are tried again with a growing pause until the deadline, or with the pauses of
    *retry_policy*. With *keeps* off no connection outlives its use.
    """

    # After this error a connection is as good as before.
    harmless: type[OperationalError] | tuple[()] = ()

    def __init__(
        self,
        *,
        limit: int | None = None,
        patience: float | None = None,
        keeps: bool = True,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        self._limit = limit
        self._patience = math.inf if patience is None else patience
        self._keeps = keeps
        self._retry_policy = retry_policy
        self._start_empty()

    def _start_empty(self) -> None:
        self._idle: deque[C] = deque()
        self._places: SimpleQueue[None] | None = None  # one item for each place that is free
        if self._limit:
            self._places = SimpleQueue()
            for _ in range(self._limit):
                self._places.put(None)
        self._pid = os.getpid()

    @abstractmethod
    def connect(self, timeout: float) -> C:
        """A new connection, within *timeout* seconds. Raises `OperationalError`."""

    @abstractmethod
    def is_alive(self, connection: C, idle: float, timeout: float) -> bool:
        """Whether *connection* may be used, after so many *idle* seconds; takes *timeout* seconds at most."""

    @abstractmethod
    def describe(self) -> str:
        """The server's URL without its password."""

    def run(
        self, action: Callable[[C, float], T], deadline: float, retry_policy: RetryPolicy | None = None
    ) -> T:
        """Give *action* a connection and the seconds left, again with a fresh one after a fault.

        Ends with its result, or within *deadline* seconds with `OperationalError`. So
        *action* may run several times: it must be harmless to repeat. *retry_policy* goes
        before the pool's own.
        """
        started = time.monotonic()
        ends = started + deadline
        policy = retry_policy or self._retry_policy
        waits = pauses() if policy is None else policy.pauses()
        left = deadline
        while True:
            try:
                places = self._take_place(left)
                try:
                    return self._run_once(action, left, started)
                finally:
                    if places is not None:
                        places.put(None)
            except OperationalError as exc:
                if not exc.is_passing:
                    raise
                # What one connection has lost, the others of its age have lost too.
                self.close()
                pause = next(waits, math.inf)
                left = ends - time.monotonic() - pause
                if left <= 0:
                    raise
                time.sleep(pause)

    def _run_once(self, action: Callable[[C, float], T], timeout: float, now: float) -> T:
        connection = self._take(timeout, now)
        try:
            result = action(connection, timeout)
        except self.harmless:
            self._give_back(connection)
            raise
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)
        return result

    def _take_place(self, timeout: float) -> SimpleQueue[None] | None:
        """Take one of the places of a limited pool; returns where to give it back."""
        if self._pid != os.getpid():
            # These belong to the parent: close our copies of the descriptors and say nothing.
            inherited = self._idle
            self._start_empty()
            for connection in inherited:
                connection.close()
        places = self._places
        if places is None:
            return None
        patience = min(timeout, self._patience)
        try:
            places.get(timeout=patience)
        except Empty:
            problem = OperationalError(
                f"all {self._limit} connections to {self.describe()} have been in use for "
                f"{patience:.3g} s: raise broker_pool_limit, redis_max_connections or the transport option "
                "max_connections"
            )
            problem.is_passing = False  # it has waited already
            raise problem from None
        return places

    def close(self) -> None:
        """Close the idle connections; the pool stays usable."""
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:
                return

    def _take(self, timeout: float, now: float) -> C:
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if self.is_alive(connection, now - connection.used_at, timeout):
                return connection
            connection.close()
        return self.connect(timeout)

    def _give_back(self, connection: C) -> None:
        if not self._keeps:
            connection.close()
            return
        connection.used_at = time.monotonic()
        self._idle.append(connection)
