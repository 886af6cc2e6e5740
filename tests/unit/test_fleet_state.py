"""Events, and the state that they make, beside Celery's own."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from reference.fixtures import PROTOCOL_DATA, fixture

from fastq.events import Event, get_exchange, group_from
from fastq.events.snapshot import Polaroid
from fastq.events.state import State, Worker, heartbeat_expires


def captured() -> list[dict[str, Any]]:
    """Every event that Celery's processes sent, in order of time."""
    bodies = [fixture(path.stem)["body_decoded"] for path in sorted(PROTOCOL_DATA.glob("event-redis-*.json"))]
    bodies += [message["body_decoded"] for message in fixture("amqp-events")["messages"]]
    events = [event for body in bodies for event in (body if isinstance(body, list) else [body])]
    return sorted(
        ({**event, "local_received": event["timestamp"] + 0.01} for event in events),
        key=lambda event: event["timestamp"],
    )


def test_celerys_events_make_the_state_that_celery_makes() -> None:
    celery = pytest.importorskip("celery.events.state")
    ours, theirs = State(), celery.State()
    for event in captured():
        ours.event(dict(event))
        if not event["type"].startswith("worker-elect"):  # their field id breaks Celery's record
            theirs.event(dict(event))
    assert sorted(ours.tasks) == sorted(theirs.tasks) and len(ours.tasks) >= 8
    for uuid, task in ours.tasks.items():
        other = theirs.tasks[uuid]
        got, expected = task.as_dict(), other.as_dict()
        assert (got.pop("worker") or Worker()).hostname == (expected.pop("worker") or Worker()).hostname
        assert got == expected
        assert task.info() == other.info()
    for name, worker in ours.workers.items():
        shared = [field for field in Worker._fields if field != "heartbeats"]
        other = theirs.workers[name]
        assert [getattr(worker, field) for field in shared] == [getattr(other, field) for field in shared]
    assert (ours.event_count, ours.task_count) == (len(captured()), theirs.task_count)
    assert ours.task_types() == theirs.task_types()


def test_an_event_is_a_map_with_a_time() -> None:
    before = time.time()
    event = Event("task-sent", {"uuid": "u"}, name="n")
    assert (event["type"], event["uuid"], event["name"]) == ("task-sent", "u", "n")
    assert before <= event["timestamp"] <= time.time()
    assert Event("a-b", timestamp=3.0) == {"type": "a-b", "timestamp": 3.0}
    assert [group_from(each) for each in ("task-sent", "custom-my-event")] == ["task", "custom"]
    assert (get_exchange().name, get_exchange(name="x").type) == ("celeryev", "topic")


def at(timestamp: float, type_: str, **fields: Any) -> dict[str, Any]:
    event = {"type": type_, "timestamp": timestamp, "local_received": timestamp, "hostname": "w1@here"}
    return event | fields


def test_a_worker_lives_for_two_of_its_periods() -> None:
    state, now = State(), time.time()
    state.event(at(now - 3, "worker-heartbeat", freq=2.0))
    worker = state.workers["w1@here"]
    assert worker.alive and worker.heartbeat_expires == heartbeat_expires(now - 3, 2.0) == now + 1
    state.event(at(now - 2.9, "worker-heartbeat", freq=1.0))
    assert list(state.alive_workers()) == [] and worker.status_string == "OFFLINE"


def test_nothing_sent_before_it_left_revives_a_worker() -> None:
    state, now = State(), time.time()
    state.event(at(now, "worker-online", freq=2.0, active=1))
    state.event(at(now + 0.2, "worker-offline", active=0))
    state.event(at(now + 0.1, "worker-heartbeat", freq=2.0, active=7))
    state.event(at(now + 0.1, "task-started", uuid="u"))
    worker = state.workers["w1@here"]
    assert not worker.alive and worker.active == 0
    state.event(at(now + 0.3, "worker-online", freq=2.0))
    assert worker.alive


