"""What results of one task and of many have in common: a place in a tree, and a form in which they travel."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastq.app.current import app_or_default
from fastq.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.backends.base import Backend


class ResultBase:
    """A result with an *id*, and a *parent* if it is a later step of a chain."""

    __slots__ = ()

    id: Any
    parent: Any  # a ResultBase, or None

    def members(self) -> Sequence[ResultBase] | None:
        """The results that this one consists of; None for that of one task."""
        return None

    @property
    def backend(self) -> Backend | None:
        """Where it is kept."""
        raise NotImplementedError

    def stored_in(self) -> Backend:
        """The backend. Raises `ImproperlyConfigured` if there is none."""
        backend = self.backend
        if backend is None:
            raise ImproperlyConfigured(
                f"the result of {self.id} is kept nowhere: no result backend is set; set result_backend, "
                "to the broker's own URL for example"
            )
        return backend

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


def leaves(result: ResultBase) -> list[Any]:
    """The results of single tasks that *result* consists of, in order; itself if it is one."""
    found: list[ResultBase] = []
    stack = [result]
    while stack:
        node = stack.pop()
        members = node.members()
        if members is None:
            found.append(node)
        else:
            stack += reversed(members)
    return found


def lineage(result: ResultBase) -> list[Any]:
    """The results of single tasks that *result* came after, the earliest first."""
    line = []
    node = result.parent
    while node is not None:
        line.append(node)
        node = node.parent
    return [leaf for node in reversed(line) for leaf in leaves(node)]


def family(results: Iterable[ResultBase]) -> list[Any]:
    """The results of single tasks among *results* and all that they came after, each once."""
    found: list[ResultBase] = []
    seen: set[int] = set()
    stack = list(results)
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        members = node.members()
        if members is None:
            found.append(node)
        else:
            stack += members
        if node.parent is not None:
            stack.append(node.parent)
    return found


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
