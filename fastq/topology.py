"""Queues, exchanges and bindings as an application declares them (AMQP 0-9-1 §1.2, §3.1)."""

from __future__ import annotations

from typing import Any

EXCHANGE_TYPES = ("direct", "topic", "fanout", "headers")


class Exchange:
    """A named exchange; the empty name is the default exchange, whose routing keys are queue names."""

    __slots__ = ("arguments", "durable", "name", "type")

    def __init__(
        self,
        name: str = "",
        type: str = "direct",
        *,
        durable: bool = True,
        arguments: dict[str, Any] | None = None,
    ) -> None:
        if type not in EXCHANGE_TYPES:
            raise ValueError(
                f"exchange {name!r} has the type {type!r}; use one of {', '.join(EXCHANGE_TYPES)}"
            )
        self.name = name
        self.type = type
        self.durable = durable
        self.arguments = arguments or {}

    def __repr__(self) -> str:
        return f"Exchange({self.name!r}, {self.type!r})"


class Queue:
    """A queue and the binding that brings it messages.

    Without an exchange it is reached by its name. *routing_key* defaults to the name.
    """

    __slots__ = ("durable", "exchange", "max_priority", "name", "queue_arguments", "routing_key")

    def __init__(
        self,
        name: str,
        exchange: Exchange | str | None = None,
        routing_key: str | None = None,
        *,
        durable: bool = True,
        max_priority: int | None = None,
        queue_arguments: dict[str, Any] | None = None,
    ) -> None:
        if not name:
            raise ValueError("a queue needs a name")
        self.name = name
        self.exchange = Exchange(exchange) if isinstance(exchange, str) else exchange or Exchange()
        self.routing_key = name if routing_key is None else routing_key
        self.durable = durable
        self.max_priority = max_priority
        self.queue_arguments = queue_arguments or {}

    def __repr__(self) -> str:
        return f"Queue({self.name!r}, {self.exchange!r}, {self.routing_key!r})"


def queue_from(declared: Any) -> Queue:
    """The `Queue` for *declared*: one of ours, a name, a map of options, or kombu's object."""
    if isinstance(declared, Queue):
        return declared
    if isinstance(declared, str):
        return Queue(declared)
    if isinstance(declared, dict):
        options = dict(declared)
        exchange = options.pop("exchange", None)
        exchange_type = options.pop("exchange_type", "direct")
        if isinstance(exchange, str):
            exchange = Exchange(exchange, exchange_type)
        return Queue(
            options.pop("name"),
            exchange,
            options.pop("routing_key", options.pop("binding_key", None)),
            **options,
        )
    exchange = getattr(declared, "exchange", None)
    return Queue(
        declared.name,
        Exchange(exchange.name, exchange.type) if exchange is not None else None,
        declared.routing_key or None,
        durable=getattr(declared, "durable", True),
        max_priority=getattr(declared, "max_priority", None),
        queue_arguments=getattr(declared, "queue_arguments", None),
    )
