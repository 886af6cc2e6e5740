"""How fast are workers and clients on RabbitMQ, and what does each of its choices cost?

The floor is a client in C (`floor_amqp.c`), which neither decodes bodies nor calls anything.
Without more words messages are persistent, the queue is classic and durable, acks are late and
nothing keeps results. Drains are timed as in `bench_drain`: by marks, or by results in Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any, NamedTuple

from benches import floor_rabbitmq
from benches.bench_drain import label, rate
from benches.bench_latency import median
from benches.data import QUEUE, WARM_UP_SHARE, task_ids
from benches.harness import Bench
from benches.sides import Side
from benches.stores import AT_ONCE, RabbitStore, wait_done, wait_marks

POOLS = ("solo", "prefork", "threads", "gevent")
MULTIPLIERS = ("1", "4", "16", "64", "256", "1000")
CELERY_COUNT = 2_000
# The client in C may have its best window, and which that is depends on how busy the machine is.
FLOOR_PREFETCHES = (64, 1000)


class Case(NamedTuple):
    """What can be chosen beside the pool and the prefetch multiplier."""

    delivery_mode: str = "persistent"
    is_durable: bool = True
    queue_type: str = "classic"
    acks: str = "late"

    def __str__(self) -> str:
        durable = "durable " if self.is_durable else "transient "
        kind = "quorum" if self.queue_type == "quorum" else f"{durable}classic"
        return f"{self.delivery_mode} in {kind}, acks {self.acks}"

    @property
    def mode(self) -> int:
        """The delivery mode as AMQP writes it."""
        return 2 if self.delivery_mode == "persistent" else 1

    def settings(self, **more: Any) -> dict[str, Any]:
        """The application's; `queue_is_durable` is read by the applications themselves."""
        return {
            "result_backend": None,
            "task_acks_late": self.acks == "late",
            "task_default_delivery_mode": self.delivery_mode,
            "task_default_queue_type": self.queue_type,
            "queue_is_durable": self.is_durable,
            **more,
        }

    def prepare(self, store: RabbitStore) -> None:
        """Make an empty queue of this kind."""
        store.clear(self.is_durable, self.queue_type)


USUAL = Case()
# Celery publishes without confirms unless it is told to: then a message can be lost unseen.
CONFIRMED = {"broker_transport_options": {"confirm_publish": True}}


def cases(bench: Bench) -> Iterator[Case]:
    """Those that there are; on a quick run those that differ from the usual one in one thing."""
    for mode, (is_durable, queue_type), acks in product(
        ("persistent", "transient"),
        ((True, "classic"), (False, "classic"), (True, "quorum")),
        ("late", "early"),
    ):
        case = Case(mode, is_durable, queue_type, acks)
        differences = sum(ours != usual for ours, usual in zip(case, USUAL, strict=True))
        # A quorum queue keeps every message on disk, whatever its delivery mode.
        if (mode, queue_type) != ("transient", "quorum") and (not bench.quick or differences <= 1):
            yield case


