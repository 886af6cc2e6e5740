"""Routing keys to queues, case by case."""

import kombu.transport.virtual.exchange as kombu_exchange
import pytest

from fastq._core.routing import (
    Bindings,
    headers_match,
    kombu_member,
    parse_kombu_member,
    topic_matches,
    topic_regex,
)
from fastq.exceptions import DecodeError


@pytest.mark.parametrize(
    ("pattern", "admitted", "refused"),
    [
        ("stock.#", ["stock", "stock.usd", "stock.usd.nyse"], ["stocks", "a.stock", ""]),
        ("*.stock", ["usd.stock"], ["stock", "a.b.stock", "usd.stock.x"]),
        ("#", ["", "a", "a.b.c"], []),
        ("*", ["a"], ["", "a.b"]),
        ("#.#", ["", "a", "a.b"], []),
        ("a.#.b", ["a.b", "a.x.b", "a.b.b"], ["a", "b", "a.b.c"]),
        ("#.a.*", ["a.b", "x.a.b", "a.a.a"], ["a", "a.b.c"]),
        ("", [""], ["a", "."]),
        ("a.", ["a."], ["a", "a.b"]),
        ("a*", ["a*"], ["ab", "a"]),
    ],
)
def test_topic_patterns(pattern, admitted, refused):
    assert [key for key in admitted if not topic_matches(pattern, key)] == []
    assert [key for key in refused if topic_matches(pattern, key)] == []
    table = Bindings("topic")
    table.bind("q", pattern)
    assert [key for key in admitted if table.route(key) != ["q"]] == []
    assert [key for key in refused if table.route(key)] == []


def test_many_hashes_do_not_multiply_the_work():
    pattern = ".".join(["#", "a"] * 40)
    key = ".".join(["a"] * 200)
    table = Bindings("topic")
    table.bind("q", pattern)
    assert topic_matches(pattern, key)
    assert table.route(key) == ["q"]
    assert table.route(key + ".b") == []


def test_a_queue_comes_once_however_many_of_its_bindings_match():
    table = Bindings("topic")
    table.bind("late", "a.b")
    table.bind("early", "#")
    table.bind("late", "a.*")
    table.bind("third", "*.b")
    assert sorted(table.route("a.b")) == ["early", "late", "third"]
    assert sorted(table.route("a.c")) == ["early", "late"]


def test_unbinding_leaves_no_trace():
    table = Bindings("topic")
    table.bind("q", "a.*.#")
    table.bind("r", "a.*")
    assert table.unbind("q", "a.*.#")
    assert not table.unbind("q", "a.*.#")
    assert table.route("a.b") == ["r"]
    assert table.unbind("r", "a.*")
    assert len(table) == 0
    assert table.route("a.b") == []


def test_ten_thousand_bindings_route_right():
    table = Bindings("topic")
    for i in range(10_000):
        table.bind(f"q{i}", f"region{i % 10}.*.customer{i}.#")
    assert table.route("region7.eu.customer4217.order.paid") == ["q4217"]
    assert table.route("region7.eu.customer4218.order.paid") == []


def test_header_matching():
    assert headers_match({"a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 2})
    assert not headers_match({"a": 1, "b": "x"}, {"a": 1})
    assert headers_match({"x-match": "any", "a": 1, "b": "x"}, {"b": "x"})
    assert headers_match({"a": None}, {"a": "whatever"})
    assert not headers_match({"a": 1}, {"a": True})
    assert headers_match({"x-reserved": 1}, {})
    assert not headers_match({"x-match": "all-with-x", "x-reserved": 1}, {})
    assert headers_match({}, None)
    assert not headers_match({"x-match": "any"}, {"a": 1})


def test_what_is_not_known_is_refused_by_name():
    with pytest.raises(ValueError, match="'topics'"):
        Bindings("topics")
    with pytest.raises(ValueError, match="'most'"):
        Bindings("headers").bind("q", "", {"x-match": "most"})


@pytest.mark.parametrize("pattern", ["a.b.c", "stock", "worker-1.a_b", "", "ä.b", "x\0.(y)", "a b", ".a"])
def test_a_pattern_without_wildcards_is_kept_as_kombu_keeps_it(pattern):
    kombus = kombu_exchange.TopicExchange(channel=None)
    assert topic_regex(pattern) == kombus.key_to_pattern(pattern)


def test_members_of_kombus_binding_sets():
    member = kombu_member("celery", "", "celery")
    assert member == "celery\x06\x16\x06\x16celery"
    assert parse_kombu_member(member) == parse_kombu_member(member.encode()) == ("celery", "", "celery")


@pytest.mark.parametrize("member", [b"\xff", b"celery", "a\x06\x16b", "a\x06\x16b\x06\x16c\x06\x16d"])
def test_a_damaged_member_raises_decode_error(member):
    with pytest.raises(DecodeError, match="binding"):
        parse_kombu_member(member)


def test_what_was_routed_before_follows_the_bindings() -> None:
    bindings = Bindings("topic")
    bindings.bind("q", "a.*")
    for _ in range(2):
        bindings.route("a.b").append("nobody's")
    assert bindings.route("a.b") == ["q"]
    bindings.bind("r", "#.b")
    assert set(bindings.route("a.b")) == {"q", "r"}
    bindings.unbind("q", "a.*")
    assert bindings.route("a.b") == ["r"]


def test_more_keys_are_routed_than_are_remembered() -> None:
    bindings = Bindings("topic")
    bindings.bind("q", "*.even")
    keys = [f"{number}.{('even', 'odd')[number % 2]}" for number in range(100_000)]
    assert [bool(bindings.route(key)) for key in keys] == [True, False] * 50_000
