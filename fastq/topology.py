"""Queues, exchanges and bindings as an application declares them (AMQP 0-9-1 §1.2, §3.1).

The names, arguments and defaults are those with which Celery's users write kombu's objects, and
`queue_from` takes those objects too. What is declared here says what should be; a broker makes it so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fastq._core.message import new_id

EXCHANGE_TYPES = ("direct", "topic", "fanout", "headers")

TRANSIENT, PERSISTENT = 1, 2
DELIVERY_MODES: dict[Any, int] = {"transient": TRANSIENT, "persistent": PERSISTENT}

# The exchange and the queue by which one worker alone is reached (worker_direct).
WORKER_DIRECT_EXCHANGE = "C.dq2"
WORKER_DIRECT_QUEUE = "{node}.dq2"


class Exchange:
    """A named exchange; the empty name is the default exchange, whose routing keys are queue names."""

    __slots__ = (
        "arguments",
        "auto_delete",
        "delivery_mode",
        "durable",
        "name",
        "no_declare",
        "passive",
        "type",
    )

    def __init__(
        self,
        name: str = "",
        type: str = "direct",
        *,
        durable: bool = True,
        auto_delete: bool = False,
        delivery_mode: int | str | None = None,
        arguments: Mapping[str, Any] | None = None,
        no_declare: bool = False,
        passive: bool = False,
    ) -> None:
        """*delivery_mode* is that of messages which say none; *passive* asks only that it exists.

        Raises `ValueError` for a type that neither AMQP nor, by its beginning ``x-``, a plugin has.
        """
        type = type or "direct"
        if type not in EXCHANGE_TYPES and not type.startswith("x-"):
            raise ValueError(
                f"exchange {name!r} has the type {type!r}; use one of {', '.join(EXCHANGE_TYPES)}"
            )
        self.name = name
        self.type = type
        self.durable = durable
        self.auto_delete = auto_delete
        self.delivery_mode: Any = DELIVERY_MODES.get(delivery_mode, delivery_mode)  # a number, or None
        self.arguments = dict(arguments or {})
        self.no_declare = no_declare
        self.passive = passive

    def __repr__(self) -> str:
        return f"Exchange({self.name!r}, {self.type!r})"


class binding:
    """One way from an exchange to a queue; *arguments* are what a headers exchange goes by."""

    __slots__ = ("arguments", "exchange", "routing_key")

    def __init__(
        self,
        exchange: Exchange | str | None = None,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.exchange = exchange_from(exchange)
        self.routing_key = routing_key
        self.arguments = dict(arguments or {})

    def __repr__(self) -> str:
        return f"binding({self.exchange!r}, {self.routing_key!r})"


class Queue:
    """A queue and the bindings that bring it messages.

    One without an exchange gets the application's default exchange, one without a routing key
    the default routing key, as soon as it belongs to an application (`completed`).
    """

    __slots__ = (
        "alias",
        "auto_delete",
        "binding_arguments",
        "bindings",
        "consumer_arguments",
        "durable",
        "exchange",
        "exclusive",
        "expires",
        "max_length",
        "max_length_bytes",
        "max_priority",
        "message_ttl",
        "name",
        "no_declare",
        "queue_arguments",
        "routing_key",
    )

    def __init__(
        self,
        name: str,
        exchange: Exchange | str | Iterable[binding] | None = None,
        routing_key: str | None = None,
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        expires: float | None = None,  # seconds without a consumer after which it is deleted
        message_ttl: float | None = None,  # seconds that a message may wait
        max_length: int | None = None,  # messages
        max_length_bytes: int | None = None,
        max_priority: int | None = None,
        queue_arguments: Mapping[str, Any] | None = None,
        binding_arguments: Mapping[str, Any] | None = None,
        consumer_arguments: Mapping[str, Any] | None = None,
        bindings: Iterable[binding] | None = None,
        no_declare: bool = False,
        alias: str | None = None,
    ) -> None:
        """*exchange* may also be a list of bindings; *bindings* are those beside exchange and key.

        An exclusive queue is deleted with its connection. *alias* is another name for it in
        routes and on the command line.
        """
        if not name:
            raise ValueError("a queue needs a name")
        self.name = name
        self.bindings = list(bindings or ())
        if isinstance(exchange, Exchange | str | None):
            self.exchange = exchange_from(exchange)
        else:
            self.exchange = Exchange()
            self.bindings += exchange
        self.routing_key = routing_key or ""
        self.durable = durable
        self.exclusive = exclusive
        self.auto_delete = auto_delete or exclusive
        self.expires = expires
        self.message_ttl = message_ttl
        self.max_length = max_length
        self.max_length_bytes = max_length_bytes
        self.max_priority = max_priority
        self.queue_arguments = dict(queue_arguments or {})
        self.binding_arguments = dict(binding_arguments or {})
        self.consumer_arguments = dict(consumer_arguments or {})
        self.no_declare = no_declare
        self.alias = alias

    @property
    def arguments(self) -> dict[str, Any]:
        """The argument table of its declaration: `queue_arguments` and those that have a name here.

        RabbitMQ refuses a queue that is declared with other arguments, of another type too.
        """
        named = {
            "x-expires": _milliseconds(self.expires),
            "x-message-ttl": _milliseconds(self.message_ttl),
            "x-max-length": _whole(self.max_length),
            "x-max-length-bytes": _whole(self.max_length_bytes),
            "x-max-priority": _whole(self.max_priority),
        }
        return self.queue_arguments | {name: value for name, value in named.items() if value is not None}

    @property
    def all_bindings(self) -> list[binding]:
        """Every binding to an exchange with a name; to the default exchange each queue is bound anyway."""
        own = binding(self.exchange, self.routing_key, self.binding_arguments)
        return [each for each in (own, *self.bindings) if each.exchange.name]

    @property
    def is_private(self) -> bool:
        """Whether it lives and dies with its one consumer, as a `Broadcast` does: nobody else declares it."""
        return self.exclusive or (self.auto_delete and self.exchange.type == "fanout")

    def completed(self, exchange: Exchange, routing_key: str, max_priority: int | None = None) -> Queue:
        """A copy with an application's defaults for what was not given."""
        copy: Queue = object.__new__(type(self))
        for name in Queue.__slots__:
            setattr(copy, name, getattr(self, name))
        if not self.exchange.name:
            copy.exchange = exchange
        copy.routing_key = self.routing_key or routing_key
        if max_priority is not None:
            copy.queue_arguments = {"x-max-priority": max_priority, **self.queue_arguments}
        return copy

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.exchange!r}, {self.routing_key!r})"


