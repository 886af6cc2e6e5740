"""The RabbitMQ broker against a node of its own: what the contract of all brokers does not know of."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import RabbitServer

from fastq._core.message import Action, Message, Outcome, new_id
from fastq._core.request import RETURNED, Context
from fastq.app.base import FastQ
from fastq.brokers.base import BrokerOptions, Consumer
from fastq.brokers.rabbitmq import queue_watch
from fastq.brokers.rabbitmq.broker import RabbitMQBroker
from fastq.brokers.rabbitmq.connection import connect
from fastq.brokers.rabbitmq.endpoint import parse_endpoint
from fastq.exceptions import EncodeError, OperationalError
from fastq.topology import Exchange, Queue
from fastq.wakeup import Waker

PATIENCE = 10.0  # seconds for what is bound to come


@pytest.fixture
def queue() -> str:
    return f"q-{new_id()}"


@pytest.fixture
def make(rabbitmq_server: RabbitServer) -> Iterator[Callable[..., RabbitMQBroker]]:
    """A function that opens a broker with more options."""
    opened = []

    def open_one(**options: Any) -> RabbitMQBroker:
        options.setdefault("delay_queue_type", "classic")
        opened.append(RabbitMQBroker(rabbitmq_server.url(), BrokerOptions(**options)))
        return opened[-1]

    yield open_one
    for broker in opened:
        broker.close()


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


@pytest.fixture
def call(rabbitmq_server: RabbitServer) -> Callable[..., Any]:
    """A function that does one method of AMQP on a connection of its own."""

    def do(method: str, **fields: Any) -> Any:
        endpoint = parse_endpoint(rabbitmq_server.url(), {})
        connection = connect(endpoint, endpoint.nodes[0], PATIENCE)
        try:
            return connection.call(connection.open_channel(PATIENCE), method, PATIENCE, **fields)
        finally:
            connection.close()

    return do


def message(queue: str, **options: Any) -> Message:
    task_id = new_id()
    headers = {"task": "tasks.noop", "id": task_id}
    return Message("tasks.noop", task_id, headers, b"[[], {}, {}]", queue=queue, **options)


def take(consumer: Consumer, count: int) -> list[Any]:
    found: list[Any] = []
    until = time.monotonic() + PATIENCE
    while len(found) < count and time.monotonic() < until:
        found += consumer.turn((), count - len(found), 0.5)
    assert len(found) == count
    return found


def test_a_mandatory_message_that_no_queue_takes_is_an_error_naming_its_address(
    rabbitmq_server: RabbitServer, call: Callable[..., Any]
) -> None:
    exchange = f"x-{new_id()}"
    call("exchange.declare", exchange=exchange, type="topic")
    with FastQ("m", broker=rabbitmq_server.url(), set_as_current=False) as app:
        with pytest.raises(OperationalError, match=f"{exchange}.*news.sport"):
            app.send_task("t", exchange=exchange, routing_key="news.sport", mandatory=True)
        app.send_task("t", exchange=exchange, routing_key="news.sport")  # as with Celery, nobody minds


def test_a_queue_that_was_deleted_is_declared_again_before_anything_is_lost(
    make: Callable[..., RabbitMQBroker], queue: str, call: Callable[..., Any]
) -> None:
    broker = make()
    broker.publish([message(queue)])
    call("queue.delete", queue=queue)
    broker.publish([message(queue), message(queue)])
    assert call("queue.delete", queue=queue).message_count == 2


def test_a_clean_stop_counts_nothing_more_against_what_bears_a_count(
    make: Callable[..., RabbitMQBroker], queue: str, waker: Waker
) -> None:
    broker = make()
    broker.publish([message(queue)])
    dies = broker.consumer([queue], "w1@host", waker)
    take(dies, 1)
    dies._connection.abandon()  # type: ignore[attr-defined]
    for _ in range(3):
        consumer = broker.consumer([queue], "w2@host", waker)
        [delivery] = take(consumer, 1)
        assert delivery.redelivered == 1
        if not consumer.mark_started([delivery]):  # it goes to the tail with its count, once
            [delivery] = take(consumer, 1)
            assert delivery.redelivered == 1
        consumer.close([delivery])
    consumer = broker.consumer([queue], "w3@host", waker)
    assert take(consumer, 1)[0].redelivered == 1
    consumer.close()


def test_a_consumer_from_which_messages_are_kept_connects_anew(
    make: Callable[..., RabbitMQBroker],
    queue: str,
    waker: Waker,
    call: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = make()
    broker.publish([message(queue)])
    consumer = broker.consumer([queue], "w1@host", waker)
    take(consumer, 1)
    call("queue.delete", queue=queue)
    assert consumer.turn((), 1, 0.3) == []  # it is declared again, and doubted
    # As RabbitMQ does when it has lost track: the window is full by its count.
    monkeypatch.setattr(consumer, "_ask_for", lambda *_: None)
    connection = consumer._connection
    consumer._cancel(connection, list(consumer._consumed))
    broker.publish([kept := message(queue)])
    with pytest.raises(OperationalError, match="sends nothing from queue"):
        consumer.turn((), 1, PATIENCE)
    monkeypatch.undo()
    consumer.lost.clear()
    assert [each.message.id for each in take(consumer, 1)] == [kept.id]
    consumer.close()


def test_a_queue_with_other_arguments_is_used_as_it_is_and_the_log_says_so(
    make: Callable[..., RabbitMQBroker],
    queue: str,
    call: Callable[..., Any],
    waker: Waker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    call("queue.declare", queue=queue, durable=True, arguments={"x-max-priority": 3})
    broker = make()
    sent = message(queue)
    with caplog.at_level(logging.WARNING):
        broker.publish([sent])
        consumer = broker.consumer([queue], "w@h", waker)
        (got,) = take(consumer, 1)
    assert got.message.id == sent.id
    assert sum("x-max-priority" in record.getMessage() for record in caplog.records) == 1
    consumer.close()


def test_queues_are_declared_as_their_application_says(
    make: Callable[..., RabbitMQBroker], queue: str, call: Callable[..., Any]
) -> None:
    exchange = Exchange(f"x-{new_id()}", "topic", durable=False)
    declared = Queue(queue, exchange, "a.*", durable=False, message_ttl=60, max_priority=4)
    broker = make(queue=lambda name: declared)
    broker.publish([message(queue, exchange=exchange.name, routing_key="a.b")])
    arguments = {"x-message-ttl": 60000, "x-max-priority": 4}
    assert call("queue.declare", queue=queue, durable=False, arguments=arguments).message_count == 1
    call("exchange.declare", exchange=exchange.name, type="topic", durable=False)


def test_what_amqp_has_no_form_for_dies_with_the_reason_and_harms_nothing_else(
    make: Callable[..., RabbitMQBroker], queue: str, waker: Waker
) -> None:
    broker = make()
    broker.publish([message(queue), message(queue)])
    consumer = broker.consumer([queue], "w1@host", waker)
    first, second = take(consumer, 2)
    odd, good = message(queue), message(queue)
    odd.headers["huge"] = 2**70
    assert consumer.turn([Outcome(first, follow=[odd, good]), Outcome(second)], 0, 0.0) == []
    assert [each.message.id for each in take(consumer, 1)] == [good.id]
    consumer.close()
    dead = broker.find_dead(odd.id)
    assert dead is not None and "'huge'" in dead.reason and dead.queue == queue
    with pytest.raises(EncodeError, match="'huge'"):
        broker.check(odd)
    before, after = message(queue), message(queue)
    with pytest.raises(EncodeError, match="'huge'"):
        broker.publish([before, odd])
    broker.publish([after])  # on the same connection, with nothing of the batch before it
    consumer = broker.consumer([queue], "w1@host", waker)
    assert {each.message.id for each in take(consumer, 2)} == {good.id, after.id}
    consumer.close()


def test_a_full_queue_that_refuses_messages_is_an_error(
    make: Callable[..., RabbitMQBroker], queue: str
) -> None:
    full = Queue(queue, max_length=1, queue_arguments={"x-overflow": "reject-publish"})
    broker = make(queue=lambda name: full, publish_deadline=0.5)
    with pytest.raises(OperationalError, match="queue is full"):
        broker.publish([message(queue) for _ in range(3)])


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_window_widens_and_narrows_on_every_type_of_queue(
    make: Callable[..., RabbitMQBroker], queue: str, waker: Waker, kind: str
) -> None:
    broker = make(queue=lambda name: Queue(name, queue_arguments={"x-queue-type": kind}))
    sent = [message(queue) for _ in range(300)]
    broker.publish(sent)
    consumer = broker.consumer([queue], "w@h", waker)
    got = take(consumer, 1)
    for room in (2, 64, 1, 200, 3, 20):
        got += take(consumer, room)
    consumer.turn([Outcome(each) for each in got], 0, 0.0)
    consumer.close()
    assert [each.message.id for each in got] == [each.id for each in sent[: len(got)]]
    other = broker.consumer([queue], "w@h", waker)
    rest = take(other, 300 - len(got))
    assert {each.message.id for each in rest} == {each.id for each in sent[len(got) :]}
    other.turn([Outcome(each) for each in rest], 0, 0.0)
    other.close()


def test_a_narrow_window_is_shared_by_all_queues_and_a_wide_one_is_not(
    make: Callable[..., RabbitMQBroker], queue: str, waker: Waker
) -> None:
    broker = make()
    names = [f"{queue}-{number}" for number in range(2)]
    broker.publish([message(name) for name in names for _ in range(300)])
    consumer = broker.consumer(names, "w@h", waker)

    def sent() -> list[int]:
        """How many of each queue RabbitMQ has sent us."""
        return [300 - info.ready for info in broker.queues(names) if info.name in names]

    got = take(consumer, 4)
    assert sum(sent()) == 4
    got += take(consumer, 100)
    until = time.monotonic() + PATIENCE
    while sum(sent()) < 516 and time.monotonic() < until:  # 256 each beside those 4, of whichever queue
        consumer.turn((), 0, 0.0)
    assert sum(sent()) == 516
    assert min(sent()) >= 256
    consumer.turn([Outcome(each) for each in got], 0, 0.0)
    consumer.close()


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_a_queue_with_a_single_active_consumer_stays_with_a_worker_whose_window_changes(
    make: Callable[..., RabbitMQBroker], queue: str, waker: Waker, kind: str
) -> None:
    arguments = {"x-queue-type": kind, "x-single-active-consumer": True}
    broker = make(queue=lambda name: Queue(name, queue_arguments=arguments))
    sent = [message(queue) for _ in range(200)]
    broker.publish(sent)
    active = broker.consumer([queue], "active@h", waker)
    got = take(active, 1)
    other = broker.consumer([queue], "other@h", waker)
    assert other.turn((), 1, 0.0) == []
    for room in (100, 1):
        active.turn([Outcome(each) for each in got], 0, 0.0)
        got = active.turn((), room, PATIENCE)
        active.unclaim()
        assert other.turn((), 1, 0.2) == []
    active.close()
    assert take(other, 1)
    other.close()


@pytest.mark.parametrize("goes_back", ["with its connection", "unstarted"])
def test_a_quorum_queue_with_a_delivery_limit_drops_nothing_that_did_not_run(
    make: Callable[..., RabbitMQBroker], queue: str, waker: Waker, goes_back: str
) -> None:
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 3}
    broker = make(queue=lambda name: Queue(name, queue_arguments=arguments))
    sent = [message(queue) for _ in range(3)]
    broker.publish(sent)
    consumer: Any = broker.consumer([queue], "w@h", waker)
    for _ in range(6):
        got = take(consumer, 3)
        if goes_back == "unstarted":
            consumer.turn([Outcome(each, Action.RETURN) for each in got], 0, 0.0)
            continue
        consumer._disconnect()
        consumer.turn((), 0, 0.0)
        consumer.adopt([])  # none of them runs here
        consumer.lost.clear()
    got = take(consumer, 3)
    assert {each.message.id for each in got} == {each.id for each in sent}
    assert all("x-delivery-count" not in each.message.headers or not each.redelivered for each in got)
    consumer.turn([Outcome(each) for each in got], 0, 0.0)
    consumer.close()


def test_what_comes_again_acknowledged_does_not_fill_the_window(
    make: Callable[..., RabbitMQBroker], queue: str, waker: Waker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = make()
    sent = [message(queue) for _ in range(3)]
    broker.publish(sent)
    consumer: Any = broker.consumer([queue], "w@h", waker)
    done = take(consumer, 2)
    with monkeypatch.context() as broken:
        broken.setattr(consumer._connection, "flush", lambda timeout: None)  # RabbitMQ never hears of it
        consumer.turn([Outcome(each) for each in done], 0, 0.0)
    consumer._disconnect()
    consumer.turn((), 0, 0.0)
    consumer.adopt([])
    consumer.lost.clear()
    (got,) = consumer.turn((), 1, PATIENCE)
    assert got.message.id == sent[2].id
    consumer.close()


def test_what_waits_for_a_stuck_task_goes_to_another_worker(
    make: Callable[..., RabbitMQBroker], queue: str, waker: Waker
) -> None:
    broker = make()
    broker.publish([message(queue) for _ in range(200)])
    stuck = broker.consumer([queue], "stuck@h", waker)
    held = take(stuck, 100)  # and as many again have come unasked
    other = broker.consumer([queue], "other@h", waker)
    assert other.turn((), 100, 0.3) == []
    stuck.unclaim()
    stuck.turn([Outcome(each, Action.RETURN) for each in held[1:]], 0, 0.0)
    got = take(other, 199)
    assert {each.redelivered for each in got} == {0}  # none of them needs to run by itself
    assert all(Context(None, each.message).delivery_info["redelivered"] for each in got)  # but all say so
    stuck.close()
    other.close()


def test_whether_another_worker_is_idle_is_known(
    make: Callable[..., RabbitMQBroker], queue: str, waker: Waker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_watch, "PEERS_SECONDS", 0.0)
    broker = make()
    broker.publish([message(queue) for _ in range(9)])
    stuck, other = (broker.consumer([queue], name, waker) for name in ("stuck@h", "other@h"))
    take(stuck, 4)
    assert not stuck.has_idle_peers(1)  # there is no other
    take(other, 2)
    assert not stuck.has_idle_peers(1)  # three messages wait, and it does not take them
    take(other, 3)
    assert other.turn((), 1, 0.1) == []
    assert stuck.has_idle_peers(1)
    stuck.unclaim()
    assert stuck.has_idle_peers(1)  # for the three that have not started
    assert not stuck.has_idle_peers(4)
    stuck.close()
    other.close()


def test_a_worker_that_dies_giving_back_leaves_copies_that_say_so(
    make: Callable[..., RabbitMQBroker], queue: str, waker: Waker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = make()
    broker.publish([message(queue) for _ in range(5)])
    dies: Any = broker.consumer([queue], "dies@h", waker)
    held = take(dies, 5)
    monkeypatch.setattr(dies, "_ack", lambda deliveries: None)
    dies.turn([Outcome(each, Action.RETURN) for each in held], 0, 0.0)
    dies._connection.abandon()
    other = broker.consumer([queue], "other@h", waker)
    got = take(other, 10)
    assert len({each.message.id for each in got}) == 5
    assert all(each.redelivered or RETURNED in each.message.headers for each in got)
    other.close()


def test_a_clean_stop_leaves_nothing_that_must_run_by_itself(
    make: Callable[..., RabbitMQBroker], queue: str, waker: Waker
) -> None:
    broker = make()
    broker.publish([message(queue) for _ in range(200)])
    leaves = broker.consumer([queue], "leaves@h", waker)
    leaves.close(take(leaves, 100))
    other = broker.consumer([queue], "other@h", waker)
    assert {each.redelivered for each in take(other, 200)} == {0}
    other.close()


def test_the_death_of_rabbitmq_does_not_count_on_what_bears_a_count(
    make: Callable[..., RabbitMQBroker], queue: str, waker: Waker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RabbitMQ flags after a crash whatever lies in its queues; here another worker has it flagged."""
    broker = make()
    broker.publish([message(queue)])
    for _ in range(2):
        dies: Any = broker.consumer([queue], "dies@h", waker)
        if not dies.mark_started(take(dies, 1)):
            take(dies, 1)
        dies._connection.abandon()
    lives: Any = broker.consumer([queue], "lives@h", waker)
    with monkeypatch.context() as away:
        away.setattr(lives._connector, "connect", _refuse)
        with pytest.raises(OperationalError):
            lives.turn((), 1, 0.0)
    assert take(lives, 1)[0].redelivered == 1
    lives.close()


