"""What does `worker_prefetch_multiplier` change?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

from benches.bench_drain import drains, label
from benches.harness import Bench

MULTIPLIERS = ("1", "4", "16", "64", "256")


def run(bench: Bench) -> None:
    """Drain Redis with each multiplier; the floor's batches are as large as the window."""
    contenders: dict[str, Callable[[], float]] = {}
    for multiplier in MULTIPLIERS:
        contenders[f"floor {multiplier}"] = partial(drains, bench, bench.floor, "solo", multiplier)
    for side, pool in product((bench.fastq, bench.celery), ("solo", "prefork")):
        for multiplier in MULTIPLIERS if side is bench.celery else (*MULTIPLIERS, "auto"):
            contenders[f"{label(side, pool)} {multiplier}"] = partial(drains, bench, side, pool, multiplier)
    bench.compare("drain by prefetch, redis", "tasks/s", contenders, rounds=1 if bench.quick else 3)
