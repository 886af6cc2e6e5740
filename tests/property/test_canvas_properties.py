"""Workflows put together at random are the maps that Celery's canvas makes, and come to the same in place."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from canvas_twins import Side, alike, plain, shown, sides
from hypothesis import given, settings
from hypothesis import strategies as st

from fastq.canvas import Signature, maybe_signature

FORMS = ("chain", "chain of list", "chain of generator", "group", "group of list", "group of generator")

tasks = st.tuples(st.just("task"), st.lists(st.integers(0, 9), max_size=1), st.booleans())


def workflows(forms: tuple[str, ...] = FORMS, least: int = 0) -> st.SearchStrategy[Any]:
    """Trees for `Side.build`; *least* is how many parts everything has at least."""

    def larger(smaller: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        parts = st.lists(smaller, min_size=least, max_size=3)
        return st.one_of(
            st.tuples(st.sampled_from(forms), parts),
            st.tuples(st.just("chord"), parts, smaller),
            st.tuples(st.just("|"), smaller, smaller),
        )

    return st.recursive(tasks, larger, max_leaves=8)


THEIRS, OURS = sides("properties")
EAGER = sides("eager-properties", task_always_eager=True)


def built(side: Side, tree: Any) -> Any:
    """The signature of *tree*; None where Celery's canvas stumbles over something empty."""
    try:
        return side.build(tree)
    except (AttributeError, IndexError, TypeError):
        if side in (OURS, EAGER[1]):
            raise
        return None


@given(workflows())
@settings(max_examples=500, deadline=None)
def test_every_combination_is_the_same_map(tree: Any) -> None:
    theirs = built(THEIRS, tree)
    if theirs is None:
        return
    ours = built(OURS, tree)
    assert plain(ours) == plain(theirs)


@given(workflows(tuple(form for form in FORMS if "generator" not in form), least=1))
@settings(max_examples=300, deadline=None)
def test_every_combination_is_shown_the_same(tree: Any) -> None:
    theirs = built(THEIRS, tree)
    if theirs is not None:
        assert shown(built(OURS, tree)) == shown(theirs)


@given(workflows())
@settings(max_examples=300, deadline=None)
def test_a_workflow_survives_json(tree: Any) -> None:
    ours = built(OURS, tree)
    travelled = json.loads(json.dumps(plain(ours)))
    again = maybe_signature(travelled, app=OURS.app)
    assert isinstance(again, Signature)
    assert plain(again) == plain(ours)


@given(workflows())
@settings(max_examples=300, deadline=None)
def test_a_copy_shares_nothing_that_can_be_set(tree: Any) -> None:
    ours = built(OURS, tree)
    before = json.dumps(plain(ours))
    copy = ours.clone()
    copy.options["queue"] = "other"
    copy.kwargs["more"] = 1
    copy["immutable"] = True
    assert json.dumps(plain(ours)) == before


def has_group_in_group(tree: Any) -> bool:
    """Whether a group stands in a group or a header: Celery flattens it in reverse, or not at all."""
    kind, *parts = tree
    if kind == "task":
        return False
    inside = [*parts[0], *parts[1:]] if kind != "|" else parts
    members = parts[0] if kind == "chord" or kind.startswith("group") else []
    return any(map(has_group_in_group, inside)) or any(each[0] not in ("task", "chord") for each in members)


@given(workflows(least=1))
@settings(max_examples=500, deadline=None)
def test_freezing_gives_the_same_ids_to_the_same_parts(tree: Any) -> None:
    theirs = built(THEIRS, tree)
    if theirs is None or has_group_in_group(tree):
        return
    ours = built(OURS, tree)
    their_result, our_result = theirs.freeze(), ours.freeze()
    assert alike(ours, our_result.as_tuple()) == alike(theirs, their_result.as_tuple())


@pytest.fixture
def silence() -> Iterator[None]:
    """No logs of tasks that are meant to fail."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def outcome(side: Side, tree: Any, links: list[tuple[str, bool]], *, by_apply: bool) -> Any:
    """What comes of running *tree* in place: its value, its state, and every call that was made."""
    side.calls.clear()
    sig = built(side, tree)
    if sig is None:
        return None
    for name, is_errback in links:
        # A group takes no callback, and one for a chord's header is called by no means alike.
        if is_errback:
            sig.link_error(side.tasks[name].s())
        elif sig.get("subtask_type") in (None, "chain") and not by_apply:
            sig.link(side.s("linked"))
    try:
        result = sig.apply((7,)) if by_apply else sig.apply_async((7,))
        value = None if result is None else result.get(propagate=False)
        state = getattr(result, "state", None)
    except Exception as exc:
        return type(exc).__name__, side.calls.copy()
    return repr(plain(value)), state, side.calls.copy()


failing = st.tuples(st.just("task"), st.just(["fail"]), st.booleans())
errbacks = st.lists(st.tuples(st.sampled_from(["of_id", "of_failure"]), st.booleans()), max_size=2)


@pytest.mark.usefixtures("silence")
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@given(
    st.one_of(workflows(least=1), st.tuples(st.just("|"), workflows(least=1), failing)),
    errbacks,
    st.booleans(),
)
@settings(max_examples=500, deadline=None)
def test_running_in_place_comes_to_the_same(tree: Any, links: list[tuple[str, bool]], by_apply: bool) -> None:
    theirs, ours = (outcome(side, tree, links, by_apply=by_apply) for side in EAGER)
    if theirs is None or theirs[0] in ("AttributeError", "IndexError"):
        return
    assert ours == theirs