class Broadcast(Queue):
    """A queue of which every worker has its own, bound to the fanout exchange *name*.

    So each worker gets a copy of what is sent to *name*, which is the queue's alias too. The
    queue goes when its worker goes. *queue* names it; without a name, or with *unique*, a
    random one is made, for each process that makes this object.
    """

    __slots__ = ()

    def __init__(
        self,
        name: str,
        queue: str | None = None,
        unique: bool = False,
        auto_delete: bool = True,
        exchange: Exchange | str | None = None,
        alias: str | None = None,
        **options: Any,
    ) -> None:
        if queue is None or unique:
            queue = f"{queue or 'bcast'}.{new_id()}"
        super().__init__(
            queue,
            Exchange(name, "fanout") if exchange is None else exchange,
            auto_delete=auto_delete,
            alias=alias or name,
            **options,
        )


def worker_direct(node: str | Queue) -> Queue:
    """The queue that the worker called *node* alone consumes, with the setting ``worker_direct``."""
    if isinstance(node, Queue):
        return node
    return Queue(WORKER_DIRECT_QUEUE.format(node=node), WORKER_DIRECT_EXCHANGE, node)


def exchange_from(declared: Any) -> Exchange:
    """The `Exchange` for *declared*: one of ours, a name, None, or kombu's object."""
    if isinstance(declared, Exchange):
        return declared
    if declared is None or isinstance(declared, str):
        return Exchange(declared or "")
    return Exchange(declared.name, declared.type, **_read(declared, _EXCHANGE_OPTIONS))


def queue_from(declared: Any) -> Queue:
    """The `Queue` for *declared*: one of ours, a name, a map of options, or kombu's object."""
    if isinstance(declared, Queue):
        return declared
    if isinstance(declared, str):
        return Queue(declared)
    if isinstance(declared, Mapping):
        return _queue_from_map(declared)
    return Queue(
        declared.name,
        exchange_from(getattr(declared, "exchange", None)),
        declared.routing_key,
        bindings=map(_binding_from, getattr(declared, "bindings", None) or ()),
        **_read(declared, _QUEUE_OPTIONS),
    )


_EXCHANGE_OPTIONS = ("durable", "auto_delete", "delivery_mode", "arguments", "no_declare", "passive")
_QUEUE_OPTIONS = (
    "durable",
    "exclusive",
    "auto_delete",
    "expires",
    "message_ttl",
    "max_length",
    "max_length_bytes",
    "max_priority",
    "queue_arguments",
    "binding_arguments",
    "consumer_arguments",
    "no_declare",
    "alias",
)


def _queue_from_map(declared: Mapping[str, Any]) -> Queue:
    """Celery's dict form: options of the queue, and of its exchange with ``exchange_`` in front.

    ``durable`` and ``auto_delete`` hold for both unless ``queue_…`` or ``exchange_…`` says other.
    """
    options = dict(declared)
    name = options.pop("name")
    routing_key = options.pop("binding_key", None) or options.pop("routing_key", None) or name
    options.pop("routing_key", None)
    exchange = options.pop("exchange", None)
    exchange_options: dict[str, Any] = {}
    for option in ("durable", "auto_delete"):
        both = options.pop(option, None)
        for prefix, those in (("queue_", options), ("exchange_", exchange_options)):
            own = options.pop(prefix + option, None)
            value = both if own is None else own
            if value is not None:
                those[option] = value
    exchange_options["arguments"] = options.pop("exchange_arguments", None)
    exchange_options["delivery_mode"] = options.pop("delivery_mode", None)
    exchange_type = options.pop("exchange_type", None) or "direct"
    if exchange is None or isinstance(exchange, str):
        exchange = Exchange(exchange or "", exchange_type, **exchange_options)
    bindings = [_binding_from(each) for each in options.pop("bindings", None) or ()]
    return Queue(name, exchange_from(exchange), routing_key, bindings=bindings, **options)


def _binding_from(declared: Any) -> binding:
    if isinstance(declared, binding):
        return declared
    if isinstance(declared, Mapping):
        return binding(
            exchange_from(declared.get("exchange")),
            declared.get("routing_key") or "",
            declared.get("arguments"),
        )
    return binding(exchange_from(declared.exchange), declared.routing_key or "", declared.arguments)


def _read(declared: Any, names: Iterable[str]) -> dict[str, Any]:
    """Those attributes of kombu's object that are set."""
    values = {name: getattr(declared, name, None) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(float(seconds) * 1000.0)


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)
