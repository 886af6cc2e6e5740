"""Routing against the reference, on random keys, patterns and tables."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport.virtual import exchange as kombu_exchange
from reference import routing as reference

from fastq._core.routing import Bindings, headers_match, topic_matches, topic_regex

PLAIN = st.sampled_from(["a", "b", "ab", ""])
KEYS = st.lists(PLAIN | st.sampled_from(["*", "#"]), max_size=6).map(".".join)
PATTERNS = st.lists(PLAIN | st.sampled_from(["*", "#", "#", "a*"]), max_size=6).map(".".join)
QUEUES = st.sampled_from(["q1", "q2", "q3", "q4"])
HEADER_VALUES = st.sampled_from([None, 1, 1.0, True, "1", ""])
HEADERS = st.dictionaries(st.sampled_from(["a", "b", "x-c"]), HEADER_VALUES)
MATCHES = st.sampled_from([{}, *({"x-match": m} for m in ("all", "any", "all-with-x", "any-with-x"))])
ARGUMENTS = st.builds(lambda match, headers: {**headers, **match}, MATCHES, HEADERS)
CHANGES = st.lists(st.tuples(st.booleans(), QUEUES, PATTERNS, ARGUMENTS), max_size=25)


@given(PATTERNS, KEYS)
def test_topic_matches_as_the_reference(pattern, key):
    assert topic_matches(pattern, key) == reference.topic_matches(pattern, key)


@given(PATTERNS, KEYS)
def test_kombu_matches_what_is_stored_for_it_as_the_reference(pattern, key):
    kombus = kombu_exchange.TopicExchange(channel=None)
    assert bool(kombus._match(topic_regex(pattern), key)) == reference.topic_matches(pattern, key)


@given(ARGUMENTS, HEADERS)
def test_headers_match_as_the_reference(arguments, headers):
    assert headers_match(arguments, headers) == reference.headers_match(arguments, headers)


@pytest.mark.parametrize("exchange_type", ["direct", "topic", "fanout", "headers"])
@given(changes=CHANGES, keys=st.lists(KEYS, min_size=1, max_size=5), headers=HEADERS)
def test_a_table_routes_as_the_reference(exchange_type, changes, keys, headers):
    table, expected = Bindings(exchange_type), reference.Bindings(exchange_type)
    for is_bind, queue, pattern, arguments in changes:
        if is_bind:
            table.bind(queue, pattern, arguments)
            expected.bind(queue, pattern, arguments)
        else:
            assert table.unbind(queue, pattern, arguments) == expected.unbind(queue, pattern, arguments)
        for key in keys:
            assert sorted(table.route(key, headers)) == sorted(expected.route(key, headers))
    assert len(table) == len(expected.bound)
