"""The contract of chords: how a backend counts their parts, and a consumer in its turns."""

from __future__ import annotations

import threading
import time

import pytest
from harness import PATIENCE, SHORT_LEASE, Harness, ids, message, settle, take, take_all, take_one

from fastq._core.message import Action, Delivery, Effects, Message, Outcome, new_id, part_name
from fastq.backends.base import Backend, CompleteChord, Part
from fastq.brokers.base import Consumer


def part(group_id: str, index: int | None, task_id: str = "", member: bytes = b"") -> Part:
    task_id = task_id or f"task-{index}"
    return Part(group_id, task_id, index, member or task_id.encode())


def told(complete: list[CompleteChord]) -> list[tuple[str, str]]:
    """Which chords are complete, and by which part."""
    return [(each.group_id, each.part) for each in complete]


# ---- backends ----


def test_the_last_part_completes_a_chord(harness: Harness) -> None:
    backend, group = harness.open_backend(), "höhe {1}"
    backend.begin_chords([(group, 3)])
    assert backend.count_parts([part(group, 2), part(group, 0)]) == []
    [complete] = harness.open_backend().count_parts([part(group, 1)])
    assert told([complete]) == [(group, "task-1:1")]
    assert not complete.is_taken
    assert complete.members in (None, [b"task-0", b"task-1", b"task-2"])
    assert backend.parts(group) == [b"task-0", b"task-1", b"task-2"]


def test_a_part_counts_once_however_often_it_is_told(harness: Harness) -> None:
    backend, group = harness.open_backend(), new_id()
    backend.begin_chords([(group, 2)])
    for member in (b"first", b"second"):
        assert backend.count_parts([part(group, 0, "a", member), part(group, 0, "a", member)]) == []
    assert told(backend.count_parts([part(group, 1, "b")])) == [(group, "b:1")]
    assert backend.parts(group) == [b"first", b"b"]


def test_parts_that_were_counted_may_come_with_others(harness: Harness) -> None:
    backend, group = harness.open_backend(), new_id()
    backend.begin_chords([(group, 4)])
    backend.count_parts([part(group, 1)])
    again = [part(group, 0), part(group, 1, member=b"again"), part(group, 2), part(group, 2, member=b"again")]
    assert backend.count_parts(again) == []
    assert told(backend.count_parts([part(group, 1), part(group, 3)])) == [(group, "task-3:3")]
    assert backend.parts(group) == [b"task-0", b"task-1", b"task-2", b"task-3"]


def test_one_task_may_stand_in_two_places(harness: Harness) -> None:
    backend, group = harness.open_backend(), new_id()
    backend.begin_chords([(group, 2)])
    assert told(backend.count_parts([part(group, 0, "a", b"x"), part(group, 1, "a", b"y")])) == [
        (group, "a:1")
    ]
    assert backend.parts(group) == [b"x", b"y"]


def test_only_the_part_that_completed_a_chord_is_told_so_again(harness: Harness) -> None:
    backend, group = harness.open_backend(), new_id()
    backend.begin_chords([(group, 2)])
    backend.count_parts([part(group, 0)])
    for _ in range(2):
        assert told(backend.count_parts([part(group, 1)])) == [(group, "task-1:1")]
    assert backend.count_parts([part(group, 0)]) == []
    assert told(harness.open_backend().count_parts([part(group, 1)])) == [(group, "task-1:1")]


def test_parts_may_end_before_the_size_is_known(harness: Harness) -> None:
    backend, group = harness.open_backend(), new_id()
    assert backend.count_parts([part(group, 0), part(group, 1)]) == []
    backend.begin_chords([(group, 3)])
    assert told(backend.count_parts([part(group, 2)])) == [(group, "task-2:2")]


def test_a_chord_that_grew_waits_for_more(harness: Harness) -> None:
    backend, group = harness.open_backend(), new_id()
    backend.extend_chords([(group, 1, "x")])
    backend.begin_chords([(group, 1)])
    backend.extend_chords([(group, 1, "x"), (group, 1, "y")])
    assert backend.count_parts([part(group, 0)]) == []
    assert backend.count_parts([part(group, 0, "x")]) == []
    assert told(backend.count_parts([part(group, 0, "y")])) == [(group, "y:0")]


