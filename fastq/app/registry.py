"""The tasks of an application, by name."""

from __future__ import annotations

from typing import Any

from fastq.exceptions import NotRegistered

# What the names of the tasks begin with that every app has.
BUILT_IN = ("celery.", "fastq.")


class TaskRegistry(dict[str, Any]):
    """A dict of tasks by name; a missing one raises `NotRegistered`."""

    def __missing__(self, name: str) -> Any:
        raise NotRegistered(name)

    def register(self, task: Any) -> None:
        """Add *task* under its name."""
        self[task.name] = task

    def unregister(self, name: Any) -> None:
        """Remove a task, by name or itself. Raises `NotRegistered`."""
        name = getattr(name, "name", name)
        if name not in self:
            raise NotRegistered(name)
        del self[name]

    def regular(self) -> dict[str, Any]:
        """The tasks that are the application's own, not fastq's built-in ones."""
        return {name: task for name, task in self.items() if not name.startswith(BUILT_IN)}