def _refuse(timeout: float) -> None:
    raise OperationalError("connection refused")


def test_a_message_is_delivered_once_when_it_is_due_to_a_fraction_of_a_second(
    make: Callable[..., RabbitMQBroker], queue: str, waker: Waker
) -> None:
    broker = make()
    consumer = broker.consumer([queue], "w@h", waker)
    consumer.turn((), 10, 0.0)
    due = time.time() + 1.4
    broker.publish([message(queue, due=due)])
    (got,) = take(consumer, 1)
    assert due - 0.01 <= time.time() < due + 1.0
    assert got.message.headers.keys() == {"task", "id"}  # ours are taken off
    assert (got.message.exchange, got.message.routing_key) == ("", queue)
    assert consumer.turn((), 10, 0.5) == []
    consumer.close()


def test_threads_publish_side_by_side_within_the_limit_of_the_pool(
    make: Callable[..., RabbitMQBroker], queue: str, call: Callable[..., Any]
) -> None:
    broker = make(pool_limit=3)
    threads = [
        threading.Thread(target=lambda: [broker.publish([message(queue)]) for _ in range(20)])
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert call("queue.delete", queue=queue).message_count == 200


def test_a_parked_message_with_a_name_too_long_to_delay_dies_with_the_reason(
    make: Callable[..., RabbitMQBroker], waker: Waker
) -> None:
    queue = "q" * 230
    broker = make()
    broker.publish([message(queue)])
    consumer = broker.consumer([queue], "w@h", waker)
    (got,) = take(consumer, 1)
    consumer.turn([Outcome(got, Action.PARK, until=time.time() + 100)], 0, 0.0)
    (dead,) = broker.dead(queue)
    assert "names of at most 199 bytes" in dead.reason
    broker.drop_dead([dead.id])
    consumer.close()
