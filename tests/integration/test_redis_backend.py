"""The Redis backend against a server of its own: storing, waiting in many threads, expiry."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from servers import RedisServer, free_port
from worker_process import wait_until

from fastq._core.message import Action, Message, Outcome, new_id
from fastq.backends.base import BackendOptions, StoredResult
from fastq.backends.redis import RedisBackend
from fastq.brokers.base import BrokerOptions
from fastq.brokers.redis import keys
from fastq.brokers.redis.broker import RedisBroker
from fastq.exceptions import OperationalError
from fastq.wakeup import Waker

SUCCESS = b'{"status": "SUCCESS", "result": 1, "task_id": "x"}'


@pytest.fixture(scope="module")
def server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    return start_redis()


@pytest.fixture
def backend(server: RedisServer) -> Iterator[RedisBackend]:
    server.call("FLUSHALL")
    backend = RedisBackend(server.url, BackendOptions(expires=3600.0))
    yield backend
    backend.close()


def test_a_success_is_kept(backend: RedisBackend) -> None:
    backend.store([StoredResult("a", "STARTED", b"started"), StoredResult("b", "FAILURE", b"failed")])
    backend.store([StoredResult("a", "SUCCESS", SUCCESS)])
    backend.store([StoredResult("a", "FAILURE", b"late")])
    assert backend.fetch(["a", "b", "c"]) == [SUCCESS, b"failed", None]
    backend.forget(["a"])
    assert backend.fetch(["a"]) == [None]


def test_results_expire(server: RedisServer, backend: RedisBackend) -> None:
    backend.store([StoredResult("a", "SUCCESS", SUCCESS)])
    assert 3590 < server.call("TTL", "celery-task-meta-a") <= 3600
    kept = RedisBackend(server.url, BackendOptions(expires=None))
    kept.store([StoredResult("b", "SUCCESS", SUCCESS)])
    assert server.call("TTL", "celery-task-meta-b") == -1
    kept.close()


def test_the_prefix_ends_in_a_separator(server: RedisServer, backend: RedisBackend) -> None:
    prefixed = RedisBackend(server.url, BackendOptions(transport_options={"global_keyprefix": "app"}))
    prefixed.store([StoredResult("a", "SUCCESS", SUCCESS)])
    assert server.call("GET", "app_celery-task-meta-a") == SUCCESS
    assert list(prefixed.wait(["a"], 0.0)) == [("a", SUCCESS)]
    prefixed.close()


def test_waiting_finds_what_is_there_and_what_comes(backend: RedisBackend) -> None:
    backend.store([StoredResult("id-0", "SUCCESS", SUCCESS)])
    names = [f"id-{number}" for number in range(350)]

    def store() -> None:
        for name in names[1:]:
            backend.store([StoredResult(name, "SUCCESS", SUCCESS)])

    thread = threading.Thread(target=store)
    missing = set(names)
    waits = backend.wait(names, 20.0)
    thread.start()
    for name, document in waits:
        assert document == SUCCESS
        missing.discard(name)
        if not missing:
            break
    thread.join()
    assert not missing


def test_waiting_ends_in_time(backend: RedisBackend) -> None:
    for timeout in (0.0, 0.05, 0.3):
        began = time.monotonic()
        assert list(backend.wait(["never"], timeout)) == []
        assert timeout <= time.monotonic() - began < timeout + 0.15


def test_many_threads_share_one_subscription(server: RedisServer, backend: RedisBackend) -> None:
    got: list[str] = []

    def wait(number: int) -> None:
        for round_ in range(10):
            for name, _ in backend.wait([f"t-{number}-{round_}"], 20.0):
                got.append(name)
                break

    threads = [threading.Thread(target=wait, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for round_ in range(10):
        for number in range(20):
            backend.store([StoredResult(f"t-{number}-{round_}", "SUCCESS", SUCCESS)])
    for thread in threads:
        thread.join(30.0)
    assert len(got) == 200
    clients = server.call("CLIENT", "LIST")
    assert clients.count(b"cmd=") <= 4  # type: ignore[attr-defined]
    for number in range(300):
        assert next(iter(backend.wait([f"t-{number % 20}-{number % 10}"], 5.0)))
    info = server.call("PUBSUB", "CHANNELS")
    assert len(info) < 110  # type: ignore[arg-type]


def test_what_has_come_is_not_read_again(
    server: RedisServer, backend: RedisBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastq.backends.redis_waits.LOOK_AGAIN", 0.05)
    wanted = dict.fromkeys(new_id() for _ in range(500))
    *done, last = wanted
    backend.store([StoredResult(each, "SUCCESS", b"{}") for each in done])
    with closing(backend.wait(wanted, 30.0)) as arriving:
        for _ in done:
            del wanted[next(arriving)[0]]
        server.call("CONFIG", "RESETSTAT")
        # Without a notice, so that only a further look finds it.
        server.call("SET", backend.key_prefix + last, b"{}")
        assert next(arriving) == (last, b"{}")
    hits = server.call("INFO", "stats").decode().partition("keyspace_hits:")[2].split()[0]
    assert int(hits) == 1


def test_thousands_of_channels_are_left_by_closing_the_connection(
    server: RedisServer, backend: RedisBackend
) -> None:
    task_ids = [new_id() for _ in range(1500)]
    backend.store([StoredResult(each, "SUCCESS", b"{}") for each in task_ids])
    for _ in range(2):  # and the next wait opens another
        with closing(backend.wait(task_ids, 30.0)) as arriving:
            assert [next(arriving)[0] for _ in task_ids] == task_ids
            assert len(server.call("PUBSUB", "CHANNELS", backend.key_prefix + "*")) == 1500
        wait_until(
            lambda: not server.call("PUBSUB", "CHANNELS", backend.key_prefix + "*"), "the channels are left"
        )


def test_channels_are_left_while_others_wait(server: RedisServer, backend: RedisBackend) -> None:
    task_ids = [new_id() for _ in range(1500)]
    backend.store([StoredResult(each, "SUCCESS", b"{}") for each in task_ids])
    with closing(backend.wait([task_ids[0], "to-come"], 30.0)) as other:
        next(other)
        with closing(backend.wait(task_ids, 30.0)) as arriving:
            assert [next(arriving)[0] for _ in task_ids] == task_ids
        backend.store([StoredResult("to-come", "SUCCESS", b"come")])
        assert next(other) == ("to-come", b"come")
        wait_until(
            lambda: len(server.call("PUBSUB", "CHANNELS", backend.key_prefix + "*")) == 2,
            "only what is waited for is subscribed to",
        )


def test_a_forked_child_waits_by_itself(backend: RedisBackend) -> None:
    backend.store([StoredResult("a", "SUCCESS", SUCCESS)])
    assert next(iter(backend.wait(["a"], 5.0))) == ("a", SUCCESS)
    child = os.fork()
    if child == 0:
        os._exit(0 if next(iter(backend.wait(["a"], 5.0))) == ("a", SUCCESS) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert next(iter(backend.wait(["a"], 5.0))) == ("a", SUCCESS)


def test_it_shares_the_store_of_the_same_database_only(server: RedisServer, backend: RedisBackend) -> None:
    assert backend.shares_store_with(RedisBroker(server.url, BrokerOptions()))
    assert not backend.shares_store_with(RedisBroker(server.url[:-1] + "1", BrokerOptions()))


def test_no_server_is_an_error_in_time() -> None:
    backend = RedisBackend(f"redis://127.0.0.1:{free_port()}/0", BackendOptions(deadline=0.4))
    for attempt in (
        lambda: backend.fetch(["a"]),
        lambda: list(backend.wait(["a"], None)),
        lambda: backend.store([StoredResult("a", "SUCCESS", b"")]),
    ):
        began = time.monotonic()
        with pytest.raises(OperationalError):
            attempt()
        assert time.monotonic() - began < 1.5
    assert list(backend.wait(["a"], 0.1)) == []


@pytest.mark.parametrize("document", [pickle.dumps({"status": "SUCCESS"}), b"status: SUCCESS\n", b"\x81\xa6"])
def test_a_success_of_any_serializer_is_kept(
    server: RedisServer, backend: RedisBackend, document: bytes
) -> None:
    backend.store([StoredResult("a", "SUCCESS", document)])
    backend.store([StoredResult("a", "FAILURE", b"late")])
    assert backend.fetch(["a"]) == [document]
    assert 3590 < server.call("TTL", keys.success("", "a")) <= 3600
    backend.forget(["a"])
    assert server.call("DBSIZE") == 0


def test_what_celery_writes_over_a_success_is_no_success(server: RedisServer, backend: RedisBackend) -> None:
    backend.store([StoredResult("a", "SUCCESS", b"pickled")])
    server.call("SET", "celery-task-meta-a", b"pickled too")
    backend.store([StoredResult("a", "FAILURE", b"failed")])
    assert backend.fetch(["a"]) == [b"failed"]
    backend.store([StoredResult("b", "SUCCESS", b"pickled")])
    server.call("DEL", "celery-task-meta-b")
    backend.store([StoredResult("b", "STARTED", b"started"), StoredResult("b", "FAILURE", b"failed")])
    assert backend.fetch(["b"]) == [b"failed"]


def test_a_success_of_json_needs_no_mark(server: RedisServer, backend: RedisBackend) -> None:
    backend.store([StoredResult("a", "SUCCESS", SUCCESS)])
    assert server.call("KEYS", "*") == [b"celery-task-meta-a"]


def test_a_success_committed_by_a_turn_is_kept(server: RedisServer, backend: RedisBackend) -> None:
    broker = RedisBroker(server.url, BrokerOptions())
    broker.publish([Message("t", "a", {"task": "t", "id": "a"}, b"[[], {}, {}]", queue="q")])
    waker = Waker()
    consumer = broker.consumer(["q"], "w@here", waker, backend)
    (delivery,) = consumer.turn((), 1, 0.0)
    consumer.turn([Outcome(delivery, Action.ACK, state="SUCCESS", result=b"pickled")], 0, 0.0)
    backend.store([StoredResult("a", "FAILURE", b"late")])
    assert backend.fetch(["a"]) == [b"pickled"]
    consumer.close()
    broker.close()
    waker.close()
