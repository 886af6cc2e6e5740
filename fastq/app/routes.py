"""Where a task's message goes: ``task_routes``, ``task_queues`` and the options of the call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastq.app.settings import Settings
from fastq.exceptions import ImproperlyConfigured, QueueNotFound, nearest_name
from fastq.topology import Exchange, Queue, exchange_from, queue_from

if TYPE_CHECKING:
    from fastq.brokers.base import Broker

# What a router may answer: options for the call, a queue's name, or nothing.
Answer = Mapping[str, Any] | str | None

# The options that say where a message goes.
ADDRESS = ("queue", "exchange", "exchange_type", "routing_key")


class Route:
    """One destination: the queues that get a copy, and the address that is written on it.

    With a broker that routes by itself there is one queue: the one that was named, else "".
    """

    __slots__ = ("exchange", "is_lasting", "options", "queues", "routing_key")

    def __init__(
        self,
        queues: list[str],
        exchange: str,
        routing_key: str,
        options: dict[str, Any],
        *,
        is_lasting: bool = True,
    ) -> None:
        self.queues = queues
        self.exchange = exchange
        self.routing_key = routing_key
        self.options = options  # what else the router set: priority, serializer, …
        self.is_lasting = is_lasting  # whether it holds as long as the settings do


class Router:
    """Finds routes by the settings as they are now, and knows how queues are declared."""

    def __init__(self, conf: Settings, broker: Callable[[], Broker]) -> None:
        """*broker* gives the one that is published to; nobody calls it before an exchange is used."""
        self._conf = conf
        self._broker = broker
        self._version = -1
        self._added: dict[str, Queue] = {}  # those that are not in task_queues, as they were given
        self.is_static = True  # whether routes depend on names and options alone, not on arguments

    def route(
        self, name: str, options: Mapping[str, Any], args: Any = (), kwargs: Any = None, task: Any = None
    ) -> Route:
        """The route of a call of *name*; what *options* say of queue, exchange or routing_key comes first.

        A queue of a direct exchange is reached by its name, any other through its exchange,
        as Celery does it (docs/PROTOCOL.md §4.2). Raises `QueueNotFound`.
        """
        self._refresh()
        return self._addressed(name, self._answered(name, options, args, kwargs, task))

    def _addressed(self, task: str, merged: dict[str, Any]) -> Route:
        """The route to the queue, exchange and routing key of *merged*, which keeps all the rest."""
        queue, exchange, exchange_type, routing_key = (merged.pop(each, None) for each in ADDRESS)
        if exchange is not None and not _exchange_name(exchange):  # the default one: its keys are queues
            queue, exchange = queue or routing_key, None
        target = self.target(queue) if queue is not None or not exchange else None
        if target is not None and target.exchange.type == "direct" and not (exchange and routing_key):
            return Route([target.name], "", target.name, _with_mode(merged, target.exchange))
        declared = target.exchange if target and not exchange else self._declared_exchange(exchange)
        published = exchange if declared is None else declared.name
        exchange_type = exchange_type or ("" if declared is None else declared.type)
        if routing_key is None:
            routing_key = "" if target is None else target.routing_key
        options = _with_mode(merged, declared)
        broker = self._broker()
        if broker.routes:
            named = "" if target is None or target.is_private else target.name
            return Route([named], published, routing_key, options)
        self._bind(broker, published, target)
        headers = {"lang": "py", "task": task, **(options.get("headers") or {})}
        queues = broker.reached(published, exchange_type, routing_key, headers)
        if not queues:
            raise QueueNotFound(
                f"no queue is bound to exchange {published!r} for the key {routing_key!r}: "
                "start a worker that consumes one, or declare it in task_queues"
            )
        return Route(queues, published, routing_key, options, is_lasting=False)

    def _answered(
        self, name: str, options: Mapping[str, Any], args: Any, kwargs: Any, task: Any
    ) -> dict[str, Any]:
        """*options* with what the first router that has an answer says beside them."""
        for router in self._routers:
            answer = router(name, args, kwargs, dict(options), task)
            if answer:
                return _merged(answer, options)
        return dict(options)

    def destination(self, task: str, options: Mapping[str, Any]) -> Route:
        """The route of a call of *task* by its *options* alone, whatever ``task_routes`` says."""
        self._refresh()
        return self._addressed(task, dict(options))

    def consumed(self) -> list[str]:
        """The queues that a worker consumes unless told otherwise."""
        self._refresh()
        return list(self._declared)

    def queue(self, name: str) -> Queue:
        """The queue called *name*, made where the settings allow it. Raises `QueueNotFound`."""
        self._refresh()
        queue = self._known(name)
        if queue is not None:
            return queue
        if not self._conf.task_create_missing_queues:
            near = nearest_name(name, {*self._declared, *self._aliases})
            raise QueueNotFound(f"no queue is named {name!r}, and task_create_missing_queues is off{near}")
        return self._missing(name)

    def target(self, queue: Any) -> Queue:
        """The queue that a call names, or gives as an object; for None the default one."""
        if queue is None:
            return self.queue(self._conf.task_default_queue)
        return self.queue(queue) if isinstance(queue, str) else self.add(queue_from(queue))

    def declaration(self, name: str) -> Queue:
        """How the queue with this *name* or alias is declared, may tasks be sent to it or not."""
        self._refresh()
        return self._known(name) or self._missing(name)

    def called(self, name: str) -> str:
        """What people call the queue *name*: its alias, if it has one."""
        return self.declaration(name).alias or name

    def add(self, queue: Queue) -> Queue:
        """Know one more *queue*, to be declared as it says; returns it with the app's defaults."""
        self._refresh()
        if self._added.get(queue.name) is not queue:
            self._added[queue.name] = queue
            self._bound.clear()
        return self._completed(queue)

    def _refresh(self) -> None:
        if self._version != self._conf.version:
            self._load()

    def _load(self) -> None:
        conf = self._conf
        self._default_exchange = Exchange(conf.task_default_exchange, conf.task_default_exchange_type)
        declared = conf.task_queues
        if isinstance(declared, Mapping):
            declared = [
                {"name": name, **options} if isinstance(options, Mapping) else options
                for name, options in declared.items()
            ]
        default = Queue(conf.task_default_queue, queue_arguments=_type_argument(conf.task_default_queue_type))
        queues = [self._completed(queue_from(queue)) for queue in declared or [default]]
        self._declared = {queue.name: queue for queue in queues}
        self._aliases = {queue.alias: queue for queue in queues if queue.alias}
        self._exchanges = {
            each.exchange.name: each.exchange for queue in queues for each in queue.all_bindings
        }
        self._bound: set[str] = set()  # the exchanges whose bindings here the broker knows
        self._routers = [_router(route) for route in _listed(conf.task_routes)]
        self.is_static = all(isinstance(router, _Patterns) for router in self._routers)
        self._version = conf.version

    def _completed(self, queue: Queue) -> Queue:
        conf = self._conf
        return queue.completed(
            self._default_exchange, conf.task_default_routing_key, conf.task_queue_max_priority
        )

    def _known(self, name: str) -> Queue | None:
        queue = self._aliases.get(name) or self._declared.get(name)
        if queue is None and name in self._added:
            queue = self._completed(self._added[name])
        return queue

    def _missing(self, name: str) -> Queue:
        """A queue that nobody declared. It has an exchange of its own, as in Celery."""
        conf = self._conf
        exchange = Exchange(name, conf.task_create_missing_queue_exchange_type or "direct")
        arguments = _type_argument(conf.task_create_missing_queue_type)
        return self._completed(Queue(name, exchange, name, queue_arguments=arguments))

    def _declared_exchange(self, exchange: Any) -> Exchange | None:
        """The exchange as it was given, or as task_queues declare one of that name."""
        return self._exchanges.get(exchange) if isinstance(exchange, str) else exchange_from(exchange)

    def _bind(self, broker: Broker, exchange: str, target: Queue | None) -> None:
        """Tell *broker*, once, which queues this app's own declarations, and *target*, bind to *exchange*."""
        if exchange in self._bound:
            return
        known = [*self._declared.values(), *map(self._completed, self._added.values())]
        if target is not None and target.name not in self._declared:
            known.append(target)
        broker.bind(
            queue
            for queue in known
            if not queue.is_private and any(each.exchange.name == exchange for each in queue.all_bindings)
        )
        self._bound.add(exchange)


