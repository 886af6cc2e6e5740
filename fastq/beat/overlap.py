"""Whether the last run of an entry has ended: for entries that do not overlap."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fastq.brokers.base import Broker
from fastq.exceptions import OperationalError
from fastq.states import READY_STATES

logger = logging.getLogger("fastq.beat")

# Seconds after a run was sent, and between two looks, after which its message is looked for: it may have been
# purged, and then no result will ever come.
MISSED_AFTER = 60.0
# Seconds for which a result store that is away is not asked again: other entries must not wait for it.
FAULT_PAUSE = 10.0


class RunWatch:
    """Asks the result store which tasks have ended, and of one that it does not know, the broker."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._looked_at: dict[str, float] = {}  # by task id, unix seconds
        self._pauses_until = 0.0  # unix seconds

    def ended(self, sent_at: Mapping[str, float], now: float) -> set[str]:
        """Which tasks of *sent_at*, task ids with the time when they were sent, have ended or are gone.

        A task of which nothing can be learnt is taken for one that runs.
        """
        backend = self._app.backend
        if backend is None or not sent_at or now < self._pauses_until:
            return set()
        ids = list(sent_at)
        try:
            documents = backend.fetch(ids)
        except OperationalError as exc:
            logger.warning("beat: whether runs have ended can't be told: %s", exc)
            self._pauses_until = now + FAULT_PAUSE
            return set()
        found = set()
        for task_id, document in zip(ids, documents, strict=True):
            if document is None:
                if self._is_gone(task_id, sent_at[task_id], now):
                    found.add(task_id)
            elif self._app.load_result(document)["status"] in READY_STATES:
                found.add(task_id)
        for task_id in self._looked_at.keys() - sent_at.keys() | found:
            self._looked_at.pop(task_id, None)
        return found

    def _is_gone(self, task_id: str, sent_at: float, now: float) -> bool:
        broker: Broker = self._app.read_broker
        if not broker.keeps_schedules or now - self._looked_at.get(task_id, sent_at) < MISSED_AFTER:
            return False  # one that keeps no schedules can't be searched either
        self._looked_at[task_id] = now
        try:
            place = broker.locate(task_id, self._app.queue_names())
        except OperationalError as exc:
            logger.warning("beat: whether task %s still runs can't be told: %s", task_id, exc)
            return False
        return place is None or place.state == "dead"
