"""What the tasks of the workflows raise."""

from __future__ import annotations

from collections.abc import Callable


class PaymentRefused(Exception):
    """A user's own exception, with arguments."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason


RAISED: dict[str, Callable[[], Exception]] = {
    "builtin": lambda: ValueError("boom", 42),
    "bare": RuntimeError,
    "quoted": lambda: KeyError('it\'s "gone"'),
    "own": lambda: PaymentRefused(402, "no funds"),
}
EXHAUSTED = "exhausted"  # tried until the retries are used up, each time for the reason below
UNREGISTERED = "unregistered"  # no worker knows a task of this name
UNKNOWN_TASK = "flow.nobody"
# How that is told by the repr of our exception, and of Celery's.
OUR_REFUSAL = f"NotRegistered({UNKNOWN_TASK!r})"
CELERYS_REFUSAL = f"Task of kind {UNKNOWN_TASK!r} never registered, please make sure it's imported."


def still_away() -> Exception:
    """Why a task is tried again until its retries are used up."""
    return ConnectionError("still away")


def raised_text(kind: str) -> str:
    """The repr of what a task of this kind fails with."""
    if kind == EXHAUSTED:
        return repr(still_away())
    return repr(RAISED[kind]())
