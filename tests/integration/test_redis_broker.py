"""The Redis broker against a server of its own: publish, turns, leases, restores, restarts."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest
from servers import DURABLE, RedisServer

from fastq._core.message import Action, Delivery, Message, Outcome
from fastq.backends.base import BackendOptions, StoredResult
from fastq.backends.redis import RedisBackend
from fastq.brokers.base import BrokerOptions, Consumer
from fastq.brokers.redis.broker import RedisBroker
from fastq.brokers.redis.connection import connect
from fastq.brokers.redis.consumer import LAST_PAUSE
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
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


@pytest.fixture
def broker(server: RedisServer) -> Iterator[RedisBroker]:
    broker = RedisBroker(server.url, BrokerOptions(lease=1.0, publish_deadline=2.0))
    yield broker
    broker.close()


def message(number: int = 0, queue: str = "celery", **options: object) -> Message:
    task_id = f"id-{number}"
    headers = {"task": "proj.add", "id": task_id, "lang": "py"}
    return Message("proj.add", task_id, headers, b"[[1, 2], {}, {}]", queue=queue, **options)  # type: ignore[arg-type]


def ids(deliveries: list[Delivery]) -> list[str]:
    return [delivery.message.id for delivery in deliveries]


def done(deliveries: list[Delivery], **options: object) -> list[Outcome]:
    return [Outcome(delivery, Action.ACK, **options) for delivery in deliveries]  # type: ignore[arg-type]


def calls_of(server: RedisServer, command: str) -> int:
    """How often the server was sent *command* since its statistics were reset."""
    stats = server.call("INFO", "commandstats")
    found = re.search(rb"cmdstat_%b:calls=(\d+)" % command.encode(), stats)  # type: ignore[call-overload]
    return int(found[1]) if found else 0


def abandon(consumer: Consumer) -> None:
    """Cut the consumer's connection and leave its lease to run out, as kill -9 does."""
    consumer._disconnect()  # type: ignore[attr-defined]


def test_messages_come_in_the_order_they_were_sent(broker: RedisBroker, waker: Waker) -> None:
    broker.publish([message(n) for n in range(2500)])
    consumer = broker.consumer(["celery"], "w@h", waker)
    first = consumer.turn([], 2000, 0.0)
    assert len(first) == 512  # one turn takes no more
    rest = consumer.turn(done(first), 2000, 0.0)
    while len(first) + len(rest) < 2500:
        rest += consumer.turn([], 2000, 0.0)
    assert ids(first) + ids(rest) == [f"id-{n}" for n in range(2500)]
    assert consumer.turn(done(rest), 0, 0.0) == []
    consumer.close()
    assert [info.claimed + info.ready for info in broker.queues(["celery"])] == [0]


def test_the_next_batch_is_claimed_while_one_runs(
    broker: RedisBroker, server: RedisServer, waker: Waker
) -> None:
    broker.publish([message(n) for n in range(2500)])
    consumer = broker.consumer(["celery"], "w@h", waker)
    seen = []
    found = consumer.turn([], 1024, 0.0)
    while found:
        # To connect takes a round trip, so what was posted before has taken place.
        seen.append((len(found), server.call("LLEN", "celery")))
        found = consumer.turn(done(found), 1024, 0.0)
    assert seen == [(512, 1476), (512, 964), (512, 452), (512, 0), (452, 0)]
    consumer.close()


def test_urgent_steps_come_first_and_queues_take_turns(broker: RedisBroker, waker: Waker) -> None:
    broker.publish([message(n, priority=priority) for n, priority in enumerate((9, 7, 0, 3))])
    broker.publish([message(n + 10, queue="other") for n in range(2)])
    consumer = broker.consumer(["celery", "other"], "w@h", waker)
    got = consumer.turn([], 100, 0.0)
    assert sorted(ids(got)[:3]) == ["id-10", "id-11", "id-2"]
    assert ids(got)[3:] == ["id-3", "id-1", "id-0"]
    consumer.close(got)
    again = broker.consumer(["celery", "other"], "w@h", waker)
    assert ids(again.turn([], 100, 0.0))[3:] == ["id-3", "id-1", "id-0"]
    again.close()


