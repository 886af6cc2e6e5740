"""The reference for workflows against Celery's own eager mode, on random workflows in which nothing fails."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import celery
import celery.app.task
import pytest
from celery.result import allow_join_result
from hypothesis import HealthCheck, given, settings
from reference.canvas import DIFFERENCES, Members, expected, kind_of, steps_of
from workflows.building import Api, build, celery_api, start
from workflows.description import Chain, Chord, Errback, Group, Map, Node, Task, from_map, parts, to_map
from workflows.journal import Journal, JournalReader
from workflows.observing import outcome_of
from workflows.strategies import GIVEN, workflows
from workflows.tasks import define

# The same examples in every run: Celery's eager mode has oddities that no name here covers yet, such as the
# lost links of a task that is retried before a group.
EAGER = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
    ],
)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[JournalReader]:
    reader = JournalReader(tmp_path / "journal")
    yield reader
    reader.close()


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    app = celery.Celery("flows", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.task_always_eager = True
    # A task that is replaced waits for what replaces it, which Celery refuses in this mode.
    monkeypatch.setattr(celery.app.task, "denied_join_result", contextlib.nullcontext)
    api = celery_api(app)
    journal = Journal(tmp_path / "journal")
    define(api, journal)
    yield api
    journal.close()
    app.close()


def is_linked_in_vain(node: Node) -> bool:
    """Whether a callback may end up at a chord in *node*, whose `apply` does not look for it."""
    return (
        isinstance(node, Chord | Chain)
        and bool(node.links)
        and not all(isinstance(step, Task | Map) for step in steps_of(node))
    )


@EAGER
@given(node=workflows(failing=0), given=GIVEN)
def test_values_and_runs_are_as_in_celerys_eager_mode(node, given, api, reader):
    awaited = expected(node, given)
    if awaited.celery_differs or any(map(is_linked_in_vain, parts(node))):
        return
    token = f"w{len(reader.of)}"
    with allow_join_result(), warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)  # of errbacks of chords
        outcome = outcome_of(start(api, node, token, given), float("inf"))
    if isinstance(node, Group) and isinstance(outcome, Members) and len(outcome.outcomes) == 1:
        (only,) = outcome.outcomes
        outcome = only if isinstance(only, Members) else outcome
    assert outcome == awaited.outcome
    assert reader.notes(token).runs == awaited.runs


@pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header")
@EAGER
@given(node=workflows())
def test_the_kind_of_what_is_put_together_is_as_celery_has_it(node, api):
    for part in parts(node):
        if not isinstance(part, Errback):
            assert kind_of(part) == (build(api, part, "").get("subtask_type") or "task")


@given(workflows())
def test_a_description_travels(node):
    assert from_map(to_map(node)) == node


@EAGER
@given(workflows())
def test_what_runs_has_a_label_of_its_own(node):
    labels = [part.label for part in parts(node) if hasattr(part, "label")]
    assert len(labels) == len(set(labels)) and "" not in labels
    assert set(expected(node).runs) <= set(labels)
    assert expected(node).celery_differs <= set(DIFFERENCES)
