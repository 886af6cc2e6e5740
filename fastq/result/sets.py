"""Results of many tasks as one: of any that somebody collects, and of a group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from fastq.app.current import get_current_app
from fastq.result.async_result import AsyncResult
from fastq.result.base import ResultBase

if TYPE_CHECKING:
    from fastq.app.base import FastQ

R = TypeVar("R")


class ResultSet(ResultBase, Generic[R]):
    """Results of tasks, in an order: a list of `AsyncResult`, or of groups of them."""

    id: str | None = None
    parent: Any = None

    def __init__(self, results: Iterable[Any] | None, app: FastQ | None = None) -> None:
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

    # -- being a value ----------------------------------------------------------

    @property
    def backend(self) -> Any:
        """Where its results are kept."""
        return self.app.backend

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __eq__(self, other: object) -> bool:
        return other.results == self.results if isinstance(other, ResultSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # its members change

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(str(each.id) for each in self.results)}]>"


class GroupResult(ResultSet[R]):
    """The results of a group, which has an id of its own."""

    def __init__(
        self,
        id: str | None = None,
        results: Iterable[Any] | None = None,
        parent: ResultBase | None = None,
        app: FastQ | None = None,
    ) -> None:
        super().__init__(results, app)
        self.id = id
        self.parent = parent

    @property
    def children(self) -> list[Any]:
        """Its members."""
        return self.results

    def __bool__(self) -> bool:
        return bool(self.id or self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return (self.id, self.results, self.parent) == (other.id, other.results, other.parent)
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        members = ", ".join(str(each.id) for each in self.results)
        return f"<{type(self).__name__}: {self.id} [{members}]>"

    def __reduce__(self) -> Any:
        return type(self), (self.id, self.results, self.parent)


class GroupResults:
    """What an app has under the name `GroupResult`: makes those of its tasks."""

    def __init__(self, app: FastQ) -> None:
        self.app = app

    def __call__(
        self,
        id: str | None = None,
        results: Iterable[Any] | None = None,
        parent: ResultBase | None = None,
    ) -> GroupResult[Any]:
        return GroupResult(id, results, parent, self.app)
