"""Calls between Celery and fastq: what is sent by the one runs on the other, as it was meant."""

from __future__ import annotations

import datetime as dt
import os
from decimal import Decimal
from uuid import UUID, uuid4

import pytest
from interop_fleet import EVERY_SERIALIZER, KINDS, PATIENCE, wait_until

UTC = dt.timezone.utc
TAGGED = [
    dt.datetime(2026, 11, 20, 1, 2, 3, 456789),
    dt.datetime(2026, 11, 20, 1, 2, 3, tzinfo=UTC),
    dt.date(2026, 11, 20),
    dt.time(1, 2, 3),
    Decimal("1.10"),
    UUID("12345678-1234-4678-9234-567812345678"),
    b"text",
    b"\xff\x00",
]
PLAIN = ["ä€😀", -1, 2**70, 1.5, None, True, [1, [2]], {"a": {"b": [None]}}, ""]


def soon(seconds: float) -> dt.datetime:
    return dt.datetime.now(UTC) + dt.timedelta(seconds=seconds)


def test_arguments_and_keyword_arguments(way):
    assert way.get("echo", *PLAIN, kwargs={"x": 2, "ü": [3]}) == [PLAIN, {"x": 2, "ü": [3]}]


def test_a_task_sent_by_name_alone(way):
    result = way.client.send_task("proj.add", (2, 3), queue=way.queue)
    assert result.get(timeout=PATIENCE) == 5


def test_json_with_tagged_types(way):
    assert way.get("ident", *TAGGED) == TAGGED


@pytest.mark.parametrize("serializer", EVERY_SERIALIZER)
def test_every_serializer(way, serializer):
    value = {"text": "ä€", "numbers": [1, -2, 1.5], "nothing": None}
    if serializer != "json":
        value["raw"] = b"\xff\x00"
    wide = way.on("wide")
    assert wide.get("echo", value, kwargs={"k": 1}, serializer=serializer) == [[value], {"k": 1}]


def need_compression(method: str) -> None:
    """Skip the test if Celery's side has no library for *method*; where CI is set, fail it."""
    from kombu import compression

    if method not in compression._aliases:
        if os.environ.get("CI"):
            pytest.fail(f"kombu has no library for {method}, and CI must run this test")
        pytest.skip(f"kombu has no library for {method}")


@pytest.mark.parametrize("method", ["gzip", "bzip2", "lzma", "zstd", "brotli"])
def test_every_compression(way, method):
    need_compression(method)
    assert way.get("echo", "long " * 100, [1, 2], compression=method) == [["long " * 100, [1, 2]], {}]


@pytest.mark.parametrize("method", ["zlib", "bzip", "xz", "zstandard"])
def test_other_names_of_compressions(way, method):
    need_compression(method)
    assert way.send("add", "a", "b", compression=method).get(timeout=PATIENCE) == "ab"


def test_compression_of_a_binary_serializer(way):
    wide = way.on("wide")
    assert wide.get("ident", "a", b"\xff", serializer="msgpack", compression="brotli") == ["a", b"\xff"]


def test_eta_and_countdown_are_waited_for(way):
    result = way.send("request", countdown=0.6)
    other = way.send("request", eta=soon(0.6))
    for sent in (result, other):
        eta = dt.datetime.fromisoformat(sent.get(timeout=PATIENCE)["eta"])
        assert eta <= dt.datetime.fromisoformat(date_done(sent))


def date_done(result) -> str:
    done = result.date_done
    return done if isinstance(done, str) else done.isoformat()


def test_a_naive_eta_is_in_the_apps_zone(way):
    naive = soon(0.4).replace(tzinfo=None)
    sent = way.send("request", eta=naive)
    seen = dt.datetime.fromisoformat(sent.get(timeout=PATIENCE)["eta"])
    assert (seen if seen.tzinfo else seen.replace(tzinfo=UTC)) == naive.replace(tzinfo=UTC)


