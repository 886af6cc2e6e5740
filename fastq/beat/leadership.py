"""Which beat leads, what time it is where they meet, and for how long nobody was there."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection
from typing import NamedTuple

from fastq.beat.store_clock import StoreClock, steady
from fastq.brokers.schedule_store import Look, ScheduleStore, digest
from fastq.exceptions import OperationalError

logger = logging.getLogger("fastq.beat")

# Seconds between two looks at the lease and the version of the entries, or a third of a short lease.
LOOK_EVERY = 1.0
# Leases that may pass between two looks of leaders until nobody was at work: one that is killed is succeeded
# within little more than one.
GRACE_LEASES = 3


class Seen(NamedTuple):
    """What a look has shown."""

    version: int  # of the entries
    others: frozenset[str]  # names of the entries that another beat serves
    is_new: bool  # who leads, or what others serve, has changed since the last look
    absence: float  # seconds for which nobody led until now; 0.0 if that is within a lease or so
    step: float  # seconds by which the store's clock was set since the last look


class Leadership:
    """One beat's view of the lease.

    A lease that was not renewed for its time, by the clock of whoever watches, may be taken, so
    that no clock which was set keeps a dead beat in its place.
    """

    def __init__(self, store: ScheduleStore, beat: str, lease: float, clock: StoreClock) -> None:
        self.beat = beat
        self.leads = False
        self.look_at = -math.inf  # steady: when to look again
        self._store = store
        self._lease = lease  # seconds
        self._clock = clock
        self._looked_at = -math.inf  # steady
        self._token = ""  # of the lease, as last seen
        self._token_since = 0.0  # steady
        self._others: frozenset[str] = frozenset()
        self._served = ""  # what stood for the names that the leader serves

    def look(self, names: Collection[str]) -> Seen:
        """Take, renew or watch the lease; *names* are the entries that this beat could serve."""
        asked_at = steady()
        is_stale = asked_at - self._token_since > self._lease
        look = self._store.look(self.beat, self._lease, self._token if is_stale else "", names)
        step = self._clock.observe(look.now, asked_at, steady())
        if look.token != self._token:
            self._token, self._token_since = look.token, asked_at
        led, self.leads = self.leads, look.holder == self.beat
        absence = self._absence(look, led, asked_at)
        others, self._others = self._others, self._served_by_others(look, names)
        if self.leads != led or self._looked_at == -math.inf:
            logger.info("beat: %s %s", self.beat, "leads" if self.leads else f"looks on: {look.holder} leads")
        self._looked_at = asked_at
        self.look_at = steady() + min(LOOK_EVERY, self._lease / 3)
        is_new = self.leads != led or others != self._others
        return Seen(look.version, self._others, is_new, absence, step)

    def resign(self) -> None:
        """Let another beat lead, if this one does."""
        if not self.leads:
            return
        self.leads = False
        try:
            self._store.resign(self.beat)
        except OperationalError as exc:
            logger.warning("beat: the lease could not be given up: %s", exc)

    def _absence(self, look: Look, led: bool, now: float) -> float:
        if not self.leads:
            return 0.0
        if led:
            absence = now - self._looked_at
        else:
            absence = look.now - look.alive_at if look.alive_at else 0.0
        return absence if absence > GRACE_LEASES * self._lease else 0.0

    def _served_by_others(self, look: Look, names: Collection[str]) -> frozenset[str]:
        if self.leads:
            self._served = ""
            return frozenset()
        if look.served == self._served:
            return self._others
        self._served = look.served
        return frozenset(names) if look.served == digest(names) else self._store.served()
