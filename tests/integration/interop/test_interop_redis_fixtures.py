"""Every captured message runs on a worker of ours, and what that worker stores is of the captured form."""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64decode
from typing import Any
from uuid import uuid4

import pytest
from interop_brokers import ONLY_REDIS
from interop_fleet import PATIENCE, wait_until
from reference.fixtures import fixture, task_fixtures

from fastq import serialization

pytestmark = ONLY_REDIS

UTC = dt.timezone.utc
EXTENDED = [
    dt.datetime(2026, 11, 20, 1, 2, 3, 456789),
    dt.datetime(2026, 11, 20, 1, 2, 3, tzinfo=UTC),
    dt.date(2026, 11, 20),
    dt.time(1, 2, 3),
]
NOT_JSON = ("msgpack", "yaml", "pickle")
SIGNED = "redis-task-v2-signed-auth"


def push(fleet, queue: str, raw: bytes | str, variant: str = "plain", step: str = "") -> None:
    """Add *raw* to the list of *queue*, as a client would."""
    prefix = "pfx:" if variant == "wide" else ""
    fleet.redis().lpush(f"{prefix}{queue}{step}", raw)


def is_past(moment: str) -> bool:
    return dt.datetime.fromisoformat(moment) <= dt.datetime.now(UTC)


@pytest.mark.parametrize("name", task_fixtures())
def test_a_captured_message_runs(fleet, name):
    variant = "wide" if name.endswith(NOT_JSON) else "plain"
    queue, client = fleet.serve("fastq", variant), fleet.client("celery", variant)
    captured = fixture(name)["messages_in_send_order"][0]
    headers = captured["envelope"]["headers"] or captured["body_decoded"]
    result = client.AsyncResult(headers["id"])
    fleet.redis().delete(client.backend.get_key_for_task(result.id))
    step = captured["list_key"].removeprefix("celery").removeprefix("other")
    push(fleet, queue, captured["raw"], variant, step)

    if headers["eta"] and not is_past(headers["eta"]):
        broker = fleet.client("fastq").broker
        place = wait_until(lambda: delayed(broker.locate(result.id, [queue])), "it is in the schedule")
        assert place.until == dt.datetime.fromisoformat(headers["eta"]).timestamp()
        broker.purge(queue)
    elif headers["expires"] and is_past(headers["expires"]):
        wait_until(result.ready, "it has expired")
        assert result.state == "REVOKED"
    elif headers.get("ignore_result"):
        after = client.tasks["proj.add"].apply_async((1, 1), queue=queue)
        assert after.get(timeout=PATIENCE) == 2
        wait_until(lambda: fleet.is_idle(queue), "all is settled")
        assert result.state == "PENDING"
        assert not fleet.client("fastq").broker.dead(queue)
    elif name.endswith("extended-types"):
        assert wait_until(result.ready, "it ran") and result.result[: len(EXTENDED)] == EXTENDED
    else:
        wait_until(result.ready, "it ran")
        assert (result.state, result.result) == ("SUCCESS", 5)
        if name == "redis-task-v2-link":
            assert len(result.children) == 1  # its callback


def delayed(place: Any) -> Any:
    return place if place is not None and place.state == "delayed" else None


def test_the_signed_message_is_kept(fleet):
    queue = fleet.serve("fastq")
    envelope = fixture(SIGNED)["envelope"]
    push(fleet, queue, json.dumps(envelope))
    assert "application/data" in fleet.buried(queue, envelope["headers"]["id"]).reason


MATRIX = [case for case in fixture("redis-minimal-envelope-matrix")["cases"] if case["result"] != "no result"]


@pytest.mark.parametrize("case", MATRIX, ids=lambda case: case["case"].replace(" ", "-"))
def test_what_celery_runs_of_lean_envelopes_runs_here(fleet, case):
    queue = fleet.serve("fastq")
    envelope = json.loads(case["raw"])
    headers = envelope.get("headers") or json.loads(envelope["body"])
    result = fleet.client("celery").AsyncResult(headers["id"])
    fleet.redis().delete(f"celery-task-meta-{result.id}")
    push(fleet, queue, case["raw"])
    wait_until(result.ready, "it has ended")
    assert result.state == case["result"]
    if result.state == "SUCCESS":
        assert result.result == 5
    elif case["case"] in ("unregistered task", "args null"):
        fleet.buried(queue, result.id)