def test_expires(way):
    assert way.get("add", 1, 2, expires=60) == 3
    assert way.get("add", 1, 2, expires=soon(60)) == 3
    for expires in (soon(-1), -5):
        result = way.send("add", 1, 2, expires=expires)
        for kind in ("celery", "fastq"):
            read = way.read(result.id, kind)
            wait_until(read.ready, "an expired task is ready")
            assert read.state == "REVOKED"
            with pytest.raises(Exception, match="expired") as raised:
                read.get(timeout=PATIENCE)
            assert type(raised.value).__name__ == "TaskRevokedError"


def test_a_task_that_expires_long_after_our_time(fleet):
    """RabbitMQ takes no message that says so in its properties, as Celery's would."""
    for kind in KINDS:
        queue = fleet.serve(kind)
        result = (
            fleet.client("fastq")
            .tasks["proj.add"]
            .apply_async((1, 2), queue=queue, expires=dt.datetime(2130, 1, 1, tzinfo=UTC))
        )
        assert result.get(timeout=PATIENCE) == 3


def test_a_task_that_expires_while_it_waits_for_its_eta(way):
    result = way.send("add", 1, 2, countdown=1.0, expires=0.3)
    wait_until(result.ready, "an expired task is ready")
    assert result.state == "REVOKED"


# Options of a call, each as a fixture of tests/data/protocol has it.
CALLS = {
    "basic": {},
    "kwargs": {"kwargs": {"x": 2, "y": 3}},
    "countdown": {"countdown": -5},
    "eta": {"eta": dt.datetime(2020, 1, 2, 3, 4, 5, 678901, UTC)},
    "expires-seconds": {"expires": 3600},
    "expires-datetime": {"expires": dt.datetime(2130, 1, 1, tzinfo=UTC)},
    "priority-5": {"priority": 5},
    "priority-9": {"priority": 9},
    "gzip": {"compression": "gzip"},
    "bzip2": {"compression": "bzip2"},
    "lzma": {"compression": "lzma"},
    "shadow": {"shadow": "pretty.name"},
    "custom-headers": {"headers": {"tenant": "acme", "trace": {"a": 1}}},
    "timelimits": {"time_limit": 30, "soft_time_limit": 20},
    "only-a-soft-limit": {"soft_time_limit": 20.5},
    "ids": {"root_id": "root", "parent_id": "parent", "group_id": "group", "group_index": 3},
    "reprs": {"argsrepr": "(secret)", "kwargsrepr": "{secret}"},
    "retries": {"retries": 2},
    "task-id": {"task_id": "a name of one's own, ü"},
}


@pytest.mark.parametrize("call", CALLS)
def test_a_task_sees_the_same_request_whoever_sent_and_whoever_ran_it(fleet, call):
    options = dict(CALLS[call])
    if call == "expires-datetime" and fleet.transport == "amqp":
        options["expires"] = soon(3600)  # RabbitMQ refuses what Celery sends for a time so far away
    args = () if call == "kwargs" else (2, 3)
    seen = {}
    for sender in ("celery", "fastq"):
        for runner in ("celery", "fastq"):
            queue = fleet.serve(runner)
            if "task_id" in options:
                options["task_id"] = f"a name of one's own, ü {sender} {runner}"
            task = fleet.client(sender).tasks["proj.request"]
            result = task.apply_async(args, queue=queue, **options)
            request = result.get(timeout=PATIENCE)
            assert request.pop("id") == result.id
            # Our messages leave it out: it would repeat the id.
            assert request.pop("correlation_id") in (result.id, None)
            assert request.pop("address") == ["", queue]
            if "root_id" not in options:
                assert request.pop("root_id") == result.id
            for moment in ("eta", "expires"):
                if request[moment] is not None:
                    request[moment] = round(dt.datetime.fromisoformat(request[moment]).timestamp() / 60)
            seen[sender, runner] = request
    expected = seen["celery", "celery"]
    for pair, request in seen.items():
        assert request == expected, pair


def test_ignored_results_are_not_stored(way):
    key, notes = f"quiet:{uuid4()}", way.fleet.redis(1)
    quiet = way.send("quiet", key)
    told = way.send("note", key, "told", ignore_result=True)
    wait_until(lambda: set(notes.lrange(key, 0, -1)) == {way.runner, "told"}, "both ran")
    wait_until(lambda: way.fleet.is_idle(way.queue), "both are settled")
    for task_id in (quiet.id, told.id):
        assert not way.fleet.redis().exists(f"celery-task-meta-{task_id}")


