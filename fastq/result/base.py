"""What results of one task and of many have in common: a place in a tree, and a form in which they travel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastq.app.current import app_or_default

if TYPE_CHECKING:
    from fastq.app.base import FastQ


class ResultBase:
    """A result with an *id*, and a *parent* if it is a later step of a chain."""

    __slots__ = ()

    id: Any
    parent: Any  # a ResultBase, or None

    def members(self) -> Sequence[ResultBase] | None:
        """The results that this one consists of; None for that of one task."""
        return None

    def as_tuple(self) -> Any:
        """The form in which a result travels: ``((id, parent's form), members' forms or None)`` (§5.2)."""
        # A chain may have thousands of steps, so no recursion; and what several share is made once.
        made: dict[int, Any] = {id(None): None}
        opened: set[int] = set()
        stack: list[ResultBase] = [self]
        while stack:
            node = stack[-1]
            members = node.members()
            needed = [each for each in (node.parent, *(members or ())) if id(each) not in made]
            if needed and id(node) not in opened:
                opened.add(id(node))
                stack += needed
                continue
            if needed:
                raise ValueError(f"the result {node.id} is among its own parents or members")
            forms = None if members is None else [made[id(each)] for each in members]
            made[id(node)] = ((node.id, made[id(node.parent)]), forms)
            stack.pop()
        return made[id(self)]


def result_from_tuple(travelled: Any, app: FastQ | None = None) -> Any:
    """The `AsyncResult` or `GroupResult` whose `as_tuple` gave *travelled*; a result is returned as it is."""
    app = app_or_default(app)
    line = []
    while travelled is not None and not isinstance(travelled, ResultBase):
        head, members = travelled
        task_id, travelled = head if isinstance(head, list | tuple) else (head, None)
        line.append((task_id, members))
    result = travelled
    for task_id, members in reversed(line):
        if members is None:
            result = app.AsyncResult(task_id, parent=result)
        else:
            results = [result_from_tuple(each, app) for each in members]
            result = app.GroupResult(task_id, results, parent=result)
    return result
