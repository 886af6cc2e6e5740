"""Delayed delivery by two ladders of exchanges and queues (docs/PROTOCOL.md §4.5).

A message that is to wait is published at the top of a ladder, with the number of units to wait
in binary in front of its routing key. On each rung a 1 leads through a queue whose messages expire
after 2^rung units, and a 0 straight on to the rung below. The ladder's end, a topic exchange, leads
to the queue that the rest of the key names.

Celery's ladder counts seconds, and serves its workers and ours alike. What is left below a
second waits on a ladder of our own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

# What AMQP 0-9-1 allows a routing key (§4.2.5.3, a short string), in bytes.
LONGEST_KEY = 255


class Rung(NamedTuple):
    """One exchange, the queue in which a 1 waits, and where both lead."""

    name: str  # of the exchange and of the queue
    waits_on: str  # pattern by which the exchange is bound to the queue
    passes_on: str  # pattern by which it is bound to *below*
    below: str  # exchange
    arguments: dict[str, Any]  # of the queue


class Ladder(NamedTuple):
    """A ladder's names and measures."""

    name: str  # its rungs are NAME_0, NAME_1, …
    rungs: int
    unit_ms: int  # that a message spends on rung 0
    end: str  # exchange

    @property
    def longest(self) -> float:
        """The longest time in seconds that a message can spend on it."""
        return float((2**self.rungs - 1) * self.unit_ms) / 1000

    @property
    def prefix_pattern(self) -> str:
        """What stands for the digits in a binding of `end`.

        A ``#`` would stand for them too, but also for words of a queue's name: ``#.b`` admits
        what is meant for ``a.b``.
        """
        return "*." * self.rungs

    def address(self, units: int, routing_key: str) -> tuple[str, str]:
        """The exchange and routing key that deliver to *routing_key* after *units* (1 or more).

        Raises `ValueError` when the key is too long to carry the digits.
        """
        key = ".".join(format(units, f"0{self.rungs}b")) + "." + routing_key
        if len(key.encode()) > LONGEST_KEY:
            most = LONGEST_KEY - 2 * self.rungs
            raise ValueError(
                f"messages of the queue {routing_key!r} can't be delayed: RabbitMQ takes names of at most "
                f"{most} bytes there"
            )
        return f"{self.name}_{self.rungs - 1}", key

    def each_rung(self, queue_type: str) -> Iterator[Rung]:
        """Every rung, from the lowest: each leads to one that stands already."""
        for number in range(self.rungs):
            below = self.end if number == 0 else f"{self.name}_{number - 1}"
            above = "*." * (self.rungs - 1 - number)
            arguments = {
                "x-queue-type": queue_type,
                "x-overflow": "reject-publish",
                "x-message-ttl": 2**number * self.unit_ms,
                "x-dead-letter-exchange": below,
            }
            if queue_type == "quorum":
                arguments["x-dead-letter-strategy"] = "at-least-once"
            yield Rung(f"{self.name}_{number}", f"{above}1.#", f"{above}0.#", below, arguments)


SECONDS = Ladder("celery_delayed", 28, 1000, "celery_delayed_delivery")
FRACTIONS = Ladder("fastq_delayed", 5, 32, "fastq_delayed_delivery")
LADDERS = (SECONDS, FRACTIONS)


def delayed_address(seconds: float, routing_key: str) -> tuple[str, str]:
    """Where to publish what is to come to the queue *routing_key* in *seconds*.

    It may come up to a second early, then to wait for the rest, and never more than 32 ms
    late by the ladder's doing.
    """
    if seconds >= 1:
        return SECONDS.address(int(min(seconds, SECONDS.longest)), routing_key)
    units = math.ceil(seconds * 1000 / FRACTIONS.unit_ms)
    return FRACTIONS.address(min(max(units, 1), 2**FRACTIONS.rungs - 1), routing_key)


def plain_address(exchange: str, routing_key: str) -> tuple[str, str]:
    """The address of a message on a ladder without its delay: the default exchange and its queue's name."""
    for ladder in LADDERS:
        if exchange == ladder.end or exchange.startswith(ladder.name + "_"):
            return "", routing_key.split(".", ladder.rungs)[-1]
    return exchange, routing_key
