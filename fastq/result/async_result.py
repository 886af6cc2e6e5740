"""The result of one task, as its caller sees it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from fastq import states
from fastq.app.current import app_or_default
from fastq.exceptions import TimeoutError
from fastq.result.base import ResultBase, family, lineage, result_from_tuple
from fastq.result.joining import assert_will_not_block
from fastq.result.tree import build_graph, iterdeps
from fastq.result.waiting import Kin, Meta, Wait, forget, looked_at
from fastq.serialization import exception_from_map

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.backends.base import Backend
    from fastq.utils.graph import DependencyGraph, GraphFormatter

R = TypeVar("R")

PENDING_META: Meta = {"status": states.PENDING, "result": None, "traceback": None, "children": None}
# Earlier steps that are watched beside the result itself, so that the failure of one is seen at once;
# of a chord with more one looks now and then, as each of them would send its document here.
WATCHED = 1000


class AsyncResult(ResultBase, Generic[R]):
    """The outcome, now or later, of the task with this id."""

    __slots__ = ("_backend", "_listeners", "_meta", "app", "id", "ignored", "parent", "task_name")

    id: str
    TimeoutError = TimeoutError
    supports_native_join = True
    is_stored: ClassVar[bool] = True  # in a backend

    def __init__(
        self,
        id: str,
        backend: Backend | None = None,
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
        self._backend = backend
        self._meta: Meta | None = None  # what is stored, once the task has ended
        self._listeners: list[Callable[[AsyncResult[R]], Any]] | None = None

    # -- waiting --------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], Any] | None = None,
        on_message: Callable[[Meta], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Wait for the task and return its result.

        Raises what the task raised (unless *propagate* is false: then it is returned), or, with
        *follow_parents*, what an earlier step of its chain did, and `TimeoutError` after
        *timeout* seconds. *on_message* is called with each state that is stored meanwhile,
        *on_interval* every *interval* seconds, *callback* with the id and the result. Woken by
        the backend: nothing polls.
        """
        if self.ignored:
            return None  # type: ignore[return-value]
        if disable_sync_subtasks and self.may_block():
            assert_will_not_block()
        wait = Wait(timeout, interval, on_message, on_interval)
        if propagate and follow_parents and self.parent is not None:
            self._wait_after_kin(wait)
        elif self._meta is None:
            next(wait.until_ended([self]), None)
        if self._meta is None:
            raise TimeoutError(
                f"the task {self.id} has no result after {timeout} s; its state is {self.state}"
            )
        return self._value(propagate, callback)  # type: ignore[no-any-return]

    wait = get

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> R:
        """As `get`, without blocking the event loop."""
        return await self.app.in_thread(
            self.get, timeout=timeout, propagate=propagate, disable_sync_subtasks=False
        )

    def __await__(self) -> Generator[Any, None, R]:
        return self.aget().__await__()

    def _wait_after_kin(self, wait: Wait) -> None:
        """Wait for the end, and raise what an earlier step raised as soon as that is known."""
        kin = lineage(self)
        for each in kin:
            each.raise_failure()
        unknown = [each for each in kin if not each.has_ended and not each.ignored]
        if len(unknown) > WATCHED:
            distant = Kin(unknown)
            if self._meta is None:
                wait.look_at(distant)
                next(wait.until_ended([self]), None)
            if self.failed():
                distant.look()
        elif self._meta is not None:
            Kin(unknown).look()
        else:
            for ended in wait.until_ended([*unknown, self]):
                if ended is self:
                    break
                ended.raise_failure()

    def then(
        self,
        callback: Callable[[AsyncResult[R]], Any],
        on_error: Callable[[BaseException], Any] | None = None,
        weak: bool = False,
    ) -> AsyncResult[R]:
        """Call *callback* with this result as soon as it is known here to have ended.

        As in Celery that is when `get`, `ready` or the like of this very object reads it; nothing
        waits in the background. Of a task that failed the exception goes to *on_error*, if that is
        given. *weak* is accepted and not needed.
        """

        def tell(result: AsyncResult[R]) -> None:
            if on_error is not None and result.known["status"] in states.PROPAGATE_STATES:
                on_error(_exception(result.known["result"]))
            else:
                callback(result)

        if self._meta is not None:
            tell(self)
        else:
            self._listeners = [*(self._listeners or ()), tell]
        return self

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], Any] | None = None) -> Any:
        """Raise what the task raised, if it is known to have failed; else return the result as it is."""
        self._fetch()
        return self._value(propagate, callback) if self._meta is not None else self.info

    maybe_reraise = maybe_throw

    def throw(self, *args: Any, **kwargs: Any) -> Any:
        """Raise what the task raised; the result if it returned."""
        return self.maybe_throw(*args, **kwargs)

    def raise_failure(self) -> None:
        """Raise what the task raised, if it is known here to have failed."""
        meta = self._meta
        if meta is None or meta["status"] not in states.PROPAGATE_STATES:
            return
        error = _exception(meta["result"])
        if meta["traceback"] and self.app.conf.task_remote_tracebacks:
            error.__cause__ = RemoteTraceback(meta["traceback"])
        raise error

    def _value(self, propagate: bool, callback: Callable[[str, Any], Any] | None) -> Any:
        """What the task, which has ended, returned or raised."""
        if propagate:
            self.raise_failure()
        value = self.known["result"]
        if callback is not None:
            callback(self.id, value)
        return value

    def may_block(self) -> bool:
        """Whether `get` may wait for a task that a worker has still to run."""
        return True

    # -- looking ----------------------------------------------------------------

    @property
    def known(self) -> Meta:
        """What is known here, without asking the backend: nothing, or how the task has ended."""
        return PENDING_META if self._meta is None else self._meta

    @property
    def has_ended(self) -> bool:
        """Whether it is known here that the task has ended."""
        return self._meta is not None

    def read(self, document: bytes) -> Meta:
        """What a stored document says."""
        meta = self.app.load_result(document)
        # Celery stores None for a retry without a cause.
        is_bare = meta["status"] == states.RETRY and meta["result"] is None
        if meta["status"] in states.EXCEPTION_STATES and not is_bare:
            meta["result"] = exception_from_map(meta["result"])
        return meta

    def learn(self, meta: Meta) -> None:
        """Keep how the task has ended, and tell who asked for it with `then`."""
        self._meta = meta
        listeners, self._listeners = self._listeners, None
        for tell in listeners or ():
            tell(self)

    def unlearn(self) -> None:
        """Know nothing of how the task has ended."""
        self._meta = None

    def _fetch(self) -> Meta:
        """What is stored now; a final state is remembered."""
        ((_, meta),) = looked_at([self])
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
    def children(self) -> list[Any] | None:
        """Results of the tasks and groups that this task sent; None while nothing is stored."""
        meta = self._fetch()
        children = meta.get("children")
        if children:
            # Kept, so that each of them keeps what it learns.
            children = meta["children"] = [result_from_tuple(child, self.app) for child in children]
        return children

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
        return self._meta is not None or self.stored_in().fetch((self.id,))[0] is not None

    def ready(self) -> bool:
        """Whether the task has ended."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Whether the task returned."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether the task raised."""
        return self.state == states.FAILURE

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Let the task not start any more; with *terminate* end it if it runs.

        With *wait* return when the workers have said so, or none has replied for *timeout* seconds (1).
        """
        options: dict[str, Any] = {
            "terminate": terminate,
            "signal": signal,
            "reply": wait,
            "timeout": timeout,
        }
        self.app.control.revoke(self.id, **options)

    def revoke_by_stamped_headers(
        self,
        headers: dict[str, Any],
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Let all tasks with one of these stamps not start any more; as `revoke`."""
        options: dict[str, Any] = {
            "terminate": terminate,
            "signal": signal,
            "reply": wait,
            "timeout": timeout,
        }
        self.app.control.revoke_by_stamped_headers(headers, **options)

    def forget(self) -> None:
        """Delete the stored results of this task and of the earlier steps of its chain."""
        forget(family([self]))

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Yield (parent, result) for this result and all that its task and their tasks sent.

        Raises `IncompleteStream` after one that has not ended, unless *intermediate* is true.
        """
        return iterdeps(self, intermediate)

    def collect(self, intermediate: bool = False, **options: Any) -> Iterator[tuple[Any, Any]]:
        """Wait for this result and all that its task and their tasks sent, and yield (result, value) of each.

        *options* are those of `get`.
        """
        for _, result in iterdeps(self, intermediate):
            yield result, result.get(**options)

    def get_leaf(self) -> Any:
        """Wait for this result and all that its task and their tasks sent, and return the last value."""
        value = None
        for _, result in iterdeps(self):
            value = result.get()
        return value

    def build_graph(
        self, intermediate: bool = False, formatter: GraphFormatter | None = None
    ) -> DependencyGraph:
        """What this task and its tasks sent, as a graph of results."""
        return build_graph(self, intermediate, formatter)

    @property
    def graph(self) -> DependencyGraph:
        """What this task and its tasks sent, once all of them have ended."""
        return build_graph(self)

    # -- being a value --------------------------------------------------------

    @property
    def backend(self) -> Backend | None:
        """Where the result is kept."""
        return self.app.backend if self._backend is None else self._backend

    @property
    def task_id(self) -> str:
        """The id, by its other name."""
        return self.id

    def as_tuple(self) -> Any:
        """The form in which a result travels (docs/PROTOCOL.md §5.2)."""
        return ((self.id, None), None) if self.parent is None else super().as_tuple()

    def as_list(self) -> list[str]:
        """Its id, and those of the earlier steps of its chain, back to the first."""
        ids = []
        node: Any = self
        while node is not None:
            ids.append(node.id)
            node = node.parent
        return ids

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

    def __copy__(self) -> AsyncResult[R]:
        return type(self)(self.id, self._backend, self.task_name, self.app, self.parent)

    def __reduce__(self) -> Any:
        return type(self), (self.id, None, self.task_name, None, self.parent)


class RemoteTraceback(Exception):
    """Carries the text of a traceback from the worker, as the cause of what is raised here."""

    def __init__(self, traceback: str) -> None:
        super().__init__(f'\n"""\n{traceback}"""')


def _exception(stored: Any) -> BaseException:
    """What to raise for the *stored* result of a task that failed."""
    return stored if isinstance(stored, BaseException) else Exception(stored)
