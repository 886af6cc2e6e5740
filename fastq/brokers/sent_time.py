"""Since when a message waits, if it tells: what `task_send_timestamp` and RabbitMQ's interceptor write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastq._core.consume import parse_instant
from fastq.exceptions import DecodeError

if TYPE_CHECKING:
    from fastq._core.message import Message


def ready_since(message: Message) -> float | None:
    """The unix time at which *message* was sent, or due if that is later; None if it does not tell."""
    sent_ms = message.header("timestamp_in_ms")
    if not isinstance(sent_ms, int | float):
        return None
    return max(sent_ms / 1000, due_at(message) or 0.0)


def due_at(message: Message) -> float | None:
    """The unix time of the eta of *message*; None if it has none that can be read."""
    eta = message.header("eta")
    try:
        return parse_instant(eta) if eta else None
    except DecodeError:
        return None
