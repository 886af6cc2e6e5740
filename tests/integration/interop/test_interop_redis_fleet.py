"""A fleet of both kinds on one Redis: one queue for all, nobody's holdings touched, nothing lost."""

from __future__ import annotations

import json
import signal
from collections import Counter
from uuid import uuid4

from interop_fleet import KINDS, LEASE, PATIENCE, wait_until

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


def test_what_celery_holds_is_left_alone(fleet):
    """Its claims lie in `unacked`; ours turn beside them and end without a trace there."""
    queue, other = fleet.serve("celery"), fleet.serve("fastq")
    redis, go = fleet.redis(), f"go:{uuid4()}"
    wait_until(lambda: not redis.hlen("unacked"), "nothing is held")
    held = fleet.client("celery").tasks["proj.rejected"].apply_async(queue=queue, countdown=3600)
    wait_until(lambda: redis.hlen("unacked") == 1, "Celery holds a message")
    before = redis.hgetall("unacked"), redis.zrange("unacked_index", 0, -1, withscores=True)
    running = fleet.client("celery").tasks["proj.progress"].apply_async((go,), queue=other)
    wait_until(lambda: running.state == "PROGRESS", "ours runs")
    assert fleet.client("fastq").broker.locate(running.id, [other]).state == "claimed"
    assert (redis.hgetall("unacked"), redis.zrange("unacked_index", 0, -1, withscores=True)) == before
    fleet.redis(1).rpush(go, "now")
    running.get(timeout=PATIENCE)
    assert (redis.hgetall("unacked"), redis.zrange("unacked_index", 0, -1, withscores=True)) == before
    (entry,) = before[0].values()
    assert json.loads(entry)[0]["headers"]["id"] == held.id


def test_celery_runs_what_a_killed_worker_of_ours_held(fleet):
    """A third worker of ours, of other queues, gives the claims back when their lease has run out."""
    fleet.serve("fastq")
    queue, key = f"doomed-{uuid4()}", f"doomed:{uuid4()}"
    client = fleet.client("celery")
    go = f"go:{uuid4()}"
    doomed = fleet.start("fastq", "plain", queue, "-P", "solo", "--prefetch-multiplier", "20")
    try:
        first = client.tasks["proj.progress"].apply_async((go,), queue=queue)
        wait_until(lambda: first.state == "PROGRESS", "the doomed worker runs")
        rest = [
            client.tasks["proj.note"].apply_async((key, str(number)), queue=queue) for number in range(10)
        ]
        broker = fleet.client("fastq").broker
        # Its heartbeat takes no new messages while it runs one: they wait in the queue.
        info = next(info for info in broker.queues([queue]) if info.name == queue)
        assert info.claimed + info.ready == 11 and info.claimed >= 1
        doomed.process.send_signal(signal.SIGKILL)
    finally:
        doomed.kill()
    heir = fleet.start("celery", "plain", queue, "-P", "solo")
    try:
        for result in rest:
            assert result.get(timeout=PATIENCE) == "celery"
        fleet.redis(1).rpush(go, "now")
        assert first.get(timeout=PATIENCE + LEASE) == "ok"
    finally:
        heir.kill()
    assert sorted(map(int, fleet.redis(1).lrange(key, 0, -1))) == list(range(10))
