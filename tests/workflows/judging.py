"""Judges workflows that ran while processes were killed: a body may run again, its effect happens once.

A task whose process dies runs again with the same id, marked as redelivered. Were the effect of a run
committed twice, the next step would come twice as new: with two ids, or twice unmarked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from reference.canvas import Expected
from workflows.description import Node, Task, parts
from workflows.journal import Notes
from workflows.observing import seen_errbacks


def missing(node: Node, expected: Expected, notes: Notes) -> Iterator[str]:
    """What of *node* has still to run: tries of tasks, items of maps, and errbacks."""
    retries = retries_of(node)
    tries = {(line["label"], line["retries"]) for line in notes.lines if "retries" in line}
    for label, count in expected.runs.items():
        if label in retries:
            for attempt in range(retries[label] + 1):
                if (label, attempt) not in tries:
                    yield f"try {attempt} of {label}"
        elif notes.runs[label] < count:
            yield f"{count - notes.runs[label]} items of {label}"
    seen = seen_errbacks(notes)
    for label, _, error in expected.errbacks:
        if (label, error) not in seen:
            yield f"errback {label} for {error!r}"


def retries_of(node: Node) -> dict[str, int]:
    """How often each task of *node* is retried, by its label."""
    return {part.label: part.retries for part in parts(node) if isinstance(part, Task)}


def wrongs(node: Node, expected: Expected, notes: Notes) -> Iterator[str]:
    """What is wrong about how often the tasks of *node* ran."""
    retries = retries_of(node)
    by_label: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in notes.lines:
        if line["kind"] == "start":
            by_label[line["label"]].append(line)
    for label in expected.runs.keys() - by_label.keys():
        yield f"{label} never ran"
    for label in by_label.keys() - expected.runs.keys():
        yield f"{label} ran, and should not have"
    for label, lines in by_label.items():
        if label not in retries:  # items of a map: nothing is known of them but that they ran
            if len(lines) < expected.runs[label]:
                yield f"{label} ran for {len(lines)} items of {expected.runs[label]}"
            continue
        attempts = defaultdict(list)
        for line in lines:
            attempts[line["retries"]].append(line)
        if set(attempts) != set(range(retries[label] + 1)):
            yield f"{label} was tried as {sorted(attempts)}, not {retries[label] + 1} times"
        if len({line["id"] for line in lines}) > 1:
            yield f"{label} was sent more than once, with ids of its own"
        for attempt, runs in attempts.items():
            if sum(not line["redelivered"] for line in runs) > 1:
                yield f"{label} was sent more than once, for its try {attempt}"
            if any(line["args"] != runs[0]["args"] for line in runs):
                yield f"{label} ran with different arguments: {[line['args'] for line in runs]}"
    errbacks = {(label, error) for label, _, error in expected.errbacks}
    seen = set(seen_errbacks(notes))
    if seen != errbacks:
        yield f"these errbacks ran: {seen}, not {errbacks}"


def repeated(notes: Notes) -> int:
    """How many runs there were beside the first of each try."""
    tries = Counter(
        (line["label"], line["retries"]) for line in notes.lines if line.get("kind") == "start" and line["id"]
    )
    return sum(tries.values()) - len(tries)
