"""Turn a call of a task into messages: defaults, route, headers, body (docs/PROTOCOL.md §1)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypedDict

from fastq import serialization, signals
from fastq._core.message import Message
from fastq._core.preview import preview
from fastq._core.request import current_request
from fastq._core.template import Template
from fastq.app.stores import sends_replies
from fastq.brokers.retry_policy import ONE_ATTEMPT, RetryPolicy, policy_from
from fastq.canvas.plain import FOLLOWERS, embedded
from fastq.exceptions import nearest_name
from fastq.result.joining import may_wait
from fastq.topology import DELIVERY_MODES, PERSISTENT

if TYPE_CHECKING:
    from fastq._core.request import Context
    from fastq.app.base import FastQ
    from fastq.app.routes import Route
    from fastq.app.settings import Settings
    from fastq.app.task import Task


class SendOptions(TypedDict, total=False):
    """What a call may say about its message, by Celery's names."""

    task_id: str | None
    countdown: float | timedelta | None  # seconds from now to the earliest start
    eta: datetime | None  # the earliest start; naive means UTC
    expires: (
        float | timedelta | datetime | None
    )  # seconds from now, or the time after which it must not start
    queue: Any  # a name or a Queue
    exchange: Any  # a name or an Exchange
    exchange_type: str | None  # of an exchange given by a name that nobody declared here
    routing_key: str | None
    priority: int | None  # 0 to 9; on Redis and SQLite 0 comes first, on RabbitMQ 9
    serializer: str | None
    compression: str | None
    headers: Mapping[str, Any] | None  # the user's own, beside the protocol's
    shadow: str | None  # the name shown in place of the task's
    argsrepr: str | None
    kwargsrepr: str | None
    time_limit: float | None  # seconds, hard
    soft_time_limit: float | None  # seconds
    ignore_result: bool | None
    add_to_parent: bool  # whether a task that sends this lists it among its children
    retry: bool | None  # whether to try again when the broker is away
    retry_policy: Mapping[str, Any] | None
    reply_to: str | None
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    group_index: int | None
    link: Any  # signatures to run with the result
    link_error: Any  # signatures to run when it fails
    chain: Sequence[Mapping[str, Any]] | None  # the steps after this one, reversed
    chord: Mapping[str, Any] | None  # the body of the chord to whose header it belongs
    replaced_task_nesting: int
    route_name: str | None  # the name to route by in place of the task's
    stamped_headers: Sequence[str] | None  # names of stamps, which are options themselves
    retries: int
    delivery_mode: int | str | None  # 1 or "transient", 2 or "persistent"
    mandatory: bool  # on RabbitMQ: whether it is an error that no queue takes the message
    confirm_timeout: float | None
    producer: Any  # accepted as in Celery, and not needed
    connection: Any
    publisher: Any


