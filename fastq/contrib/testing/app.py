"""An application for tests, and the current one kept apart from theirs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any

from fastq.app import current
from fastq.app.base import FastQ

# Celery's, but for what there is no use for here.
DEFAULT_TEST_CONFIG: dict[str, Any] = {
    "worker_hijack_root_logger": False,
    "worker_log_color": False,
    "accept_content": {"json"},
    "enable_utc": True,
    "timezone": "UTC",
}

_serials = count(1)


class Trap:
    """Stands for the current app where none may be used: every attribute raises RuntimeError."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"the test depends on the current app (its attribute {name!r}): hand it its app")


def TestApp(
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    set_as_current: bool = False,
    **options: Any,
) -> FastQ:
    """An app whose queues and results lie in this process, unless *config* or *options* say otherwise.

    Each has a store of its own, so that no test sees what another one has sent.
    """
    own = f"memory://test-{next(_serials)}"
    settings = {**DEFAULT_TEST_CONFIG, "broker_url": own, "result_backend": own, **(config or {})}
    for option, setting in (("broker", "broker_url"), ("backend", "result_backend")):
        if option in options:
            settings[setting] = options.pop(option)
    app = FastQ(name or "fastq.tests", set_as_current=set_as_current, **options)
    app.conf.update(settings)
    return app


@contextmanager
def setup_default_app(app: FastQ, use_trap: bool = False) -> Iterator[None]:
    """Have the current app after the block be the one from before it.

    With *use_trap* there is none in the block: what asks for it raises RuntimeError.
    """
    before = current._current
    if use_trap:
        current.set_current_app(Trap())  # type: ignore[arg-type]
    try:
        yield
    finally:
        current.set_current_app(before)
        current.remove_app(app)
