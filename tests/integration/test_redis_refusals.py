"""Servers that refuse: without rights, replicas, full ones, clusters. Each says so in one line, or heals."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import RedisServer, free_port
from worker_process import Project, WorkerProcess, wait_until

from fastq._core.message import Message, Outcome
from fastq.backends.base import BackendOptions, StoredResult
from fastq.backends.redis import RedisBackend
from fastq.brokers.base import BrokerOptions
from fastq.brokers.redis.broker import RedisBroker
from fastq.exceptions import OperationalError
from fastq.wakeup import Waker

RESULT = StoredResult("id-1", "SUCCESS", b"{}")


@pytest.fixture(scope="module")
def own_server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    return start_redis()


@pytest.fixture
def server(own_server: RedisServer) -> RedisServer:
    own_server.call("FLUSHALL")
    return own_server


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


@pytest.fixture
def broker(server: RedisServer) -> Iterator[RedisBroker]:
    broker = RedisBroker(server.url, BrokerOptions(publish_deadline=0.5))
    yield broker
    broker.close()


def message(number: int = 1) -> Message:
    task_id = f"id-{number}"
    return Message(
        "tasks.add", task_id, {"task": "tasks.add", "id": task_id}, b"[[1, 2], {}, {}]", queue="celery"
    )


def url_of(server: RedisServer, user: str, *rules: str) -> str:
    """The server's URL for a new *user* with these rights."""
    server.call("ACL", "SETUSER", user, "reset", "on", ">pw", *rules)
    return server.url.replace("//", f"//{user}:pw@")


def serve(project: Project, url: str) -> None:
    """One task from a client through a worker and back."""
    project.env |= {"FASTQ_BROKER_URL": url, "FASTQ_RESULT_BACKEND": url}
    with WorkerProcess(project, "-P", "solo") as worker:
        worker.wait_until_ready()
        assert project.result("tasks.add", "[1, 2]") == "3"


def test_the_rights_that_the_documentation_names_are_enough(project: Project, server: RedisServer) -> None:
    rules = ["~celery*", "~fastq:*", "&celery-task-meta-*", "+@all", "-@dangerous", "+info"]
    serve(project, url_of(server, "documented", *rules))
    assert b" user=documented " not in server.call("CLIENT", "LIST")


def test_without_tracking_a_worker_polls(project: Project, start_redis: Callable[..., RedisServer]) -> None:
    serve(project, start_redis("--rename-command", "CLIENT", "").url)


def test_without_the_registry_tasks_run_all_the_same(project: Project, server: RedisServer) -> None:
    own = ["~fastq:leases", "~fastq:workers", "~fastq:turn:*", "~fastq:{*"]
    serve(project, url_of(server, "unlisted", "~celery*", *own, "&*", "+@all"))
    assert server.call("SMEMBERS", "fastq:queues") == []


def test_a_worker_without_rights_says_which_and_goes_on_when_it_has_them(
    project: Project, server: RedisServer
) -> None:
    # Redis 7 gives a new user no channels.
    url = url_of(server, "mute", "~*", "+@all", "resetchannels")
    project.env |= {"FASTQ_BROKER_URL": url, "FASTQ_RESULT_BACKEND": url}
    with WorkerProcess(project, "-P", "solo") as worker:
        worker.wait_until_ready()
        project.call("tasks.add", "[1, 2]")
        worker.wait_for_line("The broker refuses this worker: Redis refused a command:")
        refused = [line for line in worker.log if "channel" in line and "grant" in line]
        assert sum("The broker refuses this worker" in line for line in refused) == 1
        assert len(refused) <= 3  # remote control and events need channels too, and say so once
        server.call("ACL", "SETUSER", "mute", "allchannels")
        wait_until(
            lambda: server.call("HLEN", "fastq:workers") and not claimed(server), "the task is settled"
        )
    assert not any("Traceback" in line for line in worker.log)


def claimed(server: RedisServer) -> list[bytes]:
    return server.call("KEYS", "fastq:{celery}:claims:*") or (server.call("LRANGE", "celery", 0, -1))


def test_every_forgotten_script_is_loaded_again(
    broker: RedisBroker, server: RedisServer, waker: Waker
) -> None:
    backend = RedisBackend(server.url, BackendOptions())
    consumer = broker.consumer(["celery"], "w@h", waker, backend)
    consumer.turn([], 1, 0.0)
    broker.publish([message()])
    server.call("SCRIPT", "FLUSH")
    [held] = consumer.turn([], 1, 0.0)
    server.call("SCRIPT", "FLUSH")
    backend.store([RESULT])
    server.call("SCRIPT", "FLUSH")
    consumer.close([held])
    assert server.call("LLEN", "celery") == 1
    backend.close()


