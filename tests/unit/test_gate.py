"""The gate: which deliveries run now, and what becomes of the others."""

import json
import logging
from datetime import datetime, timezone

import pytest

from fastq import FastQ, signals
from fastq._core.consume import Gate, parse_instant
from fastq._core.message import Action, Delivery, Message, decode_delivery
from fastq._core.trace import Tracer
from fastq.worker.rates import RateLimit

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=timezone.utc).timestamp()


@pytest.fixture
def app():
    app = FastQ("gate", broker="memory://gate", set_as_current=False)

    @app.task(name="add")
    def add(a, b):
        return a + b

    app.finalize()
    yield app
    app.close()


@pytest.fixture
def gate(app):
    return Gate(app, Tracer(app, "w@host"))


def delivery(task="add", body=b"[[1,2],{},{}]", **headers):
    return Delivery(
        Message(task, "id-1", {"task": task, "id": "id-1", **headers}, body, queue="celery"), 1, "celery"
    )


def judge(gate, given, now=NOW):
    settled = []
    return gate.admit([given], now, settled), settled


def test_a_plain_message_runs(gate):
    given = delivery()
    assert judge(gate, given) == ([given], [])


def test_a_message_that_is_not_due_is_parked_until_then(gate):
    eta = datetime.fromtimestamp(NOW + 60, timezone.utc)
    ready, [outcome] = judge(gate, delivery(eta=eta.isoformat()))
    assert not ready
    assert (outcome.action, outcome.until) == (Action.PARK, NOW + 60)


def test_a_message_that_was_due_runs(gate):
    eta = datetime.fromtimestamp(NOW - 1, timezone.utc)
    assert judge(gate, delivery(eta=eta.isoformat()))[0]


def test_an_expired_message_is_revoked(gate):
    expires = datetime.fromtimestamp(NOW - 1, timezone.utc).isoformat()
    _, [outcome] = judge(gate, delivery(expires=expires))
    document = json.loads(outcome.result)
    assert (outcome.action, outcome.state) == (Action.ACK, "REVOKED")
    assert document["status"] == "REVOKED"
    assert document["result"]["exc_type"] == "TaskRevokedError"


def test_a_revoked_message_does_not_run(gate):
    gate.revoked["id-1"] = float("inf")
    _, [outcome] = judge(gate, delivery())
    assert outcome.state == "REVOKED"


def test_an_unknown_task_goes_to_the_dead_set_and_the_log_says_so_once(gate, caplog):
    with caplog.at_level(logging.ERROR):
        outcomes = [judge(gate, delivery("gone"))[1][0] for _ in range(3)]
    assert {outcome.action for outcome in outcomes} == {Action.BURY}
    assert "gone" in outcomes[0].reason
    assert json.loads(outcomes[0].result)["result"]["exc_type"] == "NotRegistered"
    assert len([record for record in caplog.records if "gone" in record.getMessage()]) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"eta": "tomorrow"},
        {"eta": 12},
        {"expires": ["2026"]},
        {"retries": "many"},
        {"retries": -1},
        {"timelimit": 3},
        {"timelimit": [1, 2, 3]},
        {"timelimit": ["a", None]},
        {"timelimit": [10**400, None]},
        {"timelimit": [None, float("inf")]},
    ],
)
def test_a_header_of_a_wrong_type_sends_the_message_to_the_dead_set(gate, headers):
    ready, [outcome] = judge(gate, delivery(**headers))
    assert not ready
    assert outcome.action == Action.BURY
    assert outcome.reason


def test_a_message_that_could_not_be_decoded_goes_to_the_dead_set(gate):
    _, [outcome] = judge(gate, decode_delivery(b"not json", 1, "celery"))
    assert outcome.action == Action.BURY
    assert "not JSON" in outcome.reason


def test_a_signal_tells_of_what_was_refused(gate):
    seen = []

    def note(message, exc, **named):
        seen.append((message, type(exc).__name__))

    refused = delivery(retries="many")
    signals.task_rejected.connect(note)
    try:
        judge(gate, refused)
        judge(gate, decode_delivery(b"not json", 1, "celery"))
    finally:
        signals.task_rejected.disconnect(note)
    assert seen == [(refused.message, "DecodeError"), (b"not json", "DecodeError")]


def test_a_message_of_protocol_1_is_upgraded(gate):
    body = {"task": "add", "id": "v1-id", "args": [2, 3], "kwargs": {}, "retries": 1}
    raw = json.dumps(
        {"body": json.dumps(body), "content-type": "application/json", "properties": {}}
    ).encode()
    [given], settled = judge(gate, decode_delivery(raw, 1, "celery"))
    assert not settled
    assert (given.message.task, given.message.id, given.message.headers["retries"]) == ("add", "v1-id", 1)
    assert gate.tracer.run(given).state == "SUCCESS"


def test_a_rate_limit_parks_what_comes_too_fast(app):
    gate = Gate(app, Tracer(app, "w@host"), {"add": RateLimit(1)})
    assert judge(gate, delivery())[0]
    second = delivery()
    second.message.id = "id-2"
    _, [outcome] = judge(gate, second)
    assert (outcome.action, outcome.until) == (Action.PARK, NOW + 1)
    assert judge(gate, second, NOW + 1)[0]


def test_signals_tell_of_what_was_received_and_revoked(gate):
    seen = []

    def note(signal):
        def receiver(sender, **named):
            seen.append((signal, named["request"].id))

        return receiver

    received, revoked = note("received"), note("revoked")
    signals.task_received.connect(received)
    signals.task_revoked.connect(revoked)
    try:
        judge(gate, delivery())
        gate.revoked["id-1"] = float("inf")
        judge(gate, delivery())
    finally:
        signals.task_received.disconnect(received)
        signals.task_revoked.disconnect(revoked)
    assert seen == [("received", "id-1"), ("revoked", "id-1")]


@pytest.mark.parametrize("zone", ["", "Z", "+00:00"])
def test_naive_times_are_utc(zone):
    assert parse_instant(f"2026-05-01T12:00:00{zone}") == NOW
    assert parse_instant("2026-05-01T14:00:00+02:00") == NOW
