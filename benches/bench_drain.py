"""How many no-op tasks a second does one worker run? Over pools, and with and without results.

The queue is filled first, then the worker starts. The clock runs from the end of the task that
closes the first tenth to the end of the last one, as their results (or two marks) tell: starting
and connecting cost nobody anything.
"""

from __future__ import annotations

from functools import partial

from benches import floor_sqlite
from benches.bench_enqueue import AT_ONCE
from benches.data import WARM_UP_SHARE, task_ids
from benches.harness import Bench
from benches.sides import Side
from benches.stores import wait_done, wait_marks


def rate(times: list[float]) -> float:
    """Tasks per second of all but the first tenth, from the times at which each ended."""
    ended = sorted(times)[len(times) // WARM_UP_SHARE :]
    return (len(ended) - 1) / (ended[-1] - ended[0])


def drains(bench: Bench, side: Side, pool: str, prefetch: str = "", results: bool = True) -> float:
    """Tasks per second that a worker of *side* takes out of Redis."""
    ids = task_ids(bench.count(side.drained))
    bench.redis.clear()
    bench.redis.fill(ids, side.body_encoding, results)
    with side.worker(bench.redis.url, pool, prefetch, results) as worker:
        if results:
            return rate(wait_done(bench.redis, ids, worker))
        first, last = wait_marks(side.marks, worker)
        return (len(ids) - len(ids) // WARM_UP_SHARE - 1) / (last - first)


def drains_sqlite(bench: Bench, pool: str) -> float:
    """Tasks per second that a fastq worker takes out of an SQLite file."""
    bench.sqlite.clear()
    url = bench.sqlite.url
    ids = bench.fastq.client(url, "in_bulk", bench.count(40_000))["ids"]
    with bench.fastq.worker(url, pool) as worker:
        return rate(wait_done(bench.sqlite, ids, worker))


def sqlite_floor(bench: Bench) -> float:
    """Tasks per second through the standard library's sqlite3, durable."""
    bench.sqlite.clear()
    database = floor_sqlite.open_database(bench.sqlite.path)
    try:
        floor_sqlite.enqueue(database, task_ids(bench.count(40_000)), AT_ONCE)
        return floor_sqlite.drain(database, AT_ONCE)
    finally:
        database.close()


def run(bench: Bench) -> None:
    """Measure every pool of fastq and of Celery beside the floor."""
    sides: tuple[Side, ...] = (bench.floor, bench.fastq, bench.celery)
    with_results = {
        label(side, pool): partial(drains, bench, side, pool) for side in sides for pool in side.pools
    }
    bench.compare("drain, redis", "tasks/s", with_results)
    without = {label(side, "solo"): partial(drains, bench, side, "solo", results=False) for side in sides}
    bench.compare("drain without results, redis", "tasks/s", without)
    embedded = {"floor": partial(sqlite_floor, bench)}
    for pool in bench.fastq.pools:
        embedded[label(bench.fastq, pool)] = partial(drains_sqlite, bench, pool)
    bench.compare("drain, sqlite", "tasks/s", embedded)


def label(side: Side, pool: str) -> str:
    """The name of a contender in the table."""
    return side.name if side.name == "floor" else f"{side.name} {pool}"
