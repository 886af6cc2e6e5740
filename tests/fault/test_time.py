"""Tasks that take long, results that are ready meanwhile, and tasks that are not due for days."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable

import pytest
from memory import resident_mb
from stage import CONCURRENCY, PATIENCE, POOLS, Stage, WorkerProcess

TWO_DAYS = 2 * 86400.0
# A result must be visible within 50 ms (D13); a busy machine gets some more.
VISIBLE_WITHIN = 0.15


@pytest.mark.parametrize(
    ("seconds", "lease"),
    [(12.0, 2.0), pytest.param(120.0, 5.0, marks=[pytest.mark.long, pytest.mark.timeout(300)])],
)
def test_a_task_that_outlasts_its_lease_is_delivered_once(
    make_stage: Callable[..., Stage], broker_url: str, seconds: float, lease: float
) -> None:
    """On every pool at once, each with a queue of its own and a second worker that would take what is given up."""
    stages = [make_stage(broker_url, pool, lease=lease) for pool in POOLS]
    for stage in stages:
        for _ in range(2):
            stage.start_worker("", "-Q", stage.pool)
    for stage in stages:
        stage.wait_for(lambda events: sum(each.kind == "ready" for each in events) == 2, "two workers")
        stage.publish([("work", (seconds,)), ("async_work", (seconds,))], queue=stage.pool)
    time.sleep(seconds)
    for stage in stages:
        # The two may have gone to one worker with a single slot: then they run one after the other.
        deadline = time.monotonic() + seconds + PATIENCE
        while len(stage.ids("end")) < 2:
            assert time.monotonic() < deadline, stage.logs()
            time.sleep(0.05)
        verdict = stage.verdict()
        assert verdict.is_good and verdict.runs == 2, f"{stage.pool}: {verdict}\n{stage.logs()}"
        assert stage.missing_results() == set()


def test_a_result_is_visible_while_the_next_task_of_its_child_sleeps(stage: Stage, pool: str) -> None:
    """Each slot gets a short task and a long one behind it, in one batch."""
    stage.start_worker().wait_until_ready()
    backend = stage.app.backend
    assert backend is not None
    delays = []
    slots = CONCURRENCY[pool]
    for _ in range(8):
        calls = [("work", (0.01,))] * slots + [("work", (0.4,))] * slots
        seen: dict[str, float] = {}
        listens = threading.Event()

        def listen(ids: list[str], seen: dict[str, float] = seen, listens: threading.Event = listens) -> None:
            listens.set()
            for task_id, _ in backend.wait(ids, PATIENCE):
                seen.setdefault(task_id, time.monotonic())
                if len(seen) == len(ids):
                    return

        ids = stage.publish(calls)
        listener = threading.Thread(target=listen, args=(ids,))
        listener.start()
        listener.join(PATIENCE)
        stage.wait_for(lambda _, ids=ids: set(ids) <= stage.ids("end"), "the ends")
        ended = {each.id: each.at for each in stage.events() if each.kind == "end"}
        delays += [seen[each] - ended[each] for each in ids[:slots]]
    median = statistics.median(delays)
    print(f"JUDGED {pool} {stage.url.partition(':')[0]}: visible after {median * 1e3:.1f} ms, at most {max(delays) * 1e3:.1f}")
    assert median <= VISIBLE_WITHIN, delays


@pytest.mark.parametrize("pool", ["solo"])
def test_tasks_of_the_day_after_tomorrow_wait_in_the_broker(stage: Stage, pool: str) -> None:
    def rss(worker: WorkerProcess) -> float:
        stage.publish([("work", (0,))] * 200)
        stage.wait_for(lambda _: stage.ids("sent") - late == stage.ids("end"), "the warm-up")
        return resident_mb(worker.pid)

    late: set[str] = set()
    worker = stage.start_worker().wait_until_ready()
    before = rss(worker)
    late.update(stage.publish([("work", (0,))] * 10_000, countdown=TWO_DAYS))
    wait_until_parked(stage, 10_000)
    grown = rss(worker) - before
    print(f"JUDGED {stage.url.partition(':')[0]}: 10,000 late tasks took {grown:.2f} MB")
    assert grown < 5.0
    assert worker.stop() == 0
    worker = stage.start_worker().wait_until_ready()
    rss(worker)
    wait_until_parked(stage, 10_000)
    place = stage.app.broker.locate(min(late), ["celery"])
    assert place is not None and place.state == "delayed"
    assert place.until is not None and abs(place.until - time.time() - TWO_DAYS) < 2 * PATIENCE
    worker.kill()
    wait_until_parked(stage, 10_000)


def wait_until_parked(stage: Stage, count: int) -> None:
    """Return when *count* tasks lie in the schedule and nothing else is held."""
    deadline = time.monotonic() + PATIENCE
    while True:
        held = [(info.ready, info.claimed, info.delayed) for info in stage.queues()]
        if held == [(0, 0, count)]:
            return
        assert time.monotonic() < deadline, f"{held}\n{stage.logs()}"
        time.sleep(0.05)
