"""What the settings say of the broker and the result backend: their URLs and options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from fastq.backends.base import BackendOptions, RetryOptions
from fastq.brokers.base import BrokerOptions
from fastq.brokers.failover import split_urls

if TYPE_CHECKING:
    from fastq.app.settings import Settings
    from fastq.topology import Queue

EMBEDDED_URL = "sqlite://"
# After so long Linux gives up connecting by itself (tcp_syn_retries, tcp(7)).
SYSTEM_CONNECT_SECONDS = 127.0
# Stores that keep results beside the queues when no result_backend is set: nobody else looks after either.
EMBEDDED_SCHEMES = ("sqlite", "memory")
# Celery's settings of the result store on Redis, by the name of the transport option that says the same.
# What result_backend and result_backend_transport_options say goes before them.
_REDIS_OPTIONS = {
    "host": "redis_host",
    "port": "redis_port",
    "db": "redis_db",
    "username": "redis_username",
    "password": "redis_password",
    "max_connections": "redis_max_connections",
    "client_name": "redis_client_name",
    "socket_timeout": "redis_socket_timeout",
    "socket_connect_timeout": "redis_socket_connect_timeout",
    "socket_keepalive": "redis_socket_keepalive",
    "health_check_interval": "redis_backend_health_check_interval",
    "credential_provider": "redis_backend_credential_provider",
}


def broker_url(conf: Settings, setting: str | Sequence[str] | None) -> str:
    """Where the broker of a *setting* lies, or several joined by ``;``.

    ``broker_host`` and its like fill what the URLs leave out.
    """
    url = setting if isinstance(setting, str | None) else ";".join(setting)
    url = url or conf.broker_host
    parts = {name: conf[f"broker_{name}"] for name in ("transport", "user", "password", "port", "vhost")}
    if all(part is None for part in parts.values()):
        return url or EMBEDDED_URL
    url = url or "localhost"
    transport = parts.pop("transport") or "amqp"
    if "://" not in url:
        url = f"{transport}://{url}"
    return ";".join(_completed(each, **parts) for each in split_urls(url))


def _completed(
    url: str, *, user: str | None, password: str | None, port: int | None, vhost: str | None
) -> str:
    """*url* with what it does not say by itself."""
    split = urlsplit(url)
    login, at, address = split.netloc.rpartition("@")
    own_user, _, own_password = login.partition(":")
    own_user = own_user or quote(user or "", safe="")
    own_password = own_password or quote(password or "", safe="")
    if own_user or own_password:
        login, at = (f"{own_user}:{own_password}" if own_password else own_user), "@"
    if port is not None and split.port is None:
        address += f":{port}"
    path = split.path
    if vhost is not None and not path.strip("/"):
        # Databases of Redis have numbers, with or without a slash before them.
        path = "/" + quote(vhost if split.scheme.startswith("amqp") else vhost.strip("/"), safe="")
    return split._replace(netloc=f"{login}{at}{address}", path=path).geturl()


def broker_options(conf: Settings, app_name: str, queue: Callable[[str], Queue]) -> BrokerOptions:
    """How to reach the brokers of an app, whose router tells how a *queue* is declared."""
    return BrokerOptions(
        transport_options=dict(conf.broker_transport_options),
        ssl=conf.broker_use_ssl,
        connect_timeout=conf.broker_connection_timeout or SYSTEM_CONNECT_SECONDS,
        publish_deadline=conf.task_publish_deadline,
        failover_strategy=conf.broker_failover_strategy,
        pool_limit=conf.broker_pool_limit,
        pool_acquire_timeout=conf.broker_pool_acquire_timeout,
        lease=conf.worker_lease,
        max_redeliveries=conf.task_max_redeliveries,
        app_name=app_name,
        login_method=conf.broker_login_method,
        heartbeat=conf.broker_heartbeat or 0.0,
        delay_queue_type=conf.broker_native_delayed_delivery_queue_type,
        queue=queue,
    )


def backend_url(conf: Settings) -> str | None:
    """Where results are kept; None when that is nowhere."""
    url: str | None = conf.result_backend
    if url is None:
        beside = broker_url(conf, conf.broker_write_url)
        return beside if beside.partition("://")[0] in EMBEDDED_SCHEMES else None
    if not url or url.partition("://")[0] == "disabled":
        return None
    return url if "://" in url else f"{url}://"


def backend_options(conf: Settings, app_name: str, broker: BrokerOptions) -> BackendOptions:
    """How to reach the result backend of an app, and its *broker*, by which results may travel."""
    redis = {option: conf[name] for option, name in _REDIS_OPTIONS.items() if conf[name] is not None}
    retries = RetryOptions(
        most=conf.result_backend_max_retries,
        first_pause=conf.result_backend_base_sleep_between_retries_ms / 1000,
        longest_pause=conf.result_backend_max_sleep_between_retries_ms / 1000,
    )
    return BackendOptions(
        transport_options={**redis, **conf.result_backend_transport_options},
        ssl=conf.redis_backend_use_ssl or False,
        expires=_seconds(conf.result_expires),
        failure_expires=_seconds(conf.result_failure_expires),
        chord_expires=_seconds(
            conf.result_expires if conf.result_chord_expires is None else conf.result_chord_expires
        ),
        join_timeout=_seconds(conf.result_chord_join_timeout),
        connect_timeout=conf.broker_connection_timeout or SYSTEM_CONNECT_SECONDS,
        deadline=conf.task_publish_deadline,
        app_name=app_name,
        retries=retries if conf.result_backend_always_retry else None,
        broker=(broker_url(conf, conf.broker_write_url), broker) if sends_replies(conf) else None,
        serializer=conf.result_serializer,
        is_persistent=bool(conf.result_persistent),
    )


def sends_replies(conf: Settings) -> bool:
    """Whether results travel as messages to the process that has sent the task."""
    return (backend_url(conf) or "").startswith("rpc:")


def _seconds(value: Any) -> float | None:
    if value is None or value == 0:
        return None
    return value.total_seconds() if hasattr(value, "total_seconds") else float(value)
