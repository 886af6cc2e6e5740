"""What all pools share around the tracer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from fastq._core.trace import Tracer

if TYPE_CHECKING:
    from fastq._core.message import Delivery, Outcome
    from fastq.worker.pools.base import PoolOptions

logger = logging.getLogger(__name__)


def make_tracer(app: Any, options: PoolOptions) -> Tracer:
    """A tracer of *app*'s tasks with the limits that the worker was given."""
    return Tracer(
        app,
        options.hostname,
        time_limit=options.time_limit,
        soft_time_limit=options.soft_time_limit,
        max_redeliveries=options.max_redeliveries,
    )


class EndOfTask(SystemExit):
    """Raised in a task that is to end because it was revoked. Not for `except Exception`."""

    def __init__(self, reason: str = "terminated") -> None:
        super().__init__(reason)
        self.reason = reason


def exited(tracer: Tracer, delivery: Delivery, exc: BaseException) -> Outcome:
    """The outcome of a task that raised SystemExit or its like, whether or not a process ends of it."""
    message = delivery.message
    assert message is not None
    if isinstance(exc, EndOfTask):
        return tracer.revoked(delivery, exc.reason)
    cause = f"{message.task}[{message.id}] raised {exc!r}"
    logger.error("WorkerLostError: %s", cause, exc_info=exc)
    return tracer.lost(delivery, cause, is_own_exit=True)
