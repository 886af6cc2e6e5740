"""Stages for the scenarios: every broker with every pool."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from stage import POOLS, Stage, flush


@pytest.fixture
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty broker of the kind that the test is parametrized with."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fault.sqlite3'}"
    server = request.getfixturevalue(f"{request.param}_server")
    url: str = server.url() if request.param == "rabbitmq" else server.url
    flush(url)
    return url


@pytest.fixture
def make_stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """A function that makes stages in folders of their own; on the shared RabbitMQ where none is named."""
    made: list[Stage] = []

    def make(url: str, pool: str, **options: Any) -> Stage:
        folder = tmp_path / f"stage{len(made)}"
        folder.mkdir()
        if url.startswith("amqp"):
            options.setdefault("server", request.getfixturevalue("rabbitmq_server"))
        made.append(Stage(folder, url, pool, **options))
        return made[-1]

    yield make
    for stage in made:
        stage.close()


@pytest.fixture
def stage(make_stage: Callable[..., Stage], broker_url: str, pool: str) -> Stage:
    """One broker with one pool."""
    return make_stage(broker_url, pool)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if _is_open(metafunc, "broker_url"):
        metafunc.parametrize("broker_url", ["redis", "sqlite", "rabbitmq"], indirect=True)
    if _is_open(metafunc, "pool"):
        metafunc.parametrize("pool", POOLS)


def _is_open(metafunc: pytest.Metafunc, name: str) -> bool:
    """Whether the test wants *name* and does not say itself which."""
    marks = metafunc.definition.iter_markers("parametrize")
    return name in metafunc.fixturenames and not any(mark.args and name in mark.args[0] for mark in marks)
