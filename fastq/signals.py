"""Signals: functions of the user called at the moments of a task, a worker and an application.

A receiver is called as ``receiver(signal=, sender=, **named)``. One that raises is logged, and its
exception stands in the answer of `Signal.send`; the other receivers are still called.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator
from time import sleep
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

if TYPE_CHECKING:
    import logging

Receiver = Callable[..., Any]
R = TypeVar("R", bound=Receiver)

_CO_VARKEYWORDS = 0x08  # inspect.CO_VARKEYWORDS; importing inspect costs 8 ms


class Connection(NamedTuple):
    """One receiver of a signal."""

    key: Hashable  # what makes it the same as another one: it is called once
    sender: object  # None: every sender
    call: Receiver | weakref.ReferenceType[Receiver]


class Signal:
    """A moment that functions can be connected to.

    `receivers` is the list of connections, empty and so false when nobody listens; hot paths look
    there before they gather the arguments. It is replaced, never changed, so it may be read without
    the lock.
    """

    def __init__(self, name: str = "", providing_args: Iterable[str] = ()) -> None:
        self.name = name
        self.providing_args = frozenset(providing_args)
        self.receivers: list[Connection] = []
        self._has_dead = False
        self._lock = threading.Lock()  # guards the replacement of receivers

    @overload
    def connect(self, receiver: R, sender: object = ..., weak: bool = ..., dispatch_uid: Hashable = ...,
                retry: bool = ...) -> R: ...  # fmt: skip

    @overload
    def connect(self, receiver: None = ..., sender: object = ..., weak: bool = ...,
                dispatch_uid: Hashable = ..., retry: bool = ...) -> Callable[[R], R]: ...  # fmt: skip

    def connect(
        self,
        receiver: Receiver | None = None,
        sender: object = None,
        weak: bool = True,
        dispatch_uid: Hashable = None,
        retry: bool = False,
    ) -> Any:
        """Call *receiver* at every `send` from *sender* (None: from all); also a decorator.

        It is held by a weak reference unless *weak* is false. The same receiver, or another one with
        the same *dispatch_uid*, is connected to a sender once. With *retry*, a receiver that raises
        is called again, after 2 to 30 seconds of waiting in the sender's thread, until it does not;
        it is then held strongly. A receiver that takes no ``**kwargs`` raises ValueError: later
        versions may send more arguments.
        """
        if receiver is None:
            return lambda function: self.connect(function, sender, weak, dispatch_uid, retry)
        if not callable(receiver):
            raise TypeError(f"a receiver of {self.name} must be callable, not {receiver!r}")
        if not _takes_kwargs(receiver):
            raise ValueError(f"the receiver {receiver!r} of {self.name} must accept **kwargs")
        key = (dispatch_uid or _identity(receiver), _identity(sender))
        if retry:
            call: Any = _Retried(receiver)
        elif weak:
            is_method = hasattr(receiver, "__self__") and hasattr(receiver, "__func__")
            call = (weakref.WeakMethod if is_method else weakref.ref)(receiver, self._note_dead)
        else:
            call = receiver
        with self._lock:
            alive = self._alive()
            if all(known.key != key for known in alive):
                alive.append(Connection(key, sender, call))
            self.receivers = alive
        return receiver

    def disconnect(
        self,
        receiver: Receiver | None = None,
        sender: object = None,
        weak: bool | None = None,
        dispatch_uid: Hashable = None,
    ) -> bool:
        """Undo a `connect` with the same *receiver* or *dispatch_uid* and *sender*; whether there was one.

        *weak* has no effect; Celery's signature has it.
        """
        key = (dispatch_uid or _identity(receiver), _identity(sender))
        with self._lock:
            alive = self._alive()
            self.receivers = [known for known in alive if known.key != key]
            return len(self.receivers) < len(alive)

    def has_listeners(self, sender: object = None) -> bool:
        """Whether a `send` from *sender* would call anyone."""
        return any(True for _ in self._live_receivers(sender))

    def send(self, sender: object, **named: Any) -> list[tuple[Receiver, Any]]:
        """Call the receivers connected to *sender*; return each with its answer or exception, in order."""
        answers: list[tuple[Receiver, Any]] = []
        if not self.receivers:
            return answers
        for receiver in self._live_receivers(sender):
            try:
                answer = receiver(signal=self, sender=sender, **named)
            except Exception as exc:
                _logger().exception("Signal handler %r raised: %r", receiver, exc)
                answer = exc
            answers.append((receiver, answer))
        return answers

    send_robust = send

    def __repr__(self) -> str:
        return f"<Signal: {self.name} providing_args={sorted(self.providing_args)}>"

    def _live_receivers(self, sender: object) -> Iterator[Receiver]:
        if self._has_dead:
            with self._lock:
                self.receivers = self._alive()
        # Names (of tasks, of nodes) are compared by value, everything else by identity.
        is_name = isinstance(sender, str)
        for connection in self.receivers:
            wanted = connection.sender
            is_same_name = is_name and isinstance(wanted, str) and wanted == sender
            if wanted is None or wanted is sender or is_same_name:
                call = connection.call
                receiver = call() if isinstance(call, weakref.ReferenceType) else call
                if receiver is not None:
                    yield receiver

    def _alive(self) -> list[Connection]:
        self._has_dead = False
        return [
            known
            for known in self.receivers
            if not isinstance(known.call, weakref.ReferenceType) or known.call() is not None
        ]

    def _note_dead(self, reference: object) -> None:
        # Only a note: the garbage collector may call this while this very thread holds the lock.
        self._has_dead = True


class _Retried:
    """A receiver that is called until it does not raise."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def __call__(self, **named: Any) -> Any:
        seconds = 0
        while True:
            try:
                return self.receiver(**named)
            except Exception as exc:
                seconds = min(seconds + 2, 30)  # as in Celery: 2 s, 4 s, ... 30 s
                _logger().error("Signal handler %r raised: %r. Retrying in %d s", self.receiver, exc, seconds)
                sleep(seconds)

    def __repr__(self) -> str:
        return repr(self.receiver)


