"""The state of a fleet does not depend on the order in which its events arrive."""

from __future__ import annotations

import pickle
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastq.events.state import State

WORKERS = ("w1@a", "w2@b")
FIELDS: dict[str, dict[str, Any]] = {
    "received": {"name": "proj.add", "args": "(1, 2)", "kwargs": "{}", "eta": None},
    "started": {},
    "succeeded": {"runtime": 0.5},
    "failed": {"exception": "ValueError()", "traceback": "…"},
    "retried": {"exception": "Retry()", "traceback": "…"},
    "rejected": {"requeue": True},
    "revoked": {"terminated": False, "expired": True, "signum": None},
    "mine": {"progress": 3},
}

times = st.integers(1, 40).map(lambda tick: 1_000_000.0 + tick / 4)
runs = st.lists(st.tuples(st.sampled_from(sorted(FIELDS)), times, st.sampled_from(WORKERS)), max_size=9)


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Events of two tasks, no two with one clock, in the order in which they were sent."""
    events = []
    for uuid, parent in (("a", None), ("b", "a")):
        if draw(st.booleans()):
            events.append({"type": "task-sent", "uuid": uuid, "timestamp": draw(times), "hostname": "gen1@a"})
            events[-1] |= {
                "name": "proj.add",
                "args": "(…)",
                "kwargs": "{}",
                "queue": "celery",
                "parent_id": parent,
            }
        for type_, at, host in draw(runs):
            own = {"result": repr(len(events))} if type_ == "succeeded" else {}
            own |= {"retries": len(events), "parent_id": parent} if type_ == "received" else {}
            fields = FIELDS[type_] | own | {"timestamp": at, "hostname": host, "pid": len(host)}
            events.append({"type": f"task-{type_}", "uuid": uuid, **fields})
    for clock, event in enumerate(events, 1):
        event |= {"clock": clock, "local_received": event["timestamp"] + 1}
    return events


def pictured(state: State) -> Any:
    """All that can be asked of *state*."""
    tasks = {}
    for uuid, task in state.itertasks():
        own = {name: value for name, value in vars(task).items() if name != "cluster_state"}
        tasks[uuid] = {**own, **task.as_dict()}
    return (
        tasks,
        {name: {task.uuid for task in found} for name, found in state.tasks_by_type.items()},
        {name: {task.uuid for task in found} for name, found in state.tasks_by_worker.items()},
        [uuid for uuid, _ in state.tasks_by_time()],
        {name: sorted(worker.heartbeats) for name, worker in state.workers.items()},
        (state.task_count, state.event_count, state.task_types()),
    )


def after(events: list[dict[str, Any]], **options: Any) -> State:
    state = State(**options)
    for event in events:
        state.event(dict(event))
    return state


@given(histories(), st.data())
def test_any_order_of_the_events_gives_the_same_state(
    events: list[dict[str, Any]], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(events))
    assert pictured(after(shuffled)) == pictured(after(events))


@given(histories(), st.integers(0, 20))
def test_a_pickled_state_goes_on(events: list[dict[str, Any]], cut: int) -> None:
    state = pickle.loads(pickle.dumps(after(events[:cut])))
    for event in events[cut:]:
        state.event(dict(event))
    assert pictured(state) == pictured(after(events))


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=60))
def test_memory_is_bounded(sends: list[tuple[int, int]]) -> None:
    events = [
        {
            "type": "task-received",
            "uuid": str(uuid),
            "hostname": f"w{host}",
            "name": f"n{uuid}",
            "timestamp": 1.0,
        }
        for uuid, host in sends
    ]
    state = after(events, max_tasks_in_memory=5, max_workers_in_memory=3)
    assert len(state.tasks) <= 5 and len(state.workers) <= 3
    listed = {task for tasks in state.tasks_by_type.values() for task in tasks}
    assert listed == set(state.tasks.values())
    assert {task for tasks in state.tasks_by_worker.values() for task in tasks} == listed
    assert [uuid for uuid, _ in state.itertasks()] == list(dict.fromkeys(str(u) for u, _ in reversed(sends)))[
        :5
    ][::-1]
