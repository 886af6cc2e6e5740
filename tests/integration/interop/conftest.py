"""The fleet of the interop tests: one redis-server, Celery's workers, ours, and clients of both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from interop_fleet import Fleet
from interop_way import Way

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


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-to-{way[1]}")
def way(request: pytest.FixtureRequest, fleet: Fleet) -> Way:
    """Each direction between the two kinds."""
    return Way(fleet, *request.param)
