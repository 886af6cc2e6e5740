"""From exchanges to queues, for brokers that only know queues (AMQP 0-9-1 §3.1.3).

Bindings lie in the store, where workers put those of the queues that they consume and clients those
that their application declares. A client keeps what it read for a second, so that a publish
stays one write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from fastq._core.routing import Bindings
from fastq.exceptions import ImproperlyConfigured
from fastq.topology import EXCHANGE_TYPES, Queue

# Seconds for which a client trusts what it read: as long as a new queue may miss what is sent.
TRUSTED_SECONDS = 1.0
# Reading ten thousand bindings takes a tenth of a second: at most this part of the time is spent so.
READING_SHARE = 0.02


class Bound(NamedTuple):
    """One binding to an exchange."""

    exchange_type: str
    queue: str
    routing_key: str
    arguments: Mapping[str, Any] = {}


class Stored(NamedTuple):
    """What a store knows of an exchange."""

    exchange_type: str  # "" if nobody has said
    bound: Sequence[Bound]


class Known(NamedTuple):
    """What was read of an exchange."""

    stored: Stored
    bindings: Bindings
    until: float  # monotonic seconds up to which it is trusted

    def serves(self, exchange_type: str) -> bool:
        """Whether it may be used for an exchange of this type: a broadcast reaches those who are there."""
        return self.bindings.exchange_type != "fanout" and exchange_type in ("", self.bindings.exchange_type)


class Exchanges:
    """The exchanges of one store, as one process knows them. Safe over threads."""

    def __init__(self, exchange: Callable[[str, str, Sequence[Bound]], Stored]) -> None:
        """*exchange* stores bindings of an exchange and returns all that are stored (`Broker._exchange`)."""
        self._exchange = exchange
        self._own: dict[str, list[Bound]] = {}  # bindings that this process has declared, by exchange
        self._known: dict[str, Known] = {}

    def bind(self, queues: Iterable[Queue]) -> None:
        """Have the bindings of *queues* stored, together with the next reading of their exchanges."""
        for exchange, bound in bindings_of(queues).items():
            own = self._own.setdefault(exchange, [])
            own += [each for each in bound if each not in own]
            self._known.pop(exchange, None)

    def reached(
        self, exchange: str, exchange_type: str, routing_key: str, headers: dict[str, Any]
    ) -> list[str]:
        """The queues that a message published to *exchange* reaches."""
        now = time.monotonic()
        known = self._known.get(exchange)
        if known is not None and now < known.until and known.serves(exchange_type):
            queues = known.bindings.route(routing_key, headers)
            if queues:  # else look again: one that was bound just now must not make the call fail
                return queues
        return self._read(exchange, exchange_type, now).bindings.route(routing_key, headers)

    def _read(self, exchange: str, exchange_type: str, now: float) -> Known:
        own = self._own.get(exchange, ())
        stored = self._exchange(exchange, exchange_type or (own[-1].exchange_type if own else ""), own)
        wanted = exchange_type or stored.exchange_type or "direct"
        known = self._known.get(exchange)
        if known is not None and known.stored == stored and known.bindings.exchange_type == wanted:
            bindings = known.bindings
        else:
            bindings = table(exchange, wanted, stored.bound)
        done = time.monotonic()
        until = done + max(TRUSTED_SECONDS, (done - now) / READING_SHARE)
        known = self._known[exchange] = Known(stored, bindings, until)
        return known


def bindings_of(queues: Iterable[Queue]) -> dict[str, list[Bound]]:
    """The bindings of *queues* by exchange."""
    found: dict[str, list[Bound]] = {}
    for queue in queues:
        for each in queue.all_bindings:
            bound = Bound(each.exchange.type, queue.name, each.routing_key, each.arguments)
            found.setdefault(each.exchange.name, []).append(bound)
    return found


def table(exchange: str, exchange_type: str, bound: Iterable[Bound]) -> Bindings:
    """The routing table of an exchange."""
    if exchange_type not in EXCHANGE_TYPES:
        raise ImproperlyConfigured(
            f"exchange {exchange!r} has the type {exchange_type!r}, which only RabbitMQ may have: "
            f"use one of {', '.join(EXCHANGE_TYPES)}"
        )
    bindings = Bindings(exchange_type)
    for each in bound:
        bindings.bind(each.queue, each.routing_key, dict(each.arguments))
    return bindings
