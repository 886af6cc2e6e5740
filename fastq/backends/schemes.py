"""Which result backend serves which URL scheme."""

from __future__ import annotations

from collections.abc import Mapping
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
    "rpc": ("fastq.backends.rpc", "RPCBackend"),
    "sentinel": ("fastq.backends.redis", "RedisBackend"),
}


def open_backend(url: str, options: BackendOptions, overrides: Mapping[str, str] | None = None) -> Backend:
    """The result backend at *url*; it connects when it is first used. Raises `ImproperlyConfigured`.

    *overrides* are further schemes, or other backends for the known ones, as 'module:Class'.
    """
    scheme = url.partition("://")[0].lower()
    if overrides and scheme in overrides:
        module, _, name = overrides[scheme].replace(":", ".").rpartition(".")
    elif scheme in SCHEMES:
        module, name = SCHEMES[scheme]
    else:
        raise ImproperlyConfigured(
            f"no result backend serves {scheme}:// URLs{nearest_name(scheme, [*SCHEMES, *(overrides or ())])}"
        )
    backend: type[Backend] = getattr(import_module(module), name)
    if options.retries is None:
        return backend(url, options)
    from fastq.backends.retrying import RetryingBackend  # for those alone who ask for it

    return RetryingBackend(backend(url, options), options.retries)
