"""Every exception and warning of fastq, under Celery's names.

Exception
 └ FastQError (CeleryError is the same class)
    ├ ImproperlyConfigured
    │  ├ ChordsUnsupported             also NotImplementedError
    │  └ UnknownSetting                also LookupError
    │     └ SettingNotFound            also KeyError, AttributeError
    ├ SecurityError
    ├ CommandError (CeleryCommandException)
    ├ TaskPredicate                    raised by a task to steer what becomes of it
    │  ├ Ignore
    │  ├ Reject
    │  └ Retry
    ├ TaskError
    │  ├ QueueNotFound                 also KeyError
    │  ├ NotRegistered                 also KeyError
    │  ├ AlreadyRegistered
    │  ├ IncompleteStream
    │  ├ TimeoutError                  also the builtin TimeoutError
    │  ├ MaxRetriesExceededError
    │  ├ TaskRevokedError
    │  ├ InvalidTaskError
    │  └ ChordError
    ├ ExecutionError                   the pool ended the task, not its own code
    │  ├ SoftTimeLimitExceeded
    │  ├ TimeLimitExceeded
    │  ├ WorkerLostError
    │  └ Terminated
    ├ BackendError
    │  ├ BackendGetMetaError
    │  └ BackendStoreError
    ├ SerializationError
    │  ├ EncodeError                   also TypeError, as json.dumps raises
    │  ├ DecodeError                   also ValueError, as json.loads raises
    │  ├ SerializerNotInstalled        also LookupError
    │  └ ContentDisallowed
    ├ PoolRefused                      a pool can't do what remote control asks
    └ OperationalError                 also ConnectionError
       └ RemoteProtocolError
SystemExit
 ├ WorkerShutdown
 └ WorkerTerminate
UserWarning
 └ FastQWarning (CeleryWarning)
    ├ AlwaysEagerIgnored
    ├ DuplicateNodenameWarning
    ├ DuplicateTaskNameWarning
    ├ FixupWarning
    ├ NotConfigured
    └ SecurityWarning
DeprecationWarning         ─ CDeprecationWarning
PendingDeprecationWarning  ─ CPendingDeprecationWarning
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from datetime import datetime
from types import TracebackType
from typing import IO, Any, NoReturn

__all__ = (
    "AlreadyRegistered",
    "AlwaysEagerIgnored",
    "BackendError",
    "BackendGetMetaError",
    "BackendStoreError",
    "CDeprecationWarning",
    "CPendingDeprecationWarning",
    "CeleryCommandException",
    "CeleryError",
    "CeleryWarning",
    "ChordError",
    "ChordsUnsupported",
    "CommandError",
    "ContentDisallowed",
    "DecodeError",
    "DuplicateNodenameWarning",
    "DuplicateTaskNameWarning",
    "EncodeError",
    "ExecutionError",
    "FastQError",
    "FastQWarning",
    "FixupWarning",
    "Ignore",
    "ImproperlyConfigured",
    "IncompleteStream",
    "InvalidTaskError",
    "MaxRetriesExceededError",
    "NotConfigured",
    "NotRegistered",
    "OperationalError",
    "QueueNotFound",
    "Reject",
    "RemoteProtocolError",
    "Retry",
    "SecurityError",
    "SecurityWarning",
    "SerializationError",
    "SerializerNotInstalled",
    "SettingNotFound",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "Terminated",
    "TimeLimitExceeded",
    "TimeoutError",
    "UnknownSetting",
    "WorkerLostError",
    "WorkerShutdown",
    "WorkerTerminate",
    "nearest_name",
    "reraise",
)


def reraise(tp: type[BaseException], value: BaseException, tb: TracebackType | None = None) -> NoReturn:
    """Raise *value* with the traceback *tb*; *tp* is there for Celery's callers and unused."""
    if value.__traceback__ is not tb:
        raise value.with_traceback(tb)
    raise value


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the name of *known* nearest to *name*, or an empty string."""
    from difflib import get_close_matches  # only errors need it, and it takes 1 ms to import

    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


class FastQError(Exception):
    """The root of all errors of fastq."""


CeleryError = FastQError


class ImproperlyConfigured(FastQError):
    """A setting, or an argument of the application, that can't be used as it stands."""


