"""Rate limits of tasks: when the next run may start. Pure: the time is an argument."""

from __future__ import annotations

from fastq.exceptions import ImproperlyConfigured

PERIODS = {"s": 1.0, "m": 60.0, "h": 3600.0}
# Reservations that nobody came back for are looked through whenever this many have piled up.
SWEEP_AT = 10_000
# Seconds after its time that a reservation is kept: the message may have gone to another worker.
GRACE = 60.0


def parse_rate(rate: str | float | None) -> float:
    """Runs a second for Celery's forms ``"10/s"``, ``"100/m"``, ``"1/h"`` or a number; 0 is no limit.

    Raises `ImproperlyConfigured`.
    """
    if rate is None:
        return 0.0
    try:
        if isinstance(rate, str):
            count, _, period = rate.partition("/")
            return float(count) / PERIODS[(period or "s").strip()]
        return float(rate)
    except (ValueError, KeyError, TypeError):
        raise ImproperlyConfigured(
            f'the rate limit is {rate!r}; write "10/s", "100/m", "1/h" or a number'
        ) from None


class RateLimit:
    """Spaces the starts of one task by 1 / *rate* seconds.

    A message that must wait gets a time of its own, at which it starts whatever else has
    come meanwhile; until then the broker keeps it.
    """

    def __init__(self, rate: float) -> None:
        self._interval = 1.0 / rate
        self._next = 0.0
        self._reserved: dict[str, float] = {}

    def wait(self, message_id: str, now: float) -> float:
        """Seconds until the message may start; 0 lets it start and uses up its turn."""
        start = self._reserved.get(message_id)
        if start is None:
            start = max(self._next, now)
            self._next = start + self._interval
            if start > now:
                self._reserve(message_id, start, now)
        elif start <= now:
            del self._reserved[message_id]
        return max(0.0, start - now)

    def _reserve(self, message_id: str, start: float, now: float) -> None:
        if len(self._reserved) >= SWEEP_AT and len(self._reserved) % SWEEP_AT == 0:
            self._reserved = {key: due for key, due in self._reserved.items() if due > now - GRACE}
        self._reserved[message_id] = start


def rate_limits(tasks: dict[str, object]) -> dict[str, RateLimit]:
    """The limits of all *tasks* that have one, by name."""
    rates = {name: parse_rate(getattr(task, "rate_limit", None)) for name, task in tasks.items()}
    return {name: RateLimit(rate) for name, rate in rates.items() if rate > 0}
