"""How a bench measures: contenders in turn, round after round, so that noise hits all of them alike."""

from __future__ import annotations

import statistics
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benches.processes import rabbitmq_server, redis_server
from benches.sides import CelerySide, FastqSide, FloorSide
from benches.stores import RabbitStore, RedisStore, SqliteStore


@dataclass(kw_only=True)
class Record:
    """What one contender showed on one line of the table; one value a round."""

    name: str
    side: str
    unit: str
    values: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def median(self) -> float:
        """The middle value; NaN when it never worked."""
        return statistics.median(self.values) if self.values else float("nan")

    @property
    def spread(self) -> float:
        """Half the distance between the extremes, as a share of the median."""
        if not self.values or not self.median:
            return 0.0
        return (max(self.values) - min(self.values)) / 2 / self.median

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit.endswith("/s")


@dataclass(kw_only=True)
class Bench:
    """What every `bench_*` module gets: where to measure, whom, how long, and the records so far."""

    folder: Path
    redis: RedisStore
    sqlite: SqliteStore
    rabbitmq: RabbitStore | None  # None: there is no RabbitMQ here
    quick: bool
    records: list[Record] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.fastq = FastqSide(self.folder)
        self.celery = CelerySide(self.folder)
        self.floor = FloorSide(self.folder)

    @property
    def rounds(self) -> int:
        """How often each contender runs."""
        return 2 if self.quick else 5

    def count(self, full: int) -> int:
        """*full*, or a quarter of it on a quick run."""
        return full // 4 if self.quick else full

    def compare(
        self, name: str, unit: str, contenders: Mapping[str, Callable[[], float]], rounds: int | None = None
    ) -> None:
        """Run every contender once a round, and record what each gave under *name*.

        One that raises is recorded with its error and left out from then on.
        """
        records = {side: Record(name=name, side=side, unit=unit) for side in contenders}
        self.records += records.values()
        for _ in range(rounds or self.rounds):
            for side, measure in contenders.items():
                record = records[side]
                if record.error:
                    continue
                try:
                    record.values.append(measure())
                except Exception as exc:
                    record.error = f"{type(exc).__name__}: {exc}"
                    traceback.print_exc()
        for record in records.values():
            show(record)

    def add(self, name: str, unit: str, seen: Mapping[str, list[float]]) -> None:
        """Record values that were measured on the way to others: *seen* is by contender."""
        for side, values in seen.items():
            self.records.append(Record(name=name, side=side, unit=unit, values=values))
            show(self.records[-1])


def show(record: Record) -> None:
    """Tell who watches how far the run is."""
    shown = f"{record.median:14,.2f} {record.unit}" if record.values else record.error
    print(f"{record.name:40} {record.side:18} {shown}", file=sys.stderr, flush=True)


@contextmanager
def open_bench(
    redis_url: str | None, rabbitmq_url: str | None, quick: bool, needs_rabbitmq: bool
) -> Iterator[Bench]:
    """A `Bench` in a temporary folder, with servers of its own where no URL names one."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fastq-bench-")))
        redis = redis_url or stack.enter_context(redis_server(folder))
        rabbitmq = rabbitmq_url
        if needs_rabbitmq and rabbitmq is None:
            rabbitmq = stack.enter_context(rabbitmq_server(folder / "rabbitmq"))
        yield Bench(
            folder=folder,
            redis=RedisStore(redis),
            sqlite=SqliteStore(folder),
            rabbitmq=RabbitStore(rabbitmq) if needs_rabbitmq and rabbitmq else None,
            quick=quick,
        )
