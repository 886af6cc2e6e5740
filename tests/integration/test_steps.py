"""`app.steps` as Celery's documentation shows it: parts that start and stop, and a consumer of one's own."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from kombu import Connection, Exchange
from kombu import Queue as KombuQueue
from servers import RedisServer
from worker_process import PATIENCE

from fastq import FastQ
from fastq.bootsteps import Consumer, ConsumerStep, StartStopStep, Step
from fastq.contrib.testing import TestApp as make_app
from fastq.contrib.testing import start_worker
from fastq.topology import Exchange as OurExchange
from fastq.topology import Queue


def test_steps_start_and_stop_with_the_worker_in_their_order() -> None:
    app, seen = make_app(), []

    class Named(StartStopStep):
        def __init__(self, parent: Any, concurrency: int = 0, **kwargs: Any) -> None:
            seen.append(f"{type(self).__name__} made for {concurrency}")

        def create(self, parent: Any) -> None:
            seen.append(f"{type(self).__name__} created")

        def start(self, parent: Any) -> None:
            assert parent.app is app and parent.hostname
            seen.append(f"{type(self).__name__} started")

        def stop(self, parent: Any) -> None:
            seen.append(f"{type(self).__name__} stopped")

    class Base(Named):
        requires = {"celery.worker.components:Timer"}

    class Above(Named):
        requires = (Base,)

    class Absent(Step):
        enabled = False

        def start(self, parent: Any) -> None:
            raise AssertionError("it is not enabled")

    app.steps["worker"] |= {Above, Base, Absent}
    with start_worker(app, concurrency=3, pool="threads"):
        seen.append("runs")
    assert seen == [
        "Base made for 3",
        "Above made for 3",
        "Base created",
        "Above created",
        "Base started",
        "Above started",
        "runs",
        "Above stopped",
        "Base stopped",
    ]


def test_a_step_that_does_not_start_ends_the_worker() -> None:
    app = make_app()

    class Broken(StartStopStep):
        def start(self, parent: Any) -> None:
            raise OSError("no such device")

    app.steps["consumer"].add(Broken)
    with pytest.raises(OSError, match="no such device"), start_worker(app):
        pass


def test_a_consumer_of_the_users_gets_what_kombu_sends(redis_server: RedisServer) -> None:
    redis_server.call("FLUSHALL")
    app = FastQ("steps", broker=redis_server.url, backend=redis_server.url, set_as_current=False)
    got: list[Any] = []
    arrived = threading.Semaphore(0)

    class MyConsumerStep(ConsumerStep):
        def get_consumers(self, channel: Any) -> list[Consumer]:
            queue = Queue("custom", OurExchange("custom"), "custom")
            return [Consumer(channel, queues=[queue], callbacks=[self.handle], accept=["json"])]

        def handle(self, body: Any, message: Any) -> None:
            got.append(body)
            if body["hello"] == "again" and not message.delivery_info["redelivered"] and len(got) == 2:
                message.requeue()
            elif body["hello"] == "bad":
                message.reject()
            else:
                message.ack()
            arrived.release()

    app.steps["consumer"].add(MyConsumerStep)
    with start_worker(app, pool="threads"), Connection(redis_server.url) as connection:
        queue = KombuQueue("custom", Exchange("custom"), "custom")
        for word in ("world", "again", "bad"):
            connection.Producer().publish(
                {"hello": word}, exchange=queue.exchange, routing_key="custom", declare=[queue]
            )
            for _ in range(2 if word == "again" else 1):
                assert arrived.acquire(timeout=PATIENCE)
    assert [body["hello"] for body in got] == ["world", "again", "again", "bad"]
    (dead,) = app.broker.dead("custom")
    assert "rejected" in dead.reason
    (info,) = app.broker.queues(["custom"])[-1:]
    assert (info.name, info.ready, info.claimed) == ("custom", 0, 0)
    app.close()
