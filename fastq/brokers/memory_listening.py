"""Hearing announcements within one process."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastq._core.message import Message
from fastq.brokers.listening import Listener, admits, wait_for
from fastq.topology import Queue
from fastq.wakeup import Waker

if TYPE_CHECKING:
    from fastq.brokers.memory_store import MemoryStore


class MemoryListener(Listener):
    """Has what is announced put into its line."""

    def __init__(self, store: MemoryStore, queue: Queue, waker: Waker | None) -> None:
        self._store = store
        self._queue = queue
        self._own_waker = Waker() if waker is None else None
        self._waker = waker or self._own_waker
        self._line: deque[Message] = deque()

    def hear(self, timeout: float) -> list[Message]:
        with self._store.lock:
            if self not in self._store.listeners:
                self._store.listeners.append(self)
        assert self._waker is not None
        deadline = time.monotonic() + timeout
        while not (heard := self._take()) and (left := deadline - time.monotonic()) > 0:
            is_set = wait_for(self._waker.fileno(), self._waker, left)
            if is_set and self._own_waker is None:
                return self._take()
        return heard

    def tell(self, exchange: str, messages: Sequence[Message]) -> None:
        """Take those of *messages* that are for this listener; with the store's lock held."""
        told = [each for each in messages if admits(self._queue, exchange, each.routing_key)]
        if told:
            self._line.extend(told)
            assert self._waker is not None
            self._waker.set()

    def close(self) -> None:
        with self._store.lock:
            if self in self._store.listeners:
                self._store.listeners.remove(self)
        if self._own_waker is not None:
            self._own_waker.close()
            self._own_waker = None

    def _take(self) -> list[Message]:
        heard = []
        while self._line:
            heard.append(self._line.popleft())
        return heard
