"""The results of tasks whose messages go to the dead set without a worker that ends them (D2)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastq.backends.base import StoredResult
from fastq.exceptions import OperationalError

if TYPE_CHECKING:
    from fastq._core.message import Delivery
    from fastq._core.trace import Tracer
    from fastq.backends.base import Backend

logger = logging.getLogger(__name__)


class LastResults:
    """Stores in *backend* that a task has failed with its last worker, so that nobody waits in vain."""

    def __init__(self, tracer: Tracer, backend: Backend) -> None:
        self._tracer = tracer
        self._backend = backend

    def store(self, dying: Sequence[tuple[Delivery, str]]) -> bool:
        """Store a failure for each message, with the reason of its death; False if that can't be done now."""
        results = []
        for delivery, reason in dying:
            if delivery.message is None:
                continue
            outcome = self._tracer.died(delivery, reason)
            if outcome.result is not None:
                reply_to = delivery.message.properties.get("reply_to")
                results.append(StoredResult(delivery.message.id, "FAILURE", outcome.result, reply_to))
            logger.error(
                "Task %s[%s] goes to the dead set: %s", delivery.message.task, delivery.message.id, reason
            )
        try:
            if results:
                self._backend.store(results)
        except OperationalError as exc:
            logger.warning("%d messages go to the dead set later: %s", len(dying), exc)
            return False
        return True