def test_a_turn_wakes_when_a_message_comes(broker: RedisBroker, server: RedisServer, waker: Waker) -> None:
    consumer = broker.consumer(["celery", "other"], "w@h", waker)
    assert consumer.turn([], 10, 0.0) == []
    delays = []
    for number in range(20):
        sent: list[float] = []

        def publish(number: int = number, sent: list[float] = sent) -> None:
            time.sleep(0.02)
            sent.append(time.perf_counter())
            broker.publish([message(number, queue="other")])

        thread = threading.Thread(target=publish)
        thread.start()
        got = consumer.turn([], 10, 10.0)
        delays.append(time.perf_counter() - sent[0])
        thread.join()
        assert ids(got) == [f"id-{number}"]
        consumer.turn(done(got), 0, 0.0)
    assert sorted(delays)[10] < 0.01
    consumer.close()


def test_an_idle_turn_sends_next_to_nothing(server: RedisServer, waker: Waker) -> None:
    broker = RedisBroker(server.url, BrokerOptions(lease=30.0))
    consumer = broker.consumer([f"queue-{n}" for n in range(50)], "w@h", waker)
    consumer.turn([], 10, 0.0)
    consumer.turn([], 10, 0.05)
    server.call("CONFIG", "RESETSTAT")
    for _ in range(20):
        consumer.turn([], 10, 0.05)
    assert calls_of(server, "evalsha") == 0
    consumer.close()
    broker.close()


def test_a_turn_that_left_nothing_behind_is_not_repeated(server: RedisServer, waker: Waker) -> None:
    # With one list nothing is read after it was emptied; no renewal comes in between.
    options = BrokerOptions(lease=60.0, transport_options={"priority_steps": [0]})
    broker = RedisBroker(server.url, options)
    consumer = broker.consumer(["celery"], "w@h", waker)
    consumer.turn([], 10, 0.0)
    broker.publish([message(0)])
    running = consumer.turn([], 10, 1.0)
    assert ids(running) == ["id-0"]
    server.call("CONFIG", "RESETSTAT")
    assert consumer.turn([], 9, 0.05) == []  # while the task runs in a child
    assert calls_of(server, "evalsha") == 0
    threading.Timer(0.05, broker.publish, [[message(1)]]).start()
    assert ids(consumer.turn([], 9, 5.0)) == ["id-1"]
    assert ids(consumer.turn(done(running), 9, 0.0)) == []
    consumer.close()
    broker.close()


def test_changes_in_another_database_wake_a_worker_now_and_then(server: RedisServer, waker: Waker) -> None:
    broker = RedisBroker(server.url, BrokerOptions(lease=60.0))  # hardly a turn for the lease's sake
    consumer = broker.consumer(["celery"], "w@h", waker)
    consumer.turn([], 10, 0.0)
    consumer.turn([], 10, 0.05)
    elsewhere = connect(broker.endpoint._replace(db=1), 1.0)

    def change() -> None:
        for _ in range(500):
            elsewhere.call_many([["LPUSH", "celery", "x"], ["LPOP", "celery"]], 1.0)
            time.sleep(0.001)
        waker.set()

    server.call("CONFIG", "RESETSTAT")
    thread = threading.Thread(target=change)
    began = time.monotonic()
    thread.start()
    assert consumer.turn([], 10, 60.0) == []
    seconds = time.monotonic() - began
    thread.join()
    assert 3 <= calls_of(server, "evalsha") <= seconds / LAST_PAUSE + 10
    elsewhere.close()
    consumer.close()


def test_the_waker_ends_a_turn(broker: RedisBroker, waker: Waker) -> None:
    consumer = broker.consumer(["celery"], "w@h", waker)
    timer = threading.Timer(0.05, waker.set)
    timer.start()
    began = time.monotonic()
    assert consumer.turn([], 10, 20.0) == []
    assert time.monotonic() - began < 5.0
    timer.join()
    consumer.close()


def test_what_is_not_due_waits_in_the_schedule(broker: RedisBroker, waker: Waker) -> None:
    consumer = broker.consumer(["celery"], "w@h", waker)
    broker.publish([message(1, due=time.time() + 0.3, priority=5), message(2, due=time.time() + 3600)])
    assert [info.delayed for info in broker.queues()] == [2]
    place = broker.locate("id-2")
    assert place is not None
    assert place.state == "delayed"
    began = time.monotonic()
    got = consumer.turn([], 10, 5.0)
    assert ids(got) == ["id-1"]
    assert 0.25 < time.monotonic() - began < 0.6
    assert got[0].tag.endswith(b":3")
    parked = Outcome(got[0], Action.PARK, until=time.time() + 0.2)
    assert ids(consumer.turn([parked], 10, 5.0)) == ["id-1"]
    consumer.close()


