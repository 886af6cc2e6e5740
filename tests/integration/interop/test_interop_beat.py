"""A beat of either kind, whose tasks the workers of the other kind run."""

from __future__ import annotations

from uuid import uuid4

from interop_fleet import wait_until


def test_what_one_kind_of_beat_sends_the_other_kind_of_worker_runs(way):
    key = f"beat-{uuid4()}"
    options = {"queue": way.queue, "expires": 60, "headers": {"mine": "1"}}
    entry = {
        "task": "proj.note",
        "schedule": 0.2,
        "args": [key],
        "kwargs": {"value": "x"},
        "options": options,
    }
    beat = way.fleet.start_beat(way.sender, {"often": entry})
    notes = way.fleet.redis(1)
    try:
        wait_until(lambda: notes.llen(key) >= 3, f"three runs\n{beat.log.read_text()}")
    finally:
        beat.kill()
    assert set(notes.lrange(key, 0, -1)) == {"x"}
