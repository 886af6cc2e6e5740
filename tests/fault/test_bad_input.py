"""Messages that nobody should send: none stops the worker, and none vanishes."""

from __future__ import annotations

import json
import random
import sqlite3
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Any

import pytest
from mutations import mutate
from reference.fixtures import all_envelopes
from stage import PATIENCE, Stage, forms

from fastq._core.amqp_table import encode_table
from fastq._core.message import new_id
from fastq.brokers.rabbitmq.connector import Connector
from fastq.brokers.rabbitmq.endpoint import parse_endpoint as parse_rabbitmq
from fastq.brokers.redis.connection import connect
from fastq.brokers.redis.endpoint import parse_endpoint
from fastq.exceptions import EncodeError

# Seconds within which RabbitMQ tells how long its quorum queues are, those of the schedule among them:
# it counts every five.
QUORUM_SECONDS = 12.0

BODY = b'[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
FIFTY_MEGABYTES = 50_000_000


def envelope(
    body: bytes = BODY,
    *,
    headers: dict[str, Any] | None = None,
    content_type: str = "application/json",
    **fields: Any,
) -> bytes:
    """A message for proj.add as Celery writes it, but for what is given."""
    task_id = new_id()
    document = {
        "body": b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": content_type,
        "headers": {"lang": "py", "task": "proj.add", "id": task_id, "retries": 0, **(headers or {})},
        "properties": {
            "correlation_id": task_id,
            "delivery_info": {"exchange": "", "routing_key": "celery"},
            "body_encoding": "base64",
            "delivery_tag": new_id(),
        },
    }
    return json.dumps(document | fields).encode()


def huge(text: bytes) -> bytes:
    body = b'[["' + text * (FIFTY_MEGABYTES // len(text)) + b'"], {}, {}]'
    return envelope(body, headers={"task": "proj.size"})


# What is sent, and what becomes of it.
DEAD: dict[str, Callable[[], bytes]] = {
    "no JSON": lambda: b"{this is not JSON",
    "nothing": lambda: b"",
    "no map": lambda: b"[1, 2, 3]",
    "half a message": lambda: envelope()[:200],
    "bytes that are no text": lambda: b"\xff\xfe" + envelope(),
    "headers that are a list": lambda: json.dumps({**json.loads(envelope()), "headers": [1]}).encode(),
    "a task that is a number": lambda: envelope(headers={"task": 7}),
    "retries that are text": lambda: envelope(headers={"retries": "many"}),
    "a time limit that is text": lambda: envelope(headers={"timelimit": ["soon", None]}),
    "an eta that is no time": lambda: envelope(headers={"eta": "tomorrow"}),
    "an expiry that is a map": lambda: envelope(headers={"expires": {}}),
    "a task that nobody knows": lambda: envelope(headers={"task": "proj.unknown"}),
    "a content type that nobody knows": lambda: envelope(content_type="application/x-unknown"),
    "a content type that is not accepted": lambda: envelope(content_type="application/x-python-serialize"),
    "a body that does not match its content type": lambda: envelope(b"\x81\xa1"),
    "a body that was not compressed so": lambda: envelope(headers={"compression": "application/x-gzip"}),
    "a compression that nobody knows": lambda: envelope(headers={"compression": "application/x-unknown"}),
    "an older protocol with an expiry of 70 bits": lambda: envelope(
        b'{"task": "proj.add", "id": "i70", "args": [2, 3], "kwargs": {}, "expires": -1180591620717411303424}'
    ).replace(b'"task": "proj.add", ', b""),
    "a body of a newer protocol": lambda: envelope(b'[[2, 3], {}, {}, {"new": 1}]', headers={"protocol": 3}),
    "arguments that are a map": lambda: envelope(b'[{"x": 2}, {}, {}]'),
    "keyword arguments that are a list": lambda: envelope(b"[[], [2, 3], {}]"),
    "fifty megabytes of nonsense": lambda: envelope(b"\xff" * FIFTY_MEGABYTES),
}  # fmt: skip
RUN: dict[str, Callable[[], bytes]] = {
    "arguments that are missing": lambda: envelope(b"[[2], {}, {}]"),
    "headers that nobody knows": lambda: envelope(headers={"newer": {"than": "this"}, "protocol": 3}),
    "fifty megabytes of text": lambda: huge(b"x"),
    "no correlation id": lambda: envelope(properties={"body_encoding": "base64"}),
}


def push_to_rabbitmq(stage: Stage, raws: Sequence[bytes]) -> None:
    """What an envelope holds goes where AMQP has it; what is none, or does not fit there, is a body."""
    connection = Connector(parse_rabbitmq(stage.url, {})).connect(PATIENCE)
    channel = connection.open_channel(PATIENCE)
    for raw in raws:
        body: bytes = raw
        fields: dict[str, Any] = {}
        with suppress(ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError):
            document = json.loads(raw)
            encode_table(document["headers"])
            coded = document["body"].encode()
            is_coded = document["properties"].get("body_encoding") == "base64"
            content_type, encoding = document["content-type"] + "", document["content-encoding"] + ""
            fields = {
                "headers": document["headers"] | {},
                "content_type": content_type,
                "content_encoding": encoding,
            }
            body = b64decode(coded) if is_coded else coded
        try:
            connection.encoder.publish(channel.number, "", "celery", body, **fields)
        except EncodeError:  # text that is no Unicode can't even be sent
            connection.encoder.publish(channel.number, "", "celery", raw)
        connection.flush(PATIENCE)
    # The channel's reply tells that all of it is in the queue.
    connection.call(channel, "queue.declare", PATIENCE, queue="celery", passive=True)
    connection.close()


def push(stage: Stage, raws: Sequence[bytes]) -> None:
    """Put *raws* into the queue as a foreign client could."""
    if stage.url.startswith("amqp"):
        push_to_rabbitmq(stage, raws)
        return
    if stage.url.startswith("redis"):
        connection = connect(parse_endpoint(stage.url, {}), 5.0)
        for start in range(0, len(raws), 500):
            connection.call("LPUSH", "celery", *raws[start : start + 500], timeout=PATIENCE)
        connection.close()
        return
    stage.queues()  # makes the tables
    path = stage.url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None, timeout=PATIENCE)) as db:
        db.execute("BEGIN IMMEDIATE")
        (first,) = db.execute("SELECT coalesce(max(id), 0) + 1 FROM fastq_messages").fetchone()
        rows = list(enumerate(raws, first))
        db.executemany("INSERT INTO fastq_messages VALUES (?, 'celery', 0, 0, 0, ?)", rows)
        db.executemany("INSERT INTO fastq_ready VALUES ('celery', 0, ?)", [(number,) for number, _ in rows])
        db.execute("COMMIT")