def test_every_action_takes_effect(broker: RedisBroker, waker: Waker) -> None:
    consumer = broker.consumer(["celery"], "w@h", waker)
    broker.publish([message(n) for n in range(5)])
    a, b, c, d, e = consumer.turn([], 10, 0.0)
    follow = [message(7), message(8, queue="later", due=time.time() + 60)]
    outcomes = [
        Outcome(a, Action.REQUEUE),
        Outcome(b, Action.BURY, reason="it was bad"),
        Outcome(c, Action.REDELIVER),
        Outcome(d, Action.ACK, follow=follow),
        Outcome(e, Action.PARK, until=time.time() + 60),
    ]
    got = consumer.turn(outcomes, 10, 0.0)
    assert ids(got) == ["id-2", "id-0", "id-7"]
    assert [delivery.redelivered for delivery in got] == [1, 0, 0]
    assert consumer.turn(outcomes, 10, 0.0) == []  # settling twice does nothing
    [dead] = broker.dead()
    assert (dead.id, dead.queue, dead.task, dead.reason) == ("id-1", "celery", "proj.add", "it was bad")
    assert broker.retry_dead(["id-1"]) == 1
    assert broker.dead() == []
    got += consumer.turn([], 10, 0.0)
    assert ids(got)[-1] == "id-1"
    place = broker.locate("id-2")
    assert place is not None
    assert (place.state, place.worker, place.redelivered) == ("claimed", "w@h", 1)
    counts = {info.name: (info.ready, info.claimed, info.delayed, info.dead) for info in broker.queues()}
    assert counts == {"celery": (0, 4, 1, 0), "later": (0, 0, 1, 0)}
    consumer.close(got)
    assert broker.purge("celery") == 5


def test_a_dead_workers_claims_come_back_in_order(broker: RedisBroker, waker: Waker) -> None:
    broker.publish([message(n) for n in range(6)])
    dying = broker.consumer(["celery"], "dying@h", waker)
    assert len(dying.turn([], 4, 0.0)) == 4
    heir = broker.consumer(["celery"], "heir@h", waker)
    assert ids(heir.turn([], 1, 0.0)) == ["id-4"]
    abandon(dying)
    began = time.monotonic()
    got: list[Delivery] = []
    while len(got) < 5:
        got += heir.turn([], 10, 0.1)
    assert time.monotonic() - began < 1.0 + 1.0 / 3 + 0.3
    assert ids(got) == ["id-5", "id-0", "id-1", "id-2", "id-3"]
    assert [delivery.redelivered for delivery in got] == [0, 1, 1, 1, 1]
    heir.close()


def test_only_a_started_message_counts_on_and_dies(broker: RedisBroker, waker: Waker) -> None:
    broker.publish([message(n) for n in range(2)])
    counts = []
    for _ in range(5):
        consumer = broker.consumer(["celery"], "w@h", waker)
        got: list[Delivery] = []
        for _ in range(40):
            got += consumer.turn([], 10, 0.1)
            if len(got) == 2 or (got and broker.dead()):
                break
        counts.append({delivery.message.id: delivery.redelivered for delivery in got})
        consumer.mark_started([delivery for delivery in got if delivery.message.id == "id-0"])
        abandon(consumer)
    assert counts == [
        {"id-0": 0, "id-1": 0},
        {"id-0": 1, "id-1": 1},
        {"id-0": 2, "id-1": 1},
        {"id-0": 3, "id-1": 1},
        {"id-1": 1},
    ]
    [dead] = broker.dead()
    assert dead.id == "id-0"
    assert "died 4 times" in dead.reason
    assert b"fastq-redelivered" not in dead.raw


def test_a_worker_whose_lease_was_taken_settles_nothing(broker: RedisBroker, waker: Waker) -> None:
    backend = RedisBackend(broker.url, BackendOptions())
    broker.publish([message(1)])
    slow = broker.consumer(["celery"], "slow@h", waker, backend)
    held = slow.turn([], 10, 0.0)
    other = broker.consumer(["celery"], "other@h", waker, backend)
    got: list[Delivery] = []
    while not got:
        got = other.turn([], 10, 0.1)
    late = done(held, state="SUCCESS", result=b"late", follow=[message(9)])
    assert slow.turn(late, 10, 0.0) == []
    assert slow.lost == held
    assert backend.fetch(["id-1"]) == [None]
    broker.publish([message(2)])
    assert ids(slow.turn([], 10, 0.0)) == ["id-2"]  # under a new epoch
    other.turn(done(got, state="SUCCESS", result=b"right"), 0, 0.0)
    assert backend.fetch(["id-1"]) == [b"right"]
    slow.close()
    other.close()
    backend.close()


