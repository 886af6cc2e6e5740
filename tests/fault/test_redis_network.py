"""Redis through a bad network: lost replies, resets, silent servers, failover by Sentinel."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from servers import RedisServer
from tcp_proxy import Proxy

from fastq._core.message import Action, Delivery, Message, Outcome
from fastq.backends.base import BackendOptions, StoredResult
from fastq.backends.redis import RedisBackend
from fastq.brokers.base import BrokerOptions
from fastq.brokers.redis.broker import RedisBroker
from fastq.exceptions import OperationalError
from fastq.wakeup import Waker


@pytest.fixture(scope="module")
def shared_server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    return start_redis()


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    shared_server.call("FLUSHALL")
    return shared_server


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[Proxy]:
    proxy = Proxy(server.port)
    yield proxy
    proxy.close()


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


def message(number: int) -> Message:
    task_id = f"id-{number}"
    return Message("proj.add", task_id, {"task": "proj.add", "id": task_id}, b"[[], {}, {}]", queue="celery")


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.message.id for delivery in deliveries]


def done(deliveries: list[Delivery], **options: object) -> list[Outcome]:
    return [Outcome(delivery, Action.ACK, **options) for delivery in deliveries]  # type: ignore[arg-type]


def proxied(proxy: Proxy, **options: float) -> RedisBroker:
    return RedisBroker(f"redis://127.0.0.1:{proxy.port}/0", BrokerOptions(**options))  # type: ignore[arg-type]


def test_a_turn_whose_reply_is_lost_is_neither_repeated_nor_forgotten(
    server: RedisServer, proxy: Proxy, waker: Waker
) -> None:
    broker = proxied(proxy, lease=10.0)
    direct = RedisBroker(server.url, BrokerOptions())
    direct.publish([message(n) for n in range(6)])
    consumer = broker.consumer(["celery"], "w@h", waker)
    held = consumer.turn([], 2, 0.0)
    assert ids(held) == ["id-0", "id-1"]
    early = Outcome(Delivery(held[0].message, None, "celery"), Action.ACK, follow=[message(20)])
    outcomes = [*done(held, follow=[message(10)]), early]
    proxy.drops_replies = True
    cutter = threading.Thread(target=lambda: (proxy.dropped.wait(10), proxy.cut()))
    cutter.start()
    with pytest.raises(OperationalError):
        consumer.turn(outcomes, 3, 0.0)
    cutter.join()
    proxy.drops_replies = False
    got = consumer.turn(outcomes, 10, 0.0)
    got += consumer.turn([], 10, 0.0)
    # Two follow-ups of the two, one of the early one: once each. Three were claimed by the lost turn.
    assert Counter(ids(got)) == Counter(["id-2", "id-3", "id-4", "id-5", "id-10", "id-10", "id-20"])
    assert consumer.lost == []
    consumer.turn(done(got), 0, 0.0)
    assert [info.claimed + info.ready for info in direct.queues(["celery"])] == [0]
    consumer.close()
    broker.close()
    direct.close()


def test_what_ends_after_a_turn_whose_reply_is_lost_was_not_in_that_turn(
    server: RedisServer, proxy: Proxy, waker: Waker
) -> None:
    broker = proxied(proxy, lease=10.0)
    direct = RedisBroker(server.url, BrokerOptions())
    direct.publish([message(n) for n in range(4)])
    consumer = broker.consumer(["celery"], "w@h", waker)
    held = consumer.turn([], 4, 0.0)
    outcomes = done(held[:1])
    proxy.drops_replies = True
    cutter = threading.Thread(target=lambda: (proxy.dropped.wait(10), proxy.cut()))
    cutter.start()
    with pytest.raises(OperationalError):
        consumer.turn(outcomes, 0, 0.0)
    cutter.join()
    proxy.drops_replies = False
    outcomes += done(held[1:])
    assert consumer.turn(outcomes, 10, 0.0) == []
    assert [info.claimed + info.ready for info in direct.queues(["celery"])] == [0]
    assert consumer.lost == []
    consumer.close()
    broker.close()
    direct.close()


@pytest.mark.parametrize("resets", [60])
def test_nothing_is_lost_or_run_twice_over_many_resets(
    server: RedisServer, proxy: Proxy, waker: Waker, resets: int
) -> None:
    broker = proxied(proxy, lease=20.0)
    direct = RedisBroker(server.url, BrokerOptions())
    direct.publish([message(n) for n in range(3000)])
    consumer = broker.consumer(["celery"], "w@h", waker)
    settled: Counter[str] = Counter()
    outcomes: list[Outcome] = []
    chance = random.Random(5)
    stop = threading.Event()

    def cut() -> None:
        for _ in range(resets):
            stop.wait(chance.uniform(0.0, 0.02))
            proxy.cut()

    cutter = threading.Thread(target=cut)
    cutter.start()
    ends = time.monotonic() + 60
    while sum(settled.values()) < 3000 and time.monotonic() < ends:
        try:
            got = consumer.turn(outcomes, 10, 0.05)
        except OperationalError:
            continue
        settled.update(outcome.delivery.message.id for outcome in outcomes)
        outcomes = done(got)
        stop.wait(0.001)
    cutter.join()
    assert len(settled) == 3000
    assert set(settled.values()) == {1}
    assert consumer.lost == []
    consumer.close()
    broker.close()
    direct.close()


def test_a_silent_server_is_an_error_in_time(proxy: Proxy) -> None:
    broker = proxied(proxy, publish_deadline=0.5)
    broker.publish([message(1)])
    proxy.drops_replies = True
    began = time.monotonic()
    with pytest.raises(OperationalError):
        broker.publish([message(2)])
    assert time.monotonic() - began < 1.5
    proxy.drops_replies = False
    proxy.cut()
    broker.publish([message(3)])
    broker.close()


def test_waiting_survives_a_reset(server: RedisServer, proxy: Proxy) -> None:
    backend = RedisBackend(f"redis://127.0.0.1:{proxy.port}/0", BackendOptions())
    writer = RedisBackend(server.url, BackendOptions())
    waits = backend.wait(["a", "b"], 20.0)
    writer.store([StoredResult("a", "SUCCESS", b"1")])
    assert next(waits) == ("a", b"1")
    proxy.cut()
    timer = threading.Timer(0.3, writer.store, [[StoredResult("b", "SUCCESS", b"2")]])
    timer.start()
    assert ("b", b"2") in [next(waits), next(waits)]
    timer.join()
    waits.close()  # type: ignore[attr-defined]
    backend.close()
    writer.close()


def test_sentinel_leads_to_the_new_master(start_redis: Callable[..., RedisServer], waker: Waker) -> None:
    master = start_redis("--repl-diskless-sync-delay", "0")
    start_redis("--replicaof", "127.0.0.1", str(master.port))
    rules = [
        f"sentinel monitor main 127.0.0.1 {master.port} 1",
        "sentinel down-after-milliseconds main 500",
        "sentinel failover-timeout main 3000",
    ]
    sentinel = start_redis(sentinel="\n".join(rules))
    url = f"sentinel://127.0.0.1:1;sentinel://127.0.0.1:{sentinel.port}/0"
    broker = RedisBroker(
        url, BrokerOptions(transport_options={"master_name": "main"}, publish_deadline=30.0, lease=20.0)
    )
    try:
        broker.publish([message(1)])
        consumer = broker.consumer(["celery"], "w@h", waker)
        held = consumer.turn([], 10, 0.0)
        assert ids(held) == ["id-1"]
        ends = time.monotonic() + 20
        while b"state=online" not in master.call("INFO", "replication") or not sentinel.call(
            "SENTINEL", "REPLICAS", "main"
        ):
            assert time.monotonic() < ends
            time.sleep(0.05)
        connection = master.connect()
        assert connection.call("WAIT", 1, 5000, timeout=6.0) == 1
        connection.close()
        master.kill()
        broker.publish([message(2)])
        got: list[Delivery] = []
        while not got and time.monotonic() < ends + 20:
            try:
                got = consumer.turn(done(held), 10, 0.5)
            except OperationalError:
                time.sleep(0.05)
        assert ids(got) == ["id-2"]
        assert consumer.lost == []
        consumer.close()
    finally:
        broker.close()
