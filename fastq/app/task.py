"""Tasks: functions with a name, options for their messages and runs, and handlers of what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, ParamSpec, TypeVar

from fastq import states
from fastq._core.message import Delivery
from fastq._core.preview import preview
from fastq._core.request import Context, current_request, pop_request, push_request, request_of
from fastq.app import sending
from fastq.app.argument_check import argument_check, is_coroutine_function
from fastq.backends.base import StoredResult
from fastq.canvas import Signature, chunks, maybe_signature, signature, xmap, xstarmap
from fastq.canvas.errbacks import call_inline, is_called_inline
from fastq.canvas.plain import kind_of, listed
from fastq.canvas.signature import bound
from fastq.canvas.steps import ACCUMULATE, chain_of, chord_of, is_empty, is_plural
from fastq.canvas.writing import spread
from fastq.exceptions import (
    FastQError,
    Ignore,
    ImproperlyConfigured,
    MaxRetriesExceededError,
    OperationalError,
    Retry,
    TimeLimitExceeded,
)
from fastq.result.async_result import AsyncResult
from fastq.result.eager import EagerResult

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from fastq._core.message import Message
    from fastq.app.base import FastQ
    from fastq.app.sending import SendOptions

P = ParamSpec("P")
R = TypeVar("R")

# What a back-off is doubled at most: far beyond every bound in seconds, and still a number.
MAX_DOUBLINGS = 64
# Options that a task may fix for its messages; what the call says goes before them.
MESSAGE_OPTIONS = (
    "queue",
    "exchange",
    "routing_key",
    "priority",
    "expires",
    "delivery_mode",
    "time_limit",
    "soft_time_limit",
)
# Task options that default to a setting when neither the decorator nor the class says otherwise.
FROM_SETTINGS = {
    "serializer": "task_serializer",
    "compression": "task_compression",
    "rate_limit": "task_default_rate_limit",
    "track_started": "task_track_started",
    "acks_late": "task_acks_late",
    "acks_on_failure": "task_acks_on_failure",
    "acks_on_timeout": "task_acks_on_timeout",
    "acks_on_failure_or_timeout": "task_acks_on_failure_or_timeout",
    "reject_on_worker_lost": "task_reject_on_worker_lost",
    "retry_on_worker_lost": "task_retry_on_worker_lost",
    "ignore_result": "task_ignore_result",
    "store_eager_result": "task_store_eager_result",
    "store_errors_even_if_ignored": "task_store_errors_even_if_ignored",
}


class Task(Generic[P, R]):
    """One task of an application; made by ``@app.task``, or a subclass with a `run` of its own.

    Class attributes are the defaults of the options that the decorator takes; None means
    what the settings say. There is one instance in each process: state kept on it lasts
    from run to run.
    """

    app: FastQ
    name: str = ""
    typing: bool = True  # check arguments against the signature when the task is called
    max_retries: int | None = 3  # None: for ever
    default_retry_delay: float = 180  # seconds
    rate_limit: str | float | None = None  # "10/s", "100/m", "1/h" or runs a second, in each worker
    ignore_result: bool | None = None
    trail: bool = True  # list what this task sends among its children
    send_events: bool = True
    store_errors_even_if_ignored: bool | None = None
    store_eager_result: bool | None = None
    serializer: str | None = None
    compression: str | None = None
    time_limit: float | None = None  # seconds, hard
    soft_time_limit: float | None = None  # seconds
    track_started: bool | None = None
    acks_late: bool | None = None
    acks_on_failure: bool | None = None
    acks_on_timeout: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    retry_on_worker_lost: bool | None = None  # goes before reject_on_worker_lost
    throws: tuple[type[BaseException], ...] | type[BaseException] = ()  # expected: logged in one line
    expires: float | datetime | None = None
    priority: int | None = None
    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    delivery_mode: int | str | None = None
    resultrepr_maxsize: int = 1024  # characters
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] = {}
    retry_backoff: bool | float = False  # factor in seconds; True is 1
    retry_backoff_max: float = 600  # seconds
    retry_jitter: bool = True
    pydantic: bool = False
    abstract: bool = True

    MaxRetriesExceededError: ClassVar[type[MaxRetriesExceededError]] = MaxRetriesExceededError
    OperationalError: ClassVar[type[OperationalError]] = OperationalError

    is_async: bool = False
    # What checks a call's arguments by being called with them, and what turns models among them into
    # plain data; None: neither is asked for.
    check_arguments: Callable[..., None] | None = None
    dump_models: Callable[[Any, Any], tuple[Any, Any]] | None = None
    override_max_retries: int | None = None  # for autoretry, before retry_kwargs; of a run: what retry() said
    names_shadow: bool = False  # whether `shadow_name` has anything to say
    _is_ready = False

    # -- being defined --------------------------------------------------------

    def bind(self, app: FastQ) -> Task[P, R]:
        """Make this task *app*'s. What the settings decide is looked up by `prepare`."""
        self.app = app
        self.is_async = is_coroutine_function(self.run)
        self.on_bound(app)
        return self

    def prepare(self) -> None:
        """Take from settings and annotations what neither decorator nor class says; once, when needed."""
        if self._is_ready:
            return
        conf = self.app.conf
        for annotation in _annotations(conf.task_annotations, self):
            for option, value in annotation.items():
                setattr(
                    self, option, MethodType(value, self) if callable(value) and option != "throws" else value
                )
        for option, setting in FROM_SETTINGS.items():
            if getattr(self, option) is None:
                setattr(self, option, getattr(conf, setting))
        self.throws_types = self.throws if isinstance(self.throws, tuple) else (self.throws,)
        self.message_options = {
            option: value for option in MESSAGE_OPTIONS if (value := getattr(self, option)) is not None
        }
        if self.time_limit and self.soft_time_limit and self.soft_time_limit > self.time_limit:
            raise ValueError(
                f"the task {self.name} has soft_time_limit={self.soft_time_limit}, which is more than its "
                f"time_limit={self.time_limit}: it would never be reached"
            )
        self.names_shadow = getattr(self.shadow_name, "__func__", None) is not Task.shadow_name
        self.check_arguments = argument_check(self.run, self.name) if self.typing else None
        self._is_ready = True

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """What the task does; the decorator puts the function here."""
        raise FastQError(f"the task {self.name or type(self).__name__} defines no run()")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task here and now, as a plain function."""
        push_request(Context(self, args=args, kwargs=kwargs))
        try:
            return self.run(*args, **kwargs)
        finally:
            pop_request()

    # -- being called ---------------------------------------------------------

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send a message that runs the task with these arguments."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendOptions],
    ) -> AsyncResult[R]:
        """Send a message that runs the task, as *options* say (`SendOptions`).

        Raises `TypeError` when the arguments do not fit the task or an option is unknown,
        `EncodeError` when an argument can't be serialized, and `OperationalError` when the
        broker can't be reached within ``task_publish_deadline`` seconds.
        """
        args = () if args is None else args
        kwargs = {} if kwargs is None else kwargs
        if not self._is_ready:
            self.prepare()
        if self.check_arguments is not None:
            self.check_arguments(*args, **kwargs)
        app = self.app
        if options:
            sending.check_options(options)
        merged = {**self.message_options, **options} if self.message_options else options
        if self.names_shadow and not merged.get("shadow"):
            merged = {**merged, "shadow": self.shadow_name(args, kwargs, merged)}
        if app.conf.task_always_eager:
            args, kwargs = app.composer.travelled(self, args, kwargs, merged)
            return self.apply(args, kwargs, **options)
        messages = app.composer.compose(self.name, self, args, kwargs, merged, current_request())
        return app.send(messages, merged, self)

    def apply_many(self, calls: Iterable[Any], **options: Unpack[SendOptions]) -> list[AsyncResult[R]]:
        """Send a message for each of *calls*, in few writes: as fast as the broker takes them.

        A call is a tuple or list of positional arguments, a map of keyword arguments, or a
        pair ``(args, kwargs)`` of the two. *options* hold for all of them. The iterable is
        consumed in blocks; when it or the broker fails, the blocks before were sent.
        """
        self.prepare()
        sending.check_options(options)
        merged = {**self.message_options, **options} if self.message_options else options
        arguments = map(_arguments, calls)
        composed = self.app.composer.compose_many(self, arguments, merged)
        results = self.app.publish_blocks(composed, merged)
        if merged.get("ignore_result", self.ignore_result):
            for result in results:
                result.ignored = True
        return results

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """As `delay`, without blocking the event loop."""
        return await self.app.in_thread(self.delay, *args, **kwargs)

    async def aapply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[SendOptions],
    ) -> AsyncResult[R]:
        """As `apply_async`, without blocking the event loop."""
        return await self.app.in_thread(self.apply_async, args, kwargs, **options)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        throw: bool | None = None,
        retries: int = 0,
        task_id: str | None = None,
        link: Any = None,
        link_error: Any = None,
        **options: Any,
    ) -> EagerResult[R]:
        """Run the task here, as a worker would, with what it is linked to, and return its result.

        With *throw*, or ``task_eager_propagates``, what the task raises is raised. A retry
        runs at once.
        """
        app = self.app
        app.finalize()
        self.prepare()
        args = () if args is None else args
        kwargs = {} if kwargs is None else dict(kwargs)
        throw = app.conf.task_eager_propagates if throw is None else throw
        stamps = options.get("stamped_headers") or ()
        names = [name for name in options if name in sending.KNOWN_OPTIONS or name in stamps]
        known = {name: options[name] for name in names}
        known |= {"retries": retries, "task_id": task_id}
        message = app.composer.compose_in_place(self, args, kwargs, self.message_options | known)
        outcome, value, traceback = app.tracer().apply(
            Delivery(message, None, message.queue), self, args, kwargs
        )
        if isinstance(value, Retry) and value.sig is not None:
            args, kwargs = value.sig
            options |= {"link": link, "link_error": link_error}
            return self.apply(args, kwargs, throw=throw, retries=retries + 1, task_id=message.id, **options)
        for callback in listed(link) if outcome.state == states.SUCCESS else ():
            maybe_signature(callback, app=app, clone=True).apply((value,))
        if outcome.state == states.FAILURE and link_error and not throw:
            request = Context(self, message, args=args, kwargs=kwargs, is_eager=True)
            self._call_errbacks(listed(link_error), request, value, traceback)
        if outcome.state in states.EXCEPTION_STATES and throw:
            raise value
        if self.store_eager_result and outcome.result is not None and app.backend is not None:
            app.backend.store([StoredResult(message.id, str(outcome.state), outcome.result)])
        return EagerResult(
            message.id, value, str(outcome.state), traceback=traceback, name=self.name, app=app
        )

    def _call_errbacks(
        self, errbacks: list[Any], request: Context, exc: BaseException, traceback: str | None
    ) -> None:
        """Call *errbacks* here, in place of the worker that would."""
        inline = [errback for errback in errbacks if is_called_inline(self.app, errback)]
        for errback in inline:
            try:
                call_inline(self.app, errback, request, exc, traceback)
            except Exception as error:
                from logging import getLogger  # for errbacks that fail alone

                getLogger(__name__).exception("the errback %s raised %r", errback["task"], error)
        for errback in errbacks:
            if errback not in inline:
                maybe_signature(errback, app=self.app, clone=True).apply((request.id,))

    # -- signatures -------------------------------------------------------------

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """A signature with these arguments; there may be more when it is called."""
        return bound(self, args, kwargs, False)

    def si(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """A signature with these arguments and no others: it ignores the result of what ran before it."""
        return bound(self, args, kwargs, True)

    def signature(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Signature[R]:
        """A signature with *args*, *kwargs* and *options*; *more* are options too, or ``immutable``."""
        return Signature(self, args, kwargs, options, **{"app": self.app, **more})

    subtask = signature

    def map(self, it: Iterable[Any]) -> xmap:
        """``[task(x) for x in it]``, in one task."""
        return xmap(self.s(), it, app=self.app)

    def starmap(self, it: Iterable[Any]) -> xstarmap:
        """``[task(*x) for x in it]``, in one task."""
        return xstarmap(self.s(), it, app=self.app)

    def chunks(self, it: Iterable[Any], n: int) -> chunks:
        """``[task(*x) for x in it]``, in a group of tasks that do *n* items each."""
        return chunks(self.s(), it, n, app=self.app)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult[R]:
        """The result of the run with *task_id*."""
        return AsyncResult(task_id, app=self.app, task_name=self.name, **kwargs)

    # -- from inside a run ----------------------------------------------------

    @property
    def request(self) -> Context:
        """The request of the run that goes on here; one with `called_directly` set when there is none."""
        return request_of(self) or Context(self)

    def push_request(self, *args: Any, **fields: Any) -> None:
        """Set a request by hand, for tests of a task's body."""
        push_request(Context(self, **dict(*args, **fields)))

    def pop_request(self) -> None:
        """Take back what `push_request` set."""
        pop_request()

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Have the task run again later, under the same id; raises `Retry` to end this run.

        The message is published in the commit that settles this run, so there is never
        neither or both of them; of several retries of one run the last one counts. When
        *max_retries* are used up, *exc* is raised or, without one, `MaxRetriesExceededError`.
        *options* are those of `apply_async`.
        """
        sending.check_options(options)
        request = self.request
        if isinstance(exc, type):
            exc = exc()
        if request.called_directly:
            raise exc if exc is not None else Retry("Task can be retried", None)
        retries = request.retries + 1
        if max_retries is not None:
            request.update(override_max_retries=max_retries)
        limit = self.max_retries if max_retries is None else max_retries
        if eta is None and countdown is None:
            countdown = self.default_retry_delay
        when = sending.aware(eta) if eta is not None else sending.from_now(self.app, countdown or 0)
        if limit is not None and retries > limit:
            if exc is not None:
                raise exc
            raise self.MaxRetriesExceededError(
                f"Can't retry {self.name}[{request.id}] args:{request.args} kwargs:{request.kwargs}",
                task_args=request.args,
                task_kwargs=request.kwargs,
            )
        call = (request.args if args is None else args, request.kwargs if kwargs is None else kwargs)
        again = Retry(
            exc=exc, when=eta if eta is not None else countdown, is_eager=request.is_eager, sig=call
        )
        if not request.is_eager and request.message is not None:
            messages = sending.retry_of(
                self.app,
                request.message,
                retries=retries,
                eta=when,
                args=args,
                kwargs=kwargs,
                options=options,
            )
            others = [each for each in request.follow or () if each.id != request.id]
            request.follow = [*others, *messages]
        if throw:
            raise again
        return again

    def replace(self, sig: Signature[Any]) -> Any:
        """Have *sig* run in place of this task: under its id, with all that was to follow it.

        The run ends here: `Ignore` is raised, and *sig* is sent in the commit that settles this run. In
        eager mode *sig* is run at once, and what it returns is returned.
        """
        request = self.request
        if sig.options.get("chord"):
            raise ImproperlyConfigured("a signature that replaces a task must not be part of a chord")
        if is_empty(sig):
            raise ImproperlyConfigured(f"there is nothing to run in {sig!r}, so it can't replace a task")
        if kind_of(sig) == "group":  # the value of this task is one: a list, of however many
            sig = signature(chord_of(list(spread(sig)), ACCUMULATE), app=self.app)
        elif is_plural(sig):
            sig = signature(chain_of([sig, ACCUMULATE]), app=self.app)
        sig = sig.clone()
        for link in listed(request.callbacks):
            sig.link(link)
        for errback in listed(request.errbacks):
            sig.link_error(errback)
        nesting = (request.replaced_task_nesting or 0) + 1
        place = {
            "task_id": request.id,
            "group_id": request.group,
            "group_index": request.group_index,
            "chord": request.chord,
            "chain": request.chain,
        }
        said = {name: value for name, value in place.items() if value is not None}
        return self.on_replace(sig.set(**said, replaced_task_nesting=nesting))

    def on_replace(self, sig: Signature[Any]) -> Any:
        """Called by `replace` with what takes this task's place; an override ends with this one."""
        request = self.request
        if request.is_eager or request.message is None:
            return sig.apply().get()
        from fastq.canvas.after import After  # with logging and serializers, for workers alone

        after = After(self.app, request)
        after.send(sig, ())
        request.commit_with(*after.pair())
        raise Ignore("Replaced by new task")

    def send_event(
        self, type_: str, retry: bool = True, retry_policy: Mapping[str, Any] | None = None, **fields: Any
    ) -> None:
        """Send an event of *type_*, as in ``task-progress``, about the task that runs.

        *retry* and *retry_policy* have no say: a connection is tried again for a second. Raises
        `OperationalError`.
        """
        request = self.request
        with self.app.events.default_dispatcher(hostname=request.hostname) as dispatcher:
            dispatcher.send(type_, uuid=request.id, **fields)

    def add_to_chord(self, sig: Signature[Any], lazy: bool = False) -> Any:
        """Let *sig* be one more task of the header of the chord that this task is part of.

        It is sent in the commit that settles this run, and its result is returned; with *lazy* it is
        returned itself, for the caller to send.
        """
        request = self.request
        if not request.chord:
            raise ValueError(f"{self.name}[{request.id}] is not part of a chord")
        sig.set(
            group_id=request.group,
            group_index=request.group_index,
            chord=request.chord,
            root_id=request.root_id,
        )
        if lazy:
            self.app.check_chords()
            result = sig.freeze()
            self.backend.extend_chords([(request.group, 1, result.id)])
            return sig
        from fastq.canvas.after import After

        after = After(self.app, request)
        result = after.send(sig, ())
        # A run that is repeated lets the chord grow no more than once for each.
        number = len(request.effects.extended) if request.effects is not None else 0
        after.effects.extended.append((request.group, 1, f"{request.id}:{number}"))
        request.commit_with(*after.pair())
        request.children.append(result.as_tuple())
        return result

    def retry_lost(self, message: Message) -> list[Message] | None:
        """What runs *message*, whose process died, as `retry` would; None when max_retries are used up."""
        retries = (message.headers.get("retries") or 0) + 1
        if self.max_retries is not None and retries > self.max_retries:
            return None
        eta = sending.from_now(self.app, self.default_retry_delay)
        return sending.retry_of(self.app, message, retries=retries, eta=eta)

    def autoretry(self, exc: Exception) -> Exception:
        """What to end the run with, now that it raised *exc*: a `Retry` if the options ask for one."""
        if isinstance(exc, self.dont_autoretry_for) or not isinstance(exc, self.autoretry_for):
            return exc
        options = dict(self.retry_kwargs)
        if (most := self.request.get("override_max_retries", self.override_max_retries)) is not None:
            options["max_retries"] = most
        if self.retry_backoff:
            factor = max(1.0, float(self.retry_backoff))
            doublings = min(self.request.retries, MAX_DOUBLINGS)
            countdown = min(self.retry_backoff_max, factor * 2**doublings)
            if self.retry_jitter:
                from random import uniform  # 2 ms to import, for retries alone

                countdown = uniform(0, countdown)
            options["countdown"] = countdown
        try:
            return self.retry(exc=exc, throw=False, **options)
        except Exception as final:  # no more retries: *exc* itself, as a rule
            return final

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None) -> None:
        """Store *state*, a custom one as a rule, and *meta* for the task, to be seen by who waits for it.

        Raises `ValueError` outside of a run, unless *task_id* says which one is meant.
        """
        request = self.request
        task_id = task_id or request.id
        if not task_id:
            raise ValueError(f"{self.name} does not run here: update_state needs the task_id of a run")
        self.app.store_state(task_id, state or states.STARTED, meta, request)

    def store_started(self, request: Context) -> None:
        """Store STARTED, with the process and node that run it."""
        import os

        self.app.store_state(
            request.id, states.STARTED, {"pid": os.getpid(), "hostname": request.hostname}, request
        )

    # -- handlers, for subclasses ---------------------------------------------

    def shadow_name(self, args: Any, kwargs: Any, options: Mapping[str, Any]) -> str | None:
        """Name to show in place of the task's for this call; None: the task's own."""
        return None

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called in the worker before the task runs; what it raises fails the task."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called when the task returned."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the task failed."""

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Called when the task is to run again."""

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Called last, however the run ended."""

    def on_bound(self, app: FastQ) -> None:
        """Called when the task becomes *app*'s."""

    # -- for the tracer ---------------------------------------------------------

    def acks_on(self, exc: BaseException) -> bool:
        """Whether a late-acknowledged message is done with when the task raised *exc*."""
        choice = self.acks_on_timeout if isinstance(exc, TimeLimitExceeded) else self.acks_on_failure
        if choice is None:
            choice = self.acks_on_failure_or_timeout
        return choice is not False

    def result_repr(self, value: Any) -> str:
        """*value* for the log."""
        return preview(value, self.resultrepr_maxsize)

    def extended_result(self, request: Context) -> dict[str, Any]:
        """What ``result_extended`` adds to the result document (docs/PROTOCOL.md §5.2)."""
        extended = {
            "name": self.name,
            "args": request.args,
            "kwargs": request.kwargs,
            "worker": request.hostname,
            "retries": request.retries,
            "queue": None if request.message is None else request.message.queue,
        }
        if request.stamped_headers:
            extended["stamped_headers"] = request.stamped_headers
            stamps = request.stamps or {}
            extended |= {name: stamps.get(name) for name in request.stamped_headers}
        return extended

    @property
    def backend(self) -> Any:
        """The app's result backend."""
        return self.app.backend

    @property
    def __name__(self) -> str:
        return self.name.rpartition(".")[2]

    def __repr__(self) -> str:
        return f"<@task: {self.name} of {self.app.main if hasattr(self, 'app') else None!r}>"


def _annotations(setting: Any, task: Task[Any, Any]) -> Iterator[Mapping[str, Any]]:
    """What ``task_annotations`` says of *task*: maps of options, those for every task first."""
    for source in setting if isinstance(setting, list | tuple) else [setting] if setting else []:
        if isinstance(source, Mapping):
            yield from (source[key] for key in ("*", task.name) if key in source)
        else:
            yield from (found for found in (source.annotate_any(), source.annotate(task)) if found)


def _arguments(call: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """(args, kwargs) of one item of `Task.apply_many`."""
    if isinstance(call, Mapping):
        return (), call
    if not isinstance(call, list | tuple):
        raise TypeError(
            f"apply_many takes tuples of arguments, maps of them, or (args, kwargs) pairs, not {call!r}"
        )
    if len(call) == 2 and isinstance(call[0], list | tuple) and isinstance(call[1], Mapping):
        return call[0], call[1]
    return call, {}


Task.base_class = Task  # type: ignore[attr-defined]  # overridden handlers are found by comparing with it
