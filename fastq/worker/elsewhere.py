"""What outcomes write into other stores than the one that holds their messages (D5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastq.backends.base import Backend, StoredResult
from fastq.brokers.workflows import Waiting, settle_chords

if TYPE_CHECKING:
    from fastq._core.message import Outcome
    from fastq.brokers.base import Broker

# Seconds that a write to another store may take, before the worker's lease is looked after again.
WRITE_SECONDS = 5.0


class Elsewhere:
    """Writes what must be there before a message is settled, in D5's order.

    *follow_to* is the broker that gets the messages which follow a task, when it is another than the
    consumer's. *store* is the backend when results live in another store than messages, and None when
    the consumer commits both or nothing is kept.
    """

    def __init__(self, follow_to: Broker | None, store: Backend | None) -> None:
        self._follow_to = follow_to
        self._store = store

    def __bool__(self) -> bool:
        """Whether there is another store."""
        return self._follow_to is not None or self._store is not None

    def write(self, outcomes: list[Outcome]) -> tuple[list[Outcome], Waiting]:
        """Write what *outcomes* hold for other stores.

        Returns those that may be settled now, and those that wait for their chord to be joined. What was
        written is taken out of them, so after an `OperationalError` they may be given again.
        """
        store, has_effects = self._store, any(outcome.effects is not None for outcome in outcomes)
        if has_effects and store is not None and store.keeps_chords:
            self._begin(store, outcomes)
        if self._follow_to is not None:
            self._publish(self._follow_to, outcomes)
        if store is None:
            return outcomes, []
        self._store_results(store, outcomes)
        if not has_effects or not store.keeps_chords:
            return outcomes, []
        return settle_chords(outcomes, store, WRITE_SECONDS)

    def _begin(self, store: Backend, outcomes: list[Outcome]) -> None:
        """Tell of chords before the last messages of their headers go out."""
        effects = [outcome.effects for outcome in outcomes if outcome.effects is not None]
        chords = [chord for each in effects for chord in each.chords]
        if chords:
            store.begin_chords(chords, WRITE_SECONDS)
        for each in effects:
            each.chords = []
            while each.groups:
                store.save_group(*each.groups[-1])
                each.groups.pop()

    def _publish(self, broker: Broker, outcomes: list[Outcome]) -> None:
        follow = [message for outcome in outcomes for message in outcome.follow or ()]
        if follow:
            broker.publish(follow, WRITE_SECONDS)
            for outcome in outcomes:
                outcome.follow = None

    def _store_results(self, store: Backend, outcomes: list[Outcome]) -> None:
        results = [
            StoredResult(
                outcome.delivery.message.id,
                outcome.state or "",
                outcome.result,
                # Only where it is wanted: to read it decodes all properties of the message.
                outcome.delivery.message.properties.get("reply_to") if store.sends_replies else None,
            )
            for outcome in outcomes
            if outcome.result is not None and outcome.delivery.message is not None
        ]
        for outcome in outcomes:
            if outcome.effects is not None and outcome.effects.results:
                reply_to = None
                if store.sends_replies and outcome.delivery.message is not None:
                    # The tasks of a workflow are waited for where it was sent.
                    reply_to = outcome.delivery.message.properties.get("reply_to")
                results += [StoredResult(*further, reply_to) for further in outcome.effects.results]
        if results:
            store.store(results, WRITE_SECONDS)
            for outcome in outcomes:
                outcome.result = None
                if outcome.effects is not None:
                    outcome.effects.results = []
