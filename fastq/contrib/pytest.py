"""The pytest plugin: Celery's fixtures by its names, and by ours (docs/testing.md).

pytest loads it in every environment that has fastq, so it imports no more than `fastq` before a
test asks for an app or a worker. Where a name of ours and one of Celery's stand for the same, a
project may override either; the one of ours goes first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.worker.embedded import EmbeddedWorker

MARKS = ("celery", "fastq")
# What a fixture of ours is that nobody has overridden.
AS_CELERYS: Any = None


def pytest_configure(config: pytest.Config) -> None:
    """Register the marks."""
    for name in MARKS:
        config.addinivalue_line("markers", f"{name}(**overrides): settings of the test's app, {name}_app")


def _chosen(request: pytest.FixtureRequest, name: str) -> Any:
    """The fixture *name* by our name, if it is overridden, or else by Celery's.

    It is asked for when it is needed, as each module may override it: a fixture of the session that took it
    from another one would give all modules what the first one says.
    """
    ours = request.getfixturevalue(name.format("fastq"))
    return request.getfixturevalue(name.format("celery")) if ours is AS_CELERYS else ours


@contextmanager
def _made_app(request: pytest.FixtureRequest, marked: Mapping[str, Any]) -> Iterator[FastQ]:
    from fastq.contrib.testing.app import TestApp, setup_default_app

    config = {**_chosen(request, "{}_config"), **marked}
    app = TestApp(config=config, **_chosen(request, "{}_parameters"))
    with setup_default_app(app, use_trap=_chosen(request, "use_{}_app_trap")):
        try:
            yield app
        finally:
            app.close()


@contextmanager
def _started_worker(request: pytest.FixtureRequest, app: FastQ) -> Iterator[EmbeddedWorker]:
    from fastq.contrib.testing.worker import start_worker

    for module in _chosen(request, "{}_includes"):
        import_module(module)
    for task in _chosen(request, "{}_class_tasks"):
        app.register_task(task)
    options = {
        "pool": _chosen(request, "{}_worker_pool"),
        "logging": _chosen(request, "{}_enable_logging"),
        **_chosen(request, "{}_worker_parameters"),
    }
    with start_worker(app, **options) as worker:
        yield worker


# -- what they are made of: override these ------------------------------------------


@pytest.fixture(scope="session")
def celery_config() -> Mapping[str, Any]:
    """Settings of the test apps."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> Mapping[str, Any]:
    """Arguments of `FastQ` for the test apps."""
    return {}


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """Whether workers of the tests set up logging."""
    return False


@pytest.fixture(scope="session")
def celery_includes() -> Sequence[str]:
    """Modules to import before a worker starts."""
    return ()


@pytest.fixture(scope="session")
def celery_worker_pool() -> str:
    """The pool of the tests' workers."""
    return "solo"


@pytest.fixture(scope="session")
def celery_worker_parameters() -> Mapping[str, Any]:
    """More arguments of `start_worker`."""
    return {}


@pytest.fixture(scope="session")
def celery_class_tasks() -> Sequence[Any]:
    """Tasks that are classes, to be registered with the apps."""
    return ()


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """Whether a test fails that uses the current app unless it says so by `depends_on_current_app`."""
    return False


@pytest.fixture(scope="session")
def fastq_config() -> Any:
    """As `celery_config`, which holds unless this is overridden; so the others."""
    return AS_CELERYS


@pytest.fixture(scope="session")
def fastq_parameters() -> Any:
    """As `celery_parameters`."""
    return AS_CELERYS


@pytest.fixture(scope="session")
def fastq_enable_logging() -> Any:
    """As `celery_enable_logging`."""
    return AS_CELERYS


@pytest.fixture(scope="session")
def fastq_includes() -> Any:
    """As `celery_includes`."""
    return AS_CELERYS


@pytest.fixture(scope="session")
def fastq_worker_pool() -> Any:
    """As `celery_worker_pool`."""
    return AS_CELERYS


@pytest.fixture(scope="session")
def fastq_worker_parameters() -> Any:
    """As `celery_worker_parameters`."""
    return AS_CELERYS


@pytest.fixture(scope="session")
def fastq_class_tasks() -> Any:
    """As `celery_class_tasks`."""
    return AS_CELERYS


@pytest.fixture(scope="session")
def use_fastq_app_trap() -> Any:
    """As `use_celery_app_trap`."""
    return AS_CELERYS


# -- apps and workers ------------------------------------------------------------------


@pytest.fixture(scope="session")
def celery_session_app(request: pytest.FixtureRequest) -> Iterator[FastQ]:
    """An app for the whole session."""
    with _made_app(request, {}) as app:
        yield app


@pytest.fixture(scope="session")
def celery_session_worker(
    request: pytest.FixtureRequest, celery_session_app: FastQ
) -> Iterator[EmbeddedWorker]:
    """A worker of `celery_session_app` for the whole session."""
    with _started_worker(request, celery_session_app) as worker:
        yield worker


@pytest.fixture
def celery_app(request: pytest.FixtureRequest) -> Iterator[FastQ]:
    """An app for one test; marks of the test change its settings, those nearer to the test last."""
    marked: dict[str, Any] = {}
    for name in MARKS:
        for mark in reversed(list(request.node.iter_markers(name))):
            marked.update(mark.kwargs)
    with _made_app(request, marked) as app:
        yield app


@pytest.fixture
def celery_worker(request: pytest.FixtureRequest, celery_app: FastQ) -> Iterator[EmbeddedWorker]:
    """A worker of `celery_app` for one test."""
    with _started_worker(request, celery_app) as worker:
        yield worker


@pytest.fixture
def depends_on_current_app(celery_app: FastQ) -> None:
    """Make the test's app the current one."""
    celery_app.set_current()


@pytest.fixture(scope="session")
def fastq_session_app(celery_session_app: FastQ) -> FastQ:
    """As `celery_session_app`."""
    return celery_session_app


@pytest.fixture(scope="session")
def fastq_session_worker(celery_session_worker: EmbeddedWorker) -> EmbeddedWorker:
    """As `celery_session_worker`."""
    return celery_session_worker


@pytest.fixture
def fastq_app(celery_app: FastQ) -> FastQ:
    """As `celery_app`."""
    return celery_app


@pytest.fixture
def fastq_worker(request: pytest.FixtureRequest, fastq_app: FastQ) -> Iterator[EmbeddedWorker]:
    """A worker of `fastq_app` for one test."""
    with _started_worker(request, fastq_app) as worker:
        yield worker