def test_the_family_of_tasks_that_send_tasks(way):
    result = way.send("parent", 1)
    child = result.get(timeout=PATIENCE)
    for kind in ("celery", "fastq"):
        children = way.read(result.id, kind).children
        assert [read.id for read in children] == [child]
        assert children[0].get(timeout=PATIENCE) == 2


def test_root_and_parent_ids_are_handed_down(way):
    result = way.send("lineage", 2)
    key = f"lineage:{result.id}"
    parents = wait_until(
        lambda: (found := way.fleet.redis(1).lrange(key, 0, -1)) and len(found) == 3 and found,
        "three generations ran",
    )
    child = way.read(result.id, way.sender).children[0]
    assert parents == ["", result.id, child.id]


@pytest.mark.parametrize("variant", ["plain", "wide"])
def test_the_most_urgent_runs_first(way, variant):
    """On Redis 0 is the most urgent, on RabbitMQ 9, and that only in queues made for it."""
    if way.fleet.transport == "amqp" and variant == "plain":
        pytest.skip("a queue without x-max-priority knows no priorities")
    key, queue = f"order:{uuid4()}", f"late-{uuid4()}"
    priorities = [9, 6, 3, 0] if variant == "plain" else [9, 8, 7, 5, 4, 1]
    client = way.fleet.client(way.sender, variant)
    results = [
        client.tasks["proj.note"].apply_async((key, f"{priority}.{turn}"), queue=queue, priority=priority)
        for turn in range(2)
        for priority in priorities
    ]
    worker = way.fleet.start(way.runner, variant, queue, "-P", "solo", "--prefetch-multiplier", "1")
    try:
        assert {result.get(timeout=PATIENCE) for result in results} == {way.runner}
    finally:
        worker.kill()
    order = way.fleet.redis(1).lrange(key, 0, -1)
    if way.fleet.transport == "amqp":
        assert order == [f"{priority}.{turn}" for priority in priorities for turn in range(2)]
    else:
        assert order == [f"{priority}.{turn}" for priority in sorted(priorities) for turn in range(2)]


def test_protocol_1_in(fleet):
    queue, old = fleet.serve("fastq"), fleet.client("celery", "protocol-1")
    echo = old.tasks["proj.echo"]
    result = echo.apply_async((1, "ä"), {"x": [2]}, queue=queue, countdown=0.2)
    assert result.get(timeout=PATIENCE) == [[1, "ä"], {"x": [2]}]
    packed = echo.apply_async((1,), queue=queue, compression="gzip")
    assert packed.get(timeout=PATIENCE) == [[1], {}]
    late = echo.apply_async((1,), queue=queue, expires=-5)
    wait_until(late.ready, "an expired task is ready")
    assert late.state == "REVOKED"
    retried = old.tasks["proj.flaky"].apply_async((2,), queue=queue)
    assert retried.get(timeout=PATIENCE) == [2, ["fastq"] * 3]


@pytest.mark.parametrize("serializer", ["yaml", "pickle", "msgpack"])
def test_content_that_is_not_accepted_lies_in_the_dead_set(fleet, serializer):
    queue = fleet.serve("fastq")
    result = fleet.client("celery").tasks["proj.add"].apply_async((1, 2), queue=queue, serializer=serializer)
    dead = fleet.buried(queue, result.id)
    assert serializer in dead.reason
    assert dead.task == "proj.add"


def test_what_a_client_has_to_follow_runs(fleet):
    queue, client = fleet.serve("fastq"), fleet.client("celery")
    add = client.tasks["proj.add"]
    linked = add.apply_async((1, 2), queue=queue, link=add.s(3).set(queue=queue))
    unharmed = add.apply_async((1, 2), queue=queue, link_error=add.s(3).set(queue=queue))
    chain = (add.s(1, 2).set(queue=queue) | add.s(3).set(queue=queue)).apply_async()
    assert linked.get(timeout=PATIENCE) == unharmed.get(timeout=PATIENCE) == 3
    (called,) = linked.children
    assert called.get(timeout=PATIENCE) == chain.get(timeout=PATIENCE) == 6
    assert not unharmed.children
