"""How many workflows a second does one worker run, and how many bytes do they cost? On Redis, beside Celery.

The workflows are sent first, then the worker starts. The clock runs from the end of the first task to
the end of the last one, as their results tell: starting and connecting cost nobody anything. The bytes
are all that the server reads, from the client and from the worker.

What is unfair: Celery gets fewer workflows, and a smaller chain and chord than the biggest ones, which
would take it hours. Its lines bear their sizes, and fastq runs those sizes too; no figure is scaled.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from functools import partial
from subprocess import Popen
from typing import NamedTuple

import orjson

from benches.data import task_ids
from benches.harness import Bench
from benches.shapes import SHAPES
from benches.sides import Settings, Side
from benches.stores import RedisStore, wait, wait_done

POOL = "solo"  # of the big workflows
POOLS = ("solo", "prefork")
COUNTS = {"fastq": 10_000, "celery": 400}  # workflows of each shape: a second or two


class Contender(NamedTuple):
    """Who runs a big workflow: its name in the table, its side, and the settings of client and worker."""

    name: str
    side: str
    settings: Settings


FASTQ = Contender(f"fastq {POOL}", "fastq", {})
# What SQLite does by itself; on Redis a Celery worker may be in between, unless one says that there is none.
IN_BLOCKS = Contender(f"fastq {POOL} in blocks", "fastq", {"task_chain_block": 64})
CELERY = Contender(f"celery {POOL}", "celery", {})
BIG = (
    ("chain", 500, (FASTQ, CELERY)),
    ("chain", 5_000, (FASTQ, IN_BLOCKS)),
    ("chord", 2_000, (FASTQ, CELERY)),
    ("chord", 100_000, (FASTQ,)),
)  # shape, size, who runs it
Seen = dict[str, list[float]]  # contender → one value a round


def last_document(store: RedisStore, last: str, worker: Popen[bytes]) -> dict[str, object]:
    """The result of the task *last*, once it has ended. One small request a look: bytes are counted."""
    document: bytes = wait(lambda: store.documents([last])[0], worker)
    result: dict[str, object] = orjson.loads(document)
    return result


def runs(bench: Bench, side: Side, pool: str, shape: str, sent: Seen, costs: Seen) -> float:
    """Workflows of *shape* per second that a worker of *side* runs; *sent* and *costs* get more of it."""
    store, count = bench.redis, bench.count(COUNTS[side.name])
    store.clear()
    before = store.bytes_received()
    answer = side.client(store.url, shape, count)
    sent[side.name].append(count / answer["seconds"])
    with side.worker(store.url, pool) as worker:
        last_document(store, answer["ids"][-1], worker)
        costs[f"{side.name} {pool}"].append((store.bytes_received() - before) / count)
        times = wait_done(store, answer["ids"], worker)
    return count / (max(times) - min(times))


def runs_big(bench: Bench, contender: Contender, shape: str, size: int, sent: Seen, costs: Seen) -> float:
    """Seconds that a worker of *contender* takes for one workflow of *size* tasks."""
    name, _, settings = contender
    store, side = bench.redis, bench.celery if contender.side == "celery" else bench.fastq
    store.clear()
    before = store.bytes_received()
    answer = side.client(store.url, f"one big {shape}", size, settings)
    sent[name].append(answer["seconds"])
    first, last = answer["ids"]
    with side.worker(store.url, POOL, settings=settings) as worker:
        end = last_document(store, last, worker)
        costs[name].append((store.bytes_received() - before) / size)
        began, ended = wait_done(store, [first, last], worker)
    expected = size if shape == "chord" else 1
    if end["result"] != expected:
        raise RuntimeError(f"the {shape} of {size} came to {end['result']}, not {expected}")
    if shape == "chord" and len(side.marks.read_text().split()) != 1:
        raise RuntimeError(f"the body of the chord of {size} ran more than once")
    return ended - began


def floor_seconds(bench: Bench, size: int) -> float:
    """Seconds that the floor takes for *size* tasks without a workflow, results stored."""
    ids = task_ids(size)
    bench.redis.clear()
    bench.redis.fill(ids, bench.floor.body_encoding, results=True)
    with bench.floor.worker(bench.redis.url, POOL) as worker:
        times = wait_done(bench.redis, ids, worker)
    return max(times) - min(times)


def run(bench: Bench) -> None:
    """Measure the small workflows in numbers, then the big ones."""
    sides: tuple[Side, ...] = (bench.fastq, bench.celery)
    for shape in SHAPES:
        sent: Seen = defaultdict(list)
        costs: Seen = defaultdict(list)
        contenders = {
            f"{side.name} {pool}": partial(runs, bench, side, pool, shape, sent, costs)
            for pool in POOLS
            for side in sides
        }
        bench.compare(f"{shape}, redis", "workflows/s", contenders)
        bench.add(f"send {shape}, redis", "workflows/s", sent)
        bench.add(f"bytes of {shape}, redis", "bytes", costs)
    for shape, size, contenders_of in BIG:
        sent, costs = defaultdict(list), defaultdict(list)
        big: dict[str, Callable[[], float]] = {
            each.name: partial(runs_big, bench, each, shape, size, sent, costs) for each in contenders_of
        }
        if shape == "chord":
            big = {"floor": partial(floor_seconds, bench, size), **big}
        bench.compare(f"one {shape} of {size:,}, redis", "s", big)
        bench.add(f"send one {shape} of {size:,}, redis", "s", sent)
        bench.add(f"bytes a task of one {shape} of {size:,}, redis", "bytes", costs)
