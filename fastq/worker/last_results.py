"""The ends of tasks whose messages go to the dead set without a worker that ends them (D2)."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastq._core.message import Outcome
from fastq.backends.base import Part, StoredResult
from fastq.exceptions import OperationalError, WorkerLostError

if TYPE_CHECKING:
    from fastq._core.message import Delivery
    from fastq._core.trace import Tracer
    from fastq.app.base import FastQ
    from fastq.backends.base import Backend
    from fastq.canvas.after import After
    from fastq.worker.followups import Followups

logger = logging.getLogger(__name__)


class LastResults:
    """Tells in *backend*, and to what was to follow, that a task has failed with its last worker.

    So nobody waits in vain. What only the pool may do goes to *followups*.
    """

    def __init__(self, app: FastQ, tracer: Tracer, backend: Backend, followups: Followups) -> None:
        self._app = app
        self._tracer = tracer
        self._backend = backend
        self._followups = followups

    def store(self, dying: Sequence[tuple[Delivery, str]]) -> bool:
        """Tell of each message, with the reason of its death; False if it must not go to the dead set yet."""
        outcomes = []
        for delivery, reason in dying:
            if delivery.message is None:
                continue
            outcomes.append(self._tracer.died(delivery, reason))
            name, task_id = delivery.message.task, delivery.message.id
            logger.error("Task %s[%s] goes to the dead set: %s", name, task_id, reason)
        try:
            return self._tell(outcomes)
        except OperationalError as exc:
            logger.warning("%d messages go to the dead set later: %s", len(dying), exc)
            return False

    def _tell(self, outcomes: list[Outcome]) -> bool:
        followed = [(outcome, self._what_follows(outcome)) for outcome in outcomes if outcome.failure]
        results = [
            StoredResult(
                outcome.delivery.message.id,
                "FAILURE",
                outcome.result,
                outcome.delivery.message.properties.get("reply_to"),
            )
            for outcome in outcomes
            if outcome.result is not None and outcome.delivery.message is not None
        ]
        results += [StoredResult(*further) for _, after in followed for further in after.effects.results]
        if results:
            self._backend.store(results)
        now = time.monotonic()
        # Whoever counts a part again finds its chord joined: so until then the message stays where it is.
        complete = False
        for outcome, after in followed:
            parts = [Part(*part) for part in after.effects.parts]
            for chord in self._backend.count_parts(parts) if parts else ():
                complete = True
                if not chord.is_taken:
                    self._followups.join_for_none(outcome.delivery, chord, now)
        if complete:
            return False
        for outcome, after in followed:
            if after.effects.chords:
                self._backend.begin_chords(after.effects.chords)
            if after.messages:
                self._app.broker.publish(after.messages)
            if after.uncalled:
                self._followups.call_errbacks(outcome, now)
        return True

    def _what_follows(self, outcome: Outcome) -> After:
        assert outcome.delivery.message is not None
        return self._app.follower.buried(
            outcome.delivery.message, WorkerLostError(*(outcome.failure or {}).get("exc_message", ()))
        )
