"""Random workflows."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from reference.canvas import is_empty, is_plural
from workflows.description import (
    ERRBACK_FORMS,
    Chain,
    Chord,
    Chunks,
    Errback,
    Group,
    Map,
    Node,
    Task,
    labelled,
)
from workflows.errors import EXHAUSTED, RAISED, UNREGISTERED

VALUES = st.sampled_from([0, 1, -7, 2.5, "a", "ä€", "", None, True, [1, [2]], {"k": 1}])
ITEMS = st.lists(VALUES.filter(lambda value: not isinstance(value, dict)), max_size=4)
ERRBACKS = st.lists(st.builds(Errback, form=st.sampled_from(ERRBACK_FORMS)), min_size=1, max_size=2).map(
    tuple
)


def one_in(count: int, those: Any, otherwise: Any) -> Any:
    """*those* in one of *count* cases."""
    return st.integers(1, count).flatmap(lambda drawn: those if drawn == 1 else otherwise)


NOTHING: Any = st.just(())
KINDS_OF_FAILURE = [*RAISED, EXHAUSTED, UNREGISTERED]


@st.composite
def tasks(draw: Any, failing: int, retrying: int, related: Any = None) -> Task:
    """One task; one in *failing* fails, one in *retrying* is retried; *related* may follow or replace it."""
    fate = draw(st.integers(1, 6))
    fails = failing and draw(st.integers(1, failing)) == 1
    raises = draw(st.sampled_from(KINDS_OF_FAILURE)) if fails else None
    retries = draw(st.integers(1, 3)) if retrying and draw(st.integers(1, retrying)) == 1 else 0
    return Task(
        args=tuple(draw(st.lists(VALUES, max_size=2))),
        kwargs=draw(one_in(4, st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=2), st.just({}))),
        is_immutable=draw(one_in(5, st.just(True), st.just(False))),
        retries=0 if raises == UNREGISTERED else retries,
        raises=raises,
        replaced_by=draw(related) if related is not None and raises is None and fate == 1 else None,
        links=tuple(draw(st.lists(related, min_size=1, max_size=2)))
        if related is not None and fate == 2
        else (),
        errbacks=draw(one_in(3, ERRBACKS, NOTHING)),
    )


@st.composite
def maps(draw: Any, failing: int) -> Map:
    """A map or starmap, of which one in *failing* fails at one of its items."""
    items = draw(ITEMS)
    if failing and draw(st.integers(1, failing)) == 1:
        items.append({"raises": draw(st.sampled_from([*RAISED]))})
    return Map(items=tuple(items), is_star=draw(st.booleans()), errbacks=draw(one_in(3, ERRBACKS, NOTHING)))


def chunks() -> Any:
    """Chunks, two at least: how one alone is unrolled is a matter of its own."""
    items = st.lists(VALUES.filter(lambda value: not isinstance(value, dict)), min_size=2, max_size=5)
    return items.flatmap(
        lambda those: st.integers(1, len(those) - 1).map(lambda size: Chunks(items=tuple(those), size=size))
    )


@st.composite
def chains(draw: Any, children: Any) -> Chain:
    """A chain of up to four steps; what is empty is left out of it."""
    steps = tuple(draw(st.lists(children, min_size=1, max_size=4)))
    form = draw(st.sampled_from(["call", "call", "list", "pipe"]))
    node = Chain(steps=steps, form=form, errbacks=draw(one_in(3, ERRBACKS, NOTHING)))
    if not is_plural(node):
        node = Chain(steps=steps, form=form, errbacks=node.errbacks, links=draw(links(children)))
    return node


@st.composite
def groups(draw: Any, children: Any, least: int = 1) -> Group:
    """A group of up to four members."""
    members = tuple(draw(st.lists(children, min_size=least, max_size=4)))
    # How a group of a group alone is unrolled is a matter of its own.
    if len(members) == 1 and isinstance(members[0], Group | Chunks):
        members *= 2
    return Group(
        members=members,
        is_lazy=len(members) > 1 and draw(st.booleans()),
        errbacks=draw(one_in(4, ERRBACKS, NOTHING)),
    )


@st.composite
def chords(draw: Any, children: Any) -> Chord:
    """A chord with a header of up to four, none perhaps."""
    header = tuple(draw(st.lists(children, max_size=4)))
    body = draw(children)
    errbacks = draw(one_in(3, ERRBACKS, NOTHING))
    return Chord(
        header=header, body=body, errbacks=errbacks, links=() if is_plural(body) else draw(links(children))
    )


def links(children: Any) -> Any:
    """Callbacks, seldom any."""
    return one_in(6, st.lists(children, min_size=1, max_size=2).map(tuple), NOTHING)


def workflows(failing: int = 8, retrying: int = 5, max_leaves: int = 14) -> Any:
    """Random workflows; one in *failing* tasks fails, one in *retrying* is retried: 0 for none."""
    leaves = st.one_of(*[tasks(failing, retrying)] * 6, maps(failing), chunks())

    def extended(children: Any) -> Any:
        return st.one_of(
            tasks(failing, retrying, children),
            chains(children),
            chains(children),
            groups(children),
            chords(children),
        )

    nodes: Any = st.recursive(leaves, extended, max_leaves=max_leaves)
    return nodes.filter(lambda node: not is_empty(node)).map(labelled)


GIVEN = st.lists(VALUES, max_size=2)

__all__ = ["GIVEN", "Node", "workflows"]
