"""Turns for a worker whose one thread is busy in a task (D13): the solo pool's second thread."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastq.worker.loop import Loop

logger = logging.getLogger("fastq.worker")

# Seconds between looks: an outcome is visible at the latest two looks and a turn after its task's end.
PERIOD = 0.02
# Looks that find nothing to do before the thread sleeps until it is called.
LOOKS_BEFORE_SLEEP = 50


class Heartbeat:
    """Calls `Loop.beat` every 20 ms while the loop's thread has been in tasks for as long.

    Entered by the loop around each batch. Costs an idle worker nothing: after a second
    without work it sleeps until it is entered again.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._busy_since = 0.0  # monotonic seconds; 0: the loop's thread is in the loop
        self._is_asleep = False
        self._called = threading.Event()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._run, name="fastq-heartbeat", daemon=True)
        self._thread.start()

    def __enter__(self) -> None:
        """The loop's thread goes off to run tasks."""
        self._busy_since = time.monotonic()
        if self._is_asleep:
            self._called.set()

    def __exit__(self, *exc: object) -> None:
        """It is back."""
        self._busy_since = 0.0

    def stop(self) -> None:
        """End the thread."""
        self._is_stopped = True
        self._called.set()
        self._thread.join()

    def _run(self) -> None:
        idle_looks = 0
        while not self._is_stopped:
            if idle_looks > LOOKS_BEFORE_SLEEP:
                self._is_asleep = True
                if not self._busy_since:
                    self._called.wait()
                self._is_asleep = False
                self._called.clear()
                idle_looks = 0
            time.sleep(PERIOD)
            since = self._busy_since
            if not since:
                idle_looks += 1
            elif time.monotonic() - since >= PERIOD:
                idle_looks = 0
                self._beat()

    def _beat(self) -> None:
        """Take a turn. A fault must not end this thread: without it a long task loses the lease."""
        try:
            self._loop.beat()
        except Exception:
            logger.exception("the heartbeat could take no turn; the next one is tried")
