"""States of a task: the sets and the order of Celery."""

import celery.states
import pytest

from fastq import states
from fastq.states import FAILURE, PENDING, STARTED, SUCCESS, precedence, state

NAMES = [name for name in celery.states.__all__ if name.isupper()] + ["ALL_STATES", "PRECEDENCE", "REJECTED"]


@pytest.mark.parametrize("name", NAMES)
def test_equals_celery(name):
    assert getattr(states, name) == getattr(celery.states, name)


@pytest.mark.parametrize("one", [*celery.states.ALL_STATES, "PROGRESS"])
@pytest.mark.parametrize("other", [*celery.states.ALL_STATES, "PROGRESS"])
def test_states_compare_as_in_celery(one, other):
    ours, theirs = state(one), celery.states.state(one)
    assert (ours < other, ours <= other, ours > other, ours >= other) == (
        theirs < other,
        theirs <= other,
        theirs > other,
        theirs >= other,
    )


def test_own_state_ranks_between_failure_and_the_other_ones():
    assert state(FAILURE) > state("PROGRESS") > state(STARTED) > state(PENDING)
    assert precedence(SUCCESS) == 0


def test_a_state_is_its_string():
    assert state("SUCCESS") == "SUCCESS"
    assert {state("SUCCESS"): 1}["SUCCESS"] == 1
