"""Events of tasks as a worker writes them, against Celery's maps."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fastq._core.message import Action, Delivery, Message, Outcome
from fastq._core.task_events import EventWriter
from fastq.events.dispatcher import beginning

OWN = {"hostname": 'w"1@here', "utcoffset": -1.5, "pid": 7}
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
instants = st.integers(0, 4_000_000_000).map(float) | st.floats(0, 4e9)
headers = st.fixed_dictionaries(
    {"root_id": texts, "argsrepr": texts, "kwargsrepr": texts},
    optional={
        "parent_id": texts,
        "shadow": texts,
        "retries": st.integers(0, 9),
        "eta": texts,
        "expires": texts,
    },
)


def message_of(name: str, uuid: str, headers: dict[str, Any], queue: str) -> Message:
    return Message(name, uuid, headers, b"[]", queue=queue, exchange="", routing_key="")


messages = st.builds(message_of, texts.filter(bool), texts, headers, texts)
shown = st.none() | st.tuples(texts, st.none() | texts)
states = st.sampled_from(["SUCCESS", "FAILURE", "RETRY", "REJECTED", "REVOKED", "IGNORED", None])
outcomes = st.builds(
    lambda message, action, state, reason, runtime, shown: Outcome(
        Delivery(message, 1, "celery"), action, state=state, reason=reason, runtime=runtime, shown=shown
    ),
    messages,
    st.sampled_from([Action.ACK, Action.REQUEUE, Action.BURY]),
    states,
    st.sampled_from([None, "expired", "revoked", "terminated"]),
    st.just(0.0) | st.floats(1e-6, 1e5),
    shown,
)


def read(out: list[bytes]) -> list[dict[str, Any]]:
    """The events, their clocks counted and their beginnings checked."""
    events = [json.loads(each) for each in out]
    for number, event in enumerate(events, 11):
        assert {name: event.pop(name) for name in OWN} == OWN
        assert event.pop("clock") == number
    return events


def near(got: dict[str, Any], expected: dict[str, Any]) -> None:
    """They are equal, times up to what is written of them."""
    assert list(got) == list(expected)
    for name, value in expected.items():
        if isinstance(value, float):
            assert abs(got[name] - value) < 1e-6
        else:
            assert got[name] == value


def writer() -> EventWriter:
    made = EventWriter(beginning(OWN), lambda name: not name.startswith("silent"))
    made.clock = 10
    return made


def described(message: Message) -> dict[str, Any]:
    get = message.headers.get
    names = {"args": "argsrepr", "kwargs": "kwargsrepr", "root_id": "root_id", "parent_id": "parent_id"}
    fields = {"uuid": message.id, "name": get("shadow", message.task)}
    fields |= {field: get(header) for field, header in names.items()}
    return fields | {"retries": get("retries", 0), "eta": get("eta"), "expires": get("expires")}


@given(messages, instants)
def test_what_comes_in_is_described(message: Message, at: float) -> None:
    out: list[bytes] = []
    made = writer()
    made.received([Delivery(message, 1, "celery")], at, out)
    made.started(Delivery(message, 1, "celery"), at, out)
    made.sent(message, at, out)
    received, started, sent = read(out)
    near(received, {**described(message), "timestamp": at, "type": "task-received"})
    near(started, {"uuid": message.id, "timestamp": at, "type": "task-started"})
    way = {"queue": message.queue, "exchange": "", "routing_key": message.queue}
    near(sent, {**described(message), "name": message.task, **way, "timestamp": at, "type": "task-sent"})


@given(outcomes, st.floats(1e6, 4e9), st.booleans())
def test_what_became_of_it_is_told(outcome: Outcome, at: float, was_told: bool) -> None:
    out: list[bytes] = []
    started = {id(outcome.delivery): outcome.delivery} if was_told else {}
    writer().ended([outcome], at, started, out)
    assert started == {}
    assert outcome.delivery.message is not None
    uuid, (text, traceback) = outcome.delivery.message.id, outcome.shown or (None, None)
    raised = {"exception": text, "traceback": traceback}
    reason = outcome.reason
    told: dict[Any, tuple[str, dict[str, Any]]] = {
        "SUCCESS": ("succeeded", {"result": text, "runtime": outcome.runtime}),
        "FAILURE": ("failed", raised),
        "RETRY": ("retried", raised),
        "REJECTED": ("rejected", {"requeue": outcome.action == Action.REQUEUE}),
        "REVOKED": (
            "revoked",
            {
                "terminated": reason not in ("expired", "revoked"),
                "signum": None,
                "expired": reason == "expired",
            },
        ),
    }
    events = read(out)
    if outcome.state not in told:
        assert events == []
        return
    if outcome.runtime > 0 and not was_told:
        near(events.pop(0), {"uuid": uuid, "timestamp": at - outcome.runtime, "type": "task-started"})
    (event,) = events
    kind, fields = told[outcome.state]
    assert event.pop("type") == f"task-{kind}"
    near(event, {"uuid": uuid, **fields, "timestamp": at})


def test_a_task_that_wants_no_events_and_what_can_not_be_read_are_passed_over() -> None:
    out: list[bytes] = []
    made = writer()
    silent = Message("silent.task", "u", {}, b"[]", queue="celery")
    deliveries = [Delivery(silent, 1, "celery"), Delivery(None, 1, "celery", error="?", raw=b"?")]
    made.received(deliveries, 1.0, out)
    made.ended([Outcome(each, state="SUCCESS", runtime=1.0) for each in deliveries], 1.0, {}, out)
    made.sent(silent, 1.0, out)
    assert out == []
