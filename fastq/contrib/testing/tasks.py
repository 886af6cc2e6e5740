"""The task by which `start_worker` sees that its worker runs tasks; importing it gives it to every app."""

from __future__ import annotations

from fastq.app.base import shared_task


@shared_task(name="celery.ping")  # type: ignore[untyped-decorator]
def ping() -> str:
    """Answer."""
    return "pong"
