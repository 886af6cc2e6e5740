"""What a RabbitMQ URL and Celery's options mean."""

from __future__ import annotations

import doctest
import itertools
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from kombu import Connection as KombuConnection

from fastq.brokers.rabbitmq import connector, endpoint
from fastq.brokers.rabbitmq.connection import Connection
from fastq.brokers.rabbitmq.connector import Connector
from fastq.brokers.rabbitmq.endpoint import Endpoint, Node, parse_endpoint
from fastq.brokers.rabbitmq.errors import ConnectionClosed
from fastq.exceptions import ImproperlyConfigured, OperationalError


def node(url: str, **options: Any) -> Node:
    return parse_endpoint(url, {}, **options).nodes[0]


@pytest.mark.parametrize(
    "url",
    [
        "amqp://",
        "amqp://localhost",
        "amqp://localhost/",
        "amqp://localhost//",
        "amqp://localhost/%2F",
        "amqp://localhost/shop",
        "amqp://localhost//shop",
        "amqp://localhost/a%2Fb%20c",
        "amqp://ann@localhost",
        "amqp://ann:p%40ss%2Fw%3B@rabbit:5673/shop",
        "pyamqp://ann:x@rabbit",
        "amqp://ann:x@[::1]:1234/v",
    ],
)
def test_urls_name_what_kombu_thinks_they_name(url: str) -> None:
    theirs, ours = KombuConnection(url).info(), node(url)
    assert (ours.host, ours.port) == (theirs["hostname"], theirs["port"])
    assert (ours.username, ours.virtual_host) == (theirs["userid"], theirs["virtual_host"])
    assert ours.password == (KombuConnection(url).password or "guest")
    assert ours.tls is None


def test_tls_is_asked_for_by_scheme_setting_or_query() -> None:
    assert node("amqps://a")[1:3] == ("a", 5671)
    assert node("amqps://a").tls == {}
    assert node("amqp://a", ssl=True).tls == {}
    assert node("librabbitmq://a:9?ssl_ca_certs=/ca.pem").tls == {"ssl_ca_certs": "/ca.pem"}
    # Celery names them without the prefix for RabbitMQ, and with it for Redis.
    options = {"keyfile": "/k", "ssl_certfile": "/c", "cert_reqs": ssl.CERT_NONE}
    assert node("amqp://a", ssl=options).tls == {
        "ssl_keyfile": "/k",
        "ssl_certfile": "/c",
        "ssl_cert_reqs": ssl.CERT_NONE,
    }


def test_several_nodes_each_have_their_own_login_and_take_the_first_scheme() -> None:
    found = parse_endpoint("amqp://ann:x@a/v;b:7;amqps://c", {})
    assert [(n.host, n.port, n.username, n.virtual_host) for n in found.nodes] == [
        ("a", 5672, "ann", "v"),
        ("b", 7, "guest", "/"),
        ("c", 5671, "guest", "/"),
    ]
    assert found.describe() == "amqp://ann:***@a:5672/v;amqp://guest:***@b:7//;amqps://guest:***@c:5671//"


def test_options_come_from_settings_then_transport_options_then_the_query() -> None:
    found = parse_endpoint("amqp://a", {}, heartbeat=120, login_method="AMQPLAIN", connect_timeout=2)
    assert (found.heartbeat, found.login_method, found.connect_timeout) == (120, "AMQPLAIN", 2)
    found = parse_endpoint("amqp://a", {"heartbeat": 30, "login_method": "PLAIN"}, heartbeat=120)
    assert (found.heartbeat, found.login_method) == (30, "PLAIN")
    found = parse_endpoint("amqp://a?heartbeat=5&connect_timeout=0.5&frame_max=8192", {"heartbeat": 30})
    assert (found.heartbeat, found.connect_timeout, found.frame_max) == (5, 0.5, 8192)


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("amqp://ann:secret@a:port/", {}, "port 'port'.*from 1 to 65535"),
        ("amqp://a:70000", {}, "port '70000'"),
        ("amqp://a;ampq://b", {}, "ampq://; did you mean 'amqp'"),
        ("amqp://a?heartbeat=soon", {}, "option heartbeat of the broker is 'soon'"),
        (
            "amqp://a",
            {"login_method": "CRAM-MD5"},
            "login method is 'CRAM-MD5': it must be one",
        ),
    ],
)
def test_mistakes_are_named_without_the_password(url: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=said) as caught:
        parse_endpoint(url, options)
    assert "secret" not in str(caught.value)
    with pytest.raises(ImproperlyConfigured, match=r"'shufle'.*did you mean 'shuffle'"):
        parse_endpoint("amqp://a", {}, failover="shufle")


