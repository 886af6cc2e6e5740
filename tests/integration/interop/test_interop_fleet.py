"""A fleet of both kinds on one broker: one queue for all, nobody's holdings touched, nothing lost."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

from interop_brokers import ONLY_REDIS
from interop_fleet import KINDS, PATIENCE, wait_until

MANY = 2000


def test_two_kinds_of_workers_share_a_queue(fleet):
    key = f"mixed:{uuid4()}"
    for kind in KINDS:
        fleet.serve(kind)
    tasks = {kind: fleet.client(kind).tasks["proj.note"] for kind in KINDS}
    results = {
        f"{kind} {number}": tasks[kind].apply_async((key, f"{kind} {number}"), queue="shared")
        for number in range(MANY // 2)
        for kind in KINDS
    }
    notes = fleet.redis(1)
    wait_until(lambda: notes.llen(key) >= MANY, "all have run")
    runners = {sent: result.get(timeout=PATIENCE) for sent, result in results.items()}
    assert Counter(notes.lrange(key, 0, -1)) == Counter(list(results))
    assert set(runners.values()) == set(KINDS)
    for kind in KINDS:
        client = fleet.client(kind)
        read = {sent: client.AsyncResult(result.id).result for sent, result in results.items()}
        assert read == runners


def test_a_retry_is_run_by_a_worker_of_the_other_kind_on_the_same_queue(way):
    """The first worker is busy when its retry is due."""
    queue, go = f"relay-{uuid4()}", f"go:{uuid4()}"
    notes = way.fleet.redis(1)
    first = way.fleet.start(way.runner, "plain", queue, "-P", "solo", "--prefetch-multiplier", "1")
    second = None
    try:
        retried = way.client.tasks["proj.flaky"].apply_async((1,), queue=queue)
        # It waits behind the first run, and in front of the second.
        busy = way.client.tasks["proj.progress"].apply_async((go,), queue=queue)
        wait_until(lambda: busy.state == "PROGRESS", "the first worker is busy")
        second = way.fleet.start(way.sender, "plain", queue, "-P", "solo")
        assert retried.get(timeout=PATIENCE) == [1, [way.runner, way.sender]]
        notes.rpush(go, "now")
        assert busy.get(timeout=PATIENCE) == "ok"
    finally:
        first.kill()
        if second is not None:
            second.kill()


@ONLY_REDIS
def test_what_celery_holds_is_left_alone(fleet):
    """Its claims lie in `unacked`; ours come and go without a trace there."""
    queue, other = fleet.serve("celery"), fleet.serve("fastq")
    redis, go = fleet.redis(), f"go:{uuid4()}"

    def held():
        return redis.hgetall("unacked"), redis.zrange("unacked_index", 0, -1, withscores=True)

    waiting = fleet.client("celery").tasks["proj.add"].apply_async((1, 2), queue=queue, countdown=3600)
    wait_until(lambda: any(waiting.id in entry for entry in redis.hvals("unacked")), "Celery holds it")
    before = held()
    running = fleet.client("celery").tasks["proj.progress"].apply_async((go,), queue=other)
    wait_until(lambda: running.state == "PROGRESS", "ours runs")
    place = fleet.client("fastq").broker.locate(running.id, [other])
    assert place.state == "claimed"
    assert held() == before
    fleet.redis(1).rpush(go, "now")
    running.get(timeout=PATIENCE)
    wait_until(lambda: fleet.client("fastq").broker.locate(running.id, [other]) is None, "it is settled")
    assert held() == before


def test_celery_runs_what_a_killed_worker_of_ours_held(fleet):
    """On Redis a third worker of ours, of other queues, gives the claims back when their lease is over."""
    fleet.serve("fastq")
    queue, key = f"doomed-{uuid4()}", f"doomed:{uuid4()}"
    client, broker, go = fleet.client("celery"), fleet.client("fastq").broker, f"go:{uuid4()}"
    first = client.tasks["proj.progress"].apply_async((go,), queue=queue)
    rest = [client.tasks["proj.note"].apply_async((key, str(number)), queue=queue) for number in range(10)]
    doomed = fleet.start("fastq", "plain", queue, "-P", "solo", "--prefetch-multiplier", "20")
    try:
        wait_until(lambda: first.state == "PROGRESS", "the doomed worker runs")
        (info,) = (info for info in broker.queues([queue]) if info.name == queue)
        assert info.ready == 0
        if fleet.transport == "redis":  # RabbitMQ does not tell
            assert info.claimed == 11
    finally:
        doomed.kill()
    fleet.redis(1).rpush(go, "now")
    heir = fleet.start("celery", "plain", queue, "-P", "solo")
    try:
        assert first.get(timeout=PATIENCE) == "ok"
        assert [result.get(timeout=PATIENCE) for result in rest] == ["celery"] * 10
    finally:
        heir.kill()
    # Once each, and in their old order.
    assert fleet.redis(1).lrange(key, 0, -1) == [str(number) for number in range(10)]