def test_a_chord_that_has_ended_counts_nothing_more(harness: Harness) -> None:
    backend, group = harness.open_backend(), new_id()
    backend.begin_chords([(group, 1)])
    backend.count_parts([part(group, 0)])
    assert backend.end_chord(group)
    assert not harness.open_backend().end_chord(group)
    assert backend.parts(group) is None
    assert backend.count_parts([part(group, 0)]) == []
    assert backend.parts(group) is None


def test_an_unknown_chord_can_not_end(harness: Harness) -> None:
    backend = harness.open_backend()
    assert not backend.end_chord("unknown")
    assert backend.parts("unknown") is None


def test_a_chord_may_be_run_again(harness: Harness) -> None:
    backend, group = harness.open_backend(), new_id()
    for member in (b"old", b"new"):
        backend.begin_chords([(group, 1)])
        assert told(backend.count_parts([part(group, 0, member=member)])) == [(group, "task-0:0")]
        assert backend.parts(group) == [member]
        assert backend.end_chord(group)


def test_parts_without_an_index_come_last(harness: Harness) -> None:
    backend, group = harness.open_backend(), new_id()
    backend.count_parts([part(group, None, "x"), part(group, 10), part(group, 9)])
    assert backend.parts(group) == [b"task-9", b"task-10", b"x"]


def test_parts_of_several_chords_in_one_call(harness: Harness) -> None:
    backend, groups = harness.open_backend(), [new_id() for _ in range(4)]
    backend.begin_chords([(group, 2) for group in groups])
    parts = [part(group, index) for index in range(2) for group in groups[:3]]
    assert sorted(told(backend.count_parts(parts))) == sorted((group, "task-1:1") for group in groups[:3])
    assert backend.parts(groups[3]) is None


def test_thousands_of_parts(harness: Harness) -> None:
    backend, group = harness.open_backend(), new_id()
    backend.begin_chords([(group, 5000)])
    parts = [part(group, index, member=b"%d" % index) for index in range(5000)]
    for start in range(0, 5000, 2500):
        complete = backend.count_parts(parts[start : start + 2500])
    assert told(complete) == [(group, "task-4999:4999")]
    assert backend.parts(group) == [b"%d" % index for index in range(5000)]


def test_a_large_member(harness: Harness) -> None:
    backend, group = harness.open_backend(), new_id()
    backend.begin_chords([(group, 1)])
    member = b"x" * 2_000_000
    [complete] = backend.count_parts([part(group, 0, member=member)])
    # A store that lives in this process hands it over, as others could not read it there.
    assert complete.members == ([member] if harness.backend_url.startswith("memory") else None)
    assert backend.parts(group) == [member]


