"""What URLs, transport options and Celery's redis_* settings say about a server."""

from __future__ import annotations

from typing import Any

import pytest

from fastq import FastQ
from fastq.backends.redis import RedisBackend
from fastq.brokers.redis.endpoint import Endpoint, parse_endpoint
from fastq.exceptions import ImproperlyConfigured, OperationalError


class Vault:
    """Gives another password at each login."""

    def __init__(self) -> None:
        self.asked = 0

    def get_credentials(self) -> tuple[str, ...]:
        self.asked += 1
        return ("ann", f"secret-{self.asked}")


class BrokenVault:
    def get_credentials(self) -> tuple[str, ...]:
        raise RuntimeError("no token")


def endpoint_of(**settings: Any) -> Endpoint:
    """Where the result backend of an app with *settings* lies."""
    app = FastQ("endpoint", broker="memory://", set_as_current=False, **settings)
    backend = app.backend
    assert isinstance(backend, RedisBackend)
    app.close()
    return backend.endpoint


def test_the_settings_say_what_the_url_leaves_out() -> None:
    settings: dict[str, Any] = {
        "redis_host": "store",
        "redis_port": 7000,
        "redis_db": 5,
        "redis_username": "ann",
        "redis_password": "pw",
    }
    bare = endpoint_of(result_backend="redis", **settings)
    assert (bare.host, bare.port, bare.db, *bare.login()) == ("store", 7000, 5, "ann", "pw")
    partly = endpoint_of(result_backend="redis://other", **settings)
    assert (partly.host, partly.port, partly.db, *partly.login()) == ("other", 7000, 5, "ann", "pw")
    whole = endpoint_of(result_backend="redis://bob:x@other:1/2", **settings)
    assert (whole.host, whole.port, whole.db, *whole.login()) == ("other", 1, 2, "bob", "x")


def test_the_settings_of_a_connection() -> None:
    plain = endpoint_of(result_backend="redis://")
    assert (plain.connect_timeout, plain.socket_timeout, plain.keepalive) == (4.0, 120.0, False)
    assert (plain.client_name, plain.health_check_interval) == (None, 25.0)
    given = endpoint_of(
        result_backend="redis://",
        redis_socket_connect_timeout=1.5,
        redis_socket_timeout=7,
        redis_socket_keepalive=True,
        redis_client_name="proj",
        redis_backend_health_check_interval=3,
    )
    assert (given.connect_timeout, given.socket_timeout, given.keepalive) == (1.5, 7, True)
    assert (given.client_name, given.health_check_interval) == ("proj", 3)
    nearer = endpoint_of(
        result_backend="redis://",
        redis_socket_timeout=7,
        result_backend_transport_options={"socket_timeout": 3},
    )
    assert nearer.socket_timeout == 3


def test_credentials_are_asked_for_at_each_login() -> None:
    vault = Vault()
    endpoint = endpoint_of(result_backend="redis://bob:x@h", redis_backend_credential_provider=vault)
    assert [endpoint.login(), endpoint.login()] == [("ann", "secret-1"), ("ann", "secret-2")]
    named = parse_endpoint(f"redis://h?credential_provider={__name__}.Vault", {})
    assert named.login() == ("ann", "secret-1")


def test_credentials_that_can_not_be_had_are_an_error_of_the_connection() -> None:
    endpoint = parse_endpoint("redis://h", {"credential_provider": BrokenVault()})
    with pytest.raises(OperationalError, match="no token"):
        endpoint.login()
    with pytest.raises(ImproperlyConfigured, match="get_credentials"):
        parse_endpoint("redis://h", {"credential_provider": object()})


def test_a_sentinels_options_reach_the_backend() -> None:
    endpoint = endpoint_of(
        result_backend="sentinel://a:1;sentinel://b:2/3",
        result_backend_transport_options={"master_name": "main", "sentinel_kwargs": {"password": "s"}},
    )
    assert endpoint.sentinels == (("a", 1), ("b", 2))
    assert (endpoint.master_name, endpoint.sentinel_password, endpoint.db) == ("main", "s", 3)
