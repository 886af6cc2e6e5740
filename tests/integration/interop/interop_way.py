"""One direction between Celery and fastq: who sends, and who runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from interop_fleet import PATIENCE, Fleet


@dataclass
class Way:
    """From a client of one kind to a worker of the other."""

    fleet: Fleet
    sender: str
    runner: str
    variant: str = "plain"

    def __post_init__(self) -> None:
        self.queue = self.fleet.serve(self.runner, self.variant)
        self.client = self.fleet.client(self.sender, self.variant)

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        """Send ``proj.<name>`` with *args* and the options of the call; the result as its sender has it."""
        return self.client.tasks[f"proj.{name}"].apply_async(args, queue=self.queue, **options)

    def get(self, name: str, *args: Any, **options: Any) -> Any:
        """Send a task and wait: what its sender and, after that, a client of the worker's kind read."""
        result = self.send(name, *args, **options)
        value = result.get(timeout=PATIENCE)
        assert self.read(result.id, self.runner).get(timeout=PATIENCE) == value
        return value

    def read(self, task_id: str, kind: str) -> Any:
        """The result with *task_id*, as a client of *kind* has it."""
        return self.fleet.client(kind, self.variant).AsyncResult(task_id)

    def on(self, variant: str) -> Way:
        """The same way between apps that are set up as *variant*."""
        return Way(self.fleet, self.sender, self.runner, variant)
