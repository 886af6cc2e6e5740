"""The judge of workflows can fail: each kind of wrong is found, and only that a body ran again is excused."""

from __future__ import annotations

from typing import Any

import pytest
from reference.canvas import expected
from workflows.description import Chain, Errback, Map, Task, labelled
from workflows.journal import Notes
from workflows.judging import missing, repeated, wrongs

# Labels: 1, then 2 (tried twice), then 3, which fails and calls 4; 5 is a map.
NODE = labelled(
    Chain(steps=(Task(), Task(retries=1), Map(items=("x", "y")), Task(raises="bare", errbacks=(Errback(),))))
)


def run(
    label: str, task_id: str = "", retries: int = 0, redelivered: bool = False, args: Any = ()
) -> dict[str, Any]:
    return {
        "kind": "start",
        "label": label,
        "id": task_id or f"id-{label}",
        "retries": retries,
        "redelivered": redelivered,
        "args": list(args),
    }


ITEM = {"kind": "start", "label": "3", "id": ""}
ERRBACK = {"kind": "errback", "label": "5", "error": "RuntimeError()", "id": "id-4"}
GOOD = [run("1"), run("2", args=[1]), run("2", retries=1, args=[1]), ITEM, ITEM, run("4"), ERRBACK]


def noted(lines: list[dict[str, Any]]) -> Notes:
    notes = Notes()
    for line in lines:
        notes.add(line)
    return notes


def judged(lines: list[dict[str, Any]]) -> list[str]:
    return list(wrongs(NODE, expected(NODE), noted(lines)))


def test_a_good_day_is_good() -> None:
    assert judged(GOOD) == []


def test_what_ran_again_is_excused_if_it_was_redelivered() -> None:
    again = [run("1", redelivered=True), run("2", retries=1, args=[1], redelivered=True), ITEM, ERRBACK]
    assert judged(GOOD + again) == []
    assert repeated(noted(GOOD + again)) == 2


@pytest.mark.parametrize("at", range(len(GOOD)))
def test_one_that_did_not_run_is_found(at: int) -> None:
    assert judged(GOOD[:at] + GOOD[at + 1 :]) != []


@pytest.mark.parametrize(
    ("at", "what"),
    [
        (0, "try 0 of 1"),
        (1, "try 0 of 2"),
        (2, "try 1 of 2"),
        (3, "1 items of 3"),
        (5, "try 0 of 4"),
        (6, "errback 5 for 'RuntimeError()'"),
    ],
)
def test_what_has_still_to_run_is_told(at: int, what: str) -> None:
    assert list(missing(NODE, expected(NODE), noted(GOOD[:at] + GOOD[at + 1 :]))) == [what]
    assert list(missing(NODE, expected(NODE), noted(GOOD))) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (run("1"), "1 was sent more than once, for its try 0"),
        (run("2", retries=1, args=[1]), "2 was sent more than once, for its try 1"),
        (run("1", "another", redelivered=True), "1 was sent more than once, with ids of its own"),
        (run("2", args=[2], redelivered=True), "2 ran with different arguments"),
        (run("2", retries=2, args=[1]), "2 was tried as [0, 1, 2], not 2 times"),
        (run("9"), "9 ran, and should not have"),
        (ERRBACK | {"error": "KeyError()"}, "these errbacks ran"),
        (ERRBACK | {"label": "7"}, "these errbacks ran"),
    ],
)
def test_what_happened_twice_or_otherwise_is_found(line: dict[str, Any], found: str) -> None:
    assert any(each.startswith(found) for each in judged([*GOOD, line]))
