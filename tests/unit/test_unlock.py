"""Chords that Celery's clients have polled for."""

import json
import logging

import pytest
from reference.fixtures import fixture

from fastq import FastQ
from fastq._core.message import Delivery, decode_envelope
from fastq.backends.base import StoredResult
from fastq.serialization import exception_to_map

CAPTURED = fixture("canvas-chord-fallback-unlock")


@pytest.fixture
def app(request):
    app = FastQ("unlock", broker=f"memory://{request.node.name}", set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def unlock():
    """The message that polls, as it was captured, and the ids that its header has."""
    (message,) = (
        each
        for each in CAPTURED["messages_in_send_order"]
        if each["envelope"]["headers"]["task"] == "celery.chord_unlock"
    )
    body = message["body_decoded"]
    envelope = {**message["envelope"], "body": json.dumps(body)}
    envelope["properties"] = {**envelope["properties"], "body_encoding": None}
    ids = [each[0][0] for each in body[1]["result"]]
    return decode_envelope(json.dumps(envelope).encode()), body[0][1], ids


def store(app, task_id, result, state="SUCCESS"):
    result = exception_to_map(result) if isinstance(result, Exception) else result
    document = {"status": state, "result": result, "traceback": None, "children": [], "task_id": task_id}
    app.backend.store([StoredResult(task_id, state, json.dumps(document).encode())])


def run(app, message):
    return app.tracer().run(Delivery(message, None, "celery"))


def test_it_is_looked_for_again_while_a_part_runs(app, unlock):
    message, _, ids = unlock
    store(app, ids[0], 3)
    outcome = run(app, message)
    (again,) = outcome.follow
    assert (outcome.state, again.id, again.headers["retries"]) == ("RETRY", message.id, 1)
    assert again.headers["eta"] is not None


def test_the_body_gets_what_the_header_returned(app, unlock):
    message, callback, ids = unlock
    for number, task_id in enumerate(ids):
        store(app, task_id, number)
    outcome = run(app, message)
    (sent,) = outcome.follow
    assert (outcome.state, outcome.result) == ("SUCCESS", None)
    assert (sent.task, sent.id) == (callback["task"], callback["options"]["task_id"])
    assert json.loads(sent.body)[0] == [[*range(len(ids))]]


def test_the_body_fails_as_a_part_did(app, unlock):
    message, callback, ids = unlock
    for task_id in ids[1:]:
        store(app, task_id, 1)
    store(app, ids[0], ValueError("no"), "FAILURE")
    outcome = run(app, message)
    ((task_id, state, document),) = outcome.effects.results
    assert (task_id, state) == (callback["options"]["task_id"], "FAILURE")
    assert json.loads(document)["result"]["exc_message"] == [f"Dependency {ids[0]} raised ValueError('no')"]
    assert not outcome.follow


def test_the_body_fails_when_nobody_looks_any_more(app, unlock):
    message, callback, _ = unlock
    body = json.loads(message.body)
    body[1]["max_retries"] = 0
    message.body = json.dumps(body).encode()
    logging.disable(logging.CRITICAL)
    try:
        outcome = run(app, message)
    finally:
        logging.disable(logging.NOTSET)
    ((task_id, state, document),) = outcome.effects.results
    assert (task_id, state) == (callback["options"]["task_id"], "FAILURE")
    assert "could not be retried" in json.loads(document)["result"]["exc_message"][0]
