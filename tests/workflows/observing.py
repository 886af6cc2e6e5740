"""What has become of a workflow: its result, and what its tasks noted."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import Any

from reference.canvas import Expected, Failure, Members, Outcome, Value
from workflows.journal import JournalReader, Notes

ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LOOK_EVERY = 0.005  # seconds
# Seconds after which a workflow that should have come to its end never will.
PATIENCE = 20.0


def without_ids(text: str) -> str:
    """*text* with ``?`` for every id."""
    return ID.sub("?", text)


def outcome_of(result: Any, deadline: float) -> Outcome | None:
    """The outcome behind *result*, one of Celery's or of ours, when it is there."""
    if result is None:
        return None
    if getattr(result, "results", None) is not None:
        return Members(tuple(_member(each, deadline) for each in result.results))
    timeout = max(0.05, deadline - time.monotonic())
    value = result.get(timeout=timeout, propagate=False)
    return Value(value) if result.state == "SUCCESS" else Failure(without_ids(repr(value)))


def _member(result: Any, deadline: float) -> Outcome:
    outcome = outcome_of(result, deadline)
    assert outcome is not None
    return outcome


def check(expected: Expected, result: Any, token: str, reader: JournalReader, deadline: float) -> None:
    """Raise `AssertionError` unless the workflow *token* comes to what is *expected* before *deadline*."""
    outcome = outcome_of(result, deadline)
    assert outcome == expected.outcome, f"it came to {outcome}, not {expected.outcome}"
    while (wrong := wrong_counts(expected, reader.notes(token))) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
    assert wrong is None, wrong
    notes = reader.notes(token)
    for label, failed, _ in expected.errbacks:
        given = [task_id for each, task_id in notes.failed if each == label]
        told = [notes.labels.get(each, set()) for each in given]
        assert not failed or any(failed in each for each in told), (
            f"the errback {label} was not told of {failed}, but of {told}"
        )


def wrong_counts(expected: Expected, notes: Notes) -> str | None:
    """What has run too seldom so far, or too often; None if all is as *expected*."""
    errbacks = Counter[tuple[str, str]]()
    for (label, _, error), count in expected.errbacks.items():
        errbacks[label, error] += count
    seen = seen_errbacks(notes)
    if notes.runs != expected.runs:
        return f"of the tasks {_difference(expected.runs, notes.runs)}"
    return None if seen == errbacks else f"of the errbacks {_difference(errbacks, seen)}"


def seen_errbacks(notes: Notes) -> Counter[tuple[str, str]]:
    """The errbacks that ran, with ``?`` for every id."""
    seen = Counter[tuple[str, str]]()
    for (label, error), count in notes.errbacks.items():
        seen[label, without_ids(error)] += count
    return seen


def _difference(expected: Counter[Any], seen: Counter[Any]) -> str:
    return f"{dict(expected - seen)} did not run, and {dict(seen - expected)} should not have"
