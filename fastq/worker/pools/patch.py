"""gevent's patching of the standard library, which must come before anything else is imported."""

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
        raise _missing() from exc
    monkey.patch_all()


def check_patched() -> None:
    """Raise `ImproperlyConfigured` unless `patch_gevent` was called."""
    try:
        from gevent import monkey
    except ImportError as exc:
        raise _missing() from exc
    unpatched = [module for module in NEEDED if not monkey.is_module_patched(module)]
    if unpatched:
        raise ImproperlyConfigured(
            f"the gevent pool needs a patched standard library, and {', '.join(unpatched)} "
            f"{'is' if len(unpatched) == 1 else 'are'} not: start it with `fastq worker -P gevent`, or call "
            "fastq.worker.pools.patch.patch_gevent() before anything else is imported"
        )


def _missing() -> ImproperlyConfigured:
    return ImproperlyConfigured("the gevent pool needs gevent: pip install 'fastq-queue[gevent]'")