def test_a_task_that_is_tried_again_is_not_what_it_was_before() -> None:
    state = State()
    states = []
    for moment, subject in enumerate(("received", "started", "retried", "received", "started", "failed")):
        state.event(at(moment + 1, f"task-{subject}", uuid="u", retries=moment // 3))
        states.append(state.tasks["u"].state)
    assert states == ["RECEIVED", "STARTED", "RETRY", "RECEIVED", "STARTED", "FAILURE"]
    assert state.tasks["u"].retries == 1 and state.tasks["u"].ready
    state.event(at(7, "task-rejected", uuid="u", requeue=False))
    assert state.tasks["u"].state == "FAILURE"


def test_an_event_can_not_overwrite_what_a_record_does() -> None:
    state = State()
    state.event(at(1, "task-started", uuid="u", state="HACKED", info=1, event=2, _newest=3, cluster_state=4))
    state.event(at(1, "worker-online", heartbeats=5, alive=True, update=6))
    task, worker = state.tasks["u"], state.workers["w1@here"]
    assert (task.state, task.info(), task.cluster_state) == ("STARTED", {}, state)
    assert worker.heartbeats == [1, 1] and not worker.alive


def test_families_are_found_whichever_comes_first() -> None:
    state = State()
    state.event(at(2, "task-received", uuid="child", parent_id="mother", root_id="mother", name="n"))
    child = state.tasks["child"]
    assert (child.parent, child.root) == (None, None)
    state.event(at(1, "task-received", uuid="mother", parent_id=None, root_id="mother", name="n"))
    mother = state.tasks["mother"]
    assert (child.parent, child.root, mother.children) == (mother, mother, {child})
    assert mother.as_dict()["children"] == ["child"] and child.as_dict()["parent"] == "mother"


def test_tasks_are_given_in_order_of_time() -> None:
    state = State()
    for number, name in enumerate(("a", "b", "a", "b")):
        state.event(at(10 - number, "task-received", uuid=str(number), name=name))
    assert [uuid for uuid, _ in state.tasks_by_time()] == ["0", "1", "2", "3"]
    assert [uuid for uuid, _ in state.tasks_by_timestamp(limit=2, reverse=False)] == ["3", "2"]
    assert [uuid for uuid, _ in state.tasks_by_type("b", limit=1)] == ["1"]
    assert {task.uuid for task in state.tasks_by_type["a"]} == {"0", "2"}
    assert [uuid for uuid, _ in state.tasks_by_worker("w1@here")] == ["0", "1", "2", "3"]
    assert list(state.tasks_by_worker("unknown")) == [] and "unknown" not in state.tasks_by_worker
    assert len(list(state.itertasks(limit=3))) == 3


def test_callbacks_and_handlers_are_called() -> None:
    calls: list[Any] = []
    state = State(
        callback=lambda state, event: calls.append(event["type"]),
        on_node_join=lambda worker: calls.append(("join", worker.hostname)),
        on_node_leave=lambda worker: calls.append(("leave", worker.hostname)),
    )
    state.handlers["mine"] = lambda subject, event: calls.append((subject, event["x"]))
    for event in (at(1, "worker-online"), at(2, "mine-thing", x=1), at(3, "worker-offline")):
        state.event(event)
    told = ["worker-online", ("join", "w1@here"), "mine-thing", ("thing", 1)]
    assert calls == [*told, "worker-offline", ("leave", "w1@here")]
    assert list(state.workers) == []


def test_clearing_keeps_what_still_runs() -> None:
    state = State()
    state.event(at(1, "task-started", uuid="runs", name="n"))
    state.event(at(1, "task-succeeded", uuid="ended", name="n"))
    state.freeze_while(lambda: None, clear_after=True)
    assert (list(state.tasks), list(state.workers), state.event_count) == (["runs"], [], 0)
    state.clear(ready=False)
    assert len(state.tasks) == 0 and dict(state.tasks_by_type) == {}


def test_a_clock_that_disagrees_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    state = State()
    with caplog.at_level(logging.WARNING):
        for moment in (1.0, 2.0):
            state.event(at(moment, "worker-heartbeat", local_received=moment + 60))
    assert [record.message for record in caplog.records] == [
        "An event of w1@here is 60 s away from the time here: the clocks may disagree"
    ]


def test_a_camera_takes_no_more_pictures_than_its_rate_allows() -> None:
    taken: list[int] = []

    class Camera(Polaroid):
        def on_shutter(self, state: State) -> None:
            taken.append(state.event_count)

    camera = Camera(State(), maxrate="1/h")
    for _ in range(3):
        camera.capture()
    assert taken == [0]
