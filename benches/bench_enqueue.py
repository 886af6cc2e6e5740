"""How many tasks a second can one program send? By `delay`, and in bulk."""

from __future__ import annotations

import time
from functools import partial

from benches import floor_sqlite
from benches.data import task_ids, workload
from benches.floor import push_in_bulk, push_one_by_one
from benches.harness import Bench
from benches.sides import Side
from benches.stores import RedisStore, SqliteStore

CELERY_COUNT = 2_000
AT_ONCE = 1_000  # rows to a transaction of the SQLite floor


def sends(side: Side, store: RedisStore | SqliteStore, action: str, count: int) -> float:
    """Tasks per second that a client of *side* sends."""
    store.clear()
    return count / float(side.client(store.url, action, count)["seconds"])


def raw_one_by_one(store: RedisStore, count: int) -> float:
    """Commands per second of LPUSH, each waiting for its reply."""
    store.clear()
    envelopes = list(workload(task_ids(count)))
    start = time.perf_counter()
    push_one_by_one(store.connection, envelopes)
    return count / (time.perf_counter() - start)


def raw_in_bulk(store: RedisStore, count: int) -> float:
    """Messages per second of LPUSH with a thousand values."""
    store.clear()
    envelopes = list(workload(task_ids(count)))
    start = time.perf_counter()
    push_in_bulk(store.connection, envelopes)
    return count / (time.perf_counter() - start)


def sqlite_floor(bench: Bench, count: int) -> float:
    """Rows per second through the standard library's sqlite3, durable."""
    bench.sqlite.clear()
    database = floor_sqlite.open_database(bench.sqlite.path)
    try:
        return floor_sqlite.enqueue(database, task_ids(count), AT_ONCE)
    finally:
        database.close()


def run(bench: Bench) -> None:
    """Measure on Redis beside Celery and raw LPUSH, and on SQLite beside raw inserts."""
    singly, bulk = bench.count(20_000), bench.count(100_000)
    redis, sqlite = bench.redis, bench.sqlite
    bench.compare(
        "enqueue one by one, redis",
        "tasks/s",
        {
            "floor": partial(raw_one_by_one, redis, singly),
            "fastq": partial(sends, bench.fastq, redis, "one_by_one", singly),
            "celery": partial(sends, bench.celery, redis, "one_by_one", CELERY_COUNT),
        },
    )
    bench.compare(
        "enqueue in bulk, redis",
        "tasks/s",
        {
            "floor": partial(raw_in_bulk, redis, bulk),
            "fastq": partial(sends, bench.fastq, redis, "in_bulk", bulk),
            "celery": partial(sends, bench.celery, redis, "in_bulk", CELERY_COUNT),
        },
    )
    bench.compare(
        "enqueue one by one, sqlite",
        "tasks/s",
        {"fastq": partial(sends, bench.fastq, sqlite, "one_by_one", bench.count(2_000))},
    )
    bench.compare(
        "enqueue in bulk, sqlite",
        "tasks/s",
        {
            "floor": partial(sqlite_floor, bench, bulk),
            "fastq": partial(sends, bench.fastq, sqlite, "in_bulk", bulk),
        },
    )
