"""Workflows as plain trees: a generator makes them, and the reference works out what they come to.

A tree is the same for Celery and for fastq. It has a JSON form, in which it travels to a worker
whose task is to be replaced by it.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Any

# How an errback is called: in the failing process with (request, exc, traceback), by a message
# with the id of what failed, or by a message with its own arguments alone.
ERRBACK_FORMS = ("inline", "id", "immutable")


@dataclass(frozen=True, kw_only=True)
class Errback:
    """One errback."""

    label: str = ""
    form: str = "inline"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task that is retried so many times, and then returns, raises or is replaced."""

    label: str = ""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    is_immutable: bool = False
    retries: int = 0
    raises: str | None = None  # a key of errors.RAISED
    replaced_by: Node | None = None
    links: tuple[Node, ...] = ()
    errbacks: tuple[Errback, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Map:
    """``task.map(items)``, or ``task.starmap(items)``; an item may name the exception that it raises."""

    label: str = ""
    items: tuple[Any, ...] = ()
    is_star: bool = False
    links: tuple[Node, ...] = ()
    errbacks: tuple[Errback, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Chunks:
    """``task.chunks(items, size)``."""

    label: str = ""
    items: tuple[Any, ...] = ()
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Chain:
    """Steps put together by ``chain(…)``, ``chain([…])`` or ``|``."""

    steps: tuple[Node, ...] = ()
    form: str = "call"  # "call", "list" or "pipe"
    links: tuple[Node, ...] = ()
    errbacks: tuple[Errback, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Group:
    """Members that run side by side."""

    members: tuple[Node, ...] = ()
    is_lazy: bool = False  # made from a generator
    errbacks: tuple[Errback, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Chord:
    """A header and its body."""

    header: tuple[Node, ...] = ()
    body: Node
    links: tuple[Node, ...] = ()
    errbacks: tuple[Errback, ...] = ()


Node = Task | Map | Chunks | Chain | Group | Chord

KINDS: dict[str, type[Any]] = {
    each.__name__: each for each in (Errback, Task, Map, Chunks, Chain, Group, Chord)
}
LABELLED = (Errback, Task, Map, Chunks)


def to_map(node: Any) -> dict[str, Any]:
    """The JSON form of *node*."""
    found: dict[str, Any] = {"kind": type(node).__name__}
    for each in dataclasses.fields(node):
        value = getattr(node, each.name)
        if value in ((), {}, None, False, 0):
            continue
        if type(value) in KINDS.values():
            value = to_map(value)
        elif isinstance(value, tuple) and value and type(value[0]) in KINDS.values():
            value = [to_map(part) for part in value]
        found[each.name] = value
    return found


def from_map(written: dict[str, Any]) -> Any:
    """The node whose JSON form is *written*."""
    known = {}
    for name, value in written.items():
        if name == "kind":
            continue
        if isinstance(value, dict) and "kind" in value:
            value = from_map(value)
        elif isinstance(value, list):
            value = tuple(
                from_map(part) if isinstance(part, dict) and "kind" in part else part for part in value
            )
        known[name] = value
    return KINDS[written["kind"]](**known)


def labelled(node: Any, numbers: Any = None) -> Any:
    """*node* with a label of its own for everything that can run."""
    numbers = itertools.count(1) if numbers is None else numbers
    changes: dict[str, Any] = {"label": str(next(numbers))} if isinstance(node, LABELLED) else {}
    for each in dataclasses.fields(node):
        value = getattr(node, each.name)
        if type(value) in KINDS.values():
            changes[each.name] = labelled(value, numbers)
        elif isinstance(value, tuple) and value and type(value[0]) in KINDS.values():
            changes[each.name] = tuple(labelled(part, numbers) for part in value)
    return dataclasses.replace(node, **changes)


def parts(node: Any) -> Any:
    """*node* and everything in it."""
    yield node
    for each in dataclasses.fields(node):
        value = getattr(node, each.name)
        inner = value if isinstance(value, tuple) else (value,)
        for part in inner:
            if type(part) in KINDS.values():
                yield from parts(part)
