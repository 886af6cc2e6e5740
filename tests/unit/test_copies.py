"""What comes again after a break is known for what it is, and nothing else is."""

from __future__ import annotations

import pytest

from fastq._core.message import Delivery, Message, Outcome
from fastq.brokers.rabbitmq.copies import (
    COMES_AGAIN_SECONDS,
    DOUBTED_SECONDS,
    UNSEEN_SECONDS,
    Copies,
    Copy,
    Held,
    copy_of,
)


def message(task_id: str = "a", **headers: object) -> Message:
    return Message("tasks.noop", task_id, {"task": "tasks.noop", "id": task_id, **headers}, b"[]", queue="q")


def held(task_id: str, outcome: Outcome | None = None) -> Held:
    sent = message(task_id)
    return Held(Delivery(sent, 1, "q"), copy_of(sent, 0, 0.0), outcome)


COPY = copy_of(message(), 0, 0.0)


@pytest.mark.parametrize(
    "other",
    [
        copy_of(message("b"), 0, 0.0),
        copy_of(message(retries=1), 0, 0.0),  # its own retry
        copy_of(message(), 1, 0.0),  # sent to the tail, counted
        copy_of(message(), 0, 7.0),  # sent to the schedule
        COPY._replace(task="tasks.other"),  # what has replaced it
    ],
)
def test_another_message_is_no_copy(other: Copy) -> None:
    copies = Copies()
    copies.settled.append((0.0, COPY))
    copies.lose([], [COPY], 0, 1.0)
    assert not copies.is_repeat(other, 1.0) and not copies.take_unstarted(other, 1.0)
    assert copies.is_repeat(COPY, 1.0) and copies.take_unstarted(COPY, 1.0)


def test_what_was_acknowledged_comes_again_once_after_any_number_of_breaks() -> None:
    copies = Copies()
    copies.settled.append((0.0, COPY))
    assert not copies.is_repeat(COPY, 0.0)  # nothing comes again before there was a break
    copies.lose([], [], 0, 1.0)
    copies.lose([], [], 0, 2.0)
    assert copies.is_repeat(COPY, 3.0)
    assert not copies.is_repeat(COPY, 3.0)


@pytest.mark.parametrize(
    ("breaks_at", "comes_at", "is_known"),
    [
        (UNSEEN_SECONDS, UNSEEN_SECONDS, True),
        (UNSEEN_SECONDS + 0.1, UNSEEN_SECONDS + 0.1, False),  # RabbitMQ has seen it
        (1.0, 1.0 + COMES_AGAIN_SECONDS, True),
        (1.0, 1.1 + COMES_AGAIN_SECONDS, False),  # another one that is named so
    ],
)
def test_an_acknowledgement_is_not_remembered_for_ever(
    breaks_at: float, comes_at: float, is_known: bool
) -> None:
    copies = Copies()
    copies.settled.append((0.0, COPY))
    copies.lose([], [], 0, breaks_at)
    assert copies.is_repeat(COPY, comes_at) is is_known


def test_what_runs_gets_the_claim_of_its_copy() -> None:
    copies, runs = Copies(), held("a")
    copies.lose([runs], [], 0, 0.0)
    copies.adopt([runs.delivery], 0.0)
    assert not copies.take_unstarted(runs.copy, 0.0)
    assert copies.take_orphan(runs.copy) == runs
    assert copies.take_orphan(runs.copy) is None


@pytest.mark.parametrize("ends_before_it_is_adopted", [True, False])
def test_what_has_ended_since_is_settled_by_its_copy(ends_before_it_is_adopted: bool) -> None:
    copies, ends = Copies(), held("a")
    outcome = Outcome(ends.delivery)
    copies.lose([ends], [], 0, 0.0)
    if ends_before_it_is_adopted:
        copies.end(outcome, 0.0)
    copies.adopt([ends.delivery], 0.0)
    if not ends_before_it_is_adopted:
        copies.end(outcome, 0.0)
    found = copies.take_orphan(ends.copy)
    assert found is not None and found.outcome is outcome


def test_an_outcome_whose_claim_was_lost_twice_is_kept() -> None:
    ended = held("a")
    outcome = Outcome(ended.delivery)
    copies = Copies()
    copies.lose([ended._replace(outcome=outcome)], [], 0, 0.0)
    copies.adopt([], 0.0)
    found = copies.take_orphan(ended.copy)
    assert found is not None and found.outcome is outcome


def test_what_has_ended_is_forgotten_when_its_copy_has_gone_elsewhere() -> None:
    copies, ends, runs = Copies(), held("a"), held("b")
    copies.lose([ends, runs], [], 0, 0.0)
    copies.adopt([ends.delivery, runs.delivery], 0.0)
    copies.end(Outcome(ends.delivery), 1.0)
    copies.lose([], [], 0, 1.0 + COMES_AGAIN_SECONDS)
    assert copies.take_orphan(ends.copy) is None
    assert copies.take_orphan(runs.copy) == runs  # it may run for days


def test_what_did_not_start_is_no_orphan() -> None:
    copies, waits = Copies(), held("a")
    copies.lose([waits], [], 0, 0.0)
    copies.adopt([], 0.0)
    copies.end(Outcome(waits.delivery), 0.0)  # nobody asked for it any more
    assert copies.take_orphan(waits.copy) is None
    assert copies.take_unstarted(waits.copy, 0.0)
    assert not copies.take_unstarted(waits.copy, 0.0)


def test_what_had_come_again_before_may_have_run_then() -> None:
    copies, waits = Copies(), held("a")
    copies.lose([waits._replace(is_flagged=True)], [], 0, 0.0)
    copies.adopt([], 0.0)
    assert not copies.take_unstarted(waits.copy, 0.0)


def test_a_copy_of_what_was_settled_leaves_no_orphan() -> None:
    copies, ended = Copies(), held("a")
    copies.lose([ended._replace(outcome=Outcome(ended.delivery))], [], 0, 0.0)
    copies.settled.append((0.0, ended.copy))
    copies.lose([], [], 0, 0.0)
    assert copies.is_repeat(ended.copy, 0.0)
    assert copies.take_orphan(ended.copy) is None


def test_as_many_as_were_on_their_way_come_again_unread() -> None:
    copies = Copies()
    copies.lose([], [], 2, 0.0)
    copies.lose([], [], 1, 0.0)  # they may have been the same ones
    found = [copies.take_unstarted(copy_of(message(name), 0, 0.0), 1.0) for name in "abc"]
    assert found == [True, True, False]
    copies.lose([], [], 1, 0.0)
    assert not copies.take_unstarted(COPY, COMES_AGAIN_SECONDS)


def test_after_the_broker_was_away_no_flag_counts_on_what_bears_a_count() -> None:
    copies, counted = Copies(), COPY._replace(redelivered=1)
    assert not copies.take_unstarted(counted, 0.0)
    copies.doubt_flags(0.0)
    assert copies.take_unstarted(counted, 1.0) and copies.take_unstarted(counted, 2.0)
    assert not copies.take_unstarted(COPY, 1.0)  # whether it ran is not known: it must say so
    assert not copies.take_unstarted(counted, DOUBTED_SECONDS)
