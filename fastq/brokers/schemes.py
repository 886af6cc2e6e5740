"""Which driver serves which URL scheme."""

from __future__ import annotations

from importlib import import_module

from fastq.brokers.base import Broker, BrokerOptions
from fastq.exceptions import ImproperlyConfigured, nearest_name

AMQP_SCHEMES = ("amqp", "amqps", "pyamqp", "librabbitmq")
# scheme: (module, class, the extra to install when a module is missing)
SCHEMES = {
    "memory": ("fastq.brokers.memory", "MemoryBroker", None),
    "sqlite": ("fastq.brokers.sqlite.broker", "SQLiteBroker", None),
    "redis": ("fastq.brokers.redis.broker", "RedisBroker", None),
    "rediss": ("fastq.brokers.redis.broker", "RedisBroker", None),
    "redis+socket": ("fastq.brokers.redis.broker", "RedisBroker", None),
    "unix": ("fastq.brokers.redis.broker", "RedisBroker", None),
    "sentinel": ("fastq.brokers.redis.broker", "RedisBroker", None),
    **dict.fromkeys(AMQP_SCHEMES, ("fastq.brokers.rabbitmq.broker", "RabbitMQBroker", None)),
}


def open_broker(url: str, options: BrokerOptions) -> Broker:
    """The broker at *url*; it connects when it is first used. Raises `ImproperlyConfigured`."""
    scheme = url.partition("://")[0].lower()
    if scheme in AMQP_SCHEMES:
        check_librabbitmq(scheme)
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


def check_librabbitmq(scheme: str) -> None:
    """Raise `ImproperlyConfigured` where fastq was built without librabbitmq, the codec of AMQP."""
    try:
        import_module("fastq._core.amqp")
    except ImportError as exc:
        raise ImproperlyConfigured(
            f"{scheme}:// needs librabbitmq, without which this fastq was built: install it (Debian: apt-get "
            "install librabbitmq-dev pkg-config), then fastq again (pip install --force-reinstall --no-deps "
            f"--no-binary :all: fastq-queue): {exc}"
        ) from exc
