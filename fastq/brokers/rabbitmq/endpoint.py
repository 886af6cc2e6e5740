"""Where RabbitMQ is and how to log in: what URLs and Celery's options say about it.

>>> endpoint = parse_endpoint("amqp://ann:secret@a:5673/shop;amqps://b", {})
>>> endpoint.describe()
'amqp://ann:***@a:5673/shop;amqps://guest:***@b:5671//'
>>> endpoint.nodes[1].virtual_host
'/'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from fastq._core.amqp import CHANNEL_MAX
from fastq._core.amqp_encoder import FRAME_MAX
from fastq.brokers.failover import Strategy
from fastq.brokers.sockets import tls_options
from fastq.exceptions import ImproperlyConfigured, nearest_name

PORTS = {"amqp": 5672, "pyamqp": 5672, "librabbitmq": 5672, "amqps": 5671}
# How to log in, in the order in which a server's offer is taken up when none is asked for.
LOGIN_METHODS = ("PLAIN", "AMQPLAIN", "EXTERNAL")
FAILOVER_STRATEGIES = ("round-robin", "shuffle")


class Node(NamedTuple):
    """One server of a RabbitMQ cluster, or the only one."""

    url: str = "amqp://"
    host: str = "localhost"
    port: int = PORTS["amqp"]
    username: str = "guest"
    password: str = "guest"
    virtual_host: str = "/"
    tls: Mapping[str, Any] | None = None  # Celery's ssl_* options; None: no TLS

    def __repr__(self) -> str:
        # A tuple's own would show the password.
        return f"<Node {self.describe()}>"

    def describe(self) -> str:
        """The URL of this node without its password, for people."""
        scheme = "amqp" if self.tls is None else "amqps"
        host = f"[{self.host}]" if ":" in self.host else self.host
        path = quote(self.virtual_host, safe="/")
        return f"{scheme}://{quote(self.username)}:***@{host}:{self.port}/{path}"


class Endpoint(NamedTuple):
    """A RabbitMQ: its nodes, and how to talk to any of them."""

    nodes: tuple[Node, ...] = (Node(),)
    login_method: str | None = None  # one of LOGIN_METHODS; None: the first that the server offers
    heartbeat: float = 0.0  # seconds; 0: none
    connect_timeout: float = 4.0  # seconds for one attempt
    frame_max: int = FRAME_MAX
    channel_max: int = CHANNEL_MAX
    keepalive: bool = True
    client_properties: Mapping[str, Any] = {}  # shown by RabbitMQ to its operators
    failover: str | Strategy = "round-robin"

    def __repr__(self) -> str:
        return f"<Endpoint {self.describe()}>"

    def describe(self) -> str:
        """The URLs of the nodes without their passwords, for people."""
        return ";".join(node.describe() for node in self.nodes)


def parse_endpoint(
    url: str,
    transport_options: Mapping[str, Any],
    ssl: Mapping[str, Any] | bool = False,
    connect_timeout: float = 4.0,
    *,
    heartbeat: float | None = None,
    login_method: str | None = None,
    failover: str | Strategy | None = None,
) -> Endpoint:
    """The endpoint that *url* names: one node, or several with ``;`` between them.

    A node without a scheme has that of the first; each has its own login and virtual host, as
    with Celery: guest, guest and ``/`` where it names none. The virtual host is the path
    without its first slash, ``%2F`` for a slash: ``amqp://host`` and ``amqp://host//`` name
    ``/``. A query may set ``heartbeat``, ``login_method``, ``connect_timeout``, ``frame_max``,
    ``channel_max`` and ``ssl_*``; that of the first node counts for all but TLS. Raises
    `ImproperlyConfigured`, never showing a password.
    """
    first, *others = url.split(";")
    scheme = urlsplit(first).scheme
    nodes = [_node(part if "://" in part else f"{scheme}://{part}", ssl) for part in (first, *others) if part]
    query = dict(parse_qsl(urlsplit(first).query))
    given = {name: value for name, value in {**transport_options, **query}.items() if value is not None}
    wanted = given.get("login_method", login_method)
    if wanted is not None and wanted not in LOGIN_METHODS:
        raise ImproperlyConfigured(
            f"the login method is {wanted!r}: it must be one of {', '.join(LOGIN_METHODS)}"
        )
    strategy = "round-robin" if failover is None else failover
    if isinstance(strategy, str) and strategy not in FAILOVER_STRATEGIES:
        raise ImproperlyConfigured(
            f"broker_failover_strategy is {strategy!r}, which is neither a function nor one of "
            f"{', '.join(FAILOVER_STRATEGIES)}{nearest_name(strategy, FAILOVER_STRATEGIES)}"
        )
    return Endpoint(
        nodes=tuple(nodes),
        login_method=wanted,
        heartbeat=_number(given, "heartbeat", heartbeat or 0.0),
        connect_timeout=_number(given, "connect_timeout", connect_timeout),
        frame_max=int(_number(given, "frame_max", FRAME_MAX)),
        channel_max=int(_number(given, "channel_max", CHANNEL_MAX)),
        keepalive=given.get("socket_keepalive", True) is not False,
        client_properties=given.get("client_properties", {}),
        failover=strategy,
    )


def _node(url: str, ssl: Mapping[str, Any] | bool) -> Node:
    parts = urlsplit(url)
    if parts.scheme not in PORTS:
        raise ImproperlyConfigured(
            f"a RabbitMQ URL begins with {parts.scheme}://{nearest_name(parts.scheme, PORTS)}"
        )
    options = tls_options(dict(parse_qsl(parts.query)), ssl)
    return Node(
        url=url,
        host=parts.hostname or "localhost",
        port=_port(parts.netloc) or (5671 if parts.scheme == "amqps" else 5672),
        username=unquote(parts.username) if parts.username else "guest",
        password=unquote(parts.password) if parts.password else "guest",
        virtual_host=unquote(parts.path[1:]) or "/",
        tls=options if parts.scheme == "amqps" or options or ssl is True else None,
    )


def _port(netloc: str) -> int | None:
    address = netloc.rpartition("@")[2]
    text = "" if address.endswith("]") else address.rpartition(":")[2] if ":" in address else ""
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise ImproperlyConfigured(
            f"a RabbitMQ URL has the port {text!r}: it must be a number from 1 to 65535"
        )
    return int(text)


def _number(given: Mapping[str, Any], name: str, default: float) -> float:
    value = given.get(name, default)
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < 2**31:
        raise ImproperlyConfigured(
            f"the option {name} of the broker is {value!r}: it must be a number from 0 on"
        )
    return number
