"""How long does `delay().get()` take on an idle worker? And a burst, from first send to last result?"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial
from itertools import product

from benches.bench_drain import label
from benches.harness import Bench
from benches.sides import Settings, Side
from benches.stores import RabbitStore, RedisStore, SqliteStore, wait_done

Store = RedisStore | SqliteStore | RabbitStore


def round_trips(
    bench: Bench, side: Side, store: Store, pool: str, settings: Settings | None = None
) -> dict[int, float]:
    """Percentiles, in milliseconds."""
    store.clear()
    with side.worker(store.url, pool, settings=settings):
        took = side.client(store.url, "round_trips", bench.count(1_000), settings)["milliseconds"]
    cuts = statistics.quantiles(took, n=100)
    return {50: cuts[49], 99: cuts[98]}


def burst(side: Side, store: RedisStore | SqliteStore, pool: str, count: int) -> float:
    """Tasks per second from the first send to the last result, sender and worker side by side."""
    store.clear()
    with side.worker(store.url, pool) as worker:
        side.client(store.url, "round_trips", 1)  # returns when the worker is up
        sent = side.client(store.url, "in_bulk", count)
        return count / (max(wait_done(store, sent["ids"], worker)) - float(sent["started"]))


def run(bench: Bench) -> None:
    """Measure round trips and bursts on Redis and on SQLite."""
    for where, store in (("redis", bench.redis), ("sqlite", bench.sqlite)):
        sides = (bench.fastq, bench.celery) if where == "redis" else (bench.fastq,)
        trips: dict[str, Callable[[], float]] = {}
        bursts: dict[str, Callable[[], float]] = {}
        slowest: dict[str, list[float]] = {}
        for side, pool in product(sides, ("solo", "prefork")):
            name = label(side, pool)
            count = bench.count(40_000) if side is bench.fastq else bench.celery.drained
            trips[name] = partial(median, bench, side, store, pool, slowest.setdefault(name, []))
            bursts[name] = partial(burst, side, store, pool, count)
        bench.compare(f"round trip p50, {where}", "ms", trips)
        bench.add(f"round trip p99, {where}", "ms", slowest)
        bench.compare(f"end to end, {where}", "tasks/s", bursts)


def median(
    bench: Bench,
    side: Side,
    store: Store,
    pool: str,
    slowest: list[float],
    settings: Settings | None = None,
) -> float:
    """The middle round trip in milliseconds; notes the 99th percentile in *slowest*."""
    percentiles = round_trips(bench, side, store, pool, settings)
    slowest.append(percentiles[99])
    return percentiles[50]
