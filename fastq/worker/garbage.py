"""How a worker's processes look for garbage."""

from __future__ import annotations

import gc

# Containers that are made before the next look. Of Python's default, 700, a batch of messages makes ten times
# as many, and all of them are in use: looking through them took a sixth of a no-op task.
YOUNG_OBJECTS = 10_000

_thresholds: tuple[int, int, int] | None = None  # those before `settle`


def settle() -> None:
    """Never look through what is loaded now, and less often through what comes.

    Where the program has turned such looks off, or made them rarer still, that holds.
    """
    global _thresholds
    gc.freeze()
    before = gc.get_threshold()
    if 0 < before[0] < YOUNG_OBJECTS:
        _thresholds = before
        gc.set_threshold(YOUNG_OBJECTS, *before[1:])


def unsettle() -> None:
    """Take `settle` back."""
    global _thresholds
    gc.unfreeze()
    if _thresholds is not None:
        gc.set_threshold(*_thresholds)
        _thresholds = None
