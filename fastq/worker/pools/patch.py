"""Patching of the standard library by gevent or eventlet, which must come before all other imports."""

from __future__ import annotations

from fastq.exceptions import ImproperlyConfigured

# Without these a task that sleeps or waits for a socket would stop all the others.
NEEDED = ("socket", "time", "threading", "select")


def patch_gevent() -> None:
    """Let blocking calls of the standard library give way to other greenlets.

    Call it first of all in a process that will run the gevent pool. Raises
    `ImproperlyConfigured` when gevent is not installed.
    """
    try:
        from gevent import monkey
    except ImportError as exc:
        raise _missing("gevent") from exc
    monkey.patch_all()


def patch_eventlet() -> None:
    """As `patch_gevent`, for the eventlet pool."""
    try:
        import eventlet
    except ImportError as exc:
        raise _missing("eventlet") from exc
    # Not os: its read of an empty pipe waits, where a waker wants to hear that it is empty.
    eventlet.monkey_patch(os=False)
    from fastq.worker.pools import green_poll  # needs the patched select

    green_poll.install()


# What to call, by the pool that needs it.
PATCHES = {"gevent": patch_gevent, "eventlet": patch_eventlet}


def check_patched() -> None:
    """Raise `ImproperlyConfigured` unless `patch_gevent` was called."""
    try:
        from gevent import monkey
    except ImportError as exc:
        raise _missing("gevent") from exc
    _refuse("gevent", [module for module in NEEDED if not monkey.is_module_patched(module)])


def check_eventlet_patched() -> None:
    """Raise `ImproperlyConfigured` unless `patch_eventlet` was called."""
    from eventlet import patcher

    needed = [module.replace("threading", "thread") for module in NEEDED]
    _refuse("eventlet", [module for module in needed if not patcher.is_monkey_patched(module)])


def _refuse(pool: str, unpatched: list[str]) -> None:
    if unpatched:
        raise ImproperlyConfigured(
            f"the {pool} pool needs a patched standard library, and {', '.join(unpatched)} "
            f"{'is' if len(unpatched) == 1 else 'are'} not: start it with `fastq worker -P {pool}`, or call "
            f"fastq.worker.pools.patch.patch_{pool}() before anything else is imported"
        )


def _missing(pool: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"the {pool} pool needs {pool}: pip install 'fastq-queue[{pool}]'")