class ChordsUnsupported(ImproperlyConfigured, NotImplementedError):
    """A chord was called, and nothing counts its parts; the one argument is ``result_backend``."""

    def __str__(self) -> str:
        backend = self.args[0] if self.args else None
        what = f"result_backend is {backend!r}" if backend else "no result_backend is set"
        return f"a chord needs a backend that counts its tasks, and {what}: set it to redis:// or sqlite://"


class UnknownSetting(ImproperlyConfigured, LookupError):
    """A configuration key that no part of fastq reads."""

    def __init__(self, name: str, known: Iterable[str] = (), source: str = "") -> None:
        self.known = list(known)
        self.source = source
        where = f"{source}: " if source else ""
        self.message = (
            f"{where}no setting is named {name!r}: correct or remove it{nearest_name(name, self.known)}"
        )
        super().__init__(self.message)
        self.name = name

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.name, self.known, self.source)


class SettingNotFound(UnknownSetting, KeyError, AttributeError):  # type: ignore[misc]  # `name` is str here
    """A setting that was read and does not exist, as an item (KeyError) or an attribute (AttributeError)."""


class SecurityError(FastQError):
    """A signature, certificate or key that is missing or wrong."""


class CommandError(FastQError):
    """A command that ends with the status *exit_code* after telling *message*."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        self.message = message
        self.exit_code = exit_code
        super().__init__(message, exit_code)

    def __str__(self) -> str:
        return self.message

    def format_message(self) -> str:
        """Return the message, as a ``click.ClickException`` does."""
        return self.message

    def show(self, file: IO[str] | None = None) -> None:
        """Print the message to *file*, standard error if None."""
        import sys

        print(f"Error: {self.message}", file=file or sys.stderr)


CeleryCommandException = CommandError


class TaskPredicate(FastQError):
    """The root of what a task raises to steer what becomes of it."""


class Ignore(TaskPredicate):
    """Raised by a task: store no state and no result, and acknowledge the message."""


class Reject(TaskPredicate):
    """Raised by a task: reject its message, or put it back in its queue if *requeue*."""

    def __init__(self, reason: object = None, requeue: bool = False) -> None:
        self.reason = reason
        self.requeue = requeue
        super().__init__(reason, requeue)

    def __repr__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class Retry(TaskPredicate):
    """Raised by ``Task.retry``: the task runs again later.

    *when* is a countdown in seconds or the moment as a datetime. *exc* is the error that led here,
    or its text; `excs` is its text in both cases. *sig* is the call to repeat in eager mode,
    as (args, kwargs).
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | str | None = None,
        when: float | datetime | None = None,
        is_eager: bool = False,
        sig: Any = None,
    ) -> None:
        self.message = message
        self.exc = None if isinstance(exc, str) else exc
        self.excs = exc if isinstance(exc, str) else _safe_repr(exc) if exc is not None else None
        self.when = when
        self.is_eager = is_eager
        self.sig = sig
        super().__init__(message, exc, when)

    def humanize(self) -> str:
        """Say when the task runs again: ``in 10s`` or ``at 2026-01-01 00:00:00``."""
        return f"in {self.when}s" if isinstance(self.when, int | float) else f"at {self.when}"

    def __str__(self) -> str:
        if self.message:
            return self.message
        return f"Retry {self.humanize()}: {self.excs}" if self.excs else f"Retry {self.humanize()}"

    def __reduce__(self) -> tuple[Any, ...]:
        # Not the signature: it holds the application, which can't be pickled.
        return type(self), (self.message, self.exc or self.excs, self.when, self.is_eager)


def _safe_repr(value: object) -> str:
    try:
        return repr(value)
    except Exception as exc:  # a user's __repr__ may raise anything, and a retry must not fail for it
        return f"<unrepresentable {type(value).__name__}: {type(exc).__name__}>"


class TaskError(FastQError):
    """The root of errors about a task and its result."""


class QueueNotFound(TaskError, KeyError):
    """A task routed to a queue that is not declared, while ``task_create_missing_queues`` is off."""

    def __str__(self) -> str:
        return Exception.__str__(self)  # KeyError would put the text in quotes


class NotRegistered(TaskError, KeyError):
    """A task of this name is not registered; the name is the one argument."""

    def __str__(self) -> str:
        name = self.args[0] if self.args else None
        return f"no task is registered as {name!r}: import the module that defines it (imports, include)"


