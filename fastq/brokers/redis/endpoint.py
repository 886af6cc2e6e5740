"""Where a Redis server is and how to log in: what a URL and Celery's options say about it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from fastq.brokers.sockets import open_tcp, tls_options
from fastq.exceptions import ImproperlyConfigured, OperationalError

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
SOCKET_SCHEMES = {"redis+socket", "unix", "socket"}
# Seconds of idleness after which a connection is asked whether it lives: kombu's default.
HEALTH_CHECK_INTERVAL = 25.0


class Endpoint(NamedTuple):
    """One Redis database: how to reach it, and as whom."""

    host: str = "localhost"
    port: int = DEFAULT_PORT
    path: str | None = None  # of a unix socket, in place of host and port
    db: int = 0
    username: str | None = None
    password: str | None = None
    sentinels: tuple[tuple[str, int], ...] = ()  # ask these for the master, in place of host and port
    master_name: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    tls: Mapping[str, Any] | None = None  # Celery's ssl_* options; None: no TLS
    connect_timeout: float = 4.0  # seconds
    socket_timeout: float | None = None  # seconds that one reply may take; None: the caller's deadline alone
    keepalive: bool = True
    client_name: str | None = None  # as CLIENT LIST shows it
    health_check_interval: float = HEALTH_CHECK_INTERVAL
    # Called at each login for (user, password) or (password,), in place of the two above.
    credentials: Callable[[], tuple[str, ...]] | None = None

    def login(self) -> tuple[str | None, str | None]:
        """The user and the password of the next login. Raises `OperationalError`."""
        if self.credentials is None:
            return self.username, self.password
        try:
            *user, password = self.credentials()
        except Exception as exc:
            raise OperationalError(f"the credential provider of {self.describe()} failed: {exc!r}") from exc
        return (user[0] if user else None), password

    @property
    def store(self) -> tuple[object, ...]:
        """Equal for two endpoints exactly when they name one database."""
        if self.sentinels:
            return (self.master_name, frozenset(self.sentinels), self.db)
        return (self.path, self.db) if self.path else (self.host, self.port, self.db)

    def __repr__(self) -> str:
        # A tuple's own would show the passwords.
        return f"<Endpoint {self.describe()}>"

    def describe(self) -> str:
        """The URL of this endpoint without its password, for people."""
        scheme = "rediss" if self.tls is not None else "redis"
        login = f"{self.username or ''}:***@" if self.password else ""
        if self.path:
            return f"redis+socket://{login}{self.path}?virtual_host={self.db}"
        if self.sentinels:
            hosts = ";".join(f"sentinel://{login}{host}:{port}" for host, port in self.sentinels)
            return f"{hosts}/{self.db} (master {self.master_name})"
        return f"{scheme}://{login}{self.host}:{self.port}/{self.db}"


def parse_endpoint(
    url: str,
    transport_options: Mapping[str, Any],
    ssl: Mapping[str, Any] | bool = False,
    connect_timeout: float = 4.0,
) -> Endpoint:
    """The endpoint that *url* names.

    *transport_options* and *ssl* are Celery's; what fastq has no use for is ignored. The options
    host, port, db, username and password hold for what the URL leaves out.
    Raises `ImproperlyConfigured`, never showing the password.
    """
    first, *others = url.split(";")
    parts = urlsplit(first)
    query = dict(parse_qsl(parts.query))
    options = {name: value for name, value in transport_options.items() if value is not None}
    common: dict[str, Any] = {
        "username": unquote(parts.username) if parts.username else options.get("username"),
        "password": unquote(parts.password) if parts.password else options.get("password"),
        "credentials": _credentials(query.get("credential_provider") or options.get("credential_provider")),
        "tls": _tls(parts.scheme, query, ssl),
        "connect_timeout": float(options.get("socket_connect_timeout") or connect_timeout),
        "socket_timeout": options.get("socket_timeout"),
        "keepalive": options.get("socket_keepalive", True) is not False,
        "client_name": options.get("client_name"),
        "health_check_interval": float(options.get("health_check_interval", HEALTH_CHECK_INTERVAL)),
    }
    default_db = str(options.get("db") or "")
    if parts.scheme in SOCKET_SCHEMES:
        path = unquote(parts.path) if not parts.hostname else f"/{parts.hostname}{unquote(parts.path)}"
        db = _db(query.get("virtual_host") or query.get("db") or default_db)
        return Endpoint(path=path, db=db, **common)
    # Of several sentinels any may carry the database.
    paths = [parts.path, *(urlsplit(other).path for other in others)]
    db = _db(query.get("db") or next((path for path in paths if path.strip("/")), default_db))
    if parts.scheme == "sentinel":
        return Endpoint(db=db, **common, **_sentinel(first, others, transport_options))
    port = _port(parts.netloc, int(options.get("port") or DEFAULT_PORT))
    return Endpoint(host=parts.hostname or options.get("host") or "localhost", port=port, db=db, **common)


def _credentials(provider: Any) -> Callable[[], tuple[str, ...]] | None:
    """The `get_credentials` of a CredentialProvider of redis-py, or of the class that text names."""
    if provider is None:
        return None
    if isinstance(provider, str):
        module, _, name = provider.replace(":", ".").rpartition(".")
        provider = getattr(import_module(module), name)()
    get_credentials: Callable[[], tuple[str, ...]] | None = getattr(provider, "get_credentials", None)
    if get_credentials is None:
        raise ImproperlyConfigured(
            f"the credential provider is {provider!r}: it must have a method get_credentials"
        )
    return get_credentials


def _sentinel(first: str, others: list[str], transport_options: Mapping[str, Any]) -> dict[str, Any]:
    master_name = transport_options.get("master_name")
    if not master_name:
        raise ImproperlyConfigured("a sentinel:// URL needs the transport option 'master_name'")
    addresses = []
    for part in (first, *others):
        netloc = urlsplit(part if "://" in part else f"sentinel://{part}").netloc
        host = netloc.rpartition("@")[2].rpartition(":")[0] if ":" in netloc.rpartition("@")[2] else netloc
        addresses.append((host or "localhost", _port(netloc, DEFAULT_SENTINEL_PORT)))
    login = transport_options.get("sentinel_kwargs") or {}
    return {
        "sentinels": tuple(addresses),
        "master_name": master_name,
        "sentinel_username": login.get("username"),
        "sentinel_password": login.get("password"),
    }


def _port(netloc: str, default: int) -> int:
    address = netloc.rpartition("@")[2]
    text = "" if address.endswith("]") else address.rpartition(":")[2] if ":" in address else ""
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise ImproperlyConfigured(f"a Redis URL has the port {text!r}: it must be a number from 1 to 65535")
    return int(text)


def _db(text: str | None) -> int:
    if not text:
        return 0
    name = text.strip("/")
    if not name.isascii() or not name.isdigit():
        raise ImproperlyConfigured(f"a Redis URL names the database {name!r}: it must be a number, such as 0")
    return int(name)


def _tls(scheme: str, query: Mapping[str, str], ssl: Mapping[str, Any] | bool) -> Mapping[str, Any] | None:
    options = tls_options(query, ssl)
    return options if scheme == "rediss" or options or ssl is True else None


def open_socket(endpoint: Endpoint, address: tuple[str, int] | str, timeout: float) -> socket.socket:
    """A connected socket, with TLS where asked for. Raises `OSError`."""
    if isinstance(address, str):
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connected.settimeout(timeout)
        try:
            connected.connect(address)
        except OSError:
            connected.close()
            raise
        return connected
    return open_tcp(address, timeout, keepalive=endpoint.keepalive, tls=endpoint.tls)
