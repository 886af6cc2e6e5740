"""Queues bound to exchanges, declared alike for both kinds of app."""

from __future__ import annotations

from typing import Any


def declared(kind: str, rows: list[list[str]]) -> list[Any]:
    """The queues of *rows*: for a broadcast queue its name alone.

    For the others name, exchange, its type, the key and, if not classic, the queue's type.
    """
    if kind == "celery":
        from kombu import Exchange, Queue
        from kombu.common import Broadcast
    else:
        from fastq import Broadcast, Exchange, Queue  # type: ignore[assignment]
    return [
        Broadcast(row[0])
        if len(row) == 1
        else Queue(
            row[0],
            Exchange(row[1], row[2]),
            row[3],
            queue_arguments={"x-queue-type": row[4]} if len(row) > 4 else None,
        )
        for row in rows
    ]
