"""Remote control as Celery's programs import it: `control_command` and `inspect_command` for one's own."""

from __future__ import annotations

from fastq.worker.remote.registry import Panel, control_command, inspect_command

__all__ = ["Panel", "control_command", "inspect_command"]
