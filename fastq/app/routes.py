"""Where a task's message goes: ``task_routes``, ``task_queues`` and the options of the call."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate
from importlib import import_module
from typing import Any

from fastq._core.routing import Bindings
from fastq.app.settings import Settings
from fastq.exceptions import ImproperlyConfigured, QueueNotFound, nearest_name
from fastq.topology import Exchange, Queue, queue_from

# What a router may answer: options for the call, a queue's name, or nothing.
Answer = Mapping[str, Any] | str | None


class Route:
    """One destination: the queues that get a copy, and the address that is written on it."""

    __slots__ = ("exchange", "options", "queues", "routing_key")

    def __init__(self, queues: list[str], exchange: str, routing_key: str, options: dict[str, Any]) -> None:
        self.queues = queues
        self.exchange = exchange
        self.routing_key = routing_key
        self.options = options  # what else the router set: priority, serializer, …


class Router:
    """Finds routes by the settings as they are now."""

    def __init__(self, conf: Settings) -> None:
        self._conf = conf
        self._version = -1
        self.queues: dict[str, Queue] = {}
        self.is_static = True  # whether routes depend on names and options alone, not on arguments

    def route(
        self, name: str, options: Mapping[str, Any], args: Any = (), kwargs: Any = None, task: Any = None
    ) -> Route:
        """The route of a call of *name*; what *options* say of queue, exchange or routing_key comes first."""
        if self._version != self._conf.version:
            self._load()
        return self._find(name, options, args, kwargs, task)

    def destination(self, options: Mapping[str, Any]) -> Route:
        """The route that *options* alone name, whatever ``task_routes`` says."""
        if self._version != self._conf.version:
            self._load()
        return self._addressed(dict(options))

    def consumed(self) -> list[str]:
        """The queues that a worker consumes unless told otherwise."""
        if self._version != self._conf.version:
            self._load()
        return list(self.queues)

    def queue(self, name: str) -> Queue:
        """The queue called *name*, made where the settings allow it. Raises `QueueNotFound`."""
        queue = self.queues.get(name)
        if queue is not None:
            return queue
        if not self._conf.task_create_missing_queues:
            near = nearest_name(name, self.queues)
            raise QueueNotFound(f"no queue is named {name!r}, and task_create_missing_queues is off{near}")
        return Queue(name)

    def _load(self) -> None:
        conf = self._conf
        declared = conf.task_queues
        if isinstance(declared, Mapping):
            declared = [{"name": name, **options} for name, options in declared.items()]
        default = Queue(conf.task_default_queue)
        self.queues = {queue.name: queue for queue in map(queue_from, declared or [default])}
        self._bindings = _bindings(self.queues.values())
        self._routers = [_router(route) for route in _listed(conf.task_routes)]
        self.is_static = all(isinstance(router, _Patterns) for router in self._routers)
        self._version = conf.version

    def _find(self, name: str, options: Mapping[str, Any], args: Any, kwargs: Any, task: Any) -> Route:
        merged = dict(options)
        for router in self._routers:
            answer = router(name, args, kwargs, dict(options), task)
            if answer:
                routed = {"queue": answer} if isinstance(answer, str) else dict(answer)
                merged = routed | {key: value for key, value in options.items() if value is not None}
                break
        return self._addressed(merged)

    def _addressed(self, merged: dict[str, Any]) -> Route:
        """The route to the queue, exchange and routing key of *merged*, which keeps all the rest."""
        queue = merged.pop("queue", None)
        exchange = merged.pop("exchange", None)
        routing_key = merged.pop("routing_key", None)
        if queue is None and (exchange or routing_key):
            return self._published(_name(exchange), routing_key or "", merged)
        target = (
            queue_from(queue)
            if queue is not None and not isinstance(queue, str)
            else self.queue(queue or self._conf.task_default_queue)
        )
        return (
            Route([target.name], target.exchange.name, routing_key or target.routing_key, merged)
            if target.exchange.name
            else Route([target.name], "", target.name, merged)
        )

    def _published(self, exchange: str, routing_key: str, options: dict[str, Any]) -> Route:
        """The route of a message that is published to an exchange, not to a queue."""
        if not exchange:
            return Route([self.queue(routing_key).name], "", routing_key, options)
        bindings = self._bindings.get(exchange)
        queues = bindings.route(routing_key) if bindings is not None else []
        if not queues:
            raise QueueNotFound(
                f"no queue of task_queues is bound to exchange {exchange!r} for the key {routing_key!r}"
            )
        return Route(queues, exchange, routing_key, options)


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


def _bindings(queues: Iterable[Queue]) -> dict[str, Bindings]:
    tables: dict[str, Bindings] = {}
    for queue in queues:
        exchange = queue.exchange
        if exchange.name:
            tables.setdefault(exchange.name, Bindings(exchange.type)).bind(queue.name, queue.routing_key)
    return tables


def _name(exchange: Exchange | str | None) -> str:
    return exchange if isinstance(exchange, str) else getattr(exchange, "name", None) or ""
