"""What `FastQ.events` is."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastq._core.task_events import EventWriter
from fastq.app.sending import origin
from fastq.events.dispatcher import BATCH_MOST, Announcer, EventDispatcher, beginning, utc_offset
from fastq.events.receiver import EventReceiver
from fastq.events.state import State as StateOfFleet
from fastq.exceptions import OperationalError

if TYPE_CHECKING:
    from fastq._core.message import Message
    from fastq.app.base import FastQ

logger = logging.getLogger("fastq.events")


class Events:
    """Events of one app's fleet."""

    def __init__(self, app: FastQ) -> None:
        self.app = app

    def Receiver(self, *args: Any, **kwargs: Any) -> EventReceiver:
        """An `EventReceiver` of this app; arguments are its own."""
        return EventReceiver(*args, **{"app": self.app, **kwargs})

    def Dispatcher(self, *args: Any, **kwargs: Any) -> EventDispatcher:
        """An `EventDispatcher` of this app; arguments are its own."""
        return EventDispatcher(*args, **{"app": self.app, **kwargs})

    def State(self, *args: Any, **kwargs: Any) -> StateOfFleet:
        """A `fastq.events.state.State`; arguments are its own."""
        return StateOfFleet(*args, **kwargs)

    def sent(self, messages: Sequence[Message]) -> None:
        """Tell that *messages* were sent (``task-sent``), if the broker can be reached."""
        conf, hostname = self.app.conf, origin()
        own = {"hostname": hostname, "utcoffset": utc_offset(), "pid": os.getpid()}
        writer = EventWriter(beginning(own), lambda name: True)
        writer.clock = self.app.clock.value
        events: list[bytes] = []
        for message in messages:
            writer.sent(message, time.time(), events)
        self.app.clock.adjust(writer.clock)
        announcer = Announcer(self.app, self.app.broker, hostname, conf.event_serializer)
        told = [events[first : first + BATCH_MOST] for first in range(0, len(events), BATCH_MOST)]
        try:
            announcer.announce([announcer.message_of_json("task.sent", batch) for batch in told])
        except OperationalError as exc:
            logger.warning("%d events of sent tasks are lost: %s", len(events), exc)

    @contextmanager
    def default_dispatcher(
        self, hostname: str | None = None, enabled: bool = True, buffer_while_offline: bool = False
    ) -> Iterator[EventDispatcher]:
        """A dispatcher for the block, through the app's own connections."""
        with EventDispatcher(
            hostname=hostname, enabled=enabled, buffer_while_offline=buffer_while_offline, app=self.app
        ) as dispatcher:
            yield dispatcher
