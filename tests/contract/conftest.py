"""The stores that keep the contract: a new broker adds a factory to the table, and no test."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harness import Harness
from servers import RedisServer

from fastq._core.message import new_id
from fastq.brokers.rabbitmq.addresses import DEAD_SET
from fastq.brokers.rabbitmq.connection import connect as connect_rabbitmq
from fastq.brokers.rabbitmq.endpoint import Endpoint
from fastq.brokers.rabbitmq.endpoint import parse_endpoint as parse_rabbitmq
from fastq.brokers.redis.connection import connect
from fastq.brokers.redis.endpoint import parse_endpoint
from fastq.topology import Queue


def memory_harness(request: pytest.FixtureRequest) -> Harness:
    url = f"memory://{new_id()}"
    return Harness(url, url, put_raw=None, crosses_processes=False)


def sqlite_harness(request: pytest.FixtureRequest) -> Harness:
    folder: Path = request.getfixturevalue("tmp_path")
    url = f"sqlite:///{folder / 'contract.sqlite3'}"

    def put_raw(queue: str, raw: bytes) -> None:
        place.open().queues()  # makes the tables
        with closing(sqlite3.connect(folder / "contract.sqlite3", isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            (number,) = db.execute("SELECT coalesce(max(id), 0) + 1 FROM fastq_messages").fetchone()
            db.execute("INSERT INTO fastq_messages VALUES (?, ?, 0, 0, 0, ?)", (number, queue, raw))
            db.execute("INSERT INTO fastq_ready VALUES (?, 0, ?)", (queue, number))
            db.execute("COMMIT")

    place = Harness(url, url, put_raw=put_raw, crosses_processes=True)
    return place


@pytest.fixture(scope="session")
def resp2_server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """A Redis that speaks RESP2 alone, as some proxies do: it does not know HELLO."""
    return start_redis("--rename-command", "HELLO", "")


def redis_harness(request: pytest.FixtureRequest) -> Harness:
    return _redis_harness(request.getfixturevalue("redis_server").url)


def resp2_harness(request: pytest.FixtureRequest) -> Harness:
    return _redis_harness(request.getfixturevalue("resp2_server").url)


def _redis_harness(url: str) -> Harness:
    def call(*arguments: str | bytes) -> None:
        connection = connect(parse_endpoint(url, {}), 5.0)
        connection.call(*arguments, timeout=5.0)
        connection.close()

    call("FLUSHALL")
    return Harness(url, url, put_raw=lambda queue, raw: call("LPUSH", queue, raw), crosses_processes=True)


PRIORITIES = {"x-max-priority": 9}
# Every queue of the suite.
QUEUES = [
    "q",
    "other",
    "next",
    "a",
    "b",
    "c",
    "kept",
    "empty",
    "höhe",
    "a b",
    "日本",
    "a:b{c}",
    "x'\"%?*",
    "🦆",
    "orders",
    "paid",
    "one",
    "two",
    "every",
    "some",
]


def rabbitmq_harness(request: pytest.FixtureRequest) -> Harness:
    url = request.getfixturevalue("rabbitmq_server").url()
    node = parse_rabbitmq(url, {}).nodes[0]

    def call(*calls: tuple[str, dict[str, Any]]) -> None:
        connection = connect_rabbitmq(Endpoint(), node, 10.0)
        connection.call_many(connection.open_channel(10.0), calls, 10.0)
        connection.close()

    def put_raw(queue: str, raw: bytes) -> None:
        connection = connect_rabbitmq(Endpoint(), node, 10.0)
        channel = connection.open_channel(10.0)
        connection.call(channel, "queue.declare", 10.0, queue=queue, durable=True, arguments=PRIORITIES)
        connection.encoder.publish(channel.number, "", queue, raw)
        connection.close()

    call(*(("queue.delete", {"queue": queue}) for queue in [*QUEUES, DEAD_SET]))
    return Harness(
        url,
        f"memory://{new_id()}",
        put_raw=put_raw,
        crosses_processes=True,
        searches=False,
        reaches_heads=False,
        leases=False,
        commits=False,
        rises=True,
        lag=0.3,
        queue=lambda name: Queue(name, max_priority=9),
        delay_queue_type="classic",
    )


HARNESSES: dict[str, Callable[[pytest.FixtureRequest], Harness]] = {
    "memory": memory_harness,
    "sqlite": sqlite_harness,
    "redis": redis_harness,
    "redis-resp2": resp2_harness,
    "rabbitmq": rabbitmq_harness,
}


@pytest.fixture(params=HARNESSES)
def harness(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """An empty store of each kind in turn."""
    store = HARNESSES[request.param](request)
    yield store
    store.close()
