"""Random workflows on real workers: on every store and pool they come to what the reference says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from workflows.description import Node
from workflows.sampling import sample
from workflows.stage import MemoryStage, Stage
from workflows.strategies import GIVEN, workflows

POOLS = {"prefork": "2", "threads": "4"}
STORES = ("memory", "sqlite", "redis", "rabbitmq")
STAGES = [(store, pool) for store in STORES for pool in POOLS]
ON_EACH = 25  # workflows: 200 in all


def open_stage(store: str, pool: str, request: pytest.FixtureRequest, folder: Path) -> Stage:
    """A worker with *pool* on *store*."""
    if store == "memory":
        return MemoryStage(folder, pool, POOLS[pool])
    if store == "sqlite":
        url = backend = f"sqlite:///{folder / 'workflows.sqlite3'}"
    else:
        url = backend = request.getfixturevalue("redis_server").url.replace("/0", "/2")
    if store == "rabbitmq":
        server = request.getfixturevalue("rabbitmq_server")
        host = f"workflows-{pool}"
        server.control("add_vhost", host)
        server.control("set_permissions", "-p", host, "guest", ".*", ".*", ".*")
        url = server.url(host)
    return Stage("fastq", url, backend, folder, pool, POOLS[pool])


@pytest.fixture(scope="module", params=STAGES, ids="-".join)
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    store, pool = request.param
    stage = open_stage(store, pool, request, tmp_path_factory.mktemp("workflows"))
    try:
        stage.wait_until_ready()
        yield stage
        assert stage.too_much() == []
    finally:
        stage.close()


def test_random_workflows(stage: Stage, request: pytest.FixtureRequest) -> None:
    """The same ones in every run, and others on every stage."""
    for node, arguments in sample(ON_EACH, STAGES.index(request.node.callspec.params["stage"])):
        stage.run(node, arguments)


# Others in every run. Each is run by itself, so that one that fails can be made smaller by hand.
@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", [("redis", pool) for pool in POOLS], ids="-".join, indirect=True)
@settings(
    max_examples=1000,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(node=workflows(), given=GIVEN)
def test_a_thousand_random_workflows_on_each_pool(stage: Stage, node: Node, given: list[Any]) -> None:
    stage.run(node, given)
