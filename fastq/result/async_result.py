"""The result of one task, as its caller sees it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fastq import states
from fastq.app.current import app_or_default
from fastq.exceptions import ImproperlyConfigured, TimeoutError
from fastq.result.base import ResultBase, result_from_tuple
from fastq.result.joining import assert_will_not_block
from fastq.serialization import exception_from_map

if TYPE_CHECKING:
    from fastq.app.base import FastQ

R = TypeVar("R")

PENDING_META: dict[str, Any] = {"status": states.PENDING, "result": None, "traceback": None, "children": None}


class AsyncResult(ResultBase, Generic[R]):
    """The outcome, now or later, of the task with this id."""

    __slots__ = ("_meta", "app", "id", "ignored", "parent", "task_name")

    id: str
    TimeoutError = TimeoutError

    def __init__(
        self,
        id: str,
        backend: Any = None,
        task_name: str | None = None,
        app: FastQ | None = None,
        parent: ResultBase | None = None,
    ) -> None:
        if not id:
            raise ValueError(f"AsyncResult needs a task id, not {id!r}")
        self.id = id
        self.app = app_or_default() if app is None else app
        self.task_name = task_name
        self.parent = parent
        self.ignored = False
        self._meta: dict[str, Any] | None = None

    # -- waiting --------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        on_message: Callable[[dict[str, Any]], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Wait for the task and return its result.

        Raises what the task raised (unless *propagate* is false: then it is returned), and
        `TimeoutError` after *timeout* seconds. *on_message* is called with each state that
        is stored meanwhile, *on_interval* every *interval* seconds, *callback* with the id
        and the result. Woken by the backend: nothing polls.
        """
        if self.ignored:
            return None  # type: ignore[return-value]
        if disable_sync_subtasks and self._may_block():
            assert_will_not_block()
        if follow_parents and propagate and self.parent is not None:
            self.parent.get(timeout=timeout, disable_sync_subtasks=disable_sync_subtasks)
        meta = self._meta or self._wait(timeout, interval, on_message, on_interval)
        if propagate:
            self._raise_error(meta, callback)
        if callback is not None:
            callback(self.id, meta["result"])
        return meta["result"]  # type: ignore[no-any-return]

    wait = get

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> R:
        """As `get`, without blocking the event loop."""
        return await self.app.in_thread(
            self.get, timeout=timeout, propagate=propagate, disable_sync_subtasks=False
        )

    def __await__(self) -> Any:
        return self.aget().__await__()

    def _wait(
        self,
        timeout: float | None,
        interval: float,
        on_message: Callable[[dict[str, Any]], Any] | None,
        on_interval: Callable[[], Any] | None,
    ) -> dict[str, Any]:
        deadline = None if timeout is None else time.monotonic() + timeout
        backend = self._backend()
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            patience = left if on_interval is None else interval if left is None else min(left, interval)
            for _, document in backend.wait((self.id,), patience):
                meta = self._decode(document)
                if on_message is not None:
                    on_message(meta)
                if meta["status"] in states.READY_STATES:
                    self._meta = meta
                    return meta
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError(
                    f"the task {self.id} has no result after {timeout} s; its state is {self.state}"
                )
            if on_interval is not None:
                on_interval()

    def _raise_error(self, meta: dict[str, Any], callback: Callable[[str, Any], Any] | None) -> None:
        if meta["status"] not in states.PROPAGATE_STATES:
            return
        if callback is not None:
            callback(self.id, meta["result"])
        error = meta["result"]
        if meta["traceback"] and self.app.conf.task_remote_tracebacks:
            error.__cause__ = RemoteTraceback(meta["traceback"])
        raise error

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], Any] | None = None) -> Any:
        """Raise what the task raised, if it is known to have failed; else return the result as it is."""
        meta = self._fetch()
        if propagate:
            self._raise_error(meta, callback)
        return meta["result"]

    maybe_reraise = maybe_throw

    def throw(self, *args: Any, **kwargs: Any) -> Any:
        """Raise what the task raised; the result if it returned."""
        return self.maybe_throw(*args, **kwargs)

    def _may_block(self) -> bool:
        """Whether `get` may wait for a task that a worker has still to run."""
        return True

    # -- looking ----------------------------------------------------------------

    def _backend(self) -> Any:
        backend = self.app.backend
        if backend is None:
            raise ImproperlyConfigured(
                f"the result of {self.id} is kept nowhere: no result backend is set; set result_backend, "
                "to the broker's own URL for example"
            )
        return backend

    def _decode(self, document: bytes) -> dict[str, Any]:
        meta: dict[str, Any] = self.app.load_result(document)
        # Celery stores None for a retry without a cause.
        is_bare = meta["status"] == states.RETRY and meta["result"] is None
        if meta["status"] in states.EXCEPTION_STATES and not is_bare:
            meta["result"] = exception_from_map(meta["result"])
        return meta

    def _fetch(self) -> dict[str, Any]:
        """What is stored now; a final state is remembered."""
        if self._meta is not None:
            return self._meta
        document = self._backend().fetch((self.id,))[0]
        if document is None:
            return PENDING_META
        meta = self._decode(document)
        if meta["status"] in states.READY_STATES:
            self._meta = meta
        return meta

    @property
    def state(self) -> str:
        """The task's state; PENDING also when nothing is known of it."""
        return self._fetch()["status"]  # type: ignore[no-any-return]

    status = state

    @property
    def result(self) -> Any:
        """What the task returned or raised, or the meta data of its state; None while there is nothing."""
        return self._fetch()["result"]

    info = result

    @property
    def traceback(self) -> str | None:
        """The traceback of a task that failed, as text."""
        return self._fetch().get("traceback")

    @property
    def children(self) -> list[AsyncResult[Any]] | None:
        """Results of the tasks that this one sent."""
        children = self._fetch().get("children")
        return None if children is None else [result_from_tuple(child, self.app) for child in children]

    @property
    def date_done(self) -> Any:
        """When the task ended, as a datetime in UTC; None before."""
        from datetime import datetime

        text = self._fetch().get("date_done")
        return datetime.fromisoformat(text) if isinstance(text, str) else text

    @property
    def name(self) -> str | None:
        """The task's name, with ``result_extended``."""
        return self._fetch().get("name") or self.task_name

    @property
    def args(self) -> Any:
        """The positional arguments, with ``result_extended``."""
        return self._fetch().get("args")

    @property
    def kwargs(self) -> Any:
        """The keyword arguments, with ``result_extended``."""
        return self._fetch().get("kwargs")

    @property
    def worker(self) -> str | None:
        """The node that ran the task, with ``result_extended``."""
        return self._fetch().get("worker")

    @property
    def retries(self) -> int | None:
        """How often the task was retried, with ``result_extended``."""
        return self._fetch().get("retries")

    @property
    def queue(self) -> str | None:
        """The queue that the task came from, with ``result_extended``."""
        return self._fetch().get("queue")

    def exists(self) -> bool:
        """Whether anything is stored for this id; a state of PENDING can't tell."""
        return self._meta is not None or self._backend().fetch((self.id,))[0] is not None

    def ready(self) -> bool:
        """Whether the task has ended."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Whether the task returned."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether the task raised."""
        return self.state == states.FAILURE

    def forget(self) -> None:
        """Delete the stored result."""
        self._meta = None
        self._backend().forget((self.id,))

    # -- being a value --------------------------------------------------------

    @property
    def backend(self) -> Any:
        """Where the result is kept."""
        return self.app.backend

    @property
    def task_id(self) -> str:
        """The id, by its other name."""
        return self.id

    def as_tuple(self) -> Any:
        """The form in which a result travels (docs/PROTOCOL.md §5.2)."""
        return ((self.id, None), None) if self.parent is None else super().as_tuple()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return self.id == other.id
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"

    def __reduce__(self) -> Any:
        return type(self), (self.id, None, self.task_name, None, self.parent)


class RemoteTraceback(Exception):
    """Carries the text of a traceback from the worker, as the cause of what is raised here."""

    def __init__(self, traceback: str) -> None:
        super().__init__(f'\n"""\n{traceback}"""')
