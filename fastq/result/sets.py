"""Results of many tasks as one: of any that somebody collects, and of a group."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from fastq import states
from fastq.app.current import get_current_app
from fastq.exceptions import TimeoutError
from fastq.result.async_result import AsyncResult
from fastq.result.base import ResultBase, family, leaves
from fastq.result.joining import assert_will_not_block
from fastq.result.waiting import Meta, Wait, forget, looked_at

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.backends.base import Backend

R = TypeVar("R")


class ResultSet(ResultBase, Generic[R]):
    """Results of tasks, in an order: a list of `AsyncResult`, or of groups of them."""

    id: str | None = None
    parent: Any = None

    def __init__(
        self, results: Iterable[AsyncResult[R] | ResultSet[Any]] | None, app: FastQ | None = None
    ) -> None:
        # Celery's keeps the caller's own list.
        self.results: list[Any] = results if isinstance(results, list) else list(results or ())
        self._app = app

    @property
    def app(self) -> FastQ:
        """The app of its results; the current one if it is empty."""
        if self._app is None:
            self._app = self.results[0].app if self.results else get_current_app()
        return self._app

    @app.setter
    def app(self, app: FastQ) -> None:
        self._app = app

    # -- its members ------------------------------------------------------------

    def add(self, result: AsyncResult[R] | ResultSet[Any]) -> None:
        """Add *result* at the end, unless it is here already."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: AsyncResult[R] | ResultSet[Any] | str) -> None:
        """Take out *result*, or the one with this id. Raises `KeyError` when it is not here."""
        if result not in self.results:
            raise KeyError(result)
        self.results.remove(result)

    def discard(self, result: AsyncResult[R] | ResultSet[Any] | str) -> None:
        """Take out *result*, or the one with this id, if it is here."""
        if result in self.results:
            self.results.remove(result)

    def update(self, results: Iterable[AsyncResult[R] | ResultSet[Any]]) -> None:
        """Add all of *results* that are not here yet."""
        here = set(self.results)
        for result in results:
            if result not in here:
                here.add(result)
                self.results.append(result)

    def clear(self) -> None:
        """Take out everything."""
        self.results.clear()

    def members(self) -> Sequence[ResultBase]:
        return self.results

    # -- looking ----------------------------------------------------------------

    def ready(self) -> bool:
        """Whether all of the tasks have ended."""
        return all(result.has_ended for result, _ in looked_at(leaves(self)))

    def waiting(self) -> bool:
        """Whether some of the tasks have not ended."""
        return not self.ready()

    def successful(self) -> bool:
        """Whether all of the tasks returned."""
        return all(meta["status"] == states.SUCCESS for _, meta in looked_at(leaves(self)))

    def failed(self) -> bool:
        """Whether one of the tasks raised."""
        return any(meta["status"] == states.FAILURE for _, meta in looked_at(leaves(self)))

    def completed_count(self) -> int:
        """How many of the tasks returned."""
        return sum(meta["status"] == states.SUCCESS for _, meta in looked_at(leaves(self)))

    def maybe_throw(self, callback: Callable[[str, Any], Any] | None = None, propagate: bool = True) -> None:
        """Raise what the first of the tasks that is known to have failed raised.

        *callback* is called with the id and the result of each one before it.
        """
        for result, meta in looked_at(leaves(self)):
            if propagate:
                result.raise_failure()
            if callback is not None:
                callback(result.id, meta["result"])

    maybe_reraise = maybe_throw

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Let no task of it start any more, those of groups in it included; see `AsyncResult.revoke`."""
        options: dict[str, Any] = {
            "terminate": terminate,
            "signal": signal,
            "reply": wait,
            "timeout": timeout,
        }
        self.app.control.revoke(list(_ids(self)), **options)

    def forget(self) -> None:
        """Delete the stored results, and those of the earlier steps of their chains."""
        forget(family(self.results))

    # -- waiting ----------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Callable[[Meta], Any] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
        *,
        progress: bool = False,
    ) -> list[R]:
        """Wait for all of the tasks and return their results, as `join_native` does."""
        return self.join_native(
            timeout=timeout,
            propagate=propagate,
            interval=interval,
            callback=callback,
            on_message=on_message,
            disable_sync_subtasks=disable_sync_subtasks,
            on_interval=on_interval,
            progress=progress,
        )

    def join(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Callable[[Meta], Any] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
        *,
        progress: bool = False,
    ) -> list[R]:
        """Wait for all of the tasks and return their results, in the order of the set.

        Raises what a task raised as soon as that is known; if *propagate* is false, it stands among
        the results. Raises `TimeoutError` after *timeout* seconds in all. *on_message* is called
        with each state that is stored meanwhile, *on_interval* every *interval* seconds. With a
        *callback*, which gets the id and the result of each member in order, nothing else is
        returned. With *progress* a bar shows in the terminal how many have come.
        """
        wait = Wait(timeout, interval, on_message, on_interval)
        values = self._gather(wait, propagate, callback, True, disable_sync_subtasks, progress)
        return values if callback is None else []

    def join_native(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Callable[[Meta], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
        *,
        progress: bool = False,
    ) -> list[R]:
        """As `join`, but *callback* is called with each member as it comes, and None returned then."""
        wait = Wait(timeout, interval, on_message, on_interval)
        values = self._gather(wait, propagate, callback, False, disable_sync_subtasks, progress)
        return values if callback is None else None  # type: ignore[return-value]

    def iterate(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        *,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> Iterator[R]:
        """Yield the result of each member as it comes. Otherwise as `join`."""
        self._check_may_wait(disable_sync_subtasks)
        wait = Wait(timeout, interval, on_interval=on_interval)
        return (value_of(member) for member in self._each_end(wait, propagate))

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Callable[[Meta], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """Yield (id, what is stored) of each member as it comes; of a group, (id, its results)."""
        for member in self._each_end(Wait(timeout, interval, on_message, on_interval), propagate=False):
            if member.members() is not None:
                yield member.id, member.results
            else:
                member.children  # noqa: B018  # what is stored holds them as results then
                yield member.id, member.known

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> list[R]:
        """As `get`, without blocking the event loop."""
        return await self.app.in_thread(
            self.get, timeout=timeout, propagate=propagate, disable_sync_subtasks=False
        )

    def __await__(self) -> Generator[Any, None, list[R]]:
        return self.aget().__await__()

    def then(
        self,
        callback: Callable[[Any], Any],
        on_error: Callable[[BaseException], Any] | None = None,
        weak: bool = False,
    ) -> ResultSet[R]:
        """Call *callback* with this set as soon as it is known here that all of its tasks have ended.

        If one failed, the exception of the first one goes to *on_error*, if that is given. See
        `AsyncResult.then`.
        """
        results = leaves(self)
        left = {id(each): each for each in results if not each.has_ended}

        def tell() -> None:
            for each in results:
                if on_error is not None and each.known["status"] in states.PROPAGATE_STATES:
                    each.then(callback, on_error)
                    return
            callback(self)

        def count(ended: AsyncResult[Any]) -> None:
            del left[id(ended)]
            if not left:
                tell()

        if not left:
            tell()
        for each in list(left.values()):
            each.then(count)
        return self

    def _gather(
        self,
        wait: Wait,
        propagate: bool,
        callback: Callable[[str, Any], Any] | None,
        in_order: bool,
        disable_sync_subtasks: bool,
        progress: bool,
    ) -> list[R]:
        """Wait for all members, hand each to *callback*, and return their values."""
        self._check_may_wait(disable_sync_subtasks)
        members = list(self.results)
        with _bar(members, progress) as count, closing(self._each_end(wait, propagate, count)) as ended:
            if callback is None:
                for _ in ended:
                    pass
            else:
                for member in in_order_of(members, ended) if in_order else ended:
                    callback(member.id, value_of(member))
        return [value_of(member) for member in members]

    def _check_may_wait(self, disable_sync_subtasks: bool) -> None:
        if disable_sync_subtasks and any(result.may_block() for result in leaves(self)):
            assert_will_not_block()

    def _each_end(
        self, wait: Wait, propagate: bool, count: Callable[[AsyncResult[Any]], None] | None = None
    ) -> Generator[Any, None, None]:
        """Yield each member when its last task has ended, and *count* each task.

        Raises what a task raised as soon as it is known, if *propagate*, and `TimeoutError`.
        """
        total = 0
        left: dict[int, int] = {}  # how many tasks of a member have not ended, by the member's identity
        members: dict[int, list[Any]] = {}  # those to which a result belongs, by the result's identity
        waiting: dict[int, AsyncResult[Any]] = {}

        def take(result: AsyncResult[Any]) -> None:
            if propagate:
                result.raise_failure()
            if count is not None:
                count(result)

        for member in list(self.results):
            if id(member) in left:
                continue
            left[id(member)] = 0
            for result in leaves(member):
                total += 1
                if result.has_ended or result.ignored:
                    take(result)
                else:
                    left[id(member)] += 1
                    members.setdefault(id(result), []).append(member)
                    waiting[id(result)] = result
            if not left[id(member)]:
                yield member
        for result in wait.until_ended(waiting.values()):
            take(result)
            for member in members[id(result)]:
                left[id(member)] -= 1
                if not left[id(member)]:
                    yield member
            del waiting[id(result)]
        if waiting:
            first = next(iter(waiting.values()))
            raise TimeoutError(
                f"{len(waiting):,} of {total:,} results did not come within {wait.timeout} s; the first "
                f"of them is that of the task {first.id}, whose state is {first.state}"
            )

    # -- being a value ----------------------------------------------------------

    @property
    def backend(self) -> Backend | None:
        """Where its results are kept."""
        return self.app.backend

    @property
    def supports_native_join(self) -> bool | None:
        """Whether its results can be waited for; None if there are none."""
        return self.results[0].supports_native_join if self.results else None

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[AsyncResult[R]]:
        return iter(self.results)

    @overload
    def __getitem__(self, index: int) -> AsyncResult[R]: ...
    @overload
    def __getitem__(self, index: slice) -> list[AsyncResult[R]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.results[index]

    def __eq__(self, other: object) -> bool:
        return other.results == self.results if isinstance(other, ResultSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # its members change

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(str(each.id) for each in self.results)}]>"


def _ids(results: ResultSet[Any]) -> Iterator[str]:
    """The ids of the tasks in *results*, at any depth."""
    for each in results:
        if isinstance(each, ResultSet):
            yield from _ids(each)
        else:
            yield each.id


def value_of(member: Any) -> Any:
    """What a result that has ended came to; of a group, a list."""
    members = member.members()
    if members is None:
        return None if member.ignored else member.known["result"]
    return [value_of(each) for each in members]


def in_order_of(members: Sequence[Any], ended: Iterable[Any]) -> Iterator[Any]:
    """Yield *members* in their order, each as soon as it and all before it are among *ended*."""
    early: set[int] = set()
    following = 0
    for member in ended:
        early.add(id(member))
        while following < len(members) and id(members[following]) in early:
            yield members[following]
            following += 1


def _bar(
    members: Sequence[Any], progress: bool
) -> AbstractContextManager[Callable[[AsyncResult[Any]], None] | None]:
    """What counts a result in the terminal; nothing if it is not asked for, or there is none."""
    if not progress or sys.stderr is None or not sys.stderr.isatty():
        return nullcontext()
    from fastq.result.progress import progress_bar  # only who sees it waits for its import

    return progress_bar(sum(len(leaves(each)) for each in members))
