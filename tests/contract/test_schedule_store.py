"""What beats share: one suite for every broker that keeps schedules."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from conftest import HARNESSES
from harness import SHORT_LEASE, Harness, ids, message, take_all

from fastq.brokers.base import Broker
from fastq.brokers.schedule_store import Run, ScheduleStore, digest

KEEPERS = ["memory", "sqlite", "redis", "redis-resp2"]
NONE: frozenset[str] = frozenset()


@pytest.fixture(params=KEEPERS)
def harness(request: pytest.FixtureRequest):
    """An empty store of each kind in turn."""
    place = HARNESSES[request.param](request)
    yield place
    place.close()


@pytest.fixture
def broker(harness: Harness) -> Broker:
    return harness.open()


@pytest.fixture
def store(broker: Broker) -> ScheduleStore:
    return broker.schedule_store("app")


@pytest.fixture
def other(harness: Harness) -> ScheduleStore:
    """The same schedule, as another process has it."""
    return harness.open().schedule_store("app")


def test_rabbitmq_keeps_none(request: pytest.FixtureRequest) -> None:
    place = HARNESSES["rabbitmq"](request)
    assert not place.open().keeps_schedules
    with pytest.raises(NotImplementedError, match="RabbitMQBroker keeps no schedules"):
        place.open().schedule_store("app")
    place.close()


# -- the lease ------------------------------------------------------------------------------


def test_one_beat_leads(store: ScheduleStore, other: ScheduleStore) -> None:
    assert other.leader() == ""
    first = store.look("one", 10.0, "", {"a", "b"})
    assert other.leader() == "one"
    assert first.holder == "one"
    assert first.alive_at == 0.0
    assert abs(first.now - time.time()) < 5.0
    seen = other.look("two", 10.0, "", {"c"})
    assert (seen.holder, seen.token) == ("one", first.token)
    assert (seen.served, other.served()) == (digest({"a", "b"}), {"a", "b"})
    again = store.look("one", 10.0, "", {"a"})
    assert again.token not in ("", first.token)
    assert again.alive_at == pytest.approx(first.now, abs=0.001)
    assert other.served() == {"a"}


def test_a_lease_that_is_given_up_is_free(store: ScheduleStore, other: ScheduleStore) -> None:
    first = store.look("one", 10.0, "", NONE)
    other.resign("two")
    assert other.look("two", 10.0, "", NONE).holder == "one"
    store.resign("one")
    assert other.leader() == ""
    taken = other.look("two", 10.0, "", {"c"})
    assert taken.holder == "two"
    assert taken.token.split()[1] > first.token.split()[1]
    assert store.look("one", 10.0, "", NONE).token == taken.token


def test_a_lease_runs_out(store: ScheduleStore, other: ScheduleStore) -> None:
    store.look("one", SHORT_LEASE, "", NONE)
    ends = time.monotonic() + 10
    while other.look("two", 10.0, "", NONE).holder != "two":
        assert time.monotonic() < ends
        time.sleep(0.02)
    assert store.look("one", 10.0, "", NONE).holder == "two"


def test_a_lease_that_was_seen_unchanged_for_too_long_is_taken(
    store: ScheduleStore, other: ScheduleStore
) -> None:
    first = store.look("one", 3600.0, "", NONE)
    stale = store.look("one", 3600.0, "", NONE)
    assert other.look("two", 10.0, first.token, NONE).holder == "one"
    assert other.look("two", 10.0, stale.token, NONE).holder == "two"


# -- runs -----------------------------------------------------------------------------------


def test_a_run_is_taken_once(harness: Harness, store: ScheduleStore, other: ScheduleStore) -> None:
    sent = [message("q"), message("other")]
    assert store.accept([Run("a", 1, b'{"x":1}', sent)], 0) == [""]
    assert other.accept([Run("a", 1, b"{}", [message("q")])], 0) == ["number"]
    assert other.accept([Run("a", 3, b"{}", [message("q")])], 0) == ["number"]
    assert store.read().states == {"a": (1, b'{"x":1}')}
    taken = take_all(harness.consume("q", "other"))
    assert sorted(ids(taken)) == sorted(ids(sent))


def test_many_runs_are_taken_in_order(harness: Harness, store: ScheduleStore) -> None:
    runs = [Run("a", 1, b"1", [message("q", id="a1")]), Run("b", 7, b"7", [message("q", id="b7")])]
    runs += [Run("a", 2, b"2"), Run("a", 3, b"3", [message("q", id="a3")])]
    assert store.accept(runs, 0) == ["", "number", "", ""]
    assert store.read().states == {"a": (3, b"3")}
    assert ids(take_all(harness.consume("q"))) == ["a1", "a3"]


def test_a_message_that_is_not_due_waits(harness: Harness, broker: Broker, store: ScheduleStore) -> None:
    store.accept([Run("a", 1, b"{}", [message("q", due=time.time() + 1000)])], 0)
    assert take_all(harness.consume("q")) == []
    assert [info.delayed for info in broker.queues(["q"])] == [1]


def test_the_queue_of_a_run_is_known(broker: Broker, store: ScheduleStore) -> None:
    store.accept([Run("a", 1, b"{}", [message("next")])], 0)
    assert [(info.name, info.ready) for info in broker.queues()] == [("next", 1)]


def test_nothing_is_taken_of_an_older_version(harness: Harness, store: ScheduleStore) -> None:
    store.put("a", b"{}")
    version = store.read().version
    assert store.accept([Run("a", 1, b"1", [message("q")])], version - 1) is None
    assert store.read().states == {}
    assert take_all(harness.consume("q")) == []
    assert store.accept([Run("a", 1, b"1")], version) == [""]


def test_of_many_beats_one_takes_each_run(harness: Harness) -> None:
    stores = [harness.open().schedule_store("app") for _ in range(4)]
    won: list[list[int]] = [[] for _ in stores]

    def race(at: int) -> None:
        for number in range(1, 51):
            if stores[at].accept([Run("a", number, b"{}", [message("q", id=str(number))])], 0) == [""]:
                won[at].append(number)

    threads = [threading.Thread(target=race, args=(at,)) for at in range(len(stores))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(number for each in won for number in each) == list(range(1, 51))
    assert ids(take_all(harness.consume("q"))) == [str(number) for number in range(1, 51)]


def test_the_states_of_last_runs_can_be_amended(store: ScheduleStore) -> None:
    store.accept([Run("a", 1, b"1"), Run("a", 2, b"2"), Run("b", 1, b"1")], 0)
    amended = store.amend([Run("a", 1, b"late"), Run("c", 1, b"none"), Run("a", 2, b"new"), Run("b", 1, b"")])
    assert amended == [False, False, True, True]
    assert store.read().states == {"a": (2, b"new"), "b": (1, b"")}
    assert store.amend([]) == []


# -- entries ---------------------------------------------------------------------------------


def test_entries_are_added_paused_and_removed(store: ScheduleStore, other: ScheduleStore) -> None:
    assert store.read() == (0, {}, {}, frozenset())
    store.put("a", b'{"task":"t"}')
    store.put("a", b'{"task":"u"}')
    store.put("b", b"{}")
    store.pause("a", True)
    store.pause("in code", True)
    store.accept([Run("a", 1, b"{}")], other.read().version)
    kept = other.read()
    assert kept.entries == {"a": b'{"task":"u"}', "b": b"{}"}
    assert kept.states == {"a": (1, b"{}")}
    assert kept.paused == {"a", "in code"}
    assert kept.version == store.look("x", 1.0, "", NONE).version == 5
    other.pause("a", False)
    assert store.read().paused == {"in code"}
    assert store.remove(["a", "nothing"]) == 1
    assert store.remove(["in code"]) in (0, 1)
    kept = other.read()
    assert (set(kept.entries), kept.states, kept.paused) == ({"b"}, {}, frozenset())
    assert kept.version > 6


def test_applications_do_not_see_each_other(broker: Broker, store: ScheduleStore) -> None:
    store.put("a", b"{}")
    store.look("one", 10.0, "", {"a"})
    stranger = broker.schedule_store("another")
    assert stranger.read().entries == {}
    assert stranger.look("two", 10.0, "", NONE).holder == "two"


@pytest.mark.parametrize("name", ["with space", "höhe", "a:b{c}", "'\"%?*", "12 34"])
def test_any_name_will_do(store: ScheduleStore, name: str) -> None:
    store.put(name, b"{}")
    version = store.read().version
    assert store.accept([Run(name, 1, b'{"12": 1}')], version) == [""]
    store.pause(name, True)
    kept = store.read()
    assert (set(kept.entries), kept.states, kept.paused) == ({name}, {name: (1, b'{"12": 1}')}, {name})
    store.look("one", 10.0, "", {name})
    assert store.served() == {name}


def test_an_older_file_gets_the_tables(tmp_path: Path) -> None:
    place = Harness(f"sqlite:///{tmp_path}/old.sqlite3", "memory://", put_raw=None, crosses_processes=True)
    place.open().queues()
    assert place.open().schedule_store("app").look("one", 1.0, "", NONE).holder == "one"
    place.close()
