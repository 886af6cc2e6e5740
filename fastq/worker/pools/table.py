"""The pools by name."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastq.exceptions import ImproperlyConfigured
from fastq.worker.pools.base import Pool, PoolOptions

if TYPE_CHECKING:
    from fastq.wakeup import Waker

# Name: module and class. Imported when chosen, since each brings what only it needs.
POOLS = {
    "prefork": ("fastq.worker.pools.prefork", "PreforkPool"),
    "processes": ("fastq.worker.pools.prefork", "PreforkPool"),
    "solo": ("fastq.worker.pools.solo", "SoloPool"),
    "threads": ("fastq.worker.pools.threads", "ThreadsPool"),
    "gevent": ("fastq.worker.pools.greenlets", "GeventPool"),
    "eventlet": ("fastq.worker.pools.eventlets", "EventletPool"),
    "asyncio": ("fastq.worker.pools.event_loop", "AsyncioPool"),
}

# How many tasks the pools that mostly wait run at once, if nothing is said; the others: one per processor.
DEFAULT_CONCURRENCY = {"asyncio": 100, "gevent": 100, "eventlet": 100}


def pool_class(name: str) -> type[Pool]:
    """The class of the pool *name*, one of ours or ``package.module:Class``.

    Raises `ImproperlyConfigured` for an unknown or not installed one.
    """
    if ":" in name:
        return _custom_class(name)
    if name not in POOLS:
        near = get_close_matches(name, POOLS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f": choose one of {', '.join(POOLS)}"
        raise ImproperlyConfigured(f"no pool is named {name!r}{hint}")
    module, class_name = POOLS[name]
    try:
        found: type[Pool] = vars(import_module(module))[class_name]
    except ModuleNotFoundError as exc:
        raise ImproperlyConfigured(
            f"the {name} pool needs {exc.name}: pip install 'fastq-queue[{name}]'"
        ) from exc
    return found


def _custom_class(name: str) -> type[Pool]:
    module, _, class_name = name.partition(":")
    try:
        found = getattr(import_module(module), class_name)
    except (ImportError, AttributeError) as exc:
        raise ImproperlyConfigured(f"the pool {name} can't be loaded: {exc}") from exc
    if not (isinstance(found, type) and issubclass(found, Pool)):
        raise ImproperlyConfigured(f"{name} is no pool: derive it from fastq.worker.pools.base.Pool")
    return found


def open_pool(name: str, app: Any, options: PoolOptions, waker: Waker) -> Pool:
    """The pool *name* for the tasks of *app*, not started yet.

    Raises `ImproperlyConfigured` for an unknown name, and for time limits of the
    worker or of a task that this pool can't keep.
    """
    kind = pool_class(name)
    _check_limits(kind, app, options)
    return kind(app, options, waker)


def _check_limits(kind: type[Pool], app: Any, options: PoolOptions) -> None:
    """Refuse hard time limits where nothing could end a task."""
    if kind.keeps_hard_limits:
        return
    if options.time_limit is not None:
        raise ImproperlyConfigured(
            f"the {kind.name} pool can't keep time_limit={options.time_limit:g}, as it has no way to end a "
            "task: use the prefork pool, or soft_time_limit"
        )
    limited = sorted(name for name, task in app.tasks.items() if task.time_limit is not None)
    if limited:
        raise ImproperlyConfigured(
            f"the {kind.name} pool can't keep the time_limit of {', '.join(limited)}, as it has no way to "
            "end a task: use the prefork pool, or soft_time_limit"
        )