def test_workers_that_count_at_once_complete_a_chord_once(harness: Harness) -> None:
    group = new_id()
    harness.open_backend().begin_chords([(group, 100)])
    complete: list[CompleteChord] = []

    def count(first: int) -> None:
        backend = harness.open_backend()
        for index in range(first, 100, 4):
            complete.extend(backend.count_parts([part(group, index)]))

    threads = [threading.Thread(target=count, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.group_id for each in complete] == [group]


def test_an_unfinished_chord_expires(harness: Harness) -> None:
    backend, group = harness.open_backend(chord_expires=0.1), new_id()
    backend.begin_chords([(group, 2)])
    backend.extend_chords([(group, 1, "x")])
    backend.count_parts([part(group, 0)])
    time.sleep(0.15)
    backend.cleanup()
    assert backend.parts(group) is None
    assert backend.count_parts([part(group, 0), part(group, 1), part(group, 2)]) == []


# ---- consumers ----


def stored(backend: Backend, *task_ids: str) -> list[bytes | None]:
    return backend.fetch(task_ids)


def ended(delivery: Delivery, group: str, index: int, **effects: list[tuple[str, str, bytes]]) -> Outcome:
    """A part that has succeeded; it names its task in its result and in what follows it."""
    assert delivery.message is not None
    name = delivery.message.id
    return Outcome(
        delivery,
        state="SUCCESS",
        result=name.encode(),
        follow=[message("next", id=f"after {name}")],
        effects=Effects(parts=[(group, name, index, name.encode())], **effects),
    )


def joins(
    group: str, body: Message | None = None, **effects: list[tuple[str, str, int | None, bytes]]
) -> Outcome:
    """What the join of a chord gives."""
    body = message("next", id=f"body of {group}") if body is None else body
    return Outcome(Delivery(None, None, "q"), follow=[body], effects=Effects(joined=group, **effects))


class Stage:
    """A chord whose header lies in the queue "q" of one store, and a worker that has taken it."""

    def __init__(self, harness: Harness, size: int) -> None:
        harness.must_commit()
        self.harness = harness
        self.group = new_id()
        self.names = [f"{self.group}-{index}" for index in range(size)]
        self.backend = harness.open_backend()
        self.backend.begin_chords([(self.group, size)])
        harness.open().publish([message(id=name) for name in self.names])
        self.consumer = self.consume()
        self.outcomes = [
            ended(delivery, self.group, index) for index, delivery in enumerate(take_all(self.consumer))
        ]
        assert len(self.outcomes) == size

    def consume(self, *queues: str) -> Consumer:
        backend = self.harness.open_backend()
        return self.harness.consume(*queues or ("q",), backend=backend, lease=SHORT_LEASE)

    def sent(self) -> list[str]:
        """What was sent to "next", taken away."""
        consumer = self.consume("next")
        taken = take_all(consumer)
        settle(consumer, *map(Outcome, taken))
        return sorted(ids(taken))

    def lengths(self) -> tuple[int, int | None]:
        info = next(info for info in self.harness.open().queues(["q"]) if info.name == "q")
        return info.ready, info.claimed


def complete(consumer: Consumer) -> list[tuple[Outcome, str]]:
    """What the consumer tells of complete chords, once."""
    found = [(outcome, chord.group_id) for outcome, chord in consumer.completed]
    consumer.completed.clear()
    return found


def test_a_part_counts_with_its_outcome(harness: Harness) -> None:
    stage = Stage(harness, 3)
    settle(stage.consumer, stage.outcomes[1])
    assert complete(stage.consumer) == []
    assert stage.backend.parts(stage.group) == [stage.names[1].encode()]
    assert stored(stage.backend, *stage.names) == [None, stage.names[1].encode(), None]
    assert stage.lengths() == (0, 2)
    assert stage.sent() == [f"after {stage.names[1]}"]


def test_the_outcome_that_completes_a_chord_waits(harness: Harness) -> None:
    stage = Stage(harness, 3)
    settle(stage.consumer, *stage.outcomes)
    assert complete(stage.consumer) == [(stage.outcomes[2], stage.group)]
    assert stored(stage.backend, *stage.names) == [*[name.encode() for name in stage.names[:2]], None]
    assert stage.lengths() == (0, 1)
    assert stage.sent() == [f"after {name}" for name in stage.names[:2]]
    settle(stage.consumer, stage.outcomes[2])  # too early
    assert complete(stage.consumer) == [(stage.outcomes[2], stage.group)]
    assert (stage.sent(), stage.lengths()) == ([], (0, 1))


def test_the_join_and_what_waited_for_it_take_effect_together(harness: Harness) -> None:
    stage = Stage(harness, 2)
    settle(stage.consumer, *stage.outcomes)
    [(waiting, _)] = complete(stage.consumer)
    stage.sent()
    settle(stage.consumer, joins(stage.group), waiting)
    assert complete(stage.consumer) == []
    assert stage.sent() == [f"after {stage.names[1]}", f"body of {stage.group}"]
    assert stored(stage.backend, stage.names[1]) == [stage.names[1].encode()]
    assert stage.lengths() == (0, 0)
    assert stage.backend.parts(stage.group) is None


def test_a_chord_is_joined_once(harness: Harness) -> None:
    stage = Stage(harness, 1)
    settle(stage.consumer, *stage.outcomes)
    settle(stage.consumer, joins(stage.group), joins(stage.group))
    settle(stage.consumer, joins(stage.group), *stage.outcomes)
    assert stage.sent() == [f"after {stage.names[0]}", f"body of {stage.group}"]
    assert stage.lengths() == (0, 0)


def test_a_part_whose_claim_was_lost_does_not_count(harness: Harness) -> None:
    stage = Stage(harness, 2)
    time.sleep(SHORT_LEASE * 1.3)
    take(other := stage.consume(), 0)
    for _ in range(100):
        if stage.lengths() == (2, 0):
            break
        take(other, 0)
        time.sleep(0.02)
    settle(stage.consumer, *stage.outcomes)
    assert complete(stage.consumer) == []
    assert stage.backend.parts(stage.group) is None
    assert (stage.sent(), stored(stage.backend, *stage.names)) == ([], [None, None])


def test_when_the_worker_that_is_to_join_dies_another_does(harness: Harness) -> None:
    stage = Stage(harness, 2)
    settle(stage.consumer, *stage.outcomes)
    assert len(complete(stage.consumer)) == 1
    stage.sent()
    time.sleep(SHORT_LEASE * 1.3)
    heir = stage.consume()
    again = ended(take_one(heir), stage.group, 1)
    settle(heir, again)
    assert complete(heir) == [(again, stage.group)]
    assert stage.backend.parts(stage.group) == [name.encode() for name in stage.names]
    settle(heir, joins(stage.group), again)
    # The first one was only slow.
    settle(stage.consumer, joins(stage.group), stage.outcomes[1])
    assert stage.sent() == [f"after {stage.names[1]}", f"body of {stage.group}"]
    assert stage.lengths() == (0, 0)


def test_a_part_that_runs_again_after_the_join_changes_nothing(harness: Harness) -> None:
    stage = Stage(harness, 1)
    settle(stage.consumer, *stage.outcomes)
    settle(stage.consumer, joins(stage.group))  # and the worker dies before it has settled the part
    time.sleep(SHORT_LEASE * 1.3)
    heir = stage.consume()
    again = ended(take_one(heir), stage.group, 0)
    settle(heir, again)
    assert complete(heir) == []
    assert stage.sent() == [f"after {stage.names[0]}", f"body of {stage.group}"]
    assert stage.lengths() == (0, 0)


def test_workers_that_end_parts_at_once_complete_a_chord_once(harness: Harness) -> None:
    stage = Stage(harness, 1)
    group, names = new_id(), [f"part {index}" for index in range(40)]
    stage.backend.begin_chords([(group, 40)])
    harness.open().publish([message("wide", id=name) for name in names])
    completed: list[Outcome] = []

    def work() -> None:
        consumer = harness.consume("wide", backend=harness.open_backend())
        while deliveries := take(consumer, 3):
            parts = [ended(each, group, names.index(each.message.id)) for each in deliveries if each.message]
            settle(consumer, *parts)
            completed.extend(outcome for outcome, _ in complete(consumer))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(completed) == 1
    assert stage.backend.parts(group) == [name.encode() for name in names]


def test_one_outcome_may_be_the_last_part_of_two_chords(harness: Harness) -> None:
    stage = Stage(harness, 1)
    other = new_id()
    stage.backend.begin_chords([(other, 1)])
    [outcome] = stage.outcomes
    assert outcome.effects is not None
    outcome.effects.parts.append((other, "later", None, b"later"))
    settle(stage.consumer, outcome)
    assert sorted(complete(stage.consumer), key=lambda each: each[1]) == sorted(
        [(outcome, stage.group), (outcome, other)], key=lambda each: each[1]
    )
    settle(stage.consumer, joins(other), outcome)
    assert complete(stage.consumer) == [(outcome, stage.group)]
    settle(stage.consumer, joins(stage.group), outcome)
    assert stage.sent() == sorted([f"after {stage.names[0]}", f"body of {stage.group}", f"body of {other}"])
    assert stage.lengths() == (0, 0)


def test_a_join_may_be_the_last_part_of_the_chord_around_it(harness: Harness) -> None:
    stage, around = Stage(harness, 1), new_id()
    stage.backend.begin_chords([(around, 1)])
    settle(stage.consumer, *stage.outcomes)
    complete(stage.consumer)
    inner = joins(stage.group, parts=[(around, "inner", 0, b"failed")])
    settle(stage.consumer, inner, *stage.outcomes)
    assert complete(stage.consumer) == [(inner, around), (stage.outcomes[0], stage.group)]
    assert (stage.sent(), stage.lengths()) == ([], (0, 1))
    settle(stage.consumer, joins(around), inner, *stage.outcomes)
    assert complete(stage.consumer) == []
    assert stage.sent() == sorted([f"after {stage.names[0]}", f"body of {stage.group}", f"body of {around}"])
    assert stage.lengths() == (0, 0)


def test_a_chord_begins_with_the_outcome_that_sends_its_header(harness: Harness) -> None:
    harness.must_commit()
    backend, group = harness.open_backend(), new_id()
    harness.open().publish([message(id="starts")])
    consumer = harness.consume("q", backend=harness.open_backend())
    effects = Effects(chords=[(group, 2)], groups=[(group, b"group")], results=[("later", "FAILURE", b"doc")])
    settle(consumer, Outcome(take_one(consumer), follow=[message("next")], effects=effects))
    assert backend.restore_group(group) == b"group"
    assert stored(backend, "later") == [b"doc"]
    assert told(backend.count_parts([part(group, 0), part(group, 1)])) == [(group, "task-1:1")]


def test_a_chord_that_grows_with_an_outcome_does_so_once(harness: Harness) -> None:
    stage = Stage(harness, 1)
    other = new_id()
    stage.backend.begin_chords([(other, 1)])
    [outcome] = stage.outcomes
    assert outcome.effects is not None
    outcome.effects.extended.append((other, 1, stage.names[0]))
    for _ in range(2):  # it waits, and is given again
        settle(stage.consumer, outcome)
        assert [group for _, group in complete(stage.consumer)] == [stage.group]
    assert stage.backend.count_parts([part(other, 0)]) == []
    assert told(stage.backend.count_parts([part(other, 1)])) == [(other, "task-1:1")]


def test_a_part_that_was_settled_before_it_ran_completes_a_chord_as_well(harness: Harness) -> None:
    stage = Stage(harness, 1)
    [outcome] = stage.outcomes
    settle(stage.consumer, Outcome(outcome.delivery))
    outcome.delivery.tag = None
    settle(stage.consumer, outcome)
    assert complete(stage.consumer) == [(outcome, stage.group)]
    settle(stage.consumer, joins(stage.group), outcome)
    assert stage.sent() == [f"after {stage.names[0]}", f"body of {stage.group}"]


@pytest.mark.parametrize("action", [Action.BURY, Action.REQUEUE])
def test_a_part_that_is_not_acknowledged_counts_too(harness: Harness, action: Action) -> None:
    stage = Stage(harness, 2)
    for outcome in stage.outcomes:
        outcome.action = action
        outcome.reason = "it was bad"
    settle(stage.consumer, *stage.outcomes)
    assert complete(stage.consumer) == [(stage.outcomes[1], stage.group)]
    assert stage.lengths()[1] == 1
    settle(stage.consumer, joins(stage.group), stage.outcomes[1])
    info = next(info for info in stage.harness.open().queues(["q"]) if info.name == "q")
    assert info.claimed == 0
    assert info.dead + info.ready == 2


def test_deliveries_come_with_what_is_complete(harness: Harness) -> None:
    stage = Stage(harness, 1)
    harness.open().publish([message(id="more")])
    deliveries = stage.consumer.turn(stage.outcomes, 10, PATIENCE)
    assert ids(deliveries) == ["more"]
    assert complete(stage.consumer) == [(stage.outcomes[0], stage.group)]


def test_a_turn_does_not_wait_when_something_is_complete(harness: Harness) -> None:
    stage = Stage(harness, 1)
    began = time.monotonic()
    assert stage.consumer.turn(stage.outcomes, 10, PATIENCE) == []
    assert time.monotonic() - began < PATIENCE / 2
    assert complete(stage.consumer) == [(stage.outcomes[0], stage.group)]


def test_a_name_tells_a_part() -> None:
    assert part_name("a", 1) != part_name("a", 11)
