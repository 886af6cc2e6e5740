"""What was revoked, as one worker knows it: heard by remote control, kept in the broker, and maybe in a file.

The gate looks at it for each message that is claimed. What was claimed before, and has not started, is
looked through by an order to the loop: when that is done the revoke is confirmed, no task of it starts
here any more. Whoever starts later, or was away, reads what the broker has kept before it claims.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fastq._core.codec import json_dumps, json_loads
from fastq.app.control import STAMP
from fastq.exceptions import DecodeError
from fastq.worker.orders import Order

if TYPE_CHECKING:
    from fastq._core.consume import Gate
    from fastq.brokers.base import Broker
    from fastq.clock import LamportClock
    from fastq.worker.loop import Loop

logger = logging.getLogger("fastq.worker")

# Seconds between two looks for what has run out.
SWEEP_EVERY = 60.0


def stamp_record(name: str, value: str) -> str:
    """The record of all tasks with this stamp."""
    return f"{STAMP}{name}{STAMP}{value}"


class Revocations:
    """Adds to what *gate* refuses. Safe over threads."""

    def __init__(
        self, gate: Gate, loop: Loop, kept_seconds: float, state_db: str | None, clock: LamportClock
    ) -> None:
        """A record is kept for *kept_seconds*; *state_db* is a file that has them over a restart."""
        self._gate = gate
        self._loop = loop
        self._kept_seconds = kept_seconds
        self._file = None if state_db is None else Path(state_db)
        self._clock = clock
        self._sweep_at = time.time() + SWEEP_EVERY
        self._order: Order | None = None  # the last one, which may not have begun

    def add(self, records: Iterable[str], until: float | None = None, keep_in: Broker | None = None) -> Order:
        """Revoke ids, or stamps, until the unix time *until*.

        The order is done when no task of them starts here any more. With *keep_in* they are kept there
        first; raises `OperationalError` when that fails.
        """
        now = time.time()
        until = now + self._kept_seconds if until is None else until
        found = dict.fromkeys(records, until)
        if keep_in is not None and found:
            keep_in.revoke(found)
        self._take(found)
        if now >= self._sweep_at:
            self._sweep(now)
        return self._drop()

    def recall(self, broker: Broker) -> None:
        """Take in what *broker* has kept; in the loop's thread, before it claims."""
        self._take(broker.revoked())

    def recall_elsewhere(self, broker: Broker) -> None:
        """As `recall`, from any other thread."""
        if self._take(broker.revoked()):
            self._drop()

    def load(self) -> None:
        """Read the file."""
        if self._file is None or not self._file.exists():
            return
        try:
            kept = json_loads(self._file.read_bytes())
            now = time.time()
            self._take({record: until for record, until in kept["revoked"].items() if until > now})
            self._clock.adjust(int(kept["clock"]))
        except (OSError, DecodeError, KeyError, TypeError, AttributeError, ValueError) as exc:
            logger.error("%s can't be read, so what it says was revoked is not known: %r", self._file, exc)

    def save(self) -> None:
        """Write the file anew."""
        if self._file is None:
            return
        temporary = self._file.with_name(self._file.name + ".new")
        temporary.write_bytes(json_dumps({"revoked": self.records(), "clock": self._clock.value}))
        os.replace(temporary, self._file)

    def records(self) -> dict[str, float]:
        """All that is revoked, ids and stamps, with the unix time until which it is."""
        found = dict(self._gate.revoked)
        for name, values in list(self._gate.stamps.items()):
            found.update((stamp_record(name, value), until) for value, until in list(values.items()))
        return found

    def _take(self, records: Mapping[str, float]) -> bool:
        """Have the gate refuse *records*; whether there was anything new."""
        is_new = False
        for record, until in records.items():
            table, key = self._gate.revoked, record
            if record.startswith(STAMP):
                _, name, key = record.split(STAMP, 2)
                table = self._gate.stamps.setdefault(name, {})
            is_new = is_new or key not in table
            table[key] = max(until, table.get(key, 0.0))
        return is_new

    def _drop(self) -> Order:
        """Have what waits here looked through, once for all that was revoked before that begins."""
        order = self._order
        if order is None or order.has_begun:
            order = self._order = self._loop.order(self._loop.drop_revoked)
        return order

    def _sweep(self, now: float) -> None:
        """Forget what has run out."""
        self._sweep_at = now + SWEEP_EVERY
        for table in (self._gate.revoked, *list(self._gate.stamps.values())):
            for key, until in list(table.items()):
                if until <= now:
                    table.pop(key, None)
