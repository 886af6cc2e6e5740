"""The fleet of the interop tests: one redis-server, Celery's workers, ours, and clients of both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest
from interop_fleet import PATIENCE, Fleet

WAYS = [("celery", "fastq"), ("fastq", "celery")]


@pytest.fixture(scope="session")
def fleet(start_redis: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet of its own."""
    for package in ("celery", "redis"):
        if find_spec(package) is None:
            if os.environ.get("CI"):
                pytest.fail(f"{package} is missing, and CI must run this test")
            pytest.skip(f"{package} is missing")
    fleet = Fleet(start_redis().url, tmp_path_factory.mktemp("fleet"))
    for kind in ("celery", "fastq"):  # both start while the first tests are sent
        fleet.serve(kind)
    yield fleet
    fleet.close()


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


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-to-{way[1]}")
def way(request: pytest.FixtureRequest, fleet: Fleet) -> Way:
    """Each direction between the two kinds."""
    return Way(fleet, *request.param)
