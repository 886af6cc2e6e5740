"""Watching a fleet for as long as one likes, whatever becomes of the broker meanwhile."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastq.exceptions import OperationalError

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.events.receiver import EventReceiver

# Seconds between attempts to reach a broker that is away: doubled from the first to the last.
FIRST_BACKOFF, LAST_BACKOFF = 0.5, 10.0


class Watch:
    """Calls *on_event* with every event of *app*'s fleet while `run` runs.

    When the broker is away it is tried again until it answers; *on_lost* is called with the error and
    the seconds until the next attempt.
    """

    def __init__(
        self,
        app: FastQ,
        on_event: Callable[[dict[str, Any]], Any],
        on_lost: Callable[[OperationalError, float], Any],
    ) -> None:
        self._app = app
        self._on_event = on_event
        self._on_lost = on_lost
        self._stopped = threading.Event()
        self._receiver: EventReceiver | None = None

    def run(self) -> None:
        """Watch until `stop`."""
        failures = 0
        while not self._stopped.is_set():
            with self._app.connection() as connection:
                self._receiver = self._app.events.Receiver(connection, handlers={"*": self._on_event})
                try:
                    for _ in self._receiver.itercapture():
                        failures = 0
                        if self._stopped.is_set():
                            return
                except OperationalError as exc:
                    pause = min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(failures, 10)) * random.uniform(
                        0.5, 1.0
                    )
                    failures += 1
                    self._on_lost(exc, pause)
                    self._stopped.wait(pause)

    def stop(self) -> None:
        """End `run`; from any thread."""
        self._stopped.set()
        if self._receiver is not None:
            self._receiver.stop()
