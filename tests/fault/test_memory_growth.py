"""A worker that has run a million tasks holds no more memory than one that has run a few."""

from __future__ import annotations

import time

import pytest
from memory import children_of, resident_mb, slope
from stage import PATIENCE, Stage, forms

# A run is sent in parts, the first of which warm the processes up. What counts is the most that a process
# holds during a part: it rises and falls by a megabyte with the batch in hand.
PARTS, WARM_UP = 12, 4
# MB for each 100,000 tasks; one byte kept for each task would be 0.1, the smallest object 5. The slope of a
# short run is uncertain by 1, that of a million tasks by 0.1.
MOST_GROWTH = {120_000: 4.0, 1_000_000: 1.5}


@pytest.mark.parametrize("count", forms(*MOST_GROWTH))
@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_memory_is_flat(stage: Stage, pool: str, count: int) -> None:
    worker = stage.start_worker().wait_until_ready()
    processes = [worker.pid, *children_of(worker.pid)]
    held: dict[int, list[tuple[float, float]]] = {pid: [] for pid in processes}
    for part in range(PARTS):
        stage.app.send_many(("fault_tasks.noop", (), {}, {}) for _ in range(count // PARTS))
        most = {pid: resident_mb(pid) for pid in processes}
        deadline = time.monotonic() + PATIENCE + count / PARTS / 500
        while any(info.ready or info.claimed for info in stage.queues()):
            assert time.monotonic() < deadline, stage.logs()
            most = {pid: max(mb, resident_mb(pid)) for pid, mb in most.items()}
            time.sleep(0.05)
        for pid, mb in most.items():
            held[pid].append((part * count / PARTS / 100_000, mb))
    growths = [slope(points[WARM_UP:]) for points in held.values()]
    now = [points[-1][1] for points in held.values()]
    told = ", ".join(f"{mb:.0f} {growth * 10:+.2f}" for mb, growth in zip(now, growths, strict=True))
    print(f"JUDGED {pool} {stage.url[:6]} {count}: MB now and per million, parent first: {told}")
    assert max(growths) < MOST_GROWTH[count], held
    assert [worker.pid, *children_of(worker.pid)] == processes
    assert worker.stop() == 0