def drains(
    bench: Bench, store: RabbitStore, side: Side, pool: str, case: Case = USUAL, prefetch: str = ""
) -> float:
    """Tasks per second that a worker takes out of a queue; no results are kept."""
    ids = task_ids(bench.count(side.drained))
    case.prepare(store)
    store.fill(ids, results=False, delivery_mode=case.mode)
    with side.worker(store.url, pool, prefetch, settings=case.settings()) as worker:
        first, last = wait_marks(side.marks, worker)
        return (len(ids) - len(ids) // WARM_UP_SHARE - 1) / (last - first)


def drains_with_results(bench: Bench, store: RabbitStore, side: Side, pool: str) -> float:
    """The same, with results in Redis."""
    ids = task_ids(bench.count(side.drained))
    USUAL.prepare(store)
    bench.redis.clear()
    store.fill(ids, results=True)
    with side.worker(store.url, pool, settings=USUAL.settings(result_backend=bench.redis.url)) as worker:
        return rate(wait_done(bench.redis, ids, worker))


def floor_drains(bench: Bench, store: RabbitStore, case: Case, prefetch: int) -> float:
    """Messages per second that the client in C takes."""
    count = bench.count(bench.fastq.drained)
    case.prepare(store)
    store.fill(task_ids(count), results=False, delivery_mode=case.mode)
    return floor_rabbitmq.consume(bench.folder, store.url, QUEUE, count, prefetch)


def best_floor_drains(bench: Bench, store: RabbitStore) -> float:
    """The same, with whichever window is faster now."""
    return max(floor_drains(bench, store, USUAL, prefetch) for prefetch in FLOOR_PREFETCHES)


def sends(
    store: RabbitStore, side: Side, action: str, count: int, case: Case = USUAL, **settings: Any
) -> float:
    """Tasks per second that a client of *side* sends."""
    case.prepare(store)
    return count / float(side.client(store.url, action, count, case.settings(**settings))["seconds"])


def floor_sends(bench: Bench, store: RabbitStore, count: int, confirmed: int, case: Case = USUAL) -> float:
    """Messages per second that the client in C sends."""
    case.prepare(store)
    return floor_rabbitmq.publish(bench.folder, store.url, QUEUE, count, case.mode, confirmed)


def burst(bench: Bench, store: RabbitStore, side: Side, pool: str, case: Case = USUAL) -> float:
    """Tasks per second from the first send to the end of the last one, client and worker side by side."""
    case.prepare(store)
    count = bench.count(side.drained)
    with side.worker(store.url, pool, settings=case.settings()) as worker:
        sent = side.client(store.url, "burst", count, case.settings())
        _, ended = wait_marks(side.marks, worker)
        return count / (ended - float(sent["started"]))


def run(bench: Bench) -> None:
    """Measure the usual case in rounds, then the matrix of all choices, each once."""
    if bench.rabbitmq is None:
        print("benches: no RabbitMQ is installed here: its lines are left out")
        return
    clients(bench, bench.rabbitmq)
    workers(bench, bench.rabbitmq)
    matrix(bench, bench.rabbitmq)


def clients(bench: Bench, store: RabbitStore) -> None:
    """Publishing, one by one and in bulk."""
    singly, bulk = bench.count(8_000), bench.count(100_000)
    for name, action, count, confirmed in (
        ("enqueue one by one, rabbitmq", "one_by_one", singly, 1),
        ("publish in bulk, rabbitmq", "in_bulk", bulk, AT_ONCE),
    ):
        bench.compare(
            name,
            "tasks/s",
            {
                "floor": partial(floor_sends, bench, store, count, confirmed),
                "fastq": partial(sends, store, bench.fastq, action, count),
                "celery confirmed": partial(sends, store, bench.celery, action, CELERY_COUNT, **CONFIRMED),
                "celery": partial(sends, store, bench.celery, action, CELERY_COUNT),
            },
        )


def workers(bench: Bench, store: RabbitStore) -> None:
    """Draining, end to end and round trips, in every pool."""
    pools = POOLS[:2] if bench.quick else POOLS
    everyone = {label(side, pool): (side, pool) for side in (bench.fastq, bench.celery) for pool in pools}
    contenders: dict[str, Callable[[], float]] = {"floor": partial(best_floor_drains, bench, store)}
    for name, (side, pool) in everyone.items():
        contenders[name] = partial(drains, bench, store, side, pool)
    bench.compare("drain, rabbitmq", "tasks/s", contenders)
    for line, measure in (
        ("drain with results in redis, rabbitmq", drains_with_results),
        ("end to end, rabbitmq", burst),
    ):
        bench.compare(
            line,
            "tasks/s",
            {name: partial(measure, bench, store, side, pool) for name, (side, pool) in everyone.items()},
        )
    slowest: dict[str, list[float]] = {name: [] for name in everyone}
    settings = USUAL.settings(result_backend=bench.redis.url)
    bench.compare(
        "round trip p50, rabbitmq",
        "ms",
        {
            name: partial(median, bench, side, store, pool, slowest[name], settings)
            for name, (side, pool) in everyone.items()
        },
    )
    bench.add("round trip p99, rabbitmq", "ms", slowest)


def matrix(bench: Bench, store: RabbitStore) -> None:
    """Every choice beside every other one; on a quick run the solo pool and few windows."""
    pools = POOLS[:1] if bench.quick else POOLS
    bulk = bench.count(100_000)
    for case in cases(bench):
        contenders: dict[str, Callable[[], float]] = {}
        for window in ("64",) if bench.quick else MULTIPLIERS:
            contenders[f"floor {window}"] = partial(floor_drains, bench, store, case, int(window))
        for side, windows in (
            (bench.fastq, ("1", "64", "auto") if bench.quick else (*MULTIPLIERS, "auto")),
            (bench.celery, ("64",) if bench.quick else MULTIPLIERS),
        ):
            for pool, window in product(pools, windows):
                name = f"{label(side, pool)} {window}"
                contenders[name] = partial(drains, bench, store, side, pool, case, window)
        bench.compare(f"drain by prefetch, {case}, rabbitmq", "tasks/s", contenders, rounds=1)
        if case == USUAL:
            continue  # `clients` and `workers` have measured the rest
        if case.acks == "late":  # of acks a publisher knows nothing
            publishers = {
                "floor": partial(floor_sends, bench, store, bulk, AT_ONCE, case),
                "fastq": partial(sends, store, bench.fastq, "in_bulk", bulk, case),
                "celery": partial(sends, store, bench.celery, "in_bulk", CELERY_COUNT, case),
            }
            bench.compare(f"publish in bulk, {case}, rabbitmq", "tasks/s", publishers, rounds=1)
        if not bench.quick:
            ends = {
                label(side, pool): partial(burst, bench, store, side, pool, case)
                for side, pool in product((bench.fastq, bench.celery), pools)
            }
            bench.compare(f"end to end, {case}, rabbitmq", "tasks/s", ends, rounds=1)
