"""What an event is: a map with a ``type``, and the exchange to which they are announced (PROTOCOL.md §6)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from fastq.topology import Exchange

EVENT_EXCHANGE_NAME = "celeryev"
event_exchange = Exchange(EVENT_EXCHANGE_NAME, "topic")


def Event(type: str, _fields: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """An event of *type* with *fields*; its ``timestamp``, in unix seconds, is now unless they have one."""
    event = {**(_fields or {}), **fields}
    event.setdefault("timestamp", time.time())
    event["type"] = type
    return event


def group_from(type: str) -> str:
    """The group of a type of events: ``task`` of ``task-sent``, ``custom`` of ``custom-my-event``."""
    return type.partition("-")[0]


def routing_key(type: str) -> str:
    """What an event of *type* is announced with."""
    return type.replace("-", ".")


def get_exchange(conn: Any = None, name: str = EVENT_EXCHANGE_NAME) -> Exchange:
    """The exchange of events that is called *name*; *conn* is accepted as in Celery, and has no say."""
    return event_exchange if name == EVENT_EXCHANGE_NAME else Exchange(name, "topic")