KNOWN_OPTIONS = frozenset(SendOptions.__annotations__)
# What is above RabbitMQ refuses; then the header alone says when a message expires.
LONGEST_EXPIRATION_MS = 2**32 - 1
NO_OPTIONS: dict[str, Any] = {}
# What a call's retry_policy completes: Celery's default.
RETRY_POLICY = {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2}


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `TypeError` for an option that no call takes, naming the nearest that one does."""
    stamps = options.get("stamped_headers") or ()
    for name in options:
        if name not in KNOWN_OPTIONS and name not in stamps:
            raise TypeError(f"apply_async takes no option {name!r}{nearest_name(name, KNOWN_OPTIONS)}")
    priority = options.get("priority")
    if priority is not None and not isinstance(priority, int):
        raise TypeError(f"the priority is {priority!r}, not a whole number")


# This process as messages name their sender; and how often it has forked, so that a child makes
# templates of its own.
_origin = ""
_forks = 0


def origin() -> str:
    """This process as messages name their sender: ``gen<pid>@<host>``."""
    global _origin
    if not _origin:
        _origin = f"gen{os.getpid()}@{os.uname().nodename}"
    return _origin


def _after_fork() -> None:
    global _origin, _forks
    _origin = ""
    _forks += 1


os.register_at_fork(after_in_child=_after_fork)


def publish_policy(conf: Settings, options: Mapping[str, Any]) -> RetryPolicy | None:
    """How a call with *options* is tried again when the broker is away; None: with growing pauses."""
    retry = options.get("retry")
    if not (conf.task_publish_retry if retry is None else retry):
        return ONE_ATTEMPT
    own, general = options.get("retry_policy"), conf.task_publish_retry_policy
    if not own and general is None:
        return None
    return policy_from(_merged_policy(own, general), "task_publish_retry_policy")


def _merged_policy(own: Mapping[str, Any] | None, general: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**(RETRY_POLICY if general is None else general), **(own or {})}


class Composer:
    """Turns calls of one app's tasks into messages; keeps the templates of calls without options."""

    def __init__(self, app: FastQ) -> None:
        self._app = app
        self._templates: dict[str, Template] = {}
        self._sends_replies = False
        self._version = (-1, -1)  # of the settings, and of this process, for which the templates hold

    def compose(
        self,
        name: str,
        task: Task[..., Any] | None,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        request: Context | None,
        embed: dict[str, Any] | None = None,
        task_id: str | None = None,
        group_id: str | None = None,
        group_index: int | None = None,
    ) -> list[Message]:
        """The messages of one call: one, or where the broker does not route by itself one for each queue.

        It is sent from the run *request*, or from outside of any. For the parts of a workflow, *embed* is
        what follows (§1.4), and the other three are what the options of their names are.
        """
        if task is not None and task.dump_models is not None:
            args, kwargs = task.dump_models(args, kwargs)
        conf = self._app.conf
        if conf.task_inherit_parent_priority and request is not None and request.message is not None:
            options = {"priority": request.message.priority, **options}
        announce = None
        if signals.before_task_publish.receivers:
            announce = self._announcement(name, options, args, kwargs, task)
        template = self.template(name, task, options, args, kwargs)
        if options:
            task_id = task_id or options.get("task_id")
            if embed is None and not FOLLOWERS.isdisjoint(options):
                embed = embedded(options)
        messages = template.messages(args, kwargs, request, task_id, announce, embed, group_id, group_index)
        return self._awaiting_reply(messages) if self._sends_replies else messages

    def _awaiting_reply(self, messages: list[Message]) -> list[Message]:
        """*messages*, which tell where their results are waited for, unless that is nowhere."""
        backend = self._app.backend
        if backend is not None and may_wait():
            for message in messages:
                if not message.headers.get("ignore_result"):
                    message.properties.setdefault("reply_to", backend.reply_queue())
        return messages

    def compose_in_place(
        self, task: Task[..., Any], args: Any, kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Message:
        """The message of a call that runs here: its arguments are shown, but need not be written."""
        shown = {**_shown(self._app, args, kwargs), **options}
        template = self.template(task.name, task, shown, args, kwargs)
        return template.messages((), {}, current_request(), options.get("task_id"))[0]

    def travelled(
        self, task: Task[..., Any], args: Any, kwargs: Any, options: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """The arguments as a worker would get them, so that eager mode finds what can't be sent."""
        if task.dump_models is not None:
            args, kwargs = task.dump_models(args, kwargs)
        serializer = options.get("serializer") or task.serializer or self._app.conf.task_serializer
        content_type, encoding, data = serialization.dumps((args, kwargs), serializer)
        args, kwargs = serialization.loads(data, content_type, encoding, frozenset({content_type}))
        return args, kwargs

    def compose_many(
        self, task: Task[..., Any], calls: Iterable[tuple[Any, Any]], options: Mapping[str, Any]
    ) -> Iterator[list[Message]]:
        """As `compose`, for many calls of one *task*, whose options mean the same for all of them.

        An eta or an expiry is reckoned from the first call.
        """
        check, template = task.check_arguments, None
        is_plain = task.dump_models is None and not signals.before_task_publish.receivers
        embed = embedded(options)
        request = current_request()
        for args, kwargs in calls:
            if check is not None:
                check(*args, **kwargs)
            if template is not None:
                messages = template.messages(args, kwargs, request, None, None, embed)
                yield self._awaiting_reply(messages) if self._sends_replies else messages
                continue
            yield self.compose(task.name, task, args, kwargs, options, request)
            if is_plain and self._app.router.is_static and not self._app.conf.task_inherit_parent_priority:
                route = self._app.router.route(task.name, options, args, kwargs, task)
                template = self._make(task.name, task, route) if route.is_lasting else None

    def template(
        self, name: str, task: Task[..., Any] | None, options: Mapping[str, Any], args: Any, kwargs: Any
    ) -> Template:
        """The template of a call; one without options, and with a route by name alone, is made once."""
        version = (self._app.conf.version, _forks)
        if version != self._version:
            self._templates.clear()
            self._version = version
            self._sends_replies = sends_replies(self._app.conf)
        template = self._templates.get(name) if not options else None
        if template is None:
            route = self._app.router.route(options.get("route_name") or name, options, args, kwargs, task)
            template = self._make(name, task, route)
            if not options and self._app.router.is_static and route.is_lasting:
                self._templates[name] = template
        return template

    def check_options(self, options: Mapping[str, Any]) -> None:
        """Raise `TypeError` for an option that no call takes."""
        check_options(options)

    def steady_template(
        self, name: str, task: Task[..., Any] | None, options: Mapping[str, Any]
    ) -> Template | None:
        """The template of many calls with the same *options*; None if a call's arguments have a say, too.

        An eta or an expiry is reckoned from now.
        """
        conf, router = self._app.conf, self._app.router
        if signals.before_task_publish.receivers or conf.task_inherit_parent_priority:
            return None
        if task is not None and (task.dump_models is not None or task.names_shadow):
            return None
        template = self.template(name, task, options, (), {}) if not options else None
        if self._sends_replies or not router.is_static:
            return None
        if template is None:
            route = router.route(options.get("route_name") or name, options, (), {}, task)
            template = self._make(name, task, route) if route.is_lasting else None
        return template

    def _make(self, name: str, task: Task[..., Any] | None, route: Route) -> Template:
        app, conf, options = self._app, self._app.conf, route.options
        headers: dict[str, Any] = {"lang": "py", "task": name, "origin": origin()}
        properties: dict[str, Any] = {}
        if task is not None and task.ignore_result:
            headers["ignore_result"] = True
        mode = DELIVERY_MODES.get(conf.task_default_delivery_mode, conf.task_default_delivery_mode)
        if mode != PERSISTENT:  # which is what a message without this property is
            properties["delivery_mode"] = mode
        _apply_options(app, options, headers, properties)
        if options.get("mandatory") and app.broker.routes:  # the others never send where no queue is
            properties["mandatory"] = True
        serializer = options.get("serializer") or (conf.task_serializer if task is None else task.serializer)
        method = options.get("compression") or (conf.task_compression if task is None else task.compression)
        encode = None
        if serializer != "json" or method:
            encode = _encoder(str(serializer), method)
        if method:
            headers["compression"] = serialization.compression_type(method)
        due = None
        if "eta" in headers and not app.broker.has_celery_peers:
            due = datetime.fromisoformat(headers["eta"]).timestamp()
        content_type, content_encoding = serialization.types_of(str(serializer))
        return Template(
            name,
            headers,
            properties,
            route.queues,
            exchange=route.exchange,
            routing_key=route.routing_key,
            content_type=content_type,
            content_encoding=content_encoding,
            priority=options.get("priority", conf.task_default_priority),
            due=due,
            encode=encode,
            repr_depth=conf.task_repr_maxlevels,
            tells_time=conf.task_send_timestamp,
        )

    def _announcement(
        self, name: str, options: Mapping[str, Any], args: Any, kwargs: Any, task: Any
    ) -> Callable[[Any, dict[str, Any], dict[str, Any]], None]:
        """What sends the signal ``before_task_publish`` for one message."""
        route = self._app.router.route(name, options, args, kwargs, task)
        policy = _merged_policy(options.get("retry_policy"), self._app.conf.task_publish_retry_policy)

        def announce(body: Any, headers: dict[str, Any], properties: dict[str, Any]) -> None:
            signals.before_task_publish.send(
                sender=name,
                body=body,
                exchange=route.exchange,
                routing_key=route.routing_key,
                headers=headers,
                properties=properties,
                declare=[],
                retry_policy=policy,
            )

        return announce


def _shown(app: FastQ, args: Iterable[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments as headers show them to people."""
    depth = app.conf.task_repr_maxlevels
    return {
        "argsrepr": preview(tuple(args), depth=depth),
        "kwargsrepr": preview(dict(kwargs), depth=depth),
    }


def _encoder(serializer: str, method: str | None) -> Callable[[Any], bytes]:
    """What serializes a body and, with a *method*, compresses it."""

    def encode(body: Any) -> bytes:
        data = serialization.dumps(body, serializer)[2]
        return serialization.compress(data, method)[0] if method else data

    return encode


def _apply_options(
    app: FastQ, options: Mapping[str, Any], headers: dict[str, Any], properties: dict[str, Any]
) -> None:
    """Write what the call said into *headers* and *properties*; the rest stays out of the message."""
    own = options.get("headers")
    if own:
        headers.update(own)
    eta, countdown = options.get("eta"), options.get("countdown")
    if countdown is not None:
        headers["eta"] = from_now(app, countdown).isoformat()
    elif eta is not None:
        headers["eta"] = _moment(app, eta).isoformat()
    expires = options.get("expires")
    if expires is not None:
        expires = _moment(app, expires)
        headers["expires"] = expires.isoformat()
        left_ms = int((expires - app.now_utc()).total_seconds() * 1000)
        if left_ms <= LONGEST_EXPIRATION_MS:
            properties["expiration"] = str(max(0, left_ms))
    for option, header in (
        ("shadow", "shadow"),
        ("group_id", "group"),
        ("group_index", "group_index"),
        ("retries", "retries"),
        ("root_id", "root_id"),
        ("parent_id", "parent_id"),
        ("replaced_task_nesting", "replaced_task_nesting"),
        ("ignore_result", "ignore_result"),
        ("argsrepr", "argsrepr"),
        ("kwargsrepr", "kwargsrepr"),
    ):
        value = options.get(option)
        if value is not None:
            headers[header] = value
    stamps = options.get("stamped_headers")
    if stamps:
        headers["stamped_headers"] = list(stamps)
        headers["stamps"] = {name: options.get(name) for name in stamps}
    limits = [options.get("time_limit"), options.get("soft_time_limit")]
    if limits != [None, None]:
        headers["timelimit"] = limits
    if options.get("reply_to"):
        properties["reply_to"] = options["reply_to"]
    mode = options.get("delivery_mode")
    if mode is not None:
        properties["delivery_mode"] = DELIVERY_MODES.get(mode, mode)


def retry_of(
    app: FastQ,
    message: Message,
    *,
    retries: int,
    eta: datetime,
    args: Any = None,
    kwargs: Any = None,
    options: Mapping[str, Any] = NO_OPTIONS,
) -> list[Message]:
    """What runs *message*'s task again at *eta*: the same message in everything that is not given.

    There are several when *options* name an exchange that reaches several queues. Raises
    `EncodeError` and `QueueNotFound` here, in the task, and not where the worker sends it.
    """
    headers = {key: value for key, value in message.headers.items() if not key.startswith("x-death")}
    properties = {
        key: value
        for key, value in message.properties.items()
        if key not in ("delivery_tag", "delivery_info")
    }
    if not headers.get("parent_id"):
        headers["parent_id"] = message.id
    body, types = message.body, (message.content_type, message.content_encoding)
    if args is not None or kwargs is not None or options.get("serializer") or options.get("compression"):
        old_args, old_kwargs, embed = app.load_body(message)
        new = (old_args if args is None else args, old_kwargs if kwargs is None else kwargs, embed)
        body, types = _written_again(message, new, headers, options)
        if args is not None or kwargs is not None:
            headers.update(_shown(app, new[0], new[1]))
    _apply_options(app, options, headers, properties)
    headers["retries"] = retries
    headers["eta"] = eta.isoformat()
    queues, exchange, routing_key = [message.queue], message.exchange, message.routing_key
    if app.broker.routes:  # to this queue alone: its exchange would send it to others too
        exchange, routing_key = "", message.queue
    if options.get("queue") or options.get("exchange") or options.get("routing_key"):
        route = app.router.destination(message.task, options)
        queues, exchange, routing_key = route.queues, route.exchange, route.routing_key
    # A schedule is looked into by fastq's workers alone; that one of them serves this queue is known,
    # of another queue, or in another store, it is not. What is due already is for anyone.
    is_served = queues == [message.queue] and app.read_broker is app.broker
    is_parked = eta > app.now_utc() and (is_served or not app.broker.has_celery_peers)
    again = [
        Message(
            message.task,
            message.id,
            headers,
            body,
            queue=queue,
            properties=properties,
            content_type=types[0],
            content_encoding=types[1],
            exchange=exchange,
            routing_key=routing_key,
            priority=options.get("priority", message.priority),
            due=eta.timestamp() if is_parked else None,
        )
        for queue in queues
    ]
    app.broker.check(again[0])
    return again


def _written_again(
    message: Message, body: Any, headers: dict[str, Any], options: Mapping[str, Any]
) -> tuple[bytes, tuple[str, str]]:
    """*body* in the serializer and compression of *options* or else of *message*, and its content types.

    *headers* get the name of the compression.
    """
    serializer = options.get("serializer") or serialization.name_of(message.content_type)
    *types, data = serialization.dumps(body, serializer)
    method = options.get("compression") or headers.get("compression")
    if method:
        data, headers["compression"] = serialization.compress(data, method)
    return data, (types[0], types[1])


def from_now(app: FastQ, seconds: float | timedelta) -> datetime:
    """The UTC time *seconds* from now."""
    return app.now_utc() + (seconds if isinstance(seconds, timedelta) else timedelta(seconds=float(seconds)))


def _moment(app: FastQ, when: datetime | timedelta | float | str) -> datetime:
    """The UTC time that an eta or an expiry stands for; text is in ISO 8601."""
    if isinstance(when, str):
        when = datetime.fromisoformat(when.replace("Z", "+00:00"))
    return aware(when) if isinstance(when, datetime) else from_now(app, when)


def aware(when: datetime) -> datetime:
    """*when* in UTC; a naive time is taken for UTC, as Celery's workers take it in every timezone."""
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    return when.astimezone(timezone.utc)
