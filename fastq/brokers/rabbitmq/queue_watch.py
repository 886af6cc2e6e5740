"""What a worker asks RabbitMQ about its queues now and then: are messages kept from it, is another idle?"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping

from fastq.brokers.rabbitmq.connection import Connection
from fastq.brokers.rabbitmq.dead import counts
from fastq.exceptions import OperationalError

# A queue that was deleted and declared again is doubted for so many seconds; when nothing has come for this
# many although there was room, its length is asked for.
DOUBTED_SECONDS, SILENT_SECONDS = 60.0, 1.0
# Seconds between questions whether another worker is idle, while all slots of this one are busy.
PEERS_SECONDS = 0.2


class QueueWatch:
    """The questions of one consumer, each of which may take *patience* seconds. Other times are monotonic."""

    def __init__(self, patience: float) -> None:
        self.look_at = math.inf  # when to look next
        self._patience = patience
        self._doubted_until = 0.0
        self._ask_at, self._are_peers_idle = 0.0, False

    def doubt(self) -> None:
        """Learn that a queue was deleted, and is to be declared again."""
        now = time.monotonic()
        self.look_at, self._doubted_until = now + SILENT_SECONDS, now + DOUBTED_SECONDS

    def hear(self) -> None:
        """Learn that something has come."""
        if self.look_at < math.inf:
            self.look_at = time.monotonic() + SILENT_SECONDS

    def look(self, connection: Connection, queues: Iterable[str], now: float) -> None:
        """Raise `OperationalError` if RabbitMQ keeps from us what lies in one of *queues*.

        It can lose track of a consumer whose queue was deleted and soon declared again by the same
        name: it holds messages for sent that it has not sent, and so takes the window for full
        (seen with 3.10, once in a hundred times under load).
        """
        self.look_at = now + SILENT_SECONDS if now < self._doubted_until else math.inf
        for queue in queues:
            ready, _ = counts(connection, queue, self._patience)
            if ready:
                raise OperationalError(
                    f"RabbitMQ sends nothing from queue {queue!r}, and {ready} messages wait: connecting anew"
                )

    def has_idle_peers(self, connection: Connection, ours: Mapping[str, int]) -> bool:
        """Whether others take from one of the queues too, and nothing waits there: so they have room.

        *ours* has the number of our own consumers, by queue.
        """
        now = time.monotonic()
        if now >= self._ask_at:
            self._ask_at = now + PEERS_SECONDS
            found = ((counts(connection, queue, self._patience), own) for queue, own in ours.items())
            self._are_peers_idle = any(not ready and consumers > own for (ready, consumers), own in found)
        return self._are_peers_idle
