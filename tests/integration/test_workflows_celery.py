"""The reference for workflows against real Celery workers on Redis: it says what they do, or why not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from reference.canvas import DIFFERENCES, expected
from servers import RedisServer, skip_or_fail
from workflows.description import Chain, Chord, Errback, Group, Node, Task, labelled
from workflows.stage import Stage
from workflows.strategies import GIVEN, workflows

SOON = 1.5  # seconds
ONLY_EAGER = {"eager links"}  # differences of Celery's eager mode alone

DIFFERENT: dict[str, Node] = {
    "pending group": Chain(steps=(Task(raises="own"), Group(members=(Task(), Task())))),
    "aborted chord": Chord(header=(Task(raises="own"),), body=Chord(header=(Task(),), body=Task())),
    "first errback": Chord(
        header=(Task(raises="own"),), body=Chain(steps=(Task(errbacks=(Errback(),)), Task()))
    ),
    "plural body": Chain(
        steps=(
            Group(members=(Task(), Task())),
            Group(members=(Task(), Task())),
            Group(members=(Task(), Task())),
        )
    ),
    "nested group": Chord(header=(Group(members=(Task(), Task())),), body=Task()),
    "unregistered": Task(raises="unregistered", errbacks=(Errback(),)),
    "aborted part": Chord(header=(Chord(header=(Task(raises="own"),), body=Task()),), body=Task()),
    "leaked errbacks": Chain(
        steps=(
            Chain(steps=(Task(), Group(members=(Task(), Task()))), errbacks=(Errback(),)),
            Task(raises="own"),
        ),
        form="pipe",
    ),
    "lost links": Chain(steps=(Chain(steps=(Task(), Task()), links=(Task(),)),)),
    "lone group": Chain(steps=(Group(members=(Task(), Task())),)),
    "replaced by plural": Task(
        replaced_by=Chord(header=(Task(), Task()), body=Group(members=(Task(), Task())))
    ),
    "plural part": Chord(
        header=(Chain(steps=(Task(), Group(members=(Task(raises="own"), Task())))), Task()), body=Task()
    ),
}


@pytest.fixture(scope="module")
def stage(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    for package in ("celery", "redis"):
        if find_spec(package) is None:
            skip_or_fail(f"{package} is missing")
    url = redis_server.url.replace("/0", "/1")
    stage = Stage("celery", url, url, tmp_path_factory.mktemp("celery"), "prefork", "2")
    stage.wait_until_ready()
    yield stage
    stage.close()


# Errbacks of chords are called as they are in Celery 5.7 unless one sets it otherwise; it says so each time.
pytestmark = pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header")


@settings(
    max_examples=60,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(node=workflows(), given=GIVEN)
def test_random_workflows_come_to_what_the_reference_says(stage: Stage, node: Node, given: list[Any]) -> None:
    if not stage.client.expected(node, given).celery_differs - ONLY_EAGER:
        stage.run(node, given)


@pytest.mark.parametrize("difference", sorted(DIFFERENT))
def test_celery_differs_where_the_reference_says_so(stage: Stage, difference: str) -> None:
    node = labelled(DIFFERENT[difference])
    assert difference in expected(node).celery_differs
    with pytest.raises(AssertionError):
        stage.run(node, ["given"], patience=SOON)
        deadline = time.monotonic() + SOON  # what runs too often may do so after all else
        while not (late := [each for each in stage.too_much() if each.endswith(str(node))]):
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        assert not late


def test_every_difference_is_shown() -> None:
    assert set(DIFFERENT) | ONLY_EAGER == set(DIFFERENCES)
