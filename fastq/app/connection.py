"""Connections as Celery's programs hold them: what its documentation shows of kombu's, no more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastq.exceptions import OperationalError

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.brokers.base import Broker


class Connection:
    """Connections of the caller's own to the broker of *app*, until `close`.

    What is opened through it, such as an `EventReceiver`, connects when it needs to.
    """

    connection_errors = (OperationalError,)
    channel_errors: tuple[type[Exception], ...] = ()

    def __init__(self, app: FastQ) -> None:
        self.app = app
        self._broker: Broker | None = None

    @property
    def broker(self) -> Broker:
        """The broker behind it."""
        if self._broker is None:
            self._broker = self.app.own_broker()
        return self._broker

    def as_uri(self) -> str:
        """Where it leads, the password masked."""
        return self.broker.description()

    def clone(self) -> Connection:
        """One more."""
        return Connection(self.app)

    def close(self) -> None:
        """Close all that it has opened."""
        if self._broker is not None:
            self._broker.close()
            self._broker = None

    release = close

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
