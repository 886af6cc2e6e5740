"""A run as JSON and as a table, with the budget of DESIGN.md §5 beside the lines that it speaks of."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benches.harness import Bench, Record

PACKAGES = ("fastq-queue", "celery", "kombu", "amqp", "redis", "hiredis", "orjson", "gevent")


@dataclass(frozen=True)
class Target:
    """One promise of DESIGN.md §5: *contender* on the line *name*, seen as *measure*, against *bound*."""

    name: str
    contender: str
    bound: float
    beside: str | None = None  # a ratio to this contender ("celery": to the best of Celery's pools)
    at_least: bool = True  # else at most

    def text(self) -> str:
        """The promise in words."""
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {self.bound:g}" + (f" of {self.beside}" if self.beside else "")


TARGETS = (
    Target("drain, redis", "fastq solo", 0.67, "floor"),
    Target("drain, redis", "fastq solo", 50, "celery"),
    Target("drain, redis", "fastq prefork", 0.4, "floor"),
    Target("drain, redis", "fastq prefork", 30, "celery prefork"),
    Target("enqueue one by one, redis", "fastq", 0.8, "floor"),
    Target("enqueue one by one, redis", "fastq", 8, "celery"),
    Target("enqueue in bulk, redis", "fastq", 100_000),
    Target("enqueue in bulk, redis", "fastq", 0.5, "floor"),
    Target("enqueue in bulk, sqlite", "fastq", 20_000),
    Target("drain, sqlite", "fastq solo", 20_000),
    Target("drain, rabbitmq", "fastq solo", 0.7, "floor"),
    Target("drain, rabbitmq", "fastq solo", 10, "celery"),
    Target("publish in bulk, rabbitmq", "fastq", 0.7, "floor"),
    Target("publish in bulk, rabbitmq", "fastq", 10, "celery"),
    Target("round trip p50, redis", "fastq solo", 0.5, at_least=False),
    Target("round trip p50, redis", "fastq prefork", 0.5, at_least=False),
    Target("round trip p50, sqlite", "fastq solo", 12, at_least=False),
    Target("round trip p50, sqlite", "fastq prefork", 12, at_least=False),
    Target("chain of 3, redis", "fastq solo", 20, "celery"),
    Target("group of 10, redis", "fastq solo", 20, "celery"),
    Target("chord of 10, redis", "fastq solo", 20, "celery"),
    Target("chord of 10, redis", "fastq prefork", 20, "celery"),
    Target("one chord of 100,000, redis", "fastq solo", 2, "floor", at_least=False),
    Target("import and first delay, redis", "fastq", 60, at_least=False),
    Target("import and first delay, sqlite", "fastq", 60, at_least=False),
    *(
        Target(f"{what}, {where}", f"fastq {pool}", bound, at_least=False)
        for where in ("redis", "sqlite")
        for pool in ("solo", "prefork")
        for what, bound in (
            ("idle processor", 0.3),
            ("connections", 3),
            ("idle requests", 1),
            ("memory of the parent over bare python", 30),
            ("memory of a child over bare python", 20),
        )
    ),
)


def find(records: list[Record], name: str, side: str) -> Record | None:
    """The record of *side* on the line *name*, if it was measured."""
    return next(
        (found for found in records if (found.name, found.side) == (name, side) and found.values), None
    )


def ratio(records: list[Record], record: Record, beside: str) -> float | None:
    """The median, over rounds, of *record* as a multiple of *beside* in the same round."""
    other = find(records, record.name, beside)
    if beside == "celery" and other is None:
        pools = [found for found in records if found.name == record.name and found.side.startswith("celery ")]
        other = max((found for found in pools if found.values), key=lambda found: found.median, default=None)
    if other is None:
        return None
    return statistics.median(ours / theirs for ours, theirs in zip(record.values, other.values, strict=False))


def verdicts(records: list[Record]) -> list[tuple[Target, float]]:
    """Each target that this run can judge, with the figure it goes by."""
    judged = []
    for target in TARGETS:
        record = find(records, target.name, target.contender)
        if record is None:
            continue
        seen = record.median if target.beside is None else ratio(records, record, target.beside)
        if seen is not None:
            judged.append((target, seen))
    return judged


def is_met(target: Target, seen: float) -> bool:
    """Whether *seen* keeps the promise."""
    return seen >= target.bound if target.at_least else seen <= target.bound


def print_table(records: list[Record], console: Console) -> None:
    """Show every record with its ratio to the floor and to Celery, and what was promised."""
    table = Table("line", "contender", "median", "spread", "of floor", "of Celery", "budget")
    judged = verdicts(records)
    previous = ""
    for record in records:
        if record.name != previous:
            table.add_section()
        marks = [
            f"[{'green' if is_met(target, seen) else 'red'}]{target.text()}: "
            f"{'met' if is_met(target, seen) else 'not met'}[/]"
            for target, seen in judged
            if (target.name, target.contender) == (record.name, record.side)
        ]
        table.add_row(
            record.name if record.name != previous else "",
            record.side,
            f"{figure(record.median)} {record.unit}" if record.values else record.error[:40],
            f"±{record.spread:.0%} of {len(record.values)}" if record.values else "",
            *(multiple(records, record, beside) for beside in ("floor", "celery")),
            "\n".join(marks),
        )
        previous = record.name
    console.print(table)


def multiple(records: list[Record], record: Record, beside: str) -> str:
    """The ratio as text, empty where there is nothing to compare with."""
    if not record.values or record.side.startswith(beside):
        return ""
    found = ratio(records, record, beside)
    return "" if found is None else f"{found:.2f} x"


def figure(value: float) -> str:
    """*value* with about three digits that matter."""
    if math.isnan(value) or value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def surroundings(bench: Bench) -> dict[str, Any]:
    """What the figures depend on: the machine and the versions."""
    versions = {"python": platform.python_version(), "redis-server": bench.redis.version}
    if bench.rabbitmq is not None:
        versions["rabbitmq-server"] = bench.rabbitmq.version
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "quick": bench.quick,
        "machine": {"system": platform.platform(), "processors": os.cpu_count(), "processor": processor()},
        "versions": versions,
    }


def processor() -> str:
    """The processor's name, as far as the system tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def write_json(path: Path, records: list[Record], around: dict[str, Any]) -> None:
    """Write the run for `benches.compare` and `benches.charts`."""
    lines = [
        {**asdict(record), "median": round_or_none(record.median), "spread": round(record.spread, 4)}
        for record in records
    ]
    budget = [
        {
            "name": target.name,
            "side": target.contender,
            "promise": target.text(),
            "seen": round(seen, 4),
            "met": is_met(target, seen),
        }
        for target, seen in verdicts(records)
    ]
    path.write_text(json.dumps({**around, "budget": budget, "records": lines}, indent=1) + "\n")


def round_or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else round(value, 4)


def read_json(path: Path) -> tuple[list[Record], dict[str, Any]]:
    """The records that `write_json` wrote, and what was around them."""
    run = json.loads(path.read_text())
    fields = ("name", "side", "unit", "values", "error")
    return [Record(**{field: line[field] for field in fields}) for line in run.pop("records")], run
