"""The rpc backend on RabbitMQ: one queue for each client process, whatever its threads do."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import amqp
import pytest
from reference.fixtures import fixture

from fastq import FastQ
from fastq._core.message import new_id
from fastq.backends.base import Backend, StoredResult
from fastq.exceptions import ImproperlyConfigured, TimeoutError
from fastq.result import AsyncResult, ResultSet

PATIENCE = 20.0
CAPTURED = fixture("amqp-rpc-backend-replies")["messages"]


@pytest.fixture
def open_app(rabbitmq_server: Any) -> Iterator[Callable[..., FastQ]]:
    apps: list[FastQ] = []

    def open_app(**settings: Any) -> FastQ:
        app = FastQ("t", broker=rabbitmq_server.url(), backend="rpc://", set_as_current=False)
        app.conf.update(settings)
        apps.append(app)
        return app

    yield open_app
    for app in apps:
        app.close()


@pytest.fixture
def channel(rabbitmq_server: Any) -> Iterator[amqp.Channel]:
    with amqp.Connection(f"127.0.0.1:{rabbitmq_server.port}", "guest", "guest") as connection:
        yield connection.channel()


def backend_of(app: FastQ) -> Backend:
    assert app.backend is not None
    return app.backend


def result(task_id: str, reply_to: str | None, document: bytes = b"{}") -> StoredResult:
    return StoredResult(task_id, "SUCCESS", document, reply_to)


def test_messages_name_one_queue_of_this_process(open_app: Any, channel: amqp.Channel) -> None:
    app = open_app(task_default_queue=f"q-{new_id()}")
    messages = [app.composer.compose("any", None, (), {}, {}, None)[0] for _ in range(2)]
    names = {message.properties["reply_to"] for message in messages}
    assert names == {backend_of(app).reply_queue()}
    # As Celery declares it: RabbitMQ refuses anything else.
    channel.queue_declare(
        *names, durable=True, auto_delete=True, exclusive=False, arguments={"x-expires": 86400000}
    )
    (ignored,) = app.composer.compose("any", None, (), {}, {"ignore_result": True}, None)
    (own,) = app.composer.compose("any", None, (), {}, {"reply_to": "mine"}, None)
    assert "reply_to" not in ignored.properties
    assert own.properties["reply_to"] == "mine"


@pytest.mark.parametrize(("is_persistent", "mode"), [(None, 1), (True, 2)])
def test_a_reply_is_as_celery_sends_it(
    open_app: Any, channel: amqp.Channel, is_persistent: bool | None, mode: int
) -> None:
    queue = channel.queue_declare(exclusive=True).queue
    app = open_app(result_persistent=is_persistent, result_compression="gzip")
    encode = app.result_encoder()
    for captured in CAPTURED:
        said = captured["basic_properties"]
        document = encode(captured["body_decoded"])
        backend_of(app).store([result(said["correlation_id"], queue, document), result(new_id(), None)])
        got = channel.basic_get(queue, no_ack=True)
        got.properties.pop("application_headers", None)
        assert got.properties == said | {"delivery_mode": mode}
        assert json.loads(got.body) == captured["body_decoded"]
    assert channel.basic_get(queue, no_ack=True) is None


def test_captured_replies_are_read(open_app: Any, channel: amqp.Channel) -> None:
    app = open_app()
    queue = backend_of(app).reply_queue()
    for captured in CAPTURED:
        said = dict(captured["basic_properties"])
        channel.basic_publish(amqp.Message(captured["body_raw"], **said), "", queue)
    added, failed, progress = (f"00000000-0000-4000-8000-0000000000e{n}" for n in (1, 2, 3))
    seen: list[str] = []
    got = AsyncResult(progress, app=app)
    got.get(timeout=PATIENCE, on_message=lambda meta: seen.append(meta["status"]))
    assert seen[-1] == "SUCCESS"
    assert AsyncResult(added, app=app).get(timeout=PATIENCE) == 5
    with pytest.raises(ValueError, match="boom"):
        AsyncResult(failed, app=app).get(timeout=PATIENCE)
    # They were handed out, and can be asked for again.
    assert AsyncResult(added, app=app).result == 5


def test_thousands_of_replies_are_joined_and_the_interval_is_kept(open_app: Any) -> None:
    app, worker = open_app(), backend_of(open_app())
    queue = backend_of(app).reply_queue()
    ids = [new_id() for _ in range(3000)]
    text = '{{"status": "SUCCESS", "result": {}, "traceback": null, "children": [], "task_id": "{}"}}'
    replies = [result(each, queue, text.format(number, each).encode()) for number, each in enumerate(ids)]
    worker.store(replies[:1000])
    beats: list[int] = []

    def beat() -> None:
        worker.store(replies[1000 + 500 * len(beats) :][:500])
        beats.append(1)

    group: ResultSet[int] = ResultSet([AsyncResult(each, app=app) for each in ids])
    assert group.join(timeout=PATIENCE, on_interval=beat, interval=0.05) == list(range(3000))
    assert len(beats) >= 4
    assert group.join(timeout=0) == list(range(3000))


def test_threads_share_the_queue_and_get_their_own(open_app: Any) -> None:
    client, worker = backend_of(open_app()), backend_of(open_app())
    queue = client.reply_queue()
    ids = [[new_id() for _ in range(20)] for _ in range(8)]
    got: list[dict[str, bytes]] = [{} for _ in ids]
    waiting = threading.Barrier(len(ids) + 1)

    def wait(number: int) -> None:
        waiting.wait()
        for task_id, document in client.wait(ids[number], PATIENCE):
            got[number][task_id] = document
            if len(got[number]) == len(ids[number]):
                return

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(len(ids))]
    for thread in threads:
        thread.start()
    waiting.wait()
    worker.store([result(each, queue, each.encode()) for block in ids for each in block])
    for thread in threads:
        thread.join(PATIENCE)
    assert got == [{each: each.encode() for each in block} for block in ids]


def test_others_results_are_pending_and_forgotten_ones_too(open_app: Any) -> None:
    app, worker = open_app(), backend_of(open_app())
    client, task_id = backend_of(app), new_id()
    assert client.fetch([task_id]) == [None]
    queue = client.reply_queue()
    with pytest.raises(TimeoutError, match="PENDING"):
        AsyncResult(task_id, app=app).get(timeout=0.1)
    worker.store([result(task_id, queue, b"A")])
    assert next(iter(client.wait([task_id], PATIENCE))) == (task_id, b"A")
    assert client.fetch([task_id]) == [b"A"]
    client.forget([task_id])
    assert client.fetch([task_id]) == [None]


def test_a_client_whose_queue_is_gone_declares_it_again(open_app: Any, channel: amqp.Channel) -> None:
    client, worker = backend_of(open_app()), backend_of(open_app())
    queue, first, second = client.reply_queue(), new_id(), new_id()
    worker.store([result(first, queue, b"1")])
    assert next(iter(client.wait([first], PATIENCE))) == (first, b"1")
    channel.queue_delete(queue)
    while not exists(channel.connection, queue):
        assert client.reply_queue() == queue
    worker.store([result(second, queue, b"2")])
    assert next(iter(client.wait([second], PATIENCE))) == (second, b"2")


def exists(connection: amqp.Connection, queue: Any) -> bool:
    try:
        connection.channel().queue_declare(queue, passive=True)
    except amqp.NotFound:
        return False
    return True


def test_a_forked_child_has_a_queue_of_its_own(open_app: Any) -> None:
    client = backend_of(open_app())
    mine = client.reply_queue()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, (client.reply_queue() or "").encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        theirs = pipe.read().decode()
    assert len(theirs) == len(mine or "") and theirs != mine


def test_a_broker_without_queues_of_its_own_is_refused() -> None:
    app = FastQ("t", broker="memory://", backend="rpc://", set_as_current=False)
    with app, pytest.raises(ImproperlyConfigured, match="RabbitMQ"):
        app.backend  # noqa: B018
