"""What every test may use: `--long`, and servers of their own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module

import pytest
from servers import RABBITMQ_SCRIPTS, RabbitServer, RedisServer, free_port, skip_or_fail

collect_ignore_glob: list[str] = []
try:
    import_module("fastq._core.amqp")
except ImportError:
    if os.environ.get("CI"):
        raise
    collect_ignore_glob.append("*/test_amqp*.py")


def pytest_report_header() -> str | None:
    if collect_ignore_glob:
        return "fastq was built without librabbitmq: the tests of AMQP are left out"
    return None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run soak and fault tests in their long form too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    skip = pytest.mark.skip(reason="takes long: chosen by --long")
    for item in items:
        if item.get_closest_marker("long") is not None:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def start_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RedisServer]]:
    """A function that starts a redis-server on a free port, with more of its arguments if need be."""
    binary = shutil.which("redis-server")
    if binary is None:
        skip_or_fail("no redis-server is installed")
        return
    started: list[RedisServer] = []

    def start(*arguments: str, sentinel: str | None = None) -> RedisServer:
        server = RedisServer(binary, tmp_path_factory.mktemp("redis"), free_port(), arguments, sentinel)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def redis_server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """A redis-server that the tests of a session share; each uses names of its own."""
    return start_redis()


@pytest.fixture(scope="session")
def start_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RabbitServer]]:
    """A function that starts a RabbitMQ node on a free port, with more settings and plugins if need be."""
    if not (RABBITMQ_SCRIPTS / "rabbitmq-server").exists():
        skip_or_fail("no RabbitMQ is installed")
        return
    started: list[RabbitServer] = []

    def start(*settings: str, plugins: tuple[str, ...] = ()) -> RabbitServer:
        server = RabbitServer(tmp_path_factory.mktemp("rabbitmq"), free_port(), settings, plugins)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.kill()


@pytest.fixture(scope="session")
def rabbitmq_server(start_rabbitmq: Callable[..., RabbitServer]) -> RabbitServer:
    """A RabbitMQ node that the tests of a session share; each uses names of its own."""
    return start_rabbitmq()
