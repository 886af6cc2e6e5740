"""Topic, direct and fanout exchanges: whoever publishes, workers of both kinds get their copies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import pytest
from interop_fleet import KINDS, Fleet, WorkerProcess, wait_until

TOO_MANY_COME_WITHIN = 0.3  # seconds; a copy too many would travel as fast as the others
PREFIXED = {"broker_transport_options": {"global_keyprefix": "pfx:"}}


@contextmanager
def serving(
    fleet: Fleet, *workers: tuple[str, str, list[list[str]]], **settings: Any
) -> Iterator[list[WorkerProcess]]:
    """Workers, each as (kind, the queue to consume, the queues that it declares), once they are ready."""
    started = [
        fleet.start(kind, "plain", queue, "-P", "solo", task_queues=rows, **settings)
        for kind, queue, rows in workers
    ]
    try:
        for worker in started:
            wait_until(lambda worker=worker: "ready" in worker.log.read_text(), f"{worker.log} is ready")
        yield started
    finally:
        for worker in started:
            worker.kill()


def noted(fleet: Fleet, key: str, count: int) -> list[str]:
    """What *count* runs have noted under *key*, sorted, and any that are too many."""
    notes = fleet.redis(1)
    wait_until(lambda: notes.llen(key) >= count, f"{count} runs noted {key}")
    time.sleep(TOO_MANY_COME_WITHIN)
    return sorted(notes.lrange(key, 0, -1))


# A prefix of keys is Redis's alone.
KEYS = pytest.mark.parametrize(
    ("fleet", "settings"),
    [("redis", {}), ("redis", PREFIXED), ("rabbitmq", {})],
    ids=["redis", "redis-prefixed", "rabbitmq"],
    indirect=["fleet"],
    scope="session",
)


@KEYS
def test_a_topic_exchange_reaches_the_workers_of_both_kinds(fleet, settings):
    name = f"topics-{uuid4()}"
    celery, fastq = (
        [f"c-{name}", name, "topic", "order.*"],
        [f"f-{name}", name, "topic", "order.#"],
    )
    workers = ("celery", celery[0], [celery]), ("fastq", fastq[0], [fastq])
    with serving(fleet, *workers, **settings):
        for sender, rows, options in (
            ("celery", [celery], {"queue": celery[0]}),  # it must declare the exchange to know its type
            ("fastq", [], {"exchange": name}),
        ):
            app = fleet.declaring(sender, rows, **settings)
            note = app.tasks["proj.note"]
            key = f"noted:{uuid4()}"
            note.apply_async((key, "new"), routing_key="order.new", **options)
            assert noted(fleet, key, 2) == ["new", "new"]
            # To Celery's own patterns '#' would not stand for no words: ours is stored as one that does.
            note.apply_async((key, "bare"), routing_key="order", **options)
            note.apply_async((key, "deep"), routing_key="order.new.now", **options)
            assert noted(fleet, key, 4) == ["bare", "deep", "new", "new"]


def test_a_direct_exchange_reaches_the_workers_of_both_kinds(fleet):
    name = f"jobs-{uuid4()}"
    rows = [[f"{kind}-{name}", name, "direct", "key"] for kind in KINDS]
    with serving(fleet, *((kind, row[0], [row]) for kind, row in zip(KINDS, rows, strict=True))):
        for sender in KINDS:
            app = fleet.declaring(sender, [])
            key = f"noted:{uuid4()}"
            app.tasks["proj.note"].apply_async((key, "job"), exchange=name, routing_key="key")
            assert noted(fleet, key, 2) == ["job", "job"]


def _declare_fanout(app: Any, name: str) -> None:
    """What Celery's clients leave out: without it they take the exchange for direct, and reach nobody."""
    from kombu import Exchange

    with app.producer_or_acquire() as producer:
        Exchange(name, "fanout")(producer.channel).declare()


@KEYS
def test_a_broadcast_reaches_every_worker_of_either_kind_once(fleet, settings):
    name = f"news-{uuid4()}"
    workers = [(kind, name, [[name]]) for kind in ("celery", "fastq", "fastq", "celery")]
    with serving(fleet, *workers, **settings) as started:
        for sender in KINDS:
            app = fleet.declaring(sender, [[name]], **settings)
            if sender == "celery":
                _declare_fanout(app, name)
            key = f"noted:{uuid4()}"
            for _ in range(3):
                app.tasks["proj.note"].apply_async((key, "told"), queue=name)
            assert noted(fleet, key, 12) == ["told"] * 12
        app = fleet.declaring("fastq", [], **settings)  # which learns from the store what it is
        key = f"noted:{uuid4()}"
        app.tasks["proj.note"].apply_async((key, "told"), exchange=name)
        assert noted(fleet, key, 4) == ["told"] * 4
        started[1].process.terminate()
        assert started[1].process.wait(30) == 0
        app.tasks["proj.note"].apply_async((key, "left"), exchange=name)
        assert noted(fleet, key, 7) == ["left"] * 3 + ["told"] * 4


def test_workers_of_ours_that_share_a_fanout_queue_run_what_celery_sends_once(fleet):
    name = f"all-{uuid4()}"
    rows = [[name, name, "fanout", "celery"]]
    with serving(fleet, *(("fastq", name, rows) for _ in range(2))):
        for sender in KINDS:
            app = fleet.declaring(sender, rows)
            key = f"noted:{uuid4()}"
            for number in range(5):
                app.tasks["proj.note"].apply_async((key, str(number)), queue=name)
            assert noted(fleet, key, 5) == list("01234")
