"""When something that failed is tried again: the ``retry_policy`` of Celery."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastq.exceptions import ImproperlyConfigured, nearest_name

NO_DEADLINE = 1e9  # seconds, where a finite number is needed
# Accepted and without effect: whatever another attempt may change is tried again.
IGNORED = "retry_errors"


class RetryPolicy(NamedTuple):
    """How often, and after which pauses in seconds."""

    max_retries: int | None = None  # None: without end
    interval_start: float = 1
    interval_step: float = 1
    interval_max: float = 1
    timeout: float | None = None  # for all attempts

    def pauses(self) -> Iterator[float]:
        """Seconds before each further attempt."""
        made = 0
        while self.max_retries is None or made < self.max_retries:
            yield min(self.interval_start + made * self.interval_step, self.interval_max)
            made += 1

    def deadline(self, connect_timeout: float) -> float:
        """Seconds after which the last attempt has ended, if one takes *connect_timeout* at most."""
        if self.timeout:
            return self.timeout
        if self.max_retries is None:
            return NO_DEADLINE
        return sum(self.pauses()) + (self.max_retries + 1) * connect_timeout


ONE_ATTEMPT = RetryPolicy(max_retries=0)


def policy_from(given: Mapping[str, Any], setting: str) -> RetryPolicy:
    """The policy of a map that *setting* holds. Raises `ImproperlyConfigured` for an unknown key."""
    for name in given:
        if name not in RetryPolicy._fields and name != IGNORED:
            raise ImproperlyConfigured(
                f"the retry policy of {setting} has {name!r}{nearest_name(name, RetryPolicy._fields)}; "
                f"it knows {', '.join(RetryPolicy._fields)}"
            )
    return RetryPolicy(**{name: value for name, value in given.items() if name != IGNORED})
