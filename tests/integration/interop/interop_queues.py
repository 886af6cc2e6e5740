"""Queues bound to exchanges, declared alike for both kinds of app."""

from __future__ import annotations

from typing import Any


def declared(kind: str, rows: list[list[str]]) -> list[Any]:
    """The queues of *rows*: name, exchange, its type and the key; for a broadcast queue, its name alone."""
    if kind == "celery":
        from kombu import Exchange, Queue
        from kombu.common import Broadcast
    else:
        from fastq import Broadcast, Exchange, Queue  # type: ignore[assignment]
    return [
        Broadcast(row[0]) if len(row) == 1 else Queue(row[0], Exchange(row[1], row[2]), row[3])
        for row in rows
    ]
