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

    supports_native_join = False
    is_stored = False

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
            "task_id": id,
        }

    def may_block(self) -> bool:
        """Whether it would in a worker: a `delay` that eager mode has run here stands for such a task."""
        return bool(self.app.conf.task_always_eager)

    def forget(self) -> None:
        """Nothing is stored, so there is nothing to delete."""

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """Change the state to REVOKED."""
        self._meta = self.known | {
            "status": states.REVOKED,
            "result": TaskRevokedError("revoked"),
            "traceback": None,
        }

    def __copy__(self) -> EagerResult[R]:
        kind, arguments = self.__reduce__()
        copied: EagerResult[R] = kind(*arguments)
        copied.app = self.app
        return copied

    def __reduce__(self) -> Any:
        known = self.known
        return type(self), (self.id, known["result"], known["status"], known["traceback"], known["name"])

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"