def test_results_are_stored_with_the_settlement(broker: RedisBroker, waker: Waker) -> None:
    backend = RedisBackend(broker.url, BackendOptions(expires=100, failure_expires=50))
    consumer = broker.consumer(["celery"], "w@h", waker, backend)
    assert consumer.commits_results
    broker.publish([message(n) for n in range(3)])
    a, b, c = consumer.turn([], 10, 0.0)
    backend.store([StoredResult("id-2", "SUCCESS", b'{"status": "SUCCESS", "result": 1}')])
    outcomes = [
        Outcome(a, Action.ACK, state="SUCCESS", result=b"one"),
        Outcome(b, Action.ACK, state="FAILURE", result=b"two"),
        Outcome(c, Action.ACK, state="FAILURE", result=b"three"),
    ]
    consumer.turn(outcomes, 0, 0.0)
    found = backend.fetch(["id-0", "id-1", "id-2", "id-3"])
    assert found == [b"one", b"two", b'{"status": "SUCCESS", "result": 1}', None]
    connection = broker._pool
    ttls = connection.run(lambda c, left: c.call("TTL", "celery-task-meta-id-1", timeout=left), 1.0)
    assert 45 <= ttls <= 50
    consumer.close()
    backend.close()


def test_a_full_server_can_be_emptied(broker: RedisBroker, server: RedisServer, waker: Waker) -> None:
    broker.publish([message(n) for n in range(100)])
    consumer = broker.consumer(["celery"], "w@h", waker)
    consumer.turn([], 0, 0.0)
    server.call("CONFIG", "SET", "maxmemory", "1")
    try:
        with pytest.raises(OperationalError, match="OOM"):
            broker.publish([message(1)], deadline=0.1)
        got = consumer.turn([], 50, 0.0)
        abandon(consumer)
        consumer.turn(done(got), 0, 0.0)
        newcomer = broker.consumer(["celery"], "new@h", waker)
        got = newcomer.turn([], 100, 0.0)
        assert len(got) == 50
        newcomer.turn(done(got), 0, 0.0)
        newcomer.close()
    finally:
        server.call("CONFIG", "SET", "maxmemory", "0")
    consumer.close()


