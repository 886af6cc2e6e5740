"""The result of a task that ran in place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from fastq import states
from fastq.exceptions import TaskRevokedError
from fastq.result.async_result import AsyncResult

if TYPE_CHECKING:
    from fastq.app.base import FastQ

R = TypeVar("R")


class EagerResult(AsyncResult[R]):
    """The result of a task that ran in place: it is here already."""

    __slots__ = ()

    def __init__(
        self,
        id: str,
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
        app: FastQ | None = None,
    ) -> None:
        super().__init__(id, task_name=name, app=app)
        self._meta = {
            "status": state,
            "result": ret_value,
            "traceback": traceback,
            "children": [],
            "name": name,
        }

    def _may_block(self) -> bool:
        """Whether it would in a worker: a `delay` that eager mode has run here stands for such a task."""
        return bool(self.app.conf.task_always_eager)

    def forget(self) -> None:
        """Nothing is stored, so there is nothing to delete."""

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """Change the state to REVOKED."""
        assert self._meta is not None
        self._meta = self._meta | {"status": states.REVOKED, "result": TaskRevokedError("revoked")}

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"