class AlreadyRegistered(TaskError):
    """A task of this name is registered already."""


class IncompleteStream(TaskError):
    """The end of a stream came before the end of its data."""


class TimeoutError(TaskError, builtins.TimeoutError):
    """The operation did not end in its time."""


class MaxRetriesExceededError(TaskError):
    """A task has been retried as often as it may."""

    def __init__(self, *args: object, task_args: Any = (), task_kwargs: Any = None) -> None:
        self.task_args = task_args or []
        self.task_kwargs = task_kwargs or {}
        super().__init__(*args)


class TaskRevokedError(TaskError):
    """The task was revoked or has expired: there is no result."""


class InvalidTaskError(TaskError):
    """A task message, or the arguments of a task, that is not what it must be."""


class ChordError(TaskError):
    """A task of a chord's header failed, so its body does not run."""


class ExecutionError(FastQError):
    """The root of what ends a task from outside its own code."""

    def __str__(self) -> str:
        # Celery shows the class and its arguments; results that its clients read say it so.
        return f"{type(self).__name__}{self.args}"


class SoftTimeLimitExceeded(ExecutionError):
    """Raised in a task at its soft time limit, so that it can clean up.

    The argument is the limit in seconds.
    """


class TimeLimitExceeded(ExecutionError):
    """A task was ended at its hard time limit; the argument is the limit in seconds."""


class WorkerLostError(ExecutionError):
    """The process that ran the task died."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class Terminated(ExecutionError):
    """The task was ended by ``revoke(terminate=True)``."""

    def __str__(self) -> str:
        return Exception.__str__(self)


class BackendError(FastQError):
    """A result backend that failed to do what was asked."""


class BackendGetMetaError(BackendError):
    """The state of the task *task_id* could not be read."""

    def __init__(self, *args: object, task_id: str = "") -> None:
        self.task_id = task_id
        super().__init__(*args)

    def __repr__(self) -> str:
        return f"{super().__repr__()} task_id:{self.task_id}"


class BackendStoreError(BackendError):
    """The *state* of the task *task_id* could not be stored."""

    def __init__(self, *args: object, state: str = "", task_id: str = "") -> None:
        self.state = state
        self.task_id = task_id
        super().__init__(*args)

    def __repr__(self) -> str:
        return f"{super().__repr__()} state:{self.state} task_id:{self.task_id}"


class SerializationError(FastQError):
    """The root of errors of serializers and compression."""


class EncodeError(SerializationError, TypeError):
    """A value that the serializer can't write."""


class DecodeError(SerializationError, ValueError):
    """A message or a body that is not what it claims to be."""


class SerializerNotInstalled(SerializationError, LookupError):
    """A serializer or compression method that is not known, or whose library is not installed."""


class ContentDisallowed(SerializationError):
    """A body whose content type is not in ``accept_content``."""


class PoolRefused(FastQError):
    """What a worker's pool has no way to do."""


class OperationalError(FastQError, ConnectionError):
    """A broker or result backend that can't be reached."""

    is_passing = True  # whether another attempt may succeed


class RemoteProtocolError(OperationalError):
    """What a broker sent breaks its protocol; the connection that it came on is of no use any more."""


class WorkerShutdown(SystemExit):
    """Raised in a worker to stop it once its running tasks are done."""


class WorkerTerminate(SystemExit):
    """Raised in a worker to stop it at once."""


class FastQWarning(UserWarning):
    """The root of all warnings of fastq."""


CeleryWarning = FastQWarning


class AlwaysEagerIgnored(FastQWarning):
    """``send_task`` does not heed ``task_always_eager``: a name alone can't be run here."""


class DuplicateNodenameWarning(FastQWarning):
    """Several workers have the same node name."""


class DuplicateTaskNameWarning(FastQWarning):
    """Several functions are registered under one task name."""


class FixupWarning(FastQWarning):
    """An integration with a framework is set up in a way that will not work."""


class NotConfigured(FastQWarning):
    """No configuration was found where one was asked for."""


class SecurityWarning(FastQWarning):
    """A set-up that lets others run code or read secrets."""


class CDeprecationWarning(DeprecationWarning):
    """A use that will stop working."""


class CPendingDeprecationWarning(PendingDeprecationWarning):
    """A use that will be deprecated."""
