"""How a worker's processes look for garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from fastq.worker import garbage


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[tuple[int, int, int]]:
    before = gc.get_threshold()
    yield before
    garbage.unsettle()
    gc.set_threshold(*before)


def test_looks_are_rarer_until_that_is_taken_back(thresholds: tuple[int, int, int]) -> None:
    for _ in range(2):  # a second time changes nothing
        garbage.settle()
        assert gc.get_threshold() == (garbage.YOUNG_OBJECTS, *thresholds[1:])
        assert gc.get_freeze_count() > 0
    garbage.unsettle()
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("young", [0, 50_000])
def test_a_program_that_has_its_own_mind_is_left_alone(young: int) -> None:
    gc.set_threshold(young)
    before = gc.get_threshold()
    garbage.settle()
    assert gc.get_threshold() == before
    garbage.unsettle()
    assert gc.get_threshold() == before
