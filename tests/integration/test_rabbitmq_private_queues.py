"""Queues that go with their last consumer, while their worker asks for nothing or changes its window."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from fastq import Broadcast, Exchange, FastQ, Queue
from fastq._core.message import Outcome
from fastq.wakeup import Waker

SHORT = 0.2  # seconds in which nothing may arrive


@pytest.mark.parametrize("other", ["classic", "quorum"])
def test_a_broadcast_queue_outlives_every_window(rabbitmq_server: Any, other: str) -> None:
    name = f"news-{uuid4()}"
    private = Broadcast(name)
    lasting = Queue(f"q-{name}", Exchange(f"q-{name}"), queue_arguments={"x-queue-type": other})
    with FastQ("t", broker=rabbitmq_server.url(), set_as_current=False) as app:
        app.conf.update(task_queues=[private, lasting])
        consumer = app.broker.consumer([private.name, lasting.name], "w", Waker())

        def arrived(room: int, count: int) -> list[int]:
            found: list[Any] = []
            while len(found) < count and (new := consumer.turn((), room - len(found), 10.0)):
                found += new
            consumer.turn([Outcome(each) for each in found], 0, 0.0)
            return sorted(app.load_body(each.message)[0][0] for each in found)

        def send(*numbers: int) -> None:
            for number in numbers:
                app.send_task("any", (number,), queue=name)

        consumer.turn((), 2, 0.0)
        send(1)
        assert arrived(2, 1) == [1]
        consumer.turn((), 50, 0.0)
        send(2, 3, 4)
        assert arrived(50, 3) == [2, 3, 4]
        consumer.turn((), 1, SHORT)
        consumer.unclaim()
        send(5, 6)  # while nothing is asked for
        app.send_task("any", (7,), queue=lasting.name)
        consumer.unclaim()
        assert app.broker.queues([lasting.name])[-1].ready == 1
        assert arrived(3, 3) == [5, 6, 7]
        consumer.close()
