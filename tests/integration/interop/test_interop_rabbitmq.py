"""What RabbitMQ alone has: declarations that must agree, quorum queues, native delay, captured messages."""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64decode
from typing import Any
from uuid import uuid4

import pytest
from interop_brokers import ONLY_RABBITMQ
from interop_fleet import KINDS, PATIENCE, Fleet, WorkerProcess, wait_until
from reference.fixtures import PROTOCOL_DATA, fixture

from fastq.brokers.rabbitmq.connector import Connector
from fastq.brokers.rabbitmq.endpoint import parse_endpoint
from fastq.topology import worker_direct

pytestmark = ONLY_RABBITMQ

UTC = dt.timezone.utc
QUORUM = {"task_default_queue_type": "quorum", "task_create_missing_queue_type": "quorum"}
# What a Celery app needs for RabbitMQ to delay what it sends.
DELAYED = {
    **QUORUM,
    "task_default_exchange_type": "topic",
    "broker_transport_options": {"confirm_publish": True},
}
DECLARED = {
    "classic": {},
    "priorities": {"task_queue_max_priority": 10},
    "quorum": QUORUM,
    "topic": {"task_create_missing_queue_exchange_type": "topic"},
    "delayed": DELAYED,
}
BOTH_ORDERS = pytest.mark.parametrize("order", [KINDS, KINDS[::-1]], ids="-then-".join)


def started(fleet: Fleet, kind: str, queue: str, **settings: Any) -> WorkerProcess:
    """A solo worker that is ready."""
    worker = fleet.start(kind, "plain", queue, "-P", "solo", **settings)
    wait_until(lambda: "ready" in worker.log.read_text(), f"{worker.log} is ready")
    return worker