LOST = [
    case
    for case in fixture("redis-minimal-envelope-matrix")["cases"]
    if case["result"] == "no result" and "property delivery" not in case["case"]
]


@pytest.mark.parametrize("case", LOST, ids=lambda case: case["case"].replace(" ", "-"))
def test_what_stops_or_vanishes_in_celery_is_kept_here(fleet, case):
    """The worker lives on, and every message is in the dead set with a reason."""
    queue = fleet.serve("fastq")
    broker = fleet.client("fastq").broker
    push(fleet, queue, case["raw"])
    raw = case["raw"].encode()
    (entry,) = wait_until(
        lambda: [entry for entry in broker.dead(queue) if entry.raw == raw], "it is in the dead set"
    )
    assert entry.reason
    broker.drop_dead([entry.id], queue)
    assert (
        fleet.client("celery").tasks["proj.add"].apply_async((1, 2), queue=queue).get(timeout=PATIENCE) == 3
    )


# What each captured result document came from.
RESULTS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], str]] = {
    "success": ("add", (2, 3), {}, "extended"),
    "failure": ("fail", ("builtin",), {}, "plain"),
    "custom-state": ("progress", (), {}, "plain"),
    "children": ("parent", (5,), {}, "plain"),
    "expired": ("add", (1, 2), {"expires": -5}, "plain"),
    "extended": ("add", (2,), {"kwargs": {"y": 3}}, "extended"),
    "group-index-parent": ("add", (2, 2), {"group_id": "group"}, "plain"),
    "not-registered": ("nobody", (), {}, "plain"),
    "reject": ("rejected", (), {}, "plain"),
    "retry": ("flaky", (1,), {}, "plain"),
    "max-retries-exceeded": ("stubborn", (True,), {}, "plain"),
    "soft-time-limit": ("nap", (20,), {"soft_time_limit": 0.3, "time_limit": 15}, "plain"),
    "time-limit": ("nap", (20,), {"time_limit": 1}, "plain"),
    "compressed": ("add", (2, 3), {}, "msgpack"),
    "serializer-msgpack": ("add", (2, 3), {}, "msgpack"),
    "serializer-yaml": ("add", (2, 3), {}, "yaml"),
    "serializer-pickle": ("add", (2, 3), {}, "wide"),
    "failure-expires": ("fail", ("builtin",), {}, "wide"),
    "global-keyprefix": ("add", (2, 3), {}, "wide"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_stored_result_is_of_the_captured_form(fleet, name):
    task, args, options, variant = RESULTS[name]
    queue, client = fleet.serve("fastq", variant), fleet.client("celery", variant)
    if name == "custom-state":
        args = (f"go:{uuid4()}",)
        fleet.redis(1).rpush(args[0], "now")
    result = client.send_task(f"proj.{task}", args, queue=queue, **options)
    wait_until(result.ready, "it has ended")
    stored = read(fleet, client, result.id, variant)
    if name in ("not-registered", "reject"):
        fleet.buried(queue, result.id)

    captured = captured_documents(name)[0]
    if captured is None:  # its fixture describes it in words
        assert stored["status"] == "FAILURE"
        return
    extra = {"name", "args", "kwargs", "worker", "retries", "queue"} if variant == "wide" else set()
    if variant == "extended" and name == "success":
        extra = {"name", "args", "kwargs", "worker", "retries", "queue"}
    assert [key for key in stored if key not in extra] == [key for key in captured if key not in extra]
    assert stored["status"] == captured["status"]
    assert bool(stored["traceback"]) == bool(captured["traceback"])
    assert len(stored["children"]) == len(captured["children"])
    assert (stored["date_done"] is None) == (captured["date_done"] is None)
    if name == "extended":
        same = ("name", "args", "kwargs", "retries")
        assert [stored[key] for key in same] == [captured[key] for key in same]
    if stored["status"] in ("FAILURE", "REVOKED") and isinstance(captured["result"], dict):
        assert stored["result"].keys() == captured["result"].keys()
        # Ours names the limit that was exceeded, and what else is in the message.
        if name not in ("max-retries-exceeded", "not-registered", "soft-time-limit"):
            assert stored["result"] == captured["result"]


def read(fleet, client, task_id: str, variant: str) -> dict[str, Any]:
    """The stored document, as bytes tell it."""
    raw = fleet.redis(decodes=False).get(client.backend.get_key_for_task(task_id).decode())
    if variant == "msgpack":
        assert raw.startswith(b"\0celery-compressed\0application/x-gzip\0")
    return decoded(raw, {"wide": "pickle", "msgpack": "msgpack", "yaml": "yaml"}.get(variant, "json"))


def decoded(raw: bytes, serializer: str) -> dict[str, Any]:
    content_type, encoding = serialization.types_of(serializer)
    plain = serialization.unmark_compressed(raw)
    found: dict[str, Any] = serialization.loads(plain, content_type, encoding, [content_type])
    return found


def captured_documents(name: str) -> list[dict[str, Any] | None]:
    """What the fixture's task left, the parent of a family first."""
    documents: list[dict[str, Any] | None] = []
    serializer = name.rpartition("-")[2] if name.startswith("serializer") else "json"
    for entry in fixture(f"result-redis-{name}")["stored_keys"].values():
        value = entry["value"]
        if isinstance(value, dict):
            documents.append(decoded(b64decode(value["__bytes_b64__"]), serializer))
        elif value.startswith("("):
            documents.append(None)
        else:
            documents.append(decoded(value.encode(), serializer))
    return documents


def test_states_on_the_way_are_of_the_captured_form(fleet):
    """STARTED, RETRY and custom states, as they are announced."""
    queue = fleet.serve("fastq", "extended")
    go = f"go:{uuid4()}"
    fleet.redis(1).rpush(go, "now")
    announced = {}
    with fleet.redis().pubsub() as listener:
        listener.psubscribe("celery-task-meta-*")
        for task, args in (("progress", (go,)), ("flaky", (1,))):
            result = fleet.client("fastq", "extended").tasks[f"proj.{task}"].apply_async(args, queue=queue)
            while True:
                message = listener.get_message(timeout=PATIENCE)
                assert message is not None
                if message["type"] != "pmessage" or not message["channel"].endswith(result.id):
                    continue
                document = json.loads(message["data"])
                announced[document["status"]] = document
                if document["status"] == "SUCCESS":
                    break
    captured = {}
    for name in ("custom-state", "retry"):
        for message in fixture(f"result-redis-{name}")["published_in_order"]:
            document = json.loads(message["data"])
            captured.setdefault(document["status"], document)
    assert list(announced) == ["STARTED", "PROGRESS", "SUCCESS", "RETRY"]
    for status in ("STARTED", "PROGRESS", "RETRY"):
        there = announced[status]
        assert set(captured[status]) <= set(there)
        assert there["date_done"] is captured[status]["date_done"]
    assert announced["STARTED"]["result"].keys() == captured["STARTED"]["result"].keys()
    assert announced["RETRY"]["result"] == captured["RETRY"]["result"]
    assert announced["PROGRESS"]["result"] == captured["PROGRESS"]["result"]


def test_stamps_are_in_extended_results(fleet):
    queue, client = fleet.serve("fastq", "extended"), fleet.client("celery", "extended")
    signature = client.tasks["proj.add"].s(1, 2).set(queue=queue)
    signature.stamp(foo="bar")
    result = signature.apply_async()
    assert result.get(timeout=PATIENCE) == 3
    stored = read(fleet, client, result.id, "extended")
    (captured,) = captured_documents("extended-stamped")
    assert captured is not None
    assert list(stored) == list(captured)
    assert (stored["stamped_headers"], stored["foo"]) == (["foo"], "bar")
