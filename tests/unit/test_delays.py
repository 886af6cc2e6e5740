"""The ladders of delayed delivery, walked rung by rung."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.fixtures import fixture
from reference.routing import topic_matches

from fastq.brokers.rabbitmq.delays import (
    FRACTIONS,
    LADDERS,
    LONGEST_KEY,
    SECONDS,
    Ladder,
    delayed_address,
    plain_address,
)


def walk(exchange: str, key: str) -> tuple[str, float]:
    """Where a message published to *exchange* arrives, and the seconds for which it waited on its way."""
    rungs = {rung.name: rung for ladder in LADDERS for rung in ladder.each_rung("quorum")}
    waited_ms = 0
    while exchange in rungs:
        rung = rungs[exchange]
        waits, passes = topic_matches(rung.waits_on, key), topic_matches(rung.passes_on, key)
        assert waits != passes  # one way and no copy
        if waits:
            waited_ms += rung.arguments["x-message-ttl"]
            assert rung.arguments["x-dead-letter-exchange"] == rung.below
        exchange = rung.below
    return exchange, waited_ms / 1000


def ladder_of(end: str) -> Ladder:
    return next(ladder for ladder in LADDERS if ladder.end == end)


@given(st.floats(1, 2.0**28 - 1))
def test_whole_seconds_are_waited_and_the_rest_is_left(seconds):
    end, waited = walk(*delayed_address(seconds, "q"))
    assert (end, waited) == (SECONDS.end, math.floor(seconds))


@given(st.floats(0, 1, exclude_max=True))
def test_less_than_a_second_is_waited_to_the_next_32_ms(seconds):
    end, waited = walk(*delayed_address(seconds, "q"))
    assert end == FRACTIONS.end
    assert waited >= min(seconds, FRACTIONS.longest)
    assert waited < seconds + 0.0321


def test_a_longer_delay_than_the_ladder_has_is_cut():
    assert walk(*delayed_address(1e12, "q"))[1] == SECONDS.longest


@pytest.mark.parametrize("seconds", [0.5, 300])
@pytest.mark.parametrize("queue", ["b", "a.b", "höhe", "a b", "#", "*"])
def test_it_comes_to_its_queue_alone(seconds, queue):
    exchange, key = delayed_address(seconds, queue)
    end, _ = walk(exchange, key)
    bound = {name: ladder_of(end).prefix_pattern + name for name in ("b", "a.b", "höhe", "a b")}
    reached = [name for name, pattern in bound.items() if topic_matches(pattern, key)]
    assert reached == ([queue] if queue in bound else [])
    assert plain_address(exchange, key) == plain_address(end, key) == ("", queue)


def test_other_keys_are_left_as_they_are():
    assert plain_address("celery", "1.0.1") == ("celery", "1.0.1")


def test_a_name_too_long_is_refused_with_the_limit():
    longest = "q" * (LONGEST_KEY - 2 * SECONDS.rungs)
    assert len(delayed_address(300, longest)[1]) == LONGEST_KEY
    with pytest.raises(ValueError, match="at most 199 bytes"):
        delayed_address(300, longest + "q")


def test_the_seconds_are_celerys_ladder():
    captured = fixture("amqp-topology-quorum-delayed-delivery")
    queues = {
        queue["name"]: {name: value for name, _, value in queue["arguments"]} for queue in captured["queues"]
    }
    bindings = {
        (each["source_name"], each["destination_kind"], each["destination_name"], each["routing_key"])
        for each in captured["bindings"]
    }
    exchanges = {each["name"] for each in captured["exchanges"] if each["type"] == "topic"}
    for rung in SECONDS.each_rung("quorum"):
        assert rung.name in exchanges and rung.below in exchanges
        assert queues[rung.name] == rung.arguments
        assert (rung.name, "queue", rung.name, rung.waits_on) in bindings
        assert (rung.name, "exchange", rung.below, rung.passes_on) in bindings


def test_a_message_of_celerys_is_addressed_alike():
    sent = fixture("amqp-task-delayed-countdown-300")["message"]["delivery_info"]
    _, key = delayed_address(299.9, "celery")  # by the time of sending a little less is left
    assert (sent["exchange"], sent["routing_key"]) == delayed_address(300, "celery")
    assert walk(sent["exchange"], key)[1] == 299
    arrived = fixture("amqp-task-delayed-arrived")["message"]["delivery_info"]
    assert plain_address(arrived["exchange"], arrived["routing_key"]) == ("", "celery")
