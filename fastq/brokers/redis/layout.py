"""Which list, schedule and hashes belong to a queue under an application's transport options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastq._core.turn import QueueKeys
from fastq.brokers.priority import STEPS
from fastq.brokers.redis import keys
from fastq.exceptions import ImproperlyConfigured

DEFAULT_SEP = "\x06\x16"


class Layout:
    """Celery's ``global_keyprefix``, ``priority_steps`` and the like, and the keys that follow from them."""

    def __init__(self, transport_options: Mapping[str, Any], db: int = 0) -> None:
        """*db* is the number of the database, which the names of channels hold."""
        self.prefix = str(transport_options.get("global_keyprefix") or "")
        self.sep = str(transport_options.get("sep") or DEFAULT_SEP)
        self.steps = _steps(transport_options.get("priority_steps"))
        self._fanout_prefix = _fanout_prefix(transport_options.get("fanout_prefix", True), db)
        self._fanout_keys = bool(transport_options.get("fanout_patterns", True))
        self._destinations: dict[tuple[str, int | None], tuple[bytes, bytes, bytes]] = {}
        self._fresh: set[str] = set()

    def step(self, priority: int | None) -> int:
        """The largest step that is not above *priority*, which is clamped to 0 to 9 (§3.2)."""
        level = min(max(priority or 0, 0), 9)
        return max(step for step in self.steps if step <= level)

    def destination(self, queue: str, priority: int | None) -> tuple[bytes, bytes, bytes]:
        """The ready list, the schedule and the step of a message, as `TurnCodec` wants them."""
        key = (queue, priority)
        found = self._destinations.get(key)
        if found is None:
            step = self.step(priority)
            ready = keys.ready(self.prefix, queue, step, self.sep)
            found = (ready.encode(), keys.delayed(self.prefix, queue).encode(), b"%d" % step)
            self._destinations[key] = found
            self._fresh.add(queue)
        return found

    def fresh_queues(self) -> set[str]:
        """The queues that got a destination since the last call: their names belong into the registry."""
        if not self._fresh:
            return self._fresh
        fresh, self._fresh = self._fresh, set()
        return fresh

    def ready(self, queue: str) -> list[bytes]:
        """The ready lists of *queue*, the most urgent first."""
        return [keys.ready(self.prefix, queue, step, self.sep).encode() for step in self.steps]

    def channel(self, exchange: str, routing_key: str) -> str:
        """The channel of what is published to a fanout exchange (§3.8)."""
        name = f"{self.prefix}{self._fanout_prefix}{exchange}"
        return f"{name}/{routing_key}" if routing_key and self._fanout_keys else name

    def queue_keys(self, queue: str, epoch: str) -> QueueKeys:
        """The keys of *queue* for the worker *epoch*."""
        prefix = self.prefix
        return QueueKeys(
            queue,
            self.ready(queue),
            keys.claims(prefix, queue, epoch).encode(),
            keys.started(prefix, queue, epoch).encode(),
            keys.delayed(prefix, queue).encode(),
            keys.dead(prefix, queue).encode(),
            keys.dead_entries(prefix, queue).encode(),
        )


def _fanout_prefix(configured: Any, db: int) -> str:
    if not configured:
        return ""
    return (configured if isinstance(configured, str) else "/{db}.").format(db=db)


def _steps(configured: Any) -> tuple[int, ...]:
    if configured is None:
        return STEPS
    steps = tuple(sorted({int(step) for step in configured}))
    if not steps or steps[0] != 0:
        raise ImproperlyConfigured(
            f"priority_steps is {configured!r}: it must hold 0, the plain queue's step"
        )
    return steps
