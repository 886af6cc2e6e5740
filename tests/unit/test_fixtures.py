"""What real Celery processes wrote, read by our codec."""

import datetime as dt
import json
from decimal import Decimal
from uuid import UUID

import pytest
from reference.fixtures import fixture, stored_results, task_envelopes, task_fixtures

import fastq.exceptions
from fastq import serialization
from fastq._core.message import decode_envelope, upgrade_v1
from fastq.exceptions import ContentDisallowed, DecodeError, SecurityError

ACCEPT = serialization.content_types(["json", "msgpack", "yaml", "pickle"])
ZONE = dt.timezone.utc
EXTENDED_ARGS = [
    dt.datetime(2026, 11, 20, 1, 2, 3, 456789),
    dt.datetime(2026, 11, 20, 1, 2, 3, tzinfo=ZONE),
    dt.date(2026, 11, 20),
    dt.time(1, 2, 3),
    Decimal("1.10"),
    UUID("12345678-1234-4678-9234-567812345678"),
    b"text",
    b"\xff\x00",
    {"custom": True},
    [1, 2],
]
SERIALIZER_OF = {"result-redis-serializer-msgpack": "msgpack", "result-redis-serializer-pickle": "pickle"}


def read_body(message, accept=ACCEPT):
    body = message.body
    if "compression" in message.headers:
        body = serialization.decompress(body, message.headers["compression"])
    body = serialization.loads(body, message.content_type, message.content_encoding, accept)
    return upgrade_v1(message, body) if isinstance(body, dict) or not message.task else body


def expected_call(name):
    if name == "redis-task-v2-json-extended-types":
        return "proj.ident", EXTENDED_ARGS, {}
    if name == "redis-task-v2-kwargs":
        return "proj.add", [], {"x": 2, "y": 3}
    return "proj.add", [2, 3], {}


@pytest.mark.parametrize("name", task_fixtures())
def test_a_captured_task_message_gives_its_call(name):
    for raw in task_envelopes(name):
        envelope = json.loads(raw)
        message = decode_envelope(raw)
        args, kwargs, embed = read_body(message)
        assert (message.task, list(args), kwargs) == expected_call(name)
        assert message.id == envelope["properties"]["correlation_id"]
        assert message.routing_key == envelope["properties"]["delivery_info"]["routing_key"]
        assert message.priority == envelope["properties"]["priority"]
        assert set(embed) >= {"callbacks", "errbacks", "chord"}


@pytest.mark.parametrize("name", task_fixtures())
def test_a_captured_message_can_be_sent_on(name):
    for raw in task_envelopes(name):
        first = decode_envelope(raw)
        again = decode_envelope(first.envelope())
        assert (again.body, again.headers, again.content_type) == (
            first.body,
            first.headers,
            first.content_type,
        )


def test_v1_keeps_its_eta_and_callbacks():
    message = decode_envelope(task_envelopes("redis-task-v1-eta-link")[0])
    _, _, embed = read_body(message)
    assert message.headers["eta"].startswith("20")
    assert embed["callbacks"][0]["task"] == "proj.mul"


def test_the_signed_message_is_refused():
    raw = json.dumps(fixture("redis-task-v2-signed-auth")["envelope"]).encode()
    with pytest.raises(ContentDisallowed, match="application/data"):
        read_body(decode_envelope(raw))


@pytest.mark.parametrize(("name", "content_type"), [("pickle", "x-python-serialize"), ("yaml", "x-yaml")])
def test_what_is_not_json_is_refused_by_default(name, content_type):
    message = decode_envelope(task_envelopes(f"redis-task-v2-{name}")[0])
    with pytest.raises(ContentDisallowed, match=f"{content_type}.*application/json.*'{name}'"):
        read_body(message, serialization.content_types(["json"]))


# What Celery's worker ran, ours reads; of what it choked on, these say why.
UNREADABLE = {
    "without header id": "no id",
    "without header task": "no known protocol",
    "without headers": "no known protocol",
    "without property body_encoding": "not JSON",
    "without content-type": "content type",
    "without properties": "not JSON",
    "without body": "no body",
    "disallowed content type": "x-python-serialize",
    "body not JSON": "not JSON",
    "raw not json": "not JSON",
}


@pytest.mark.parametrize(
    "case", fixture("redis-minimal-envelope-matrix")["cases"], ids=lambda case: case["case"]
)
def test_the_leanest_envelopes(case):
    raw = case["raw"].encode()
    reason = UNREADABLE.get(case["case"])
    if reason is None:
        message = decode_envelope(raw)
        assert isinstance(read_body(message), list)
        assert message.task and message.id
    else:
        with pytest.raises((DecodeError, ContentDisallowed), match=reason):
            read_body(decode_envelope(raw), serialization.content_types(["json"]))


@pytest.mark.parametrize(("name", "task_id", "stored"), stored_results())
def test_a_stored_result_gives_its_value_or_exception(name, task_id, stored):
    document = serialization.unmark_compressed(stored)
    content_type, encoding = serialization.types_of(
        SERIALIZER_OF.get(name, "yaml" if name.endswith("yaml") else "json")
    )
    meta = serialization.loads(document, content_type, encoding, ACCEPT)
    assert meta["task_id"] == task_id
    if meta["status"] not in ("FAILURE", "REVOKED", "RETRY"):
        return
    exc = serialization.exception_from_map(meta["result"])
    described = meta["result"]
    assert type(exc).__name__ == described["exc_type"]
    assert type(exc).__module__ in ("builtins", "fastq.exceptions")
    assert list(exc.args) == described["exc_message"]
    assert serialization.exception_to_map(exc) == described


@pytest.mark.parametrize(
    "case", fixture("result-redis-lean-metas")["cases"], ids=lambda case: case["case"].replace(" ", "-")
)
def test_lean_failures_become_exceptions(case):
    meta = case["meta"]
    if meta["status"] == "SUCCESS":
        return
    if case["case"] == "failure result is plain string":
        with pytest.raises(DecodeError, match="boom"):
            serialization.exception_from_map(meta["result"])
    elif case["case"] == "failure non exception class":
        with pytest.raises(SecurityError, match=r"os\.system"):
            serialization.exception_from_map(meta["result"])
    else:
        exc = serialization.exception_from_map(meta["result"])
        assert f"{type(exc).__name__}" == meta["result"]["exc_type"]
        assert str(exc) == case["client_get"][1]


def test_our_own_exceptions_are_found_under_celerys_names():
    for module in ("celery.exceptions", "billiard.exceptions", "kombu.exceptions", "fastq.exceptions"):
        for name in ("WorkerLostError", "OperationalError", "MaxRetriesExceededError", "CeleryError"):
            exc = serialization.exception_from_map(
                {"exc_type": name, "exc_module": module, "exc_message": ["x"]}
            )
            assert type(exc) is getattr(fastq.exceptions, name)
