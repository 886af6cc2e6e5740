"""What other threads want done in the worker's loop, which alone may touch its consumer and its pool."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from fastq.wakeup import Waker

logger = logging.getLogger("fastq.worker")


class Order:
    """One call in the loop's thread, and what came of it.

    `on_end` is called there with nothing when it has come.
    """

    __slots__ = ("_action", "_on_end", "error", "has_begun", "is_done", "value")

    def __init__(self, action: Callable[[], Any]) -> None:
        self._action = action
        self._on_end: Callable[[], None] | None = None
        self.has_begun = False
        self.is_done = False
        self.value: Any = None
        self.error: Exception | None = None

    def notify(self, on_end: Callable[[], None]) -> None:
        """Have *on_end* called when it is done; maybe twice, maybe at once."""
        self._on_end = on_end
        if self.is_done:
            on_end()

    def obey(self) -> None:
        """Make the call. A fault of it is kept: the loop goes on."""
        self.has_begun = True
        try:
            self.value = self._action()
        except Exception as exc:
            self.error = exc
        self.is_done = True
        if self._on_end is not None:
            self._on_end()


class Orders:
    """Orders on their way to the loop. Safe over threads; empty, it is false."""

    def __init__(self, waker: Waker) -> None:
        self._waker = waker
        self._waiting: deque[Order] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def give(self, action: Callable[[], Any]) -> Order:
        """Have *action* called in the loop's thread soon."""
        order = Order(action)
        self._waiting.append(order)
        self._waker.set()
        return order

    def obey(self) -> None:
        """Do all that was ordered; the loop calls it."""
        while self._waiting:
            self._waiting.popleft().obey()
