"""What does a worker cost that has nothing to do? Processor, connections, requests, memory."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benches.bench_drain import label
from benches.harness import Bench
from benches.processes import cpu_seconds, family, memory, running
from benches.sides import Side
from benches.stores import RedisStore, SqliteStore

SETTLE_SECONDS = 3.0  # after its last task: an adaptive poll has slowed down by then
BARE = "import sys, time; sys.stdout.write('up'); sys.stdout.flush(); time.sleep(60)"


def observe(bench: Bench, side: Side, store: RedisStore | SqliteStore, pool: str) -> dict[str, float]:
    """Start a worker, let it run some tasks and rest, then watch it for some seconds."""
    store.clear()
    with side.worker(store.url, pool) as worker:
        pid = worker.pid
        side.client(store.url, "round_trips", 100)
        time.sleep(SETTLE_SECONDS)
        seconds = 5.0 if bench.quick else 10.0
        before = store.load()[0] if isinstance(store, RedisStore) else 0
        busy, start = cpu_seconds(pid), time.monotonic()
        time.sleep(seconds)
        busy, elapsed = cpu_seconds(pid) - busy, time.monotonic() - start
        seen = {"idle processor": 100 * busy / elapsed}
        if isinstance(store, RedisStore):
            requests, connections = store.load()
            # One of them was the INFO that told the count before.
            seen["idle requests"] = (requests - before - 1) / elapsed
            seen["connections"] = connections
        parent, *children = family(pid)
        bare = bare_python(bench.folder)
        seen["memory of the parent over bare python"] = memory(parent).resident - bare
        if children:
            seen["memory of a child over bare python"] = (
                max(memory(child).resident for child in children) - bare
            )
            seen["memory of a child, private"] = max(memory(child).private for child in children)
        return seen


def bare_python(folder: Path) -> float:
    """MiB that an interpreter holds which has imported nothing."""
    output = folder / "bare"
    output.unlink(missing_ok=True)
    with running([sys.executable, "-c", BARE], output) as process:
        while not output.exists() or output.read_text() != "up":
            time.sleep(0.01)
        return memory(process.pid).resident


UNITS = {"idle processor": "% of a core", "idle requests": "requests per s", "connections": "connections"}


def run(bench: Bench) -> None:
    """Watch prefork and solo workers of both, on Redis and SQLite."""
    cases: list[tuple[str, Side, RedisStore | SqliteStore, str]] = []
    for pool in ("solo", "prefork"):
        cases += [("redis", side, bench.redis, pool) for side in (bench.fastq, bench.celery)]
        cases.append(("sqlite", bench.fastq, bench.sqlite, pool))
    rounds = 1 if bench.quick else 3
    seen: dict[tuple[str, str], dict[str, list[float]]] = {}
    for _ in range(rounds):
        for where, side, store, pool in cases:
            try:
                observed = observe(bench, side, store, pool)
            except Exception as exc:
                print(f"idle, {where}, {label(side, pool)}: {exc}", file=sys.stderr)
                continue
            for what, value in observed.items():
                seen.setdefault((what, where), {}).setdefault(label(side, pool), []).append(value)
    for (what, where), values in seen.items():
        bench.add(f"{what}, {where}", UNITS.get(what, "MiB"), values)
