"""What is published to an exchange reaches the queues that are bound to it, on every broker."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from harness import PATIENCE, SHORT_LEASE, Harness, ids, take, take_all

from fastq import Broadcast, Exchange, Queue, binding
from fastq._core.message import Message, new_id
from fastq.brokers import exchanges
from fastq.brokers.base import Broker, Consumer

TOPIC = Exchange("topics", "topic")
FANOUT = Exchange("everyone", "fanout")
HEADERS = Exchange("tags", "headers")


@pytest.fixture(autouse=True)
def fresh_eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients look at the stored bindings each time."""
    monkeypatch.setattr(exchanges, "TRUSTED_SECONDS", 0.0)
    monkeypatch.setattr(exchanges, "READING_SHARE", 1e9)


def declaring(*queues: Queue) -> Callable[[str], Queue]:
    """How an application that has declared *queues* declares one."""
    known = {queue.name: queue for queue in queues}
    return lambda name: known.get(name) or Queue(name)


def consume(harness: Harness, *queues: Queue, **options: Any) -> Consumer:
    """A consumer of *queues*, once it is at work."""
    names = [queue.name for queue in queues]
    consumer = harness.consume(*names, queue=declaring(*queues), **options)
    assert take(consumer) == []
    return consumer


def send(
    broker: Broker,
    exchange: str,
    routing_key: str = "",
    headers: dict[str, Any] | None = None,
    type: str = "",
) -> str:
    """Publish one task to an exchange; returns the task's id."""
    task_id = new_id()
    headers = {**(headers or {}), "task": "tasks.noop", "id": task_id}
    queues = [""] if broker.routes else broker.reached(exchange, type, routing_key, headers)
    broker.publish(
        [
            Message(
                "tasks.noop",
                task_id,
                headers,
                b"[[], {}, {}]",
                queue=queue,
                exchange=exchange,
                routing_key=routing_key,
            )
            for queue in queues
        ]
    )
    return task_id


def got(consumer: Consumer) -> list[str]:
    """The ids of all that has come, sorted; waits for the first."""
    return sorted(ids([*take(consumer, 1, PATIENCE), *take_all(consumer)]))


def test_a_topic_exchange_reaches_each_queue_with_a_pattern_that_admits_the_key(harness: Harness) -> None:
    orders = consume(harness, Queue("orders", TOPIC, "order.#"))
    paid = consume(harness, Queue("paid", TOPIC, "*.paid"))
    client = harness.open()
    new, both, bare = (send(client, "topics", key) for key in ("order.new", "order.paid", "order"))
    assert got(orders) == sorted([new, both, bare])  # '#' stands for no words too
    assert got(paid) == [both]


def test_a_direct_exchange_reaches_the_queues_bound_by_that_very_key(harness: Harness) -> None:
    direct = Exchange("jobs", "direct")
    one = consume(harness, Queue("one", direct, "key"))
    two = consume(harness, Queue("two", direct, "key", bindings=[binding(direct, "other")]))
    client = harness.open()
    both, second = send(client, "jobs", "key"), send(client, "jobs", "other")
    assert (got(one), got(two)) == ([both], sorted([both, second]))


def test_a_fanout_exchange_reaches_every_queue_whatever_the_key(harness: Harness) -> None:
    one = consume(harness, Queue("one", FANOUT, "key"))
    two = consume(harness, Queue("two", FANOUT))
    sent = send(harness.open(), "everyone", "any")
    assert (got(one), got(two)) == ([sent], [sent])


def test_a_headers_exchange_goes_by_the_headers(harness: Harness) -> None:
    every = consume(
        harness,
        Queue("every", HEADERS, binding_arguments={"x-match": "all", "kind": "mail", "eu": True}),
    )
    some = consume(
        harness, Queue("some", [binding(HEADERS, "", {"x-match": "any", "kind": "mail", "eu": True})])
    )
    client = harness.open()
    one, both = (
        send(client, "tags", headers={"kind": "mail"}),
        send(client, "tags", headers={"kind": "mail", "eu": True}),
    )
    assert (got(every), got(some)) == ([both], sorted([one, both]))


def test_what_is_bound_stays_bound_when_its_worker_stops(harness: Harness) -> None:
    queue = Queue("orders", TOPIC, "order.#")
    consume(harness, queue).close()
    sent = send(harness.open(), "topics", "order.new")
    assert ids(take_all(harness.consume("orders", queue=declaring(queue)))) == [sent]


