"""The parts of remote control that decide: who is meant, orders to the loop, the pool's size, arguments."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastq.cli.errors import CommandError
from fastq.cli.remote import compiled, named, shown
from fastq.wakeup import Waker
from fastq.worker.autoscale import Autoscaler, parse_autoscale
from fastq.worker.orders import Orders
from fastq.worker.remote.pidbox import is_meant
from fastq.worker.remote.registry import COMMANDS, find_command
from fastq.worker.remote.steering import stamps_of

names = st.text("ab@.*?[", max_size=6)


@given(names, names)
def test_a_pattern_admits_what_fnmatch_does(node: str, pattern: str) -> None:
    body = {"destination": None, "pattern": pattern, "matcher": "glob"}
    assert is_meant(body, node) == (not pattern or fnmatchcase(node, pattern))


@given(names, st.lists(names, min_size=1))
def test_a_destination_goes_before_a_pattern(node: str, destination: list[str]) -> None:
    body = {"destination": destination, "pattern": "*", "matcher": "glob"}
    assert is_meant(body, node) == (node in destination)


def test_an_unknown_matcher_is_an_error() -> None:
    with pytest.raises(ValueError, match="pcre"):
        is_meant({"pattern": "x", "matcher": "soundex"}, "x")


def test_orders_are_obeyed_in_order_and_their_faults_kept() -> None:
    waker = Waker()
    orders, done = Orders(waker), []
    told: list[str] = []
    first = orders.give(lambda: done.append(1) or "one")
    second = orders.give(lambda: 1 // 0)
    third = orders.give(lambda: done.append(3))
    first.notify(lambda: told.append("first"))
    assert orders and waker.wait(0) and not first.has_begun
    orders.obey()
    third.notify(lambda: told.append("third"))
    assert (first.value, done, bool(orders)) == ("one", [1, 3], False)
    assert isinstance(second.error, ZeroDivisionError) and second.is_done
    assert told == ["first", "third"]
    waker.close()


def test_a_pool_grows_with_work_and_shrinks_slowly() -> None:
    scaler = Autoscaler(10, 2, kept_seconds=5.0)
    assert scaler.current == 2
    assert scaler.decide(running=2, waiting=100, runtime=1.0, now=0.0) == 10
    assert scaler.decide(running=10, waiting=0, runtime=1.0, now=4.0) == 10
    assert scaler.decide(running=1, waiting=0, runtime=1.0, now=5.0) == 10
    sizes = [scaler.decide(running=0, waiting=0, runtime=1.0, now=now) for now in range(10, 40)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 2


def test_a_pool_does_not_grow_for_what_is_soon_done() -> None:
    scaler = Autoscaler(10, 1)
    assert scaler.decide(running=1, waiting=500, runtime=0.0001, now=0.0) == 2
    assert scaler.decide(running=1, waiting=1, runtime=50.0, now=1.0) == 2


@given(
    st.integers(1, 50),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 10_000), st.floats(0, 100)), max_size=30),
)
def test_a_pool_stays_within_its_bounds(most: int, least: int, looks: list[tuple[int, int, float]]) -> None:
    scaler = Autoscaler(most, least)
    for now, (running, waiting, runtime) in enumerate(looks):
        assert min(most, least) <= scaler.decide(running, waiting, runtime, float(now)) <= max(most, least)


@pytest.mark.parametrize(("text", "bounds"), [("10,3", (10, 3)), ("3,10", (10, 3)), ("4", (4, 0))])
def test_bounds_are_read_as_celery_reads_them(text: str, bounds: tuple[int, int]) -> None:
    assert parse_autoscale(text) == bounds


INSPECT = (
    "active active_queues clock conf hello memdump memsample objgraph ping query_task registered report "
    "reserved revoked scheduled stats"
)
CONTROL = (
    "add_consumer cancel_consumer autoscale disable_events enable_events election heartbeat pool_grow "
    "pool_restart pool_shrink rate_limit revoke revoke_by_stamped_headers shutdown terminate time_limit"
)


def test_every_command_of_celery_is_there() -> None:
    named("inspect", "ping")  # registers them
    assert set(f"{INSPECT} {CONTROL}".split()) <= COMMANDS.keys()
    assert find_command("dump_active") is COMMANDS["active"]
    with pytest.raises(KeyError):
        find_command("nonexistent_command")


@pytest.mark.parametrize(
    ("kind", "name", "given_", "arguments"),
    [
        ("control", "rate_limit", ["t.add", "10/m"], {"task_name": "t.add", "rate_limit": "10/m"}),
        ("control", "time_limit", ["t", "1.5"], {"task_name": "t", "soft": 1.5}),
        ("control", "terminate", ["KILL", "a", "b"], {"signal": "KILL", "task_id": ["a", "b"]}),
        ("control", "revoke", ["a"], {"task_id": ["a"]}),
        ("control", "pool_grow", [], {}),
        ("inspect", "conf", ["true"], {"with_defaults": True}),
        ("inspect", "registered", [], {"taskinfoitems": []}),
    ],
)
def test_arguments_are_read_from_the_command_line(
    kind: str, name: str, given_: list[str], arguments: dict[str, Any]
) -> None:
    assert compiled(named(kind, name), given_) == arguments


@pytest.mark.parametrize(
    ("kind", "name", "given_"),
    [("control", "pool_grow", ["many"]), ("control", "cancel_consumer", ["a", "b"]), ("inspect", "pign", [])],
)
def test_wrong_arguments_are_refused(kind: str, name: str, given_: list[str]) -> None:
    with pytest.raises(CommandError):
        compiled(named(kind, name), given_)


@pytest.mark.parametrize(
    ("reply", "state", "text"),
    [
        ({"ok": "pong"}, "OK", "    pong"),
        ({"error": "no"}, "ERROR", "    no"),
        ([], "OK", "- empty -"),
        (["a", "b"], "OK", "* a\n* b"),
        ({"x": 1}, "OK", '{\n    "x": 1\n}'),
        (None, "OK", "None"),
    ],
)
def test_replies_are_shown_as_celery_shows_them(reply: Any, state: str, text: str) -> None:
    assert shown(reply) == (state, text)


def test_stamps_come_as_maps_and_as_texts() -> None:
    assert stamps_of({"a": "1", "b": ["2", 3]}) == {"a": ["1"], "b": ["2", "3"]}
    assert stamps_of(["a=1", "a=2"]) == {"a": ["1", "2"]}
