"""How long to wait before another attempt."""

from __future__ import annotations

from collections.abc import Iterator

FIRST_BACKOFF, LAST_BACKOFF = 0.02, 1.0  # seconds between attempts to connect


def pauses() -> Iterator[float]:
    """Seconds before each further attempt, without end."""
    from random import uniform  # 2 ms to import, for those who lost the server

    backoff = FIRST_BACKOFF
    while True:
        yield backoff * uniform(0.5, 1.0)  # jitter keeps a fleet from coming back in step
        backoff = min(backoff * 2, LAST_BACKOFF)
