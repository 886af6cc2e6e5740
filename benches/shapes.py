"""The workflows that the benches run, made from the `chain`, `group` and `chord` of either side."""

from __future__ import annotations

from types import ModuleType
from typing import Any

DEPTH = 5  # chords in chords


def chain_of(module: ModuleType, size: int) -> Any:
    """Steps of which each hands on what it gets."""
    return module.chain(module.echo.s(1), *(module.echo.s() for _ in range(size - 1)))


def group_of(module: ModuleType, size: int) -> Any:
    """Tasks without arguments."""
    return module.group(module.echo.s() for _ in range(size))


def chord_of(module: ModuleType, size: int) -> Any:
    """A header of tasks without arguments, and a body that counts their results."""
    return module.chord([module.echo.s() for _ in range(size)], module.total.s())


def nested_chords(module: ModuleType) -> Any:
    """Chords whose header is a task and the next chord."""
    chord = chord_of(module, 2)
    for _ in range(DEPTH - 1):
        chord = module.chord([module.echo.s(), chord], module.total.s())
    return chord


SHAPES = {
    "chain of 3": lambda module: chain_of(module, 3),
    "group of 10": lambda module: group_of(module, 10),
    "chord of 10": lambda module: chord_of(module, 10),
    f"chords {DEPTH} deep": nested_chords,
}
BIG_SHAPES = {"chain": chain_of, "chord": chord_of}


def ids_of(result: Any) -> list[str]:
    """The ids of all tasks of a workflow, from its result; the one that ends last comes last."""
    ids: list[str] = []
    waiting = [result]
    while waiting:
        found = waiting.pop()
        if found.parent is not None:
            waiting.append(found.parent)
        if hasattr(found, "results"):
            waiting += found.results
        else:
            ids.append(found.id)
    return ids[::-1]