def test_what_a_turn_has_settled_is_not_settled_again_when_its_wait_fails(
    broker: RedisBroker, waker: Waker, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = broker.consumer(["celery"], "w@host", waker)
    # Of a task that was acknowledged before it ran; its retry must be sent once.
    ended = Outcome(Delivery(message(), None, "celery"), follow=[message(1, queue="other")])

    def fail(*args: object) -> bool:
        raise OperationalError("the connection was reset")

    with monkeypatch.context() as faulty:
        faulty.setattr(consumer, "_wait", fail)
        with pytest.raises(OperationalError):
            consumer.turn([ended], 1, 0.1)
    consumer.turn([ended], 1, 0.0)
    assert [info.ready for info in broker.queues(["other"]) if info.name == "other"] == [1]
    consumer.turn([Outcome(ended.delivery, follow=[message(2, queue="other")])], 1, 0.0)
    assert [info.ready for info in broker.queues(["other"]) if info.name == "other"] == [2]
    consumer.close()


def test_a_forgotten_script_is_loaded_again(broker: RedisBroker, server: RedisServer, waker: Waker) -> None:
    consumer = broker.consumer(["celery"], "w@h", waker)
    consumer.turn([], 10, 0.0)
    server.call("SCRIPT", "FLUSH")
    broker.publish([message(1)])
    assert ids(consumer.turn([], 10, 0.0)) == ["id-1"]
    consumer.close()


def test_a_flushed_server_loses_the_claims(broker: RedisBroker, server: RedisServer, waker: Waker) -> None:
    consumer = broker.consumer(["celery"], "w@h", waker)
    broker.publish([message(1)])
    got = consumer.turn([], 10, 0.0)
    server.call("FLUSHALL")
    assert consumer.turn(done(got), 10, 0.0) == []
    assert consumer.lost == got
    broker.publish([message(2)])
    assert ids(consumer.turn([], 10, 1.0)) == ["id-2"]
    consumer.close()


def test_garbage_is_delivered_with_a_reason(broker: RedisBroker, server: RedisServer, waker: Waker) -> None:
    server.call("LPUSH", "celery", b"\xff{", "{}", '{"headers": 3}')
    consumer = broker.consumer(["celery"], "w@h", waker)
    got = consumer.turn([], 10, 0.0)
    assert [delivery.message for delivery in got] == [None] * 3
    consumer.turn([Outcome(delivery, Action.BURY, reason=delivery.error) for delivery in got], 0, 0.0)
    assert sorted(entry.raw for entry in broker.dead()) == sorted([b"\xff{", b"{}", b'{"headers": 3}'])
    assert broker.drop_dead(None) == 3
    consumer.close()


def bury_all(broker: RedisBroker, waker: Waker, numbers: Iterable[int]) -> None:
    """Send messages and bury each."""
    broker.publish([message(number) for number in numbers])
    consumer = broker.consumer(["celery"], "w@h", waker)
    while got := consumer.turn([], 512, 0.0):
        consumer.turn([Outcome(each, Action.BURY, reason="bad") for each in got], 0, 0.0)
    consumer.close()


def test_a_long_dead_set_is_read_a_page_at_a_time(
    broker: RedisBroker, server: RedisServer, waker: Waker
) -> None:
    bury_all(broker, waker, range(2500))
    server.call("CONFIG", "RESETSTAT")
    assert [entry.id for entry in broker.dead(limit=10**9)] == [f"id-{n}" for n in reversed(range(2500))]
    assert calls_of(server, "hmget") == 3
    assert [entry.id for entry in broker.dead(limit=2)] == ["id-2499", "id-2498"]
    found = broker.find_dead("id-7")
    assert found is not None and (found.id, found.reason) == ("id-7", "bad")
    assert broker.find_dead("id-9999") is None
    assert broker.drop_dead(["id-7", "id-8", "none"]) == 2
    server.call("CONFIG", "RESETSTAT")
    assert broker.retry_dead(None) == 2498
    assert calls_of(server, "zrange") == 1  # not one of all ids
    consumer = broker.consumer(["celery"], "w@h", waker)
    assert ids(consumer.turn([], 10, 0.0)) == [f"id-{n}" for n in (*range(7), 9, 10, 11)]
    consumer.close()


def test_an_entry_without_a_readable_id_can_be_sent_again(
    broker: RedisBroker, server: RedisServer, waker: Waker
) -> None:
    bury_all(broker, waker, [1])
    server.call("HSET", "fastq:{celery}:dead:entries", b"\xff", b"bad\x00{}")
    server.call("ZADD", "fastq:{celery}:dead", "1", b"\xff")
    assert [entry.id for entry in broker.dead()] == ["id-1", "\ufffd"]
    assert broker.find_dead("\ufffd") is not None
    assert broker.retry_dead(["\ufffd", "id-1"]) == 2
    assert server.call("LLEN", "celery") == 2


def test_a_search_among_large_messages_reads_few_at_a_time(broker: RedisBroker, server: RedisServer) -> None:
    large = b"[[], {}, {}]" + b" " * 300_000
    for number in range(60):
        headers = {"task": "proj.add", "id": f"id-{number}"}
        broker.publish([Message("proj.add", f"id-{number}", headers, large, queue="celery")])
    server.call("CONFIG", "RESETSTAT")
    place = broker.locate("id-0")  # the last one to be looked at
    assert place is not None and place.state == "queued"
    assert calls_of(server, "lrange") >= 1 + 40 / 3
    server.call("CONFIG", "RESETSTAT")
    assert broker.purge("celery") == 60
    assert (calls_of(server, "unlink"), calls_of(server, "del")) == (1, 0)


def test_a_key_of_another_type_stops_no_other_queue(
    broker: RedisBroker, server: RedisServer, waker: Waker
) -> None:
    server.call("SET", "broken", "x")
    broker.publish([message(1)])
    consumer = broker.consumer(["broken", "celery"], "w@h", waker)
    assert ids(consumer.turn([], 10, 0.0)) == ["id-1"]
    assert consumer.turn([], 10, 0.05) == []
    assert [info.ready + info.claimed for info in broker.queues(["broken"])] == [0, 1]
    place = broker.locate("id-1", ["broken"])
    assert place is not None and place.queue == "celery"
    consumer.close()


def test_the_prefix_stands_before_every_key(server: RedisServer, waker: Waker) -> None:
    options = BrokerOptions(transport_options={"global_keyprefix": "app:", "priority_steps": [0, 5]})
    broker = RedisBroker(server.url, options)
    consumer = broker.consumer(["celery"], "w@h", waker)
    broker.publish([message(1, priority=9), message(2, due=time.time() + 60)])
    assert ids(consumer.turn([], 10, 0.0)) == ["id-1"]
    names = server.call("KEYS", "*")
    assert all(name.startswith(b"app:") for name in names)  # type: ignore[attr-defined]
    consumer.close()
    assert server.call("LLEN", "app:celery\x06\x165") == 1
    broker.close()


def test_publish_survives_a_restart_and_a_long_outage_is_an_error(
    start_redis: Callable[..., RedisServer], waker: Waker
) -> None:
    server = start_redis(*DURABLE)
    broker = RedisBroker(server.url, BrokerOptions(publish_deadline=5.0, lease=2.0))
    try:
        consumer = broker.consumer(["celery"], "w@h", waker)
        broker.publish([message(1), message(2)])
        [held] = consumer.turn([], 1, 0.0)
        server.kill()
        with pytest.raises(OperationalError):
            consumer.turn([], 0, 0.0) or consumer.turn(done([held]), 1, 0.0)
        assert not consumer.is_connected
        began = time.monotonic()
        with pytest.raises(OperationalError, match="connect"):
            broker.publish([message(3)], deadline=0.5)
        assert time.monotonic() - began < 1.0
        timer = threading.Timer(0.3, server.start)
        timer.start()
        broker.publish([message(3)])
        timer.join()
        got = consumer.turn(done([held]), 10, 1.0)
        assert ids(got) == ["id-2", "id-3"]
        assert consumer.lost == []
        consumer.close()
        assert [info.ready for info in broker.queues()] == [2]
    finally:
        broker.close()


def test_twenty_threads_publish_through_one_broker(broker: RedisBroker, server: RedisServer) -> None:
    def publish(first: int) -> None:
        for number in range(100):
            broker.publish([message(first + number)])

    threads = [threading.Thread(target=publish, args=(n * 100,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    raw = server.call("LRANGE", "celery", 0, -1)
    assert len({json.loads(text)["headers"]["id"] for text in raw}) == 2000  # type: ignore[attr-defined]


def test_a_forked_child_uses_connections_of_its_own(broker: RedisBroker, server: RedisServer) -> None:
    broker.publish([message(0)])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            for number in range(100):
                broker.publish([message(1000 + number)])
            status = 0
        finally:
            os._exit(status)
    for number in range(100):
        broker.publish([message(1 + number)])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert server.call("LLEN", "celery") == 201


def test_a_unix_socket_and_a_user_of_an_acl(server: RedisServer) -> None:
    url = f"redis+socket://{server.socket_path}?virtual_host=3"
    broker = RedisBroker(url, BrokerOptions())
    broker.publish([message(1)])
    broker.close()
    rules = ["on", ">s3cret/", "~celery*", "~fastq:*", "&*", "+@all", "-@dangerous"]
    server.call("ACL", "SETUSER", "ann", *rules)
    login = RedisBroker(f"redis://ann:s3cret%2F@127.0.0.1:{server.port}/3", BrokerOptions())
    assert [info.ready for info in login.queues(["celery"])] == [1]
    assert "s3cret" not in login.description()
    login.publish([message(2)])
    login.close()
    wrong = RedisBroker(f"redis://ann:no@127.0.0.1:{server.port}/3", BrokerOptions())
    began = time.monotonic()
    with pytest.raises(OperationalError, match="WRONGPASS"):
        wrong.publish([message(3)])
    assert time.monotonic() - began < 1.0


def test_a_worker_whose_clock_is_behind_does_not_get_back_at_once_what_it_parks(
    broker: RedisBroker, waker: Waker, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker.publish([message(1)])
    consumer = broker.consumer(["celery"], "w@h", waker)
    (early,) = consumer.turn([], 10, 0.0)
    behind = time.time() - 60
    monkeypatch.setattr("fastq.brokers.redis.consumer.time.time", lambda: behind)
    parked = Outcome(early, Action.PARK, until=behind + 30)
    assert consumer.turn([parked], 10, 0.2) == []
    place = broker.locate("id-1", ["celery"])
    assert place is not None and place.until == pytest.approx(behind + 90, abs=1.0, rel=0)
    consumer.close()
