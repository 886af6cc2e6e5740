"""Which driver serves which URL scheme."""

from __future__ import annotations

from importlib import import_module

from fastq.brokers.base import Broker, BrokerOptions
from fastq.exceptions import ImproperlyConfigured, nearest_name

# scheme: (module, class, the extra to install when a module is missing)
SCHEMES = {
    "memory": ("fastq.brokers.memory", "MemoryBroker", None),
    "sqlite": ("fastq.brokers.sqlite.broker", "SQLiteBroker", None),
    "redis": ("fastq.brokers.redis.broker", "RedisBroker", None),
    "rediss": ("fastq.brokers.redis.broker", "RedisBroker", None),
    "redis+socket": ("fastq.brokers.redis.broker", "RedisBroker", None),
    "unix": ("fastq.brokers.redis.broker", "RedisBroker", None),
    "sentinel": ("fastq.brokers.redis.broker", "RedisBroker", None),
}


def open_broker(url: str, options: BrokerOptions) -> Broker:
    """The broker at *url*; it connects when it is first used. Raises `ImproperlyConfigured`."""
    scheme = url.partition("://")[0].lower()
    if scheme in ("amqp", "amqps", "pyamqp"):
        raise ImproperlyConfigured(
            f"broker_url begins with {scheme}://: this version of fastq has no RabbitMQ yet"
        )
    if scheme not in SCHEMES:
        raise ImproperlyConfigured(f"no broker serves {scheme}:// URLs{nearest_name(scheme, SCHEMES)}")
    module, name, extra = SCHEMES[scheme]
    try:
        driver: type[Broker] = getattr(import_module(module), name)
    except ModuleNotFoundError as exc:
        if extra is None:
            raise
        raise ImproperlyConfigured(
            f'{scheme}:// needs {exc.name}: pip install "fastq-queue[{extra}]"'
        ) from exc
    return driver(url, options)