class _Patterns:
    """The dict form of task_routes: exact names first, then globs and regular expressions in order."""

    def __init__(self, routes: Iterable[tuple[Any, Answer]]) -> None:
        self._exact: dict[str, Answer] = {}
        self._patterns: list[tuple[re.Pattern[str], Answer]] = []
        for key, answer in routes:
            if isinstance(key, re.Pattern):
                self._patterns.append((key, answer))
            elif "*" in key or "?" in key or "[" in key:
                self._patterns.append((re.compile(translate(key)), answer))
            else:
                self._exact[key] = answer

    def __call__(self, name: str, args: Any, kwargs: Any, options: dict[str, Any], task: Any) -> Answer:
        if name in self._exact:
            return self._exact[name]
        return next((answer for pattern, answer in self._patterns if pattern.match(name)), None)


def _listed(routes: Any) -> list[Any]:
    if routes is None:
        return []
    return list(routes) if isinstance(routes, list | tuple) else [routes]


def _router(route: Any) -> Callable[..., Answer]:
    """A callable for one item of task_routes."""
    if isinstance(route, Mapping):
        return _Patterns(route.items())
    if isinstance(route, list | tuple):
        return _Patterns([tuple(pair) for pair in route] if not isinstance(route[0], str) else [tuple(route)])
    if isinstance(route, str):
        module, _, attribute = route.replace(":", ".").rpartition(".")
        route = getattr(import_module(module), attribute)
    if isinstance(route, type):
        route = route()
    if hasattr(route, "route_for_task"):
        ask = route.route_for_task
        return lambda name, args, kwargs, options, task: ask(name, args, kwargs)
    if callable(route):
        return lambda name, args, kwargs, options, task: route(name, args, kwargs, options, task=task)
    raise ImproperlyConfigured(f"task_routes holds {route!r}: use a dict, a function or a router object")


def _merged(answer: Mapping[str, Any] | str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What a router answered, under what the call says. An address comes from one of them alone."""
    routed = {"queue": answer} if isinstance(answer, str) else dict(answer)
    own = {key: value for key, value in options.items() if value is not None}
    if "queue" in own or "exchange" in own:
        routed = {key: value for key, value in routed.items() if key not in ADDRESS}
    return routed | own


def _exchange_name(exchange: Any) -> str:
    name: str = exchange if isinstance(exchange, str) else exchange.name
    return name


def _with_mode(options: dict[str, Any], exchange: Exchange | None) -> dict[str, Any]:
    """*options* with the delivery mode of *exchange* where they name none."""
    if exchange is not None and exchange.delivery_mode and options.get("delivery_mode") is None:
        options["delivery_mode"] = exchange.delivery_mode
    return options


def _type_argument(queue_type: str) -> dict[str, str]:
    """The argument that makes a queue of RabbitMQ one of *queue_type*; classic is what it is without."""
    return {} if queue_type == "classic" else {"x-queue-type": queue_type}
