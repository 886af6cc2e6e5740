"""The application: its settings, its tasks, and the broker and backend that they use."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from datetime import datetime, timezone, tzinfo
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, cast, overload

from fastq import serialization, signals
from fastq._core.codec import json_dumps, json_loads
from fastq._core.message import Message
from fastq._core.request import Context, current_request
from fastq.app import current, sending
from fastq.app.registry import TaskRegistry
from fastq.app.routes import Router
from fastq.app.settings import Settings
from fastq.app.stores import backend_options, backend_url, broker_options, broker_url, sends_replies
from fastq.app.task import Task as BaseTask
from fastq.backends.base import Backend, StoredResult
from fastq.backends.schemes import open_backend
from fastq.brokers.base import Broker, BrokerOptions
from fastq.brokers.schemes import open_broker
from fastq.canvas import Signature, signature
from fastq.canvas.builtins import define_builtins
from fastq.canvas.plain import kind_of
from fastq.canvas.rest import KEPT_SECONDS
from fastq.canvas.workflow import compose_workflow
from fastq.clock import LamportClock
from fastq.exceptions import ChordsUnsupported, DecodeError
from fastq.result.async_result import AsyncResult
from fastq.result.base import ResultBase
from fastq.result.groups import GroupResult, GroupResults
from fastq.result.joining import may_wait
from fastq.result.sets import ResultSet

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from typing_extensions import Unpack

    from fastq._core.trace import Tracer
    from fastq.app.control import Control
    from fastq.app.sending import SendOptions
    from fastq.canvas.follow import Follower

P = ParamSpec("P")
R = TypeVar("R")

# Messages of `send_many` that are composed before they are written: enough to make one write
# cheap, few enough to keep memory flat when the iterable is endless.
BLOCK = 1000
# Coroutines that wait for results in threads at a time. asyncio's own threads are as few as six, and
# a result may be long in coming.
WAITING_THREADS = 256


class FastQ:
    """An application: tasks, settings, and how to reach the broker.

    *main* prefixes the names of tasks that are defined in the program's main module. Other
    arguments are Celery's. Safe to use from several threads, and after a fork.
    """

    Task: type[BaseTask[Any, Any]] = BaseTask

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: str | Iterable[str] = (),
        config_source: Any = None,
        namespace: str | None = None,
        changes: Mapping[str, Any] | None = None,
        set_as_current: bool = True,
        task_cls: type[BaseTask[Any, Any]] | str | None = None,
        autofinalize: bool = True,
        loader: Any = None,
        strict_typing: bool = True,
        fixups: Any = None,
        **settings: Any,
    ) -> None:
        self.main = main
        self.conf = Settings(namespace=namespace)
        if config_source is not None:
            self.config_from_object(config_source)
        self.conf.update(changes or {}, **settings)
        for name, url in (("broker_url", broker), ("result_backend", backend)):
            if url is not None:
                self.conf.update({name: url})
        self.tasks = TaskRegistry()
        self.router = Router(self.conf, lambda: self.broker)
        self.clock = LamportClock()
        self.composer = sending.Composer(self)
        self.strict_typing = strict_typing
        self.autofinalize = autofinalize
        self.finalized = False
        self.steps: dict[str, set[Any]] = {"worker": set(), "consumer": set()}
        self.user_options: dict[str, set[Any]] = {"worker": set(), "preload": set()}
        self.on_configure = signals.Signal("app.on_configure")
        self.on_after_configure = signals.Signal("app.on_after_configure")
        self.on_after_finalize = signals.Signal("app.on_after_finalize")
        self.on_after_fork = signals.Signal("app.on_after_fork")
        if task_cls is not None:
            self.Task = _symbol(task_cls)
        self._include = (include,) if isinstance(include, str) else tuple(include)
        self._discoveries: list[tuple[Any, str | None]] = []
        self._lock = threading.RLock()
        self._broker: Broker | None = None
        self._read_broker: Broker | None = None
        self._backend: Backend | None = None
        self._is_backend_open = False
        self._tracer: Tracer | None = None
        self._follower: Follower | None = None
        self._logging: Any = None
        self._schedule: Any = None
        self._control: Control | None = None
        self._events: Any = None
        self._executor: ThreadPoolExecutor | None = None
        self._pipeline: ContextVar[_Collected | None] = ContextVar("fastq.pipeline", default=None)
        self._event_loops = threading.local()
        # Content types that settings allow, by the settings' names; found anew when any setting changes.
        self._accepted_types: dict[tuple[str, ...], frozenset[str]] = {}
        self._accepted_version = -1
        define_builtins(self)
        current.add_app(self)
        if set_as_current:
            self.set_current()

    # -- configuration ----------------------------------------------------------

    def config_from_object(
        self, obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Read settings from a module's name, a module, a class, an object or a map."""
        self.conf.config_from_object(obj, silent=silent, force=force, namespace=namespace)

    def config_from_envvar(self, variable_name: str, silent: bool = False, force: bool = False) -> None:
        """Read settings from the module that an environment variable names."""
        self.conf.config_from_envvar(variable_name, silent=silent, force=force)

    def add_defaults(self, defaults: Any) -> None:
        """Give settings defaults that anything set elsewhere goes before."""
        self.conf.add_defaults(defaults() if callable(defaults) else defaults)

    @property
    def timezone(self) -> tzinfo:
        """The zone of `now` and of schedules: the settings ``timezone`` and ``enable_utc``."""
        name = self.conf.timezone
        if name == "UTC" or (not name and self.conf.enable_utc):
            return timezone.utc
        if isinstance(name, tzinfo):
            return name
        from fastq.app.zones import LocalZone, ZoneInfo  # 4 ms to import, for apps outside of UTC

        return ZoneInfo(name) if name else LocalZone()

    def uses_utc_timezone(self) -> bool:
        """Whether the app's zone is UTC."""
        return self.timezone == timezone.utc

    def now(self) -> datetime:
        """The time now, in the app's zone."""
        return datetime.now(self.timezone)

    def now_utc(self) -> datetime:
        """The time now, in UTC."""
        return datetime.now(timezone.utc)

    # -- tasks --------------------------------------------------------------------

    @overload
    def task(self, fun: Callable[P, Coroutine[Any, Any, R]], /) -> BaseTask[P, R]: ...
    @overload
    def task(self, fun: Callable[P, R], /) -> BaseTask[P, R]: ...
    @overload
    def task(
        self, *, bind: Literal[True], **options: Any
    ) -> Callable[[Callable[Concatenate[Any, P], R]], BaseTask[P, R]]: ...
    @overload
    def task(
        self,
        *,
        name: str | None = ...,
        base: type[BaseTask[Any, Any]] | None = ...,
        bind: Literal[False] = ...,
        **options: Any,
    ) -> Callable[[Callable[P, R]], BaseTask[P, R]]: ...
    def task(self, *args: Any, **options: Any) -> Any:
        """Make a function a task: ``@app.task`` or ``@app.task(name=…, bind=True, …)``.

        Options are the attributes of `Task`. With *bind* the function gets the task as its
        first argument.
        """
        if len(args) == 1 and callable(args[0]):
            return self._define(args[0], **options)
        if args:
            raise TypeError("@app.task takes options by name: @app.task(bind=True, …)")
        return lambda function: self._define(function, **options)

    def _define(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        base: type[BaseTask[Any, Any]] | str | None = None,
        bind: bool = False,
        pydantic: bool = False,
        shared: bool = False,
        lazy: bool = True,
        **options: Any,
    ) -> BaseTask[Any, Any]:
        if isinstance(function, BaseTask | current.Proxy):
            raise TypeError(f"{function!r} is a task already: apply one decorator to the function")
        name = name or self.gen_task_name(function.__name__, function.__module__)
        if name in self.tasks:
            return cast(BaseTask[Any, Any], self.tasks[name])
        kind = self.Task if base is None else _symbol(base)
        task = kind()
        run = function
        if pydantic:
            from fastq.app.models import dump_models, with_models

            options["dump_models"] = dump_models
            run = with_models(
                function,
                bind=bind,
                strict=options.pop("pydantic_strict", False),
                context=options.pop("pydantic_context", None),
                dump_kwargs=options.pop("pydantic_dump_kwargs", None),
            )
        task.run = run.__get__(task, kind) if bind else run  # type: ignore[method-assign]
        for option, value in {
            "name": name,
            "__doc__": function.__doc__,
            "__module__": function.__module__,
            "__wrapped__": function,
            **options,
        }.items():
            # A function in place of a method becomes one, as in Celery.
            is_method = isinstance(value, FunctionType) and isinstance(
                getattr(kind, option, None), FunctionType
            )
            setattr(task, option, MethodType(value, task) if is_method else value)
        return self.register_task(task)

    def register_task(
        self, task: BaseTask[Any, Any] | type[BaseTask[Any, Any]], **options: Any
    ) -> BaseTask[Any, Any]:
        """Add a task that is an instance, or a subclass, of `Task`."""
        instance = task() if isinstance(task, type) else task
        for option, value in options.items():
            setattr(instance, option, value)
        if not instance.name:
            kind = type(instance)
            instance.name = self.gen_task_name(str(kind.__name__), kind.__module__)
        instance.bind(self)
        self.tasks[instance.name] = instance
        return instance

    def gen_task_name(self, name: str, module: str) -> str:
        """The name of a task whose function is *name* of *module*.

        The main module has another name where a worker imports it: the app's *main*, or
        the name of its file.
        """
        if module in ("__main__", "__mp_main__"):  # the latter in a child that was spawned
            main = sys.modules[module]
            spec = getattr(main, "__spec__", None)
            file = getattr(main, "__file__", None)
            if self.main:
                module = self.main
            elif spec is not None:
                module = spec.name
            elif file:
                module = os.path.splitext(os.path.basename(file))[0]
        return f"{module}.{name}"

    def autodiscover_tasks(
        self,
        packages: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> None:
        """Import module *related_name* of every package, when a worker starts or, with *force*, now."""
        if force:
            _discover(packages, related_name)
        else:
            self._discoveries.append((packages, related_name))

    def import_modules(self) -> None:
        """Import all that may define tasks: ``imports``, ``include`` and what autodiscovery finds."""
        signals.import_modules.send(sender=self)
        for module in (*self.conf.imports, *self.conf.include, *self._include):
            import_module(module)
        for packages, related_name in self._discoveries:
            _discover(packages, related_name)
        self.finalize()

    def finalize(self, auto: bool = False) -> None:
        """Settle every task's options. Done when the app is first used; tasks may still be added later."""
        if not self.finalized:
            with self._lock:
                if not self.finalized:
                    self.finalized = True
                    self.on_after_configure.send(sender=self, source=self.conf)
                    self.on_after_finalize.send(sender=self)
        for task in list(self.tasks.values()):
            task.prepare()

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        name: str | None = None,
        **opts: Any,
    ) -> str:
        """Have a beat send *sig*, a task or signature, at the times of *schedule*; returns the entry's name.

        That is *name*, or else what the call looks like: the same call under no name replaces the
        one before. *opts* are options of `apply_async`, and ``relative``, ``overlap``, ``catch_up``
        and ``jitter`` of `fastq.beat.ScheduleEntry`.
        """
        from fastq.app.periodic import periodic_entry  # for those who have a schedule

        key, entry = periodic_entry(schedule, sig, args, kwargs or {}, opts)
        if self.conf.add_entry("beat_schedule", name or key, entry) and name is None:
            from logging import getLogger  # 8 ms to import

            getLogger(__name__).warning(
                "The periodic task %s takes the place of the one before: name them to have both", key
            )
        return name or key

    # -- sending --------------------------------------------------------------------

    def send(
        self, messages: list[Message], options: Mapping[str, Any], task: BaseTask[Any, Any] | None = None
    ) -> AsyncResult[Any]:
        """Publish the *messages* of one call and return its result."""
        message = messages[0]
        self.publish(messages, options)
        result: AsyncResult[Any] = AsyncResult(message.id, app=self, task_name=message.task)
        if options.get("ignore_result", task is not None and task.ignore_result):
            result.ignored = True
        request = current_request()
        if request is not None and _lists_children(request, options):
            request.children.append(result.as_tuple())
        if signals.after_task_publish.receivers:
            self._announce_published(message)
        return result

    def _announce_published(self, message: Message) -> None:
        signals.after_task_publish.send(
            sender=message.task,
            headers=message.headers,
            body=message.body,
            exchange=message.exchange,
            routing_key=message.routing_key,
        )

    def publish(self, messages: list[Message], options: Mapping[str, Any] = sending.NO_OPTIONS) -> None:
        """Hand *messages* to the broker, or to the `pipeline` that is open here.

        Of *options* count ``retry`` and ``retry_policy``.
        """
        collected = self._pipeline.get()
        if collected is not None:
            collected.messages += messages
        else:
            policy = sending.publish_policy(self.conf, options)
            self.broker.publish(messages, None if policy is None else policy.timeout, policy)
            if self.conf.task_send_sent_event:
                self.events.sent(messages)

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendOptions],
    ) -> AsyncResult[Any]:
        """Send a task by its name alone; the code need not be here."""
        sending.check_options(options)
        args = () if args is None else args
        kwargs = {} if kwargs is None else kwargs
        task = self.tasks.get(name)
        merged: Mapping[str, Any] = options
        if task is not None:
            task.prepare()
            merged = task.message_options | options
        messages = self.composer.compose(name, task, args, kwargs, merged, current_request())
        return self.send(messages, merged, task)

    def signature(self, *args: Any, **kwargs: Any) -> Signature[Any]:
        """A signature that this app sends, of a task's name or of a map."""
        return signature(*args, **{"app": self, **kwargs})

    def send_workflow(
        self,
        sig: Mapping[str, Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> Any:
        """Publish what starts of the chain, group or chord *sig*, and return its result.

        Of *options* those of the call count here: ``retry``, ``retry_policy`` and ``add_to_parent``.
        When a generator of signatures or the broker fails, the blocks before were sent.
        """
        sending.check_options(options)
        request = current_request()
        workflow = compose_workflow(self, sig, args, kwargs, options, request, splits_chains=True)
        for messages, chords, chains in workflow:
            for chain_id, blocks in chains:
                cast(Backend, self.backend).save_chain(chain_id, blocks, KEPT_SECONDS)
            self.begin_chords(chords)
            self.publish(messages, options)
            if signals.after_task_publish.receivers:
                for message in messages:
                    self._announce_published(message)
        if request is not None and workflow.started is not None and _lists_children(request, options):
            request.children.append(workflow.started.as_tuple())
        result = workflow.result
        if isinstance(result, GroupResult) and kind_of(sig) == "group" and len(result.results) == 1:
            (only,) = result.results
            return only if isinstance(only, GroupResult) else result  # Celery's group of a group
        return result

    def send_many(self, calls: Iterable[tuple[Any, ...]]) -> list[AsyncResult[Any]]:
        """Send many calls ``(task or name, args, kwargs, options)``, of which the last two may be missing.

        They are written in blocks of 1,000. When the iterable or the broker fails, the
        blocks before were sent.
        """
        return self.publish_blocks(self.compose_call(*call) for call in calls)

    def compose_call(
        self, target: Any, args: Any = (), kwargs: Any = sending.NO_OPTIONS, options: Any = sending.NO_OPTIONS
    ) -> list[Message]:
        """The messages of one call, to be published."""
        task = self.tasks.get(target) if isinstance(target, str) else target
        if task is not None:
            task.prepare()
            if task.check_arguments is not None:
                task.check_arguments(*args, **kwargs)
        sending.check_options(options)
        merged = task.message_options | options if task is not None and task.message_options else options
        name = target if task is None else task.name
        return self.composer.compose(name, task, args, kwargs, merged, current_request())

    def publish_blocks(
        self, composed: Iterable[list[Message]], options: Mapping[str, Any] = sending.NO_OPTIONS
    ) -> list[AsyncResult[Any]]:
        """Publish the messages of many calls in blocks, and return the calls' results."""
        results: list[AsyncResult[Any]] = []
        block: list[Message] = []
        for messages in composed:
            block += messages
            results.append(AsyncResult(messages[0].id, app=self, task_name=messages[0].task))
            if len(block) >= BLOCK:
                self.publish(block, options)
                block = []
        if block:
            self.publish(block, options)
        return results

    def begin_chords(self, chords: list[tuple[str, int]]) -> None:
        """Tell the backend the sizes of *chords*, or the `pipeline` that is open here.

        The last message of a chord's header must not go out before.
        """
        collected = self._pipeline.get()
        if collected is not None:
            collected.chords += chords
        elif chords:
            self.check_chords()
            cast(Backend, self.backend).begin_chords(chords)

    def check_chords(self) -> None:
        """Raise `ChordsUnsupported` if no backend counts the parts of chords here."""
        if self.backend is None or self.backend.sends_replies:
            raise ChordsUnsupported(self.conf.result_backend)

    def reply_queue(self) -> str | None:
        """Where results of what is sent here are waited for, if they travel as messages."""
        if not sends_replies(self.conf) or not may_wait() or self.backend is None:
            return None
        return self.backend.reply_queue()

    @contextmanager
    def pipeline(self) -> Iterator[None]:
        """Collect what this thread or task sends in the block, and send it all at its end.

        When the block raises, nothing is sent.
        """
        with self.collecting() as collected:
            yield
        self.begin_chords(collected.chords)
        if collected.messages:
            self.publish(collected.messages)

    @contextmanager
    def collecting(self) -> Iterator[_Collected]:
        """Keep what this thread or task sends in the block, instead of sending it."""
        collected = _Collected()
        token = self._pipeline.set(collected)
        try:
            yield collected
        finally:
            self._pipeline.reset(token)

    @property
    def current_task(self) -> BaseTask[Any, Any] | None:
        """The task that runs here now, if it is one of this app's."""
        request = current_request()
        task = None if request is None else request.task_object
        return task if task is not None and task.app is self else None

    current_worker_task = current_task

    # -- results ----------------------------------------------------------------------

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult[Any]:
        """The result of the task with this id."""
        return AsyncResult(task_id, app=self, **kwargs)

    def ResultSet(self, results: Iterable[Any]) -> ResultSet[Any]:
        """Results of this app's tasks as one."""
        return ResultSet(results, app=self)

    @property
    def GroupResult(self) -> GroupResults:
        """Makes `GroupResult` objects of this app."""
        return GroupResults(self)

    def result_encoder(self) -> Callable[[Any], bytes] | None:
        """What turns a result document into bytes; None means plain JSON."""
        serializer, method = self.conf.result_serializer, self.conf.result_compression
        if serializer == "json" and not method:
            return None

        def encode(document: Any) -> bytes:
            data = serialization.dumps(document, serializer)[2]
            return serialization.mark_compressed(data, method) if method else data

        return encode

    def load_result(self, document: bytes) -> dict[str, Any]:
        """The map that a stored result document holds."""
        meta = self.load_document(document)
        if not isinstance(meta, dict) or "status" not in meta:
            raise DecodeError(f"the result document is not a map with a status: {document[:100]!r}")
        return meta

    def dump_document(self, document: Any) -> bytes:
        """*document* as the backend keeps it."""
        return (self.result_encoder() or json_dumps)(document)

    def load_document(self, document: bytes) -> Any:
        """What a *document* that the backend keeps holds."""
        document = serialization.unmark_compressed(document)
        serializer = self.conf.result_serializer
        if serializer == "json":
            return json_loads(document)
        content_type, content_encoding = serialization.types_of(serializer)
        accept = self._accepted("result_accept_content", "accept_content")
        return serialization.loads(document, content_type, content_encoding, accept)

    def dump_result(self, value: Any) -> Any:
        """*value* as a result document holds it."""
        return value.as_tuple() if isinstance(value, ResultBase) else value

    def dump_exception(self, exc: BaseException) -> Any:
        """*exc* as a result document holds it."""
        serializer = self.conf.result_serializer
        return exc if serializer == "pickle" else serialization.exception_to_map(exc, serializer)

    def store_state(self, task_id: str, state: str, meta: Any, request: Context | None = None) -> None:
        """Store a *state* that is not the task's last, now."""
        if self.backend is None:
            return
        document = {
            "status": state,
            "result": self.dump_exception(meta) if isinstance(meta, BaseException) else meta,
            "traceback": None,
            "children": request.children if request is not None else [],
            "date_done": None,
        }
        if request is not None:
            family = {"group_id": request.group, "parent_id": request.parent_id}
            document.update((field, value) for field, value in family.items() if value is not None)
        document["task_id"] = task_id
        encode = self.result_encoder() or json_dumps
        reply_to = None if request is None else request.reply_to
        self.backend.store([StoredResult(task_id, state, encode(document), reply_to)])

    # -- bodies -----------------------------------------------------------------------

    def load_body(self, message: Message) -> Any:
        """The decoded body of *message*. Raises `DecodeError` or `ContentDisallowed`."""
        body = message.body
        compression = message.headers.get("compression")
        if compression:
            body = serialization.decompress(body, compression)
        accept = self._accepted("accept_content")
        return serialization.loads(body, message.content_type, message.content_encoding, accept)

    def _accepted(self, *settings: str) -> frozenset[str]:
        """The content types that the first of *settings* that is set allows."""
        conf = self.conf
        if self._accepted_version != conf.version:
            self._accepted_types = {}
            self._accepted_version = conf.version
        accept = self._accepted_types.get(settings)
        if accept is None:
            names = next(filter(None, (getattr(conf, setting) for setting in settings)))
            accept = self._accepted_types[settings] = serialization.content_types(names)
        return accept

    # -- broker and backend -------------------------------------------------------------

    @property
    def broker(self) -> Broker:
        """Where tasks are sent; it connects when it is first used."""
        if self._broker is None:
            with self._lock:
                if self._broker is None:
                    self._broker = self._open_broker(self.conf.broker_write_url)
        return self._broker

    @property
    def read_broker(self) -> Broker:
        """Where workers consume and what has died lies: `broker`, unless ``broker_read_url`` is another."""
        if self.conf.broker_read_url == self.conf.broker_write_url:
            return self.broker
        if self._read_broker is None:
            with self._lock:
                if self._read_broker is None:
                    self._read_broker = self._open_broker(self.conf.broker_read_url)
        return self._read_broker

    def connection(self, *args: Any, **options: Any) -> Any:
        """Connections for those who hear or send events, as a context: `fastq.app.connection.Connection`.

        Arguments are accepted as in Celery; where the broker is, the settings say.
        """
        return import_module("fastq.app.connection").Connection(self)

    connection_for_read = connection_for_write = connection

    def own_broker(self) -> Broker:
        """One more `broker`, whose connections are the caller's own; the caller closes it."""
        return self._open_broker(self.conf.broker_write_url)

    def _open_broker(self, url: str | None) -> Broker:
        return open_broker(broker_url(self.conf, url), self._broker_options())

    def _broker_options(self) -> BrokerOptions:
        return broker_options(self.conf, self.main or "fastq", self.router.declaration)

    @property
    def backend(self) -> Backend | None:
        """Where results are kept; None when that is nowhere."""
        if not self._is_backend_open:
            with self._lock:
                url = backend_url(self.conf)
                if url is not None and not self._is_backend_open:
                    options = backend_options(self.conf, self.main or "fastq", self._broker_options())
                    self._backend = open_backend(url, options, self.conf.override_backends)
                self._is_backend_open = True
        return self._backend

    def queue_names(self) -> list[str]:
        """The queues that workers consume unless told otherwise, but those that are one worker's alone."""
        return [name for name in self.router.consumed() if not self.router.declaration(name).is_private]

    # -- running ------------------------------------------------------------------------

    @property
    def log(self) -> Any:
        """The app's logging, set up by a worker."""
        if self._logging is None:
            self._logging = import_module("fastq.app.log").Logging(self)
        return self._logging

    def tracer(self, hostname: str | None = None) -> Tracer:
        """What runs tasks in this process, for eager mode."""
        if self._tracer is None:
            from fastq._core.trace import Tracer

            self._tracer = Tracer(self, hostname or sending.origin())
        return self._tracer

    @property
    def follower(self) -> Follower:
        """What sees to the tasks that follow those of a worker."""
        if self._follower is None:
            from fastq.canvas.follow import Follower

            self._follower = Follower(self)
        return self._follower

    def run_coroutine(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run *coroutine* to its end on this thread's own event loop."""
        loop = getattr(self._event_loops, "loop", None)
        if loop is None:
            import asyncio

            loop = self._event_loops.loop = asyncio.new_event_loop()
        return cast(R, loop.run_until_complete(coroutine))

    async def in_thread(self, function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Call what may block without blocking the event loop.

        At most `WAITING_THREADS` calls at a time; further ones wait for their turn.
        """
        import asyncio
        from concurrent.futures import ThreadPoolExecutor

        if self._executor is None:
            self._executor = ThreadPoolExecutor(WAITING_THREADS, "fastq-await")
        call = partial(copy_context().run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)

    def Worker(self, **options: Any) -> Any:
        """A worker of this app, for programs that start one themselves."""
        return import_module("fastq.worker.worker").Worker(self, **options)

    @property
    def control(self) -> Control:
        """What can be asked of the workers: `fastq.app.control.Control`."""
        if self._control is None:
            from fastq.app.control import Control  # for those who ask

            self._control = Control(self)
        return self._control

    @property
    def schedule(self) -> Any:
        """The entries that beats share: `fastq.beat.api.Schedule`."""
        if self._schedule is None:
            self._schedule = import_module("fastq.beat.api").Schedule(self)
        return self._schedule

    @property
    def events(self) -> Any:
        """Who hears and who sends events: `fastq.events.api.Events`."""
        if self._events is None:
            self._events = import_module("fastq.events.api").Events(self)
        return self._events

    def Beat(self, **options: Any) -> Any:
        """A beat of this app, for programs that start one themselves."""
        return import_module("fastq.beat.program").Beat(self, **options)

    def worker_main(self, argv: Sequence[str] | None = None) -> int:
        """Run ``fastq worker`` with *argv* for this app."""
        return import_module("fastq.cli.main").worker_main(self, argv)  # type: ignore[no-any-return]

    # -- life -----------------------------------------------------------------------------

    def set_current(self) -> None:
        """Make this the app that `current_app` stands for."""
        current.set_current_app(self)

    set_default = set_current

    def close(self) -> None:
        """Close every connection and forget the app."""
        for part in (self._schedule, self._broker, self._read_broker, self._backend):
            if part is not None:
                part.close()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None
        loop = self._event_loops.__dict__.pop("loop", None)
        if loop is not None:
            loop.close()
        current.remove_app(self)

    def __enter__(self) -> FastQ:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FastQ {self.main or '__main__'}>"


class _Collected:
    """What is sent in the block of a `FastQ.collecting`."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.chords: list[tuple[str, int]] = []


def _lists_children(request: Context, options: Mapping[str, Any]) -> bool:
    """Whether the run *request* lists what it sends with *options* among its children."""
    task = request.task_object
    return bool(options.get("add_to_parent", True)) and (task is None or task.trail)


def shared_task(*args: Any, **options: Any) -> Any:
    """Make a function a task of every app, for packages that have none of their own."""

    def share(function: Callable[..., Any]) -> Any:
        if isinstance(function, BaseTask | current.Proxy):
            raise TypeError(f"{function!r} is a task already: apply one decorator to the function")

        def define(app: FastQ) -> BaseTask[Any, Any]:
            return app._define(function, **options)

        current.add_shared(define)
        return current.Proxy(lambda: define(current.get_current_app()))

    if len(args) == 1 and callable(args[0]):
        return share(args[0])
    return share


def _symbol(what: Any) -> Any:
    """*what*, or what the text ``package.module:name`` or ``package.module.name`` names."""
    if not isinstance(what, str):
        return what
    module, _, name = what.replace(":", ".").rpartition(".")
    return getattr(import_module(module), name)


def _discover(packages: Any, related_name: str | None) -> None:
    if packages is None:
        return
    for package in packages() if callable(packages) else packages:
        if related_name is None:
            import_module(package)
        elif find_spec(f"{package}.{related_name}") is not None:
            import_module(f"{package}.{related_name}")


current.set_default_factory(lambda: FastQ("default", set_as_current=False))