def _logger() -> logging.Logger:
    import logging  # 5 ms to import, for a receiver that raises

    return logging.getLogger(__name__)


def _identity(target: object) -> Hashable:
    if target is None or isinstance(target, str | bytes):
        return target
    function = getattr(target, "__func__", None)
    if function is not None:  # a bound method is a new object at every access
        return id(getattr(target, "__self__", None)), id(function)
    return id(target)


def _takes_kwargs(receiver: Receiver) -> bool:
    code = getattr(getattr(receiver, "__func__", receiver), "__code__", None)
    return code is None or bool(code.co_flags & _CO_VARKEYWORDS)


# Publishing
before_task_publish = Signal(
    "before_task_publish",
    ("body", "exchange", "routing_key", "headers", "properties", "declare", "retry_policy"),
)
after_task_publish = Signal("after_task_publish", ("body", "exchange", "routing_key", "headers"))

# Running a task
task_received = Signal("task_received", ("request",))
task_prerun = Signal("task_prerun", ("task_id", "task", "args", "kwargs"))
task_postrun = Signal("task_postrun", ("task_id", "task", "args", "kwargs", "retval", "state"))
task_success = Signal("task_success", ("result", "runtime"))
task_retry = Signal("task_retry", ("request", "reason", "einfo"))
task_failure = Signal("task_failure", ("task_id", "exception", "args", "kwargs", "traceback", "einfo"))
task_internal_error = Signal(
    "task_internal_error", ("task_id", "args", "kwargs", "request", "exception", "traceback", "einfo")
)
task_revoked = Signal("task_revoked", ("request", "terminated", "signum", "expired"))
task_rejected = Signal("task_rejected", ("message", "exc"))
task_unknown = Signal("task_unknown", ("message", "exc", "name", "id"))
task_sent = Signal("task_sent", ("task_id", "task", "args", "kwargs", "eta", "taskset"))

# The worker's program and its life
celeryd_init = Signal("celeryd_init", ("instance", "conf", "options"))
celeryd_after_setup = Signal("celeryd_after_setup", ("instance", "conf"))
import_modules = Signal("import_modules")
worker_init = Signal("worker_init")
worker_before_create_process = Signal("worker_before_create_process")
worker_process_init = Signal("worker_process_init")
worker_process_shutdown = Signal("worker_process_shutdown", ("pid", "exitcode"))
worker_ready = Signal("worker_ready")
worker_shutdown = Signal("worker_shutdown")
worker_shutting_down = Signal("worker_shutting_down", ("sig", "how", "exitcode"))
heartbeat_sent = Signal("heartbeat_sent")

# Logging
setup_logging = Signal("setup_logging", ("loglevel", "logfile", "format", "colorize"))
after_setup_logger = Signal("after_setup_logger", ("logger", "loglevel", "logfile", "format", "colorize"))
after_setup_task_logger = Signal(
    "after_setup_task_logger", ("logger", "loglevel", "logfile", "format", "colorize")
)

# Beat
beat_init = Signal("beat_init")
beat_embedded_init = Signal("beat_embedded_init")

# The eventlet pool
eventlet_pool_started = Signal("eventlet_pool_started")
eventlet_pool_preshutdown = Signal("eventlet_pool_preshutdown")
eventlet_pool_postshutdown = Signal("eventlet_pool_postshutdown")
eventlet_pool_apply = Signal("eventlet_pool_apply", ("target", "args", "kwargs"))

# Commands
user_preload_options = Signal("user_preload_options", ("app", "options"))
