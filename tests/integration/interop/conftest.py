"""The fleets of the interop tests: one broker, Celery's workers, ours, and clients of both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from interop_fleet import Fleet
from interop_way import Way

WAYS = [("celery", "fastq"), ("fastq", "celery")]


@pytest.fixture(scope="session", params=["redis", "rabbitmq"])
def fleet(
    request: pytest.FixtureRequest, start_redis: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A fleet on each broker. Results and notes are kept in Redis, whatever carries the messages."""
    for package in ("celery", "redis"):
        if find_spec(package) is None:
            if os.environ.get("CI"):
                pytest.fail(f"{package} is missing, and CI must run this test")
            pytest.skip(f"{package} is missing")
    store = start_redis().url
    rabbit = request.getfixturevalue("rabbitmq_server") if request.param == "rabbitmq" else None
    fleet = Fleet(store, tmp_path_factory.mktemp("fleet"), rabbit)
    for kind in ("celery", "fastq"):  # both start while the first tests are sent
        fleet.serve(kind)
    yield fleet
    fleet.close()


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}-to-{way[1]}")
def way(request: pytest.FixtureRequest, fleet: Fleet) -> Way:
    """Each direction between the two kinds."""
    return Way(fleet, *request.param)
