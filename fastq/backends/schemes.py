"""Which result backend serves which URL scheme."""

from __future__ import annotations

from importlib import import_module

from fastq.backends.base import Backend, BackendOptions
from fastq.exceptions import ImproperlyConfigured, nearest_name

SCHEMES = {
    "memory": ("fastq.backends.memory", "MemoryBackend"),
    "cache+memory": ("fastq.backends.memory", "MemoryBackend"),
    "sqlite": ("fastq.backends.sqlite", "SQLiteBackend"),
    "redis": ("fastq.backends.redis", "RedisBackend"),
    "rediss": ("fastq.backends.redis", "RedisBackend"),
    "redis+socket": ("fastq.backends.redis", "RedisBackend"),
    "unix": ("fastq.backends.redis", "RedisBackend"),
    "sentinel": ("fastq.backends.redis", "RedisBackend"),
}


def open_backend(url: str, options: BackendOptions) -> Backend:
    """The result backend at *url*; it connects when it is first used. Raises `ImproperlyConfigured`."""
    scheme = url.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise ImproperlyConfigured(
            f"no result backend serves {scheme}:// URLs{nearest_name(scheme, SCHEMES)}"
        )
    module, name = SCHEMES[scheme]
    backend: type[Backend] = getattr(import_module(module), name)
    if options.retries is None:
        return backend(url, options)
    from fastq.backends.retrying import RetryingBackend  # for those alone who ask for it

    return RetryingBackend(backend(url, options), options.retries)
