"""Random workflows for tests that run many side by side."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from workflows.description import Node
from workflows.strategies import GIVEN, workflows


def sample(count: int, number: int, **options: Any) -> list[tuple[Node, list[Any]]]:
    """So many random workflows and what each is called with; the same for the same *number*."""
    found: list[tuple[Node, list[Any]]] = []

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(node=workflows(**options), given=GIVEN)
    def collect(node: Node, given: list[Any]) -> None:
        found.append((node, given))

    collect()
    return found
