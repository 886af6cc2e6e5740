"""What `FastQ.events` is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastq.events.dispatcher import EventDispatcher
from fastq.events.receiver import EventReceiver
from fastq.events.state import State as StateOfFleet

if TYPE_CHECKING:
    from fastq.app.base import FastQ


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

    @contextmanager
    def default_dispatcher(
        self, hostname: str | None = None, enabled: bool = True, buffer_while_offline: bool = False
    ) -> Iterator[EventDispatcher]:
        """A dispatcher for the block, through the app's own connections."""
        with EventDispatcher(
            hostname=hostname, enabled=enabled, buffer_while_offline=buffer_while_offline, app=self.app
        ) as dispatcher:
            yield dispatcher
