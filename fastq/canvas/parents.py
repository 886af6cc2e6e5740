"""The results of a workflow's parts, each the parent of those that come of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any


def eldest(result: Any) -> Any:
    """The first of *result*, its parent, that one's parent and so on that has none."""
    while result.parent is not None:
        result = result.parent
    return result


def link_parents(results: list[Any]) -> Any:
    """Make each of *results*, those of the steps of a chain, the parent of the next; returns the last."""
    for before, result in pairwise(results):
        eldest(result).parent = before
    return results[-1]