def test_nothing_shows_the_password() -> None:
    found = parse_endpoint("amqp://ann:secret@a;amqp://bob:secret@b", {})
    assert "secret" not in f"{found!r} {found.describe()} {found.nodes!r} {found}"


def test_the_examples_are_true() -> None:
    failed, tried = doctest.testmod(endpoint)
    assert tried and not failed


# ---------------------------------------------------------------------------
# Which node is tried when
# ---------------------------------------------------------------------------


class Dialled:
    """Stands in for `connect`: notes who is dialled; only the nodes in *up* answer."""

    def __init__(self, up: set[str]) -> None:
        self.up = up
        self.hosts: list[str] = []
        self.refuses_login = False

    def __call__(self, endpoint: Endpoint, node: Node, timeout: float) -> Any:
        assert 0 < timeout <= endpoint.connect_timeout
        self.hosts.append(node.host)
        if self.refuses_login:
            raise ConnectionClosed(node.describe(), 403, "ACCESS_REFUSED", "")
        if node.host not in self.up:
            raise OperationalError(f"{node.host} is down")
        return Connection.__new__(Connection)


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> Dialled:
    found = Dialled({"a", "b", "c"})
    monkeypatch.setattr(connector, "connect", found)
    monkeypatch.setattr(connector.time, "sleep", lambda seconds: found.hosts.append("-"))
    return found


NODES = "amqp://a;amqp://b;amqp://c"


def test_the_node_that_answered_last_is_tried_first(dialled: Dialled) -> None:
    opener = Connector(parse_endpoint(NODES, {}))
    opener.connect(4.0)
    opener.connect(4.0)
    dialled.up = {"c"}
    opener.connect(4.0)
    opener.connect(4.0)
    assert dialled.hosts == ["a", "a", "a", "b", "c", "c"]


def test_when_none_answers_the_error_names_each(dialled: Dialled) -> None:
    dialled.up = set()
    with pytest.raises(OperationalError, match="a is down; b is down; c is down"):
        Connector(parse_endpoint(NODES, {})).connect(4.0)


def test_a_refused_login_is_not_tried_again(dialled: Dialled) -> None:
    dialled.refuses_login = True
    with pytest.raises(ConnectionClosed, match="check user and password"):
        Connector(parse_endpoint(NODES, {})).connect_within(30.0)
    assert dialled.hosts == ["a"]


def test_rounds_have_pauses_between_them(dialled: Dialled) -> None:
    dialled.up = set()
    with pytest.raises(OperationalError, match="no node"):
        Connector(parse_endpoint("amqp://a;amqp://b", {})).connect_within(0.05)
    assert dialled.hosts[:5] == ["a", "b", "-", "a", "b"]


def test_shuffle_tries_each_once_in_a_round(dialled: Dialled) -> None:
    dialled.up = set()
    with pytest.raises(OperationalError):
        Connector(parse_endpoint(NODES, {}, failover="shuffle")).connect(4.0)
    assert sorted(dialled.hosts) == ["a", "b", "c"]


def test_a_function_may_say_the_order(dialled: Dialled) -> None:
    def backwards(urls: list[str]) -> Iterator[str]:
        return itertools.cycle(reversed(urls))

    dialled.up = set()
    with pytest.raises(OperationalError):
        Connector(parse_endpoint(NODES, {}, failover=backwards)).connect(4.0)
    assert dialled.hosts == ["c", "b", "a"]
