"""Pictures of a fleet's state at regular intervals, for those who store them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fastq.app.current import app_or_default
from fastq.signals import Signal
from fastq.worker.rates import parse_rate

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.events.state import State

logger = logging.getLogger("fastq.evcam")


class Repeated:
    """Calls *fun* every *seconds* in a thread of its own until cancelled; calling it calls *fun* now."""

    def __init__(self, seconds: float, fun: Callable[[], Any]) -> None:
        self._seconds = seconds
        self._fun = fun
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fastq-evcam", daemon=True)
        self._thread.start()

    def __call__(self) -> None:
        self._fun()

    def cancel(self) -> None:
        """Call no more; waits for a call that is under way."""
        self._cancelled.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._cancelled.wait(self._seconds):
            try:
                self._fun()
            except Exception:
                logger.exception("a snapshot failed; the next one is tried")


class Timer:
    """Calls functions at intervals."""

    def call_repeatedly(self, secs: float, fun: Callable[[], Any]) -> Repeated:
        """Call *fun* every *secs* seconds, until what is returned is cancelled."""
        return Repeated(secs, fun)


class Polaroid:
    """Takes a picture of *state* every *freq* seconds, and cleans up every *cleanup_freq* seconds.

    Subclasses say what a picture is, in `on_shutter`; no event changes the state meanwhile. *maxrate*,
    as ``"10/m"``, bounds how many are taken. *timer* has the method ``call_repeatedly`` of `Timer`. To use
    within ``with``, or between `install` and `cancel`.
    """

    timer: Any = None
    shutter_signal = Signal("shutter_signal", providing_args=("state",))
    cleanup_signal = Signal("cleanup_signal")
    clear_after = False  # whether a picture ends with `State.clear`

    def __init__(
        self,
        state: State,
        freq: float = 1.0,
        maxrate: str | float | None = None,
        cleanup_freq: float = 3600.0,
        timer: Any = None,
        app: FastQ | None = None,
    ) -> None:
        self.app = app_or_default(app)
        self.state = state
        self.freq = freq
        self.cleanup_freq = cleanup_freq
        self.timer = timer or self.timer or Timer()
        self.logger = logger
        self._pause = 0.0 if maxrate is None else 1.0 / parse_rate(maxrate)  # seconds between pictures
        self._next_at = 0.0  # monotonic
        self._calls: list[Any] = []

    def install(self) -> None:
        """Begin."""
        self._calls = [
            self.timer.call_repeatedly(self.freq, self.capture),
            self.timer.call_repeatedly(self.cleanup_freq, self.cleanup),
        ]

    def on_shutter(self, state: State) -> None:
        """Called for every picture; does nothing unless a subclass says what."""

    def on_cleanup(self) -> None:
        """Called for every clean-up; does nothing unless a subclass says what."""

    def cleanup(self) -> None:
        """Clean up now."""
        self.cleanup_signal.send(sender=self.state)
        self.on_cleanup()

    def shutter(self) -> None:
        """Take a picture now, unless *maxrate* forbids it."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + self._pause
        self.shutter_signal.send(sender=self.state)
        self.on_shutter(self.state)

    def capture(self) -> None:
        """Take a picture while the state stands still."""
        self.state.freeze_while(self.shutter, clear_after=self.clear_after)

    def cancel(self) -> None:
        """Take a last picture, and end."""
        calls, self._calls = self._calls, []
        if calls:
            calls[0]()
        for call in calls:
            call.cancel()

    def __enter__(self) -> Polaroid:
        self.install()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cancel()
