"""Several brokers: their URLs, and the order in which they are tried."""

from itertools import islice

import pytest

from fastq.brokers.failover import in_order, split_urls
from fastq.brokers.redis import servers as servers_module
from fastq.brokers.redis.endpoint import parse_endpoint
from fastq.brokers.redis.servers import Servers
from fastq.exceptions import ImproperlyConfigured, OperationalError

URLS = ["redis://a", "redis://b", "redis://c"]


@pytest.fixture
def asked(monkeypatch):
    """The hosts that were asked for a connection, and the seconds each was given; *away* refuse."""
    calls = []

    def connect(endpoint, timeout):
        calls.append((endpoint.host, round(timeout, 1)))
        if endpoint.host in connect.away:
            raise OperationalError(f"{endpoint.host} is away")
        return endpoint.host

    connect.away = set()
    monkeypatch.setattr(servers_module, "connect", connect)
    return calls, connect.away


def make_servers(urls=URLS, strategy=None):
    return Servers(urls, lambda url: parse_endpoint(url, {}), strategy)


def test_urls_are_split_and_share_a_scheme():
    assert split_urls("redis://a;b:1/2;rediss://c") == ["redis://a", "redis://b:1/2", "rediss://c"]
    assert split_urls("redis://a") == ["redis://a"]
    assert split_urls("rediss") == ["rediss"]  # no URL: whoever opens it says so
    assert split_urls("") == [""]


def test_round_robin_goes_round():
    for strategy in (None, "round-robin"):
        assert list(islice(in_order(URLS, strategy), 7)) == [*URLS, *URLS, URLS[0]]


def test_shuffle_begins_with_the_first_and_leaves_none_out():
    for _ in range(20):
        order = list(islice(in_order(URLS, "shuffle"), 4))
        assert order[0] == URLS[0]
        assert set(order[1:]) == set(URLS)


def test_a_function_chooses_and_starts_again_at_its_end():
    order = in_order(URLS, lambda urls: [urls[2], "redis://d"])
    assert list(islice(order, 3)) == ["redis://c", "redis://d", "redis://c"]


def test_an_unknown_strategy_names_the_known_ones():
    with pytest.raises(ImproperlyConfigured, match="'round-robbin'; did you mean 'round-robin'"):
        in_order(URLS, "round-robbin")


def test_the_time_is_shared_among_the_servers(asked):
    calls, away = asked
    away |= {"a", "b"}
    assert make_servers().connect(6.0) == "c"
    assert calls == [("a", 2.0), ("b", 3.0), ("c", 6.0)]


def test_all_go_on_with_the_one_that_answered(asked):
    calls, away = asked
    servers = make_servers()
    servers.connect(1.0)
    away.add("a")
    servers.connect(1.0)
    away.clear()
    servers.connect(1.0)
    assert [host for host, _ in calls] == ["a", "a", "b", "b"]
    assert servers.endpoint.host == "b"


def test_a_refusal_is_not_asked_for_elsewhere(asked, monkeypatch):
    def refuse(endpoint, timeout):
        problem = OperationalError("wrong password")
        problem.is_passing = False
        raise problem

    monkeypatch.setattr(servers_module, "connect", refuse)
    servers = make_servers()
    with pytest.raises(OperationalError, match=r"^wrong password$"):
        servers.connect(1.0)
    assert servers.endpoint.host == "a"


def test_servers_of_the_users_own_strategy_may_be_others(asked):
    _, away = asked
    away.add("a")
    servers = make_servers(["redis://a", "redis://b"], lambda urls: ["redis://a", "redis://z"])
    assert servers.connect(1.0) == "z"
    assert "redis://z" in servers.describe()
