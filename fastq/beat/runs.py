"""Runs of entries: their messages, and the step in which they are taken and sent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from fastq import signals
from fastq._core.message import Message
from fastq.beat.entry import ScheduleEntry, evaluated
from fastq.beat.item import Planned
from fastq.beat.plan import moment
from fastq.beat.scheduler import beat_options
from fastq.beat.state import run_id
from fastq.beat.stores import Place
from fastq.brokers.schedule_store import Run


class Runs:
    """Makes and takes runs of one application's entries."""

    def __init__(self, app: Any, place: Place) -> None:
        self._app = app
        self._place = place

    def compose(
        self, entry: ScheduleEntry, number: int, due: float, now: float, task_id: str | None = None
    ) -> list[Message]:
        """The messages of the run that is due at *due*; raises what is wrong with the entry.

        Their task has the same id, whichever beat sends them.
        """
        args, kwargs = evaluated(entry.args, entry.kwargs)
        options = beat_options(entry.options)
        options.setdefault("task_id", task_id or run_id(self._app.main or "", str(entry.name), number, due))
        if entry.overlap != "allow":
            options["ignore_result"] = False  # how else to know that it has ended
        # From when it is sent, which may be a moment after it is composed.
        start = moment(max(due, now))
        for relative, absolute in (("expires", "expires"), ("countdown", "eta")):
            seconds = options.get(relative)
            if isinstance(seconds, int | float | timedelta):
                del options[relative]
                delta = seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds)
                options[absolute] = start + delta
        messages: list[Message] = self._app.compose_call(entry.task, args, kwargs, options)
        return messages

    def take(self, planned: Sequence[Planned], version: int) -> list[str] | None:
        """Have the store take runs, as `ScheduleStore.accept` does, and see to it that they are sent."""
        apart = self._place.publisher is not None
        runs = []
        for each in planned:
            if apart and each.messages:
                pending = each.state._replace(is_pending=True)
                runs.append(Run(each.name, pending.number, pending.to_bytes()))
            else:
                runs.append(
                    Run(each.name, each.state.number, each.data or each.state.to_bytes(), each.messages)
                )
        said = self._place.store.accept(runs, version)
        if said is not None:
            taken = [each for each, word in zip(planned, said, strict=True) if not word and each.messages]
            if apart and taken:
                self.publish(taken)
            self._announce(taken)
        return said

    def publish(self, taken: Sequence[Planned]) -> None:
        """Send the messages of runs that were taken in a store apart from the broker, and note it there."""
        publisher = self._place.publisher
        assert publisher is not None
        publisher.publish([message for each in taken for message in each.messages])
        self._place.store.amend([Run(each.name, each.state.number, each.state.to_bytes()) for each in taken])

    def _announce(self, taken: Sequence[Planned]) -> None:
        if not signals.after_task_publish.receivers:
            return
        for each in taken:
            message = each.messages[0]
            signals.after_task_publish.send(
                sender=message.task,
                headers=message.headers,
                body=message.body,
                exchange=message.exchange,
                routing_key=message.routing_key,
            )