def named(settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """A default queue and exchange of a new name, with *settings*."""
    name = f"named-{uuid4()}"
    names = ("task_default_queue", "task_default_exchange", "task_default_routing_key")
    return name, {**settings, **dict.fromkeys(names, name)}


@BOTH_ORDERS
@pytest.mark.parametrize("declared", DECLARED)
def test_neither_side_refuses_what_the_other_has_declared(fleet, order, declared):
    """The default queue of an app, and one that nobody has declared."""
    default, settings = named(DECLARED[declared])
    for queue in (default, f"missing-{uuid4()}"):
        workers = []
        try:
            for kind in order:
                workers.append(started(fleet, kind, queue, **settings))
                key = f"noted:{uuid4()}"
                for sender in KINDS:
                    app = fleet.declaring(sender, [], **settings)
                    results = [
                        app.tasks["proj.note"].apply_async((key, sender), queue=queue, countdown=countdown)
                        for countdown in (None, 1.2)
                    ]
                    assert {result.get(timeout=PATIENCE) for result in results} <= set(KINDS)
                notes = fleet.redis(1)
                assert sorted(notes.lrange(key, 0, -1)) == ["celery", "celery", "fastq", "fastq"]
        finally:
            for worker in workers:
                worker.kill()
        for worker in workers:
            log = worker.log.read_text()
            assert "PRECONDITION_FAILED" not in log
            assert "Traceback" not in log


@pytest.mark.parametrize("settings", [QUORUM, DELAYED], ids=["direct", "topic"])
def test_quorum_queues(fleet, settings):
    name, settings = named(settings)
    for sender, runner in (("celery", "fastq"), ("fastq", "celery")):
        worker = started(fleet, runner, name, **settings)
        try:
            client = fleet.declaring(sender, [], **settings)
            assert client.tasks["proj.echo"].delay(1, x="ä").get(timeout=PATIENCE) == [[1], {"x": "ä"}]
            # Celery can't delay by less than a second there.
            retried = client.tasks["proj.flaky"].delay(1, 1.5)
            assert retried.get(timeout=PATIENCE) == [1, [runner] * 2]
            results = [client.tasks["proj.add"].delay(number, 1) for number in range(50)]
            assert [each.get(timeout=PATIENCE) for each in results] == list(range(1, 51))
        finally:
            worker.kill()
    listed = fleet.rabbit.control("list_queues", "--no-table-headers", "name", "type")
    assert f"{name}\tquorum" in listed.splitlines()


def test_what_celery_delays_runs_here_when_it_is_due(fleet):
    """It waits in RabbitMQ, under the routing key of its queue; no worker is there when it is sent."""
    name, settings = named(DELAYED)
    row = [name, f"topic-{name}", "topic", f"{name}.key", "quorum"]
    # The ladder must be there already: Celery's clients do not make it.
    started(fleet, "fastq", name, task_queues=[row], **settings).kill()
    client = fleet.declaring("celery", [row], **settings)
    assert_delayed(fleet, "fastq", name, client, task_queues=[row], **settings)


@pytest.mark.parametrize("declared", ["classic", "quorum"])
def test_what_we_delay_runs_on_celery_when_it_is_due(fleet, declared):
    name, settings = named(DECLARED[declared])
    assert_delayed(fleet, "celery", name, fleet.declaring("fastq", [], **settings), **settings)


def assert_delayed(fleet: Fleet, runner: str, queue: str, client: Any, **settings: Any) -> None:
    due = dt.datetime.now(UTC) + dt.timedelta(seconds=4.5)
    late = client.tasks["proj.request"].apply_async((1, 2), eta=due)
    later = client.tasks["proj.add"].apply_async((1, 2), countdown=3600)
    assert waiting(fleet, "celery_delayed_2") >= 1
    assert waiting(fleet, "celery_delayed_11") >= 1
    worker = started(fleet, runner, queue, **settings)
    try:
        request = late.get(timeout=PATIENCE)
        # Celery reckons an eta once more from the seconds that are left.
        assert abs(dt.datetime.fromisoformat(request["eta"]) - due) < dt.timedelta(seconds=0.1)
        assert dt.datetime.now(UTC) >= due
        assert later.state == "PENDING"
    finally:
        worker.kill()


def waiting(fleet: Fleet, queue: str) -> int:
    """How many messages *queue* has."""
    (info,) = (info for info in fleet.client("fastq").broker.queues([queue]) if info.name == queue)
    count: int = info.ready
    return count


def test_one_worker_alone(fleet, way):
    """Each kind's worker with `worker_direct` is reached by the other kind's clients."""
    worker = started(fleet, way.runner, f"direct-{uuid4()}", worker_direct=True)
    node = f"{worker.log.stem}@host"
    queue: Any = worker_direct(node)
    if way.sender == "celery":
        from celery.utils.nodenames import worker_direct as celerys_direct

        queue = celerys_direct(node)
    try:
        for address in ({"queue": queue}, {"exchange": "C.dq2", "routing_key": node}):
            result = way.client.tasks["proj.who"].apply_async(**address)
            assert result.get(timeout=PATIENCE) == way.runner
    finally:
        worker.kill()


# -- captured messages ----------------------------------------------------------------------


def publish(fleet: Fleet, queue: str, captured: dict[str, Any], body: bytes) -> None:
    """Publish as the capture says, to *queue*."""
    connection = Connector(parse_endpoint(fleet.url, {})).connect(10.0)
    try:
        channel = connection.open_channel(10.0)
        connection.call(channel, "confirm.select", 10.0)
        properties = {**captured.get("basic_properties", captured.get("properties", {}))}
        connection.encoder.publish(
            channel.number,
            "",
            queue,
            body,
            headers=captured["headers"],
            properties={key: value for key, value in properties.items() if not key.startswith("content_")},
            content_type=properties.get("content_type"),
            content_encoding=properties.get("content_encoding"),
        )
        connection.wait_until(lambda: bool(channel.confirms), 10.0, "the confirm")
    finally:
        connection.close(1.0)


TASKS = sorted(path.stem for path in PROTOCOL_DATA.glob("amqp-task-*.json"))
NOT_JSON = ("msgpack", "pickle")


@pytest.mark.parametrize("name", TASKS)
def test_a_captured_message_runs(fleet, name):
    variant = "wide" if name.endswith(NOT_JSON) else "plain"
    queue = fleet.serve("fastq", variant)
    content = fixture(name)
    captured = content["message"] if "message" in content else content["messages"][0]
    raw = captured["body_raw"]
    result = fleet.client("celery", variant).AsyncResult(captured["basic_properties"]["correlation_id"])
    fleet.redis().delete(result.backend.get_key_for_task(result.id))
    log = fleet.workers["fastq", variant].log
    wait_until(lambda: "ready" in log.read_text(), "its worker has declared the queue")
    publish(
        fleet, queue, captured, b64decode(raw["__bytes_b64__"]) if isinstance(raw, dict) else raw.encode()
    )
    if name == "amqp-task-v2-eta":
        wait_until(lambda: waiting(fleet, "celery_delayed_26") or None, "it is on the ladder")
        return
    wait_until(result.ready, "it ran")
    if name == "amqp-task-v2-expires":
        assert result.state == "REVOKED"
    else:
        assert result.get() in (3, 5)


CASES = fixture("amqp-minimal-envelope-matrix")["cases"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"].replace(" ", "-"))
def test_lean_messages_run_or_are_kept(fleet, case):
    """What Celery runs runs here; what stops it, or vanishes in it, lies in the dead set."""
    queue, broker = fleet.serve("fastq"), fleet.client("fastq").broker
    body = case["body"].encode()
    task_id = case["headers"].get("id") or (json.loads(body)["id"] if case["result"] == "SUCCESS" else None)
    publish(fleet, queue, case, body)
    if case["result"] == "SUCCESS":
        result = fleet.client("celery").AsyncResult(task_id)
        assert result.get(timeout=PATIENCE) == 5
        return
    (entry,) = wait_until(lambda: broker.dead(queue), "it is in the dead set")
    assert entry.reason
    if task_id is not None:
        assert entry.id == task_id
    assert broker.drop_dead([entry.id], queue) == 1