def test_an_exchange_that_reaches_no_queue_is_told_from_one_that_does(harness: Harness) -> None:
    client = harness.open()
    if client.routes:
        pytest.skip("routes by itself")
    assert client.reached("topics", "topic", "order.new", {}) == []
    consume(harness, Queue("orders", TOPIC, "order.#"))
    assert client.reached("topics", "", "order.new", {}) == ["orders"]
    assert client.reached("topics", "", "bill.new", {}) == []


def test_a_client_that_knows_a_binding_makes_it_known_to_those_that_do_not(harness: Harness) -> None:
    client, other = harness.open(), harness.open()
    if client.routes:
        pytest.skip("routes by itself")
    client.bind([Queue("orders", TOPIC, "order.#"), Queue("tagged", HEADERS, binding_arguments={"kind": 1})])
    assert client.reached("topics", "", "order", {}) == ["orders"]
    assert client.reached("tags", "", "", {"kind": 1}) == ["tagged"]
    assert other.reached("topics", "", "order", {}) == ["orders"]
    assert other.reached("tags", "", "", {"kind": 1}) == ["tagged"]


def test_a_client_that_trusts_what_it_read_looks_again_for_a_key_it_does_not_know(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchanges, "TRUSTED_SECONDS", 60.0)
    client = harness.open()
    if client.routes:
        pytest.skip("routes by itself")
    consume(harness, Queue("orders", TOPIC, "order.#"))
    assert client.reached("topics", "", "order.new", {}) == ["orders"]
    consume(harness, Queue("rest", TOPIC, "#"))
    assert client.reached("topics", "", "order.new", {}) == ["orders"]  # a minute may pass
    assert client.reached("topics", "", "bill.new", {}) == ["rest"]
    assert set(client.reached("topics", "", "order.new", {})) == {"orders", "rest"}


# ---- queues of one worker alone ----


def test_every_worker_gets_a_broadcast_and_takes_its_queue_away(harness: Harness) -> None:
    one, two = (consume(harness, Broadcast("news"), worker=f"{name}@here") for name in ("one", "two"))
    client = harness.open()
    sent = send(client, "news")
    assert (got(one), got(two)) == ([sent], [sent])
    send(client, "news")  # waits in both queues
    one.close()
    left = send(client, "news")
    assert left in got(two)
    two.close()
    assert [info.name for info in client.queues()] == []
    if not client.routes:
        assert client.reached("news", "", "", {}) == []


def test_a_dead_workers_own_queue_goes_when_its_lease_ends(harness: Harness) -> None:
    client = harness.open()
    if client.routes:
        pytest.skip("its connection is its lease")
    consume(harness, Broadcast("news"), worker="dead@here", lease=SHORT_LEASE)
    alive = consume(harness, Broadcast("news"), lease=SHORT_LEASE)
    sent = send(client, "news")
    time.sleep(SHORT_LEASE / 2)
    assert ids(take(alive, 1, PATIENCE)) == [sent]
    assert len(client.reached("news", "", "", {})) == 2
    until = time.monotonic() + PATIENCE
    while len(client.reached("news", "", "", {})) == 2:
        assert time.monotonic() < until
        take(alive, 10, SHORT_LEASE / 4)
    assert len(client.reached("news", "", "", {})) == 1
    assert sum(info.ready for info in client.queues()) == 0


def test_an_idle_worker_keeps_its_own_queue(harness: Harness) -> None:
    one = consume(harness, Broadcast("news"), lease=SHORT_LEASE)
    two = consume(harness, Broadcast("news"), lease=SHORT_LEASE)
    until = time.monotonic() + 3 * SHORT_LEASE
    while time.monotonic() < until:
        assert take(one, 10, SHORT_LEASE / 6) == take(two, 10, SHORT_LEASE / 6) == []
    sent = send(harness.open(), "news")
    assert (got(one), got(two)) == ([sent], [sent])


def test_a_workers_own_queue_outlives_its_predecessor_of_the_same_name(harness: Harness) -> None:
    client = harness.open()
    if client.routes:
        pytest.skip("a second consumer of an exclusive queue is refused")
    queue = Broadcast("news", queue="news.w1")
    consume(harness, queue, lease=SHORT_LEASE)  # and no turn after that: as if killed
    heir = consume(harness, queue, lease=10 * PATIENCE)
    time.sleep(SHORT_LEASE * 1.5)
    watcher = harness.consume("q", lease=SHORT_LEASE)
    for _ in range(3):
        take(watcher, 1, SHORT_LEASE / 2)
    sent = send(client, "news")
    assert got(heir) == [sent]
