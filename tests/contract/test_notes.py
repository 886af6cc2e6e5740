"""What a broker keeps for workers beside messages: what is revoked, what is paused, what is delayed."""

from __future__ import annotations

import time

from harness import PATIENCE, Harness, acks, ids, message, settle, take, take_all, take_one

from fastq._core.message import Action, Outcome, new_id


def test_what_is_revoked_is_kept_until_its_time(harness: Harness) -> None:
    broker = harness.open()
    one, two, past = new_id(), new_id(), new_id()
    until = time.time() + 1000
    broker.revoke({one: until, past: time.time() - 1})
    broker.revoke({two: until})
    found = harness.open().revoked()
    assert {one, two} <= found.keys()
    assert past not in found
    assert abs(found[one] - until) < 1


def test_thousands_of_revokes_are_kept(harness: Harness) -> None:
    records = {new_id(): time.time() + 1000 for _ in range(2500)}
    harness.open().revoke(records)
    assert records.keys() <= harness.open().revoked().keys()


def test_a_queue_stays_paused_until_it_is_resumed(harness: Harness) -> None:
    broker = harness.open()
    broker.pause("a", True)
    broker.pause("a", True)
    assert harness.open().paused(["a", "b"]) == {"a"}
    broker.pause("a", False)
    broker.pause("a", False)
    assert harness.open().paused(["a", "b"]) == frozenset()


def test_the_schedule_tells_what_is_due_first(harness: Harness) -> None:
    harness.must_search()
    now = time.time()
    later, sooner = message("a", due=now + 500), message("b", due=now + 300, priority=3)
    broker = harness.open()
    broker.publish([later, sooner, message("c", due=now + 100), message("a")])
    found = broker.delayed(["a", "b"], 10)
    assert ids([each for _, each in found]) == [sooner.id, later.id]
    assert [each.queue for _, each in found] == ["b", "a"]
    assert abs(found[0][0] - (now + 300)) < 0.01
    assert len(broker.delayed(["a", "b"], 1)) == 1


def test_a_consumer_can_go_over_to_other_queues(harness: Harness) -> None:
    client = harness.open()
    consumer = harness.consume("a", "b")
    assert take(consumer) == []
    client.publish([message("a"), message("b")])
    held = [take_one(consumer), take_one(consumer)]
    consumer.consume(["b", "c"])
    waiting, wanted = message("a"), [message("b"), message("c")]
    client.publish([waiting, *wanted])
    taken = [take_one(consumer), take_one(consumer)]
    assert sorted(ids(taken)) == sorted(ids(wanted))
    assert take_all(consumer) == []
    # What is held of a queue that is consumed no more can be settled, also back to it.
    back = next(each for each in held if each.queue == "a")
    rest = [each for each in [*held, *taken] if each is not back]
    settle(consumer, Outcome(back, Action.RETURN), *acks(rest))
    other = harness.consume("a")
    found = []
    until = time.monotonic() + PATIENCE
    while len(found) < 2 and time.monotonic() < until:
        found += take(other, 10, 1.0)
    assert sorted(ids(found)) == sorted([waiting.id, *ids([back])])
    settle(other, *acks(found))
    consumer.consume([])
    assert take_all(consumer) == []
    client.publish([message("b")])
    assert take_all(consumer) == []
    consumer.consume(["b"])
    (last,) = take(consumer, 10, PATIENCE)
    settle(consumer, *acks([last]))