def test_a_master_that_became_a_replica_is_waited_for(
    broker: RedisBroker, server: RedisServer, waker: Waker
) -> None:
    backend = RedisBackend(server.url, BackendOptions(deadline=0.5))
    consumer = broker.consumer(["celery"], "w@h", waker)
    broker.publish([message(1)])
    held = consumer.turn([], 1, 0.0)
    server.call("REPLICAOF", "127.0.0.1", 1)
    for attempt in (
        lambda: broker.publish([message(2)]),
        lambda: backend.store([RESULT]),
        lambda: consumer.turn([Outcome(held[0])], 1, 0.0),
        lambda: consumer.turn([Outcome(held[0])], 1, 0.0),  # on a new connection
        lambda: broker.purge("celery"),
    ):
        with pytest.raises(OperationalError, match=r"READONLY .* name the master"):
            attempt()
    timer = threading.Timer(0.2, server.call, ["REPLICAOF", "NO", "ONE"])
    timer.start()
    broker.publish([message(2)], 10.0)
    assert [each.message.id for each in consumer.turn([Outcome(held[0])], 1, 0.0)] == ["id-2"]
    timer.join()
    consumer.close()
    backend.close()


def test_a_full_server_is_waited_for(broker: RedisBroker, server: RedisServer) -> None:
    server.call("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(OperationalError, match=r"OOM .* raise maxmemory"):
        broker.publish([message(1)])
    timer = threading.Timer(0.2, server.call, ["CONFIG", "SET", "maxmemory", "0"])
    timer.start()
    broker.publish([message(2)], 10.0)
    timer.join()
    assert server.call("LLEN", "celery") == 1


def test_a_server_that_can_not_save_is_waited_for(
    broker: RedisBroker, start_redis: Callable[..., RedisServer], waker: Waker
) -> None:
    server = start_redis()
    obstacle = server.folder / "dump.rdb"
    (obstacle / "x").mkdir(parents=True)
    server.call("CONFIG", "SET", "save", "3600 1")
    server.call("BGSAVE")
    wait_until(lambda: b"rdb_last_bgsave_status:err" in server.call("INFO", "persistence"), "saving failed")
    broker = RedisBroker(server.url, BrokerOptions(publish_deadline=0.5))
    consumer = broker.consumer(["celery"], "w@h", waker)
    for attempt in (lambda: broker.publish([message(1)]), lambda: consumer.turn([], 1, 0.0)):
        with pytest.raises(OperationalError, match=r"MISCONF .* its log and its disk"):
            attempt()
    (obstacle / "x").rmdir()
    obstacle.rmdir()
    server.call("BGSAVE")
    broker.publish([message(2)], 10.0)
    assert [each.message.id for each in consumer.turn([], 1, 0.0)] == ["id-2"]
    consumer.close()
    broker.close()


def test_a_forgotten_login_is_made_again(broker: RedisBroker, server: RedisServer, waker: Waker) -> None:
    login = RedisBroker(url_of(server, "dora", "~*", "&*", "+@all"), BrokerOptions(publish_deadline=1.0))
    consumer = login.consumer(["celery"], "w@h", waker)
    consumer.turn([], 1, 0.0)
    login.publish([message(1)])
    server.call("ACL", "SETUSER", "default", "off")
    try:
        login._pool._idle[0].call("RESET", timeout=1.0)
        login.publish([message(2)])
        consumer._connection.call("RESET", timeout=1.0)  # type: ignore[attr-defined]
        with pytest.raises(OperationalError, match="has forgotten this login"):
            consumer.turn([], 10, 0.0)
        assert len(consumer.turn([], 10, 0.0)) == 2
        with pytest.raises(OperationalError, match="password into the URL"):
            RedisBroker(server.url, BrokerOptions(publish_deadline=1.0)).publish([message(3)])
        consumer.close()
    finally:
        admin = login._pool._idle[0]
        admin.call("ACL", "SETUSER", "default", "on", timeout=1.0)
    login.close()


def test_a_cluster_is_told_from_a_server_that_is_away(
    project: Project, start_redis: Callable[..., RedisServer]
) -> None:
    # A cluster's servers talk to each other on a second port.
    server = start_redis("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    server.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_until(lambda: b"cluster_state:ok" in server.call("CLUSTER", "INFO"), "the cluster is up")
    project.env["FASTQ_BROKER_URL"] = server.url
    with WorkerProcess(project, "-P", "solo") as worker:
        worker.wait_for_line("The broker refuses this worker: Redis refused a command: CROSSSLOT")
        worker.wait_for_line("use a server without cluster mode")
    assert not any("Traceback" in line for line in worker.log)


def test_what_its_queue_can_not_take_goes_to_the_dead_set_and_stops_nothing(
    broker: RedisBroker, server: RedisServer, waker: Waker
) -> None:
    server.call("SET", "taken", "x")
    broker.publish([message(1), message(2)])
    consumer = broker.consumer(["celery"], "w@h", waker)
    first, second = consumer.turn([], 10, 0.0)
    lost = Message("tasks.add", "id-8", {"task": "tasks.add", "id": "id-8"}, b"[[], {}, {}]", queue="taken")
    sent = message(9)
    got = consumer.turn([Outcome(first, follow=[lost]), Outcome(second, follow=[sent])], 10, 0.0)
    assert [each.message.id for each in got] == ["id-9"]
    [dead] = broker.dead()
    assert (dead.id, dead.queue) == ("id-8", "taken")
    assert "WRONGTYPE" in dead.reason
    server.call("DEL", "taken")
    assert broker.retry_dead(["id-8"]) == 1
    assert server.call("LLEN", "taken") == 1
    consumer.close()
