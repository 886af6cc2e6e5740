"""The results of a group: a set with an id, under which it is saved and found again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from fastq.app.current import app_or_default
from fastq.result.async_result import AsyncResult
from fastq.result.base import ResultBase, result_from_tuple
from fastq.result.sets import ResultSet

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.backends.base import Backend

R = TypeVar("R")


class GroupResult(ResultSet[R]):
    """The results of a group, which has an id of its own."""

    def __init__(
        self,
        id: str | None = None,
        results: Iterable[AsyncResult[R] | ResultSet[Any]] | None = None,
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

    def save(self, backend: Backend | None = None) -> GroupResult[R]:
        """Store which results these are, so that `restore` finds them by the group's id."""
        document = self.app.dump_document({"result": self.as_tuple()})
        (backend or self.stored_in()).save_group(self._own_id(), document)
        return self

    def delete(self, backend: Backend | None = None) -> None:
        """Delete what `save` stored; the results stay."""
        (backend or self.stored_in()).delete_group(self._own_id())

    @classmethod
    def restore(
        cls, id: str, backend: Backend | None = None, app: FastQ | None = None
    ) -> GroupResult[Any] | None:
        """The group that was saved under this id; None if there is none, or no more."""
        app = app_or_default(app)
        document = (backend or cls(id, app=app).stored_in()).restore_group(id)
        if document is None:
            return None
        restored: GroupResult[Any] = result_from_tuple(app.load_document(document)["result"], app)
        return restored

    def _own_id(self) -> str:
        if self.id is None:
            raise ValueError(f"{self!r} has no id by which it could be found again")
        return self.id

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
        results: Iterable[AsyncResult[R] | ResultSet[Any]] | None = None,
        parent: ResultBase | None = None,
    ) -> GroupResult[R]:
        return GroupResult(id, results, parent, self.app)

    def restore(self, id: str, backend: Backend | None = None) -> GroupResult[Any] | None:
        """The group that was saved under this id; None if there is none, or no more."""
        return GroupResult.restore(id, backend, self.app)
