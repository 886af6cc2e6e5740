"""What outcomes wait for, and in which order they are given to the broker."""

from __future__ import annotations

import logging

import pytest

from fastq._core.message import JOB_AGAIN, JOB_DONE, Delivery, Effects, Message, Outcome
from fastq.backends.base import CompleteChord
from fastq.worker.followups import MOST_CRASHES, Followups, is_job

PAUSE = 5.0


def delivery(number: int) -> Delivery:
    task_id = f"id-{number}"
    return Delivery(
        Message("t", task_id, {"task": "t", "id": task_id}, b"[[], {}, {}]", queue="q"), number, "q"
    )


def ended(number: int, failure: dict[str, object] | None = None) -> Outcome:
    return Outcome(delivery(number), state="FAILURE" if failure else "SUCCESS", failure=failure)


def chord(group_id: str, *, is_taken: bool = False) -> CompleteChord:
    return CompleteChord(group_id, "part", is_taken)


def done(job: Delivery, state: str = JOB_DONE, **effects: object) -> Outcome:
    assert job.message is not None
    joined = job.message.headers.get("group")
    return Outcome(job, state=state, reason="it is away", effects=Effects(joined=joined, **effects))  # type: ignore[arg-type]


@pytest.fixture
def followups() -> Followups:
    return Followups(PAUSE)


def test_whole_outcomes_pass(followups: Followups) -> None:
    outcomes = [ended(1), ended(2)]
    assert followups.screen(outcomes, 0.0) == outcomes
    assert not followups and followups.due(0.0) == [] and followups.next_at() is None


def test_what_follows_a_task_that_did_not_run_is_settled_with_it(followups: Followups) -> None:
    waiting, other = ended(1, {"exc_type": "KeyError"}), ended(2)
    assert followups.screen([waiting, other], 1.0) == [other]
    assert followups.next_at() == 1.0
    [job] = followups.due(1.0)
    assert job.tag is None and is_job(job) and not is_job(waiting.delivery)
    given = done(job, parts=[("g", "t", 0, b"")])
    given.follow = [Message("after", "a", {}, b"", queue="q")]
    assert followups.screen([ended(3), given], 2.0)[1:] == [waiting]
    assert waiting.failure is None
    assert waiting.follow == given.follow
    assert waiting.effects is not None and waiting.effects.parts == [("g", "t", 0, b"")]
    assert not followups


def test_the_join_goes_before_the_part_that_waits(followups: Followups) -> None:
    part = ended(1)
    assert followups.complete([(part, chord("g"))], 0.0) == 1
    assert followups.waiting() == [part.delivery]
    [job] = followups.due(0.0)
    given = done(job)
    assert followups.screen([given], 0.0) == [given, part]
    assert followups.settled([given, part, ended(2)]) == 1
    assert followups.waiting() == []


def test_joins_that_complete_a_chord_around_theirs_wait_too(followups: Followups) -> None:
    part = ended(1)
    followups.complete([(part, chord("inner"))], 0.0)
    inner = done(followups.due(0.0)[0])
    released = followups.screen([inner], 0.0)
    # The broker counts the part again, as its chord has not ended; nobody need join that again.
    assert followups.complete([(inner, chord("outer")), (part, chord("inner"))], 0.0) == 1
    assert followups.settled(released) == 1
    [job] = followups.due(0.0)
    assert job.message is not None and job.message.headers["group"] == "outer"
    assert job.message.headers["of"] == part.delivery.message.to_tuple()  # type: ignore[union-attr]
    outer = done(job)
    assert followups.screen([outer], 0.0) == [outer, inner, part]
    assert followups.settled([outer, inner, part]) == 2
    assert not followups


def test_an_outcome_waits_for_all_of_its_chords(followups: Followups) -> None:
    part = ended(1)
    assert followups.complete([(part, chord("a")), (part, chord("b"))], 0.0) == 1
    first, second = map(done, followups.due(0.0))
    assert followups.screen([second], 0.0) == []
    assert followups.screen([first], 0.0) == [first, second, part]


def test_a_chord_that_another_has_is_looked_at_again(followups: Followups) -> None:
    part = ended(1)
    assert followups.complete([(part, chord("g", is_taken=True))], 10.0) == 1
    assert followups and followups.due(99.0) == []
    assert followups.next_at() == 10.0 + PAUSE
    assert followups.again(10.0 + PAUSE - 0.1) == []
    assert followups.waiting() == [part.delivery]
    assert followups.again(10.0 + PAUSE) == [part]
    assert not followups


def test_a_job_that_can_not_be_done_is_tried_again(
    followups: Followups, caplog: pytest.LogCaptureFixture
) -> None:
    part = ended(1)
    followups.complete([(part, chord("g"))], 0.0)
    [job] = followups.due(0.0)
    with caplog.at_level(logging.WARNING):
        assert followups.screen([done(job, JOB_AGAIN)], 1.0) == []
    assert "it is away" in caplog.text
    assert followups.due(1.0) == []
    assert followups.due(1.0 + PAUSE) == [job]
    given = done(job)
    assert followups.screen([given], 9.0) == [given, part]


def test_a_job_whose_process_dies_each_time_is_given_up(followups: Followups) -> None:
    part = ended(1)
    followups.complete([(part, chord("g"))], 0.0)
    for _ in range(MOST_CRASHES):
        [job] = followups.due(0.0)
        assert job.message is not None and "gives_up" not in job.message.headers
        assert followups.screen([Outcome(job, state="FAILURE")], 0.0) == []
    [job] = followups.due(0.0)
    assert job.message is not None and job.message.headers["gives_up"]
    [given, last] = followups.screen([Outcome(job, state="FAILURE")], 0.0)
    assert last is part
    assert given.effects is not None and given.effects.joined == "g"


def test_jobs_that_the_pool_gives_back_are_given_again(followups: Followups) -> None:
    followups.complete([(ended(1), chord("g"))], 0.0)
    [job] = followups.due(0.0)
    other = delivery(7)
    assert followups.keep([other, job]) == [other]
    assert followups.due(0.0) == [job]


def test_a_chord_is_joined_once_for_messages_that_are_buried(followups: Followups) -> None:
    for _ in range(2):
        followups.join_for_none(delivery(1), chord("g"), 0.0)
    [job] = followups.due(0.0)
    given = done(job)
    assert followups.screen([given], 0.0) == [given]
    assert followups.settled([given]) == 1


def test_errbacks_alone_settle_nothing(followups: Followups) -> None:
    followups.call_errbacks(ended(1, {"exc_type": "KeyError"}), 0.0)
    [job] = followups.due(0.0)
    assert followups.screen([Outcome(job, state=JOB_DONE)], 0.0) == []
    assert not followups
