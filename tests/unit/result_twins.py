"""The same stored results seen through fastq's classes and through Celery's, which say what is right."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import celery
import celery.result

import fastq.result
from fastq import FastQ
from fastq._core.message import new_id
from fastq.backends.base import StoredResult
from fastq.serialization import exception_to_map


class Side:
    """One of the two: its app, and its classes of results."""

    def __init__(self, app: Any, module: Any, store: Callable[[str, str, bytes], None]) -> None:
        self.app = app
        self.result = module
        self.store_document = store

    def one(self, task_id: str, parent: Any = None) -> Any:
        """The result of one task."""
        return self.result.AsyncResult(task_id, app=self.app, parent=parent)

    def set(self, *members: Any) -> Any:
        """Results of several tasks."""
        return self.result.ResultSet(self._results(members), app=self.app)

    def group(self, group_id: str, *members: Any, parent: Any = None) -> Any:
        """Those of a group."""
        return self.result.GroupResult(group_id, self._results(members), parent=parent, app=self.app)

    def eager(self, task_id: str, value: Any, state: str = "SUCCESS") -> Any:
        """That of a task that ran in place."""
        with_app = {"app": self.app} if self.result is fastq.result else {}
        return self.result.EagerResult(task_id, value, state, **with_app)

    def _results(self, members: Sequence[Any]) -> list[Any]:
        return [self.one(each) if isinstance(each, str) else each for each in members]


class Twins:
    """Both sides, and the store of each filled with the same documents."""

    def __init__(self) -> None:
        ours = FastQ("twin", broker=f"memory://{new_id()}", set_as_current=False)
        theirs = celery.Celery("twin", backend="cache+memory://", set_as_current=False)
        theirs.backend.client.cache.clear()
        self.ours = Side(
            ours,
            fastq.result,
            lambda task_id, state, document: ours.backend.store([StoredResult(task_id, state, document)]),  # type: ignore[union-attr]
        )
        self.theirs = Side(
            theirs,
            celery.result,
            lambda task_id, _, document: theirs.backend.set(
                theirs.backend.get_key_for_task(task_id), document
            ),
        )
        self.sides = (self.ours, self.theirs)

    def store(self, task_id: str, result: Any = None, state: str = "SUCCESS", children: Any = ()) -> None:
        """Store how a task ended, or its state."""
        if isinstance(result, BaseException):
            result = exception_to_map(result)
            state = "FAILURE" if state == "SUCCESS" else state
        document = {
            "status": state,
            "result": result,
            "traceback": None,
            "children": children,
            "date_done": None,
            "task_id": task_id,
        }
        for side in self.sides:
            side.store_document(task_id, state, json.dumps(document).encode())

    def same(self, look: Callable[[Side], Any]) -> Any:
        """What *look* sees on our side, which must be what it sees on the other: a value or an error."""
        ours, theirs = (outcome(look, side) for side in self.sides)
        assert ours == theirs
        return ours

    def close(self) -> None:
        """Close both apps."""
        self.ours.app.close()
        self.theirs.app.close()


def outcome(look: Callable[[Side], Any], side: Side) -> Any:
    """What *look* returns, or the class and arguments of what it raises."""
    try:
        return look(side)
    except Exception as exc:
        return type(exc).__name__, exc.args