def counts(stage: Stage) -> dict[str, int]:
    """What has become of all that was pushed."""
    found: dict[str, int] = {}
    for info in stage.queues():
        for state in ("ready", "claimed", "delayed", "dead"):
            found[state] = found.get(state, 0) + getattr(info, state)
    # After the queues: what they no longer hold has left its line by now.
    kinds = [each.kind for each in stage.events()]
    return found | {kind: kinds.count(kind) for kind in ("ran", "revoked")}


def accounted(stage: Stage, found: dict[str, int], pushed: int) -> bool:
    """Whether what was found is all that was *pushed*, and all that has followed from it."""
    kinds = [each.kind for each in stage.events()]
    return sum(found.values()) == pushed + kinds.count("following") - kinds.count("unsent")


def wait_until_settled(stage: Stage, seconds: float = PATIENCE) -> dict[str, int]:
    """The counts when nothing is left to be done."""
    deadline = time.monotonic() + seconds
    while (found := counts(stage)).get("ready") or found.get("claimed"):
        assert time.monotonic() < deadline, f"{found}\n{stage.logs()}"
        time.sleep(0.05)
    return found


def check_that_it_works(stage: Stage) -> None:
    """Good tasks still run, in the processes that there were from the beginning."""
    processes = {each.pid for each in stage.events() if each.kind in ("ready", "child")}
    before = counts(stage)["ran"]
    push(stage, [envelope() for _ in range(20)])
    assert wait_until_settled(stage)["ran"] == before + 20
    assert {each.pid for each in stage.events() if each.kind in ("ready", "child")} == processes


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_each_bad_message_is_accounted_for(stage: Stage, pool: str) -> None:
    worker = stage.start_worker(module="proj").wait_until_ready()
    before = wait_until_settled(stage)
    for name, make in DEAD.items():
        push(stage, [make()])
        after = wait_until_settled(stage)
        assert after.get("dead", 0) == before.get("dead", 0) + 1, f"{name}: {before} {after}\n{stage.logs()}"
        assert after["ran"] == before["ran"], name
        before = after
    for name, make in RUN.items():
        push(stage, [make()])
        after = wait_until_settled(stage)
        assert after["ran"] == before["ran"] + 1, f"{name}: {before} {after}\n{stage.logs()}"
        assert after["dead"] == before["dead"], name
        before = after
    check_that_it_works(stage)
    assert worker.is_alive() and worker.stop() == 0


# In one process, so that a hard time limit that a mutation has set can't end a run unseen.
@pytest.mark.parametrize("count", forms(1500, 50_000))
@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_mutations_of_captured_messages(stage: Stage, pool: str, count: int) -> None:
    rng = random.Random(f"{pool} {count}")
    originals = all_envelopes()
    worker = stage.start_worker(module="proj").wait_until_ready()
    push(stage, [mutate(rng, rng.choice(originals)) for _ in range(count)])
    found = wait_until_settled(stage, PATIENCE + count / 100)
    deadline = time.monotonic() + QUORUM_SECONDS
    while not accounted(stage, found, count) and time.monotonic() < deadline:
        time.sleep(0.5)
        found = counts(stage)
    print(f"JUDGED {pool} {stage.url.partition(':')[0]}: {count} mutations: {found}")
    assert accounted(stage, found, count), f"{found}\n{stage.logs()}"
    assert found["ran"] and found["dead"]
    check_that_it_works(stage)
    assert worker.is_alive() and worker.stop() == 0
