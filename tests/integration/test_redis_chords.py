"""Chords on Redis: the keys that Celery's workers count in, shared with them, and replies that are lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from reference.fixtures import fixture
from servers import RedisServer

from fastq._core.message import Delivery, Effects, Message, Outcome
from fastq.backends.base import BackendOptions, Part
from fastq.backends.redis import RedisBackend
from fastq.brokers.base import BrokerOptions
from fastq.brokers.redis.broker import RedisBroker
from fastq.brokers.redis.connection import Connection
from fastq.brokers.redis.consumer import RedisConsumer
from fastq.exceptions import OperationalError
from fastq.wakeup import Waker

GROUP = "48f57048-c12a-40f6-9d34-3b336677dc52"


@pytest.fixture(scope="module")
def shared_server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    return start_redis()


@pytest.fixture
def server(shared_server: RedisServer) -> RedisServer:
    shared_server.call("FLUSHALL")
    return shared_server


@pytest.fixture
def backend(server: RedisServer) -> Iterator[RedisBackend]:
    backend = RedisBackend(server.url, BackendOptions())
    yield backend
    backend.close()


@pytest.fixture
def broker(server: RedisServer) -> Iterator[RedisBroker]:
    broker = RedisBroker(server.url, BrokerOptions(lease=5.0, publish_deadline=2.0))
    yield broker
    broker.close()


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


def member(task_id: str, value: Any) -> bytes:
    return json.dumps([1, task_id, "SUCCESS", value]).encode()


def keys_of(server: RedisServer, group: str = GROUP) -> dict[str, tuple[bytes, Any]]:
    """Each key of a chord with its type and value; all must expire."""
    read = {b"string": ["GET"], b"set": ["SMEMBERS"], b"list": ["LRANGE", 0, -1], b"zset": ["ZRANGE", 0, -1]}
    found: dict[str, tuple[bytes, Any]] = {}
    for key in server.call("KEYS", f"*{group}*"):
        kind = server.call("TYPE", key)
        command, *rest = read[kind]
        assert server.call("PTTL", key) > 0
        value = server.call(str(command), key, *rest, *(["WITHSCORES"] if kind == b"zset" else []))
        found[key.decode()] = (kind, sorted(value) if kind == b"set" else value)
    return found


# ---- Celery's keys ----


@pytest.mark.parametrize("name", ["chord-redis-progress-zset", "chord-redis-progress-list"])
def test_the_state_of_a_chord_is_celerys(server: RedisServer, name: str) -> None:
    captured = fixture(name)["group_keys_after_first_part"]
    group = next(iter(captured)).removeprefix("celery-taskset-meta-")[:36]
    options = {"result_chord_ordered": not name.endswith("list")}
    backend = RedisBackend(server.url, BackendOptions(transport_options=options))
    [part] = captured[f"celery-taskset-meta-{group}.j"]["value"]
    text = part if isinstance(part, str) else part[0]
    backend.begin_chords([(group, 2)])
    backend.count_parts([Part(group, json.loads(text)[1], 0, text.encode())])
    found = keys_of(server, group)
    assert {key: kind.decode() for key, (kind, _) in found.items()} == {
        key: entry["type"] for key, entry in captured.items()
    }
    for key, entry in captured.items():
        value = found[key][1]
        if entry["type"] == "zset":
            assert value == [[each.encode(), score] for each, score in entry["value"]]
        else:
            wanted = entry["value"]
            assert value == (
                wanted.encode() if isinstance(wanted, str) else [each.encode() for each in wanted]
            )
    backend.count_parts([Part(group, "b", 1, b"[]")])
    assert backend.parts(group) == [text.encode(), b"[]"]
    assert backend.end_chord(group)
    assert keys_of(server, group) == {f"celery-taskset-meta-{group}.c": (b"string", b"done")}
    assert 250_000 < server.call("PTTL", f"celery-taskset-meta-{group}.c") <= 300_000
    backend.close()


def test_the_prefix_of_results_stands_before_chords_too(server: RedisServer) -> None:
    backend = RedisBackend(server.url, BackendOptions(transport_options={"global_keyprefix": "mine"}))
    backend.begin_chords([(GROUP, 1)])
    [complete] = backend.count_parts([Part(GROUP, "a", 0, b"[]")])
    assert (complete.group_id, complete.members) == (GROUP, [b"[]"])
    assert all(key.startswith(f"mine_celery-taskset-meta-{GROUP}.") for key in keys_of(server))
    backend.close()


def test_what_is_known_of_a_chord_is_kept_as_long_as_is_said(server: RedisServer) -> None:
    backend = RedisBackend(server.url, BackendOptions(expires=100.0, chord_expires=50.0))
    backend.begin_chords([(GROUP, 2)])
    backend.save_group(GROUP, b"group")
    backend.count_parts([Part(GROUP, "a", 0, b"[]")])
    for suffix, seconds in (("", 100), (".s", 50), (".j", 50), (".d", 50)):
        assert seconds * 900 < server.call("PTTL", f"celery-taskset-meta-{GROUP}{suffix}") <= seconds * 1000
    backend.close()


# ---- chords shared with Celery's workers ----


@pytest.fixture
def celery_app(server: RedisServer) -> Iterator[Celery]:
    app = Celery("other", broker=server.url, backend=server.url, set_as_current=False)
    app.conf.task_publish_retry = False
    yield app
    app.close()


def end_in_celery(app: Celery, task_id: str, index: int, value: Any) -> None:
    """Let a worker of Celery count a part, and send the body if that was the last."""
    body = {"task": "body", "args": [], "kwargs": {}, "options": {"task_id": "body-id"}, "immutable": False}
    body["subtask_type"] = None
    request = SimpleNamespace(id=task_id, group=GROUP, group_index=index, chord=body)
    app.backend.on_chord_part_return(request, "SUCCESS", value)


def test_celery_counts_a_part_and_fastq_the_last(
    server: RedisServer, backend: RedisBackend, celery_app: Celery
) -> None:
    celery_app.backend.set_chord_size(GROUP, 2)
    end_in_celery(celery_app, "a", 0, 3)
    [complete] = backend.count_parts([Part(GROUP, "b", 1, member("b", 4))])
    assert complete.members is not None
    assert [json.loads(each)[3] for each in complete.members] == [3, 4]
    # While it is being joined, Celery leaves it alone.
    end_in_celery(celery_app, "a", 0, 3)
    assert server.call("LLEN", "celery") == 0
    assert backend.end_chord(GROUP)
    end_in_celery(celery_app, "a", 0, 3)
    assert server.call("LLEN", "celery") == 0


def test_fastq_counts_a_part_and_celery_the_last(
    server: RedisServer, backend: RedisBackend, celery_app: Celery
) -> None:
    backend.begin_chords([(GROUP, 2)])
    assert backend.count_parts([Part(GROUP, "a", 0, member("a", 3))]) == []
    end_in_celery(celery_app, "b", 1, 4)
    assert server.call("LLEN", "celery") == 1
    assert backend.count_parts([Part(GROUP, "a", 0, member("a", 3))]) == []
    assert not backend.end_chord(GROUP)
    assert keys_of(server) == {f"celery-taskset-meta-{GROUP}.c": (b"string", b"done")}


def test_a_chord_that_a_worker_of_celery_has_taken_is_left_to_it_until_it_died(
    server: RedisServer, backend: RedisBackend
) -> None:
    backend.begin_chords([(GROUP, 1)])
    part = Part(GROUP, "a", 0, member("a", 3))
    server.call("SET", f"celery-taskset-meta-{GROUP}.c", "a-token-of-celery")
    assert (
        backend.count_parts([part]) == []
    )  # it counts for the first time: it can't be the one that is waited for
    for _ in range(2):
        assert [each.is_taken for each in backend.count_parts([part])] == [True]
    assert not backend.end_chord(GROUP)
    server.call("DEL", f"celery-taskset-meta-{GROUP}.c")
    assert [each.is_taken for each in backend.count_parts([part])] == [False]


# ---- replies that are lost ----


class Stage:
    """A worker with one part of a chord, which completes it, and a message that follows."""

    def __init__(self, broker: RedisBroker, backend: RedisBackend, waker: Waker) -> None:
        self.broker, self.backend = broker, backend
        broker.publish([message("part")])
        backend.begin_chords([(GROUP, 1)])
        consumer = broker.consumer(["celery"], "w@h", waker, backend)
        assert isinstance(consumer, RedisConsumer)
        self.consumer = consumer
        [delivery] = consumer.turn((), 1, 1.0)
        self.outcome = ended(delivery)

    def completed(self) -> list[Outcome]:
        found = [outcome for outcome, _ in self.consumer.completed]
        self.consumer.completed.clear()
        return found

    def lengths(self) -> tuple[int, int | None, int]:
        """Messages that are ready and claimed in the queue of the part, and in that of what follows."""
        infos = {info.name: info for info in self.broker.queues(["celery", "next"])}
        return infos["celery"].ready, infos["celery"].claimed, infos["next"].ready


@pytest.fixture
def stage(broker: RedisBroker, backend: RedisBackend, waker: Waker) -> Iterator[Stage]:
    stage = Stage(broker, backend, waker)
    yield stage
    stage.consumer.close()


def message(name: str, queue: str = "celery") -> Message:
    return Message("t", name, {"task": "t", "id": name}, b"[[], {}, {}]", queue=queue)


def ended(delivery: Delivery) -> Outcome:
    return Outcome(
        delivery,
        state="SUCCESS",
        result=b'{"status":"SUCCESS"}',
        follow=[message("after", "next")],
        effects=Effects(parts=[(GROUP, "part", 0, member("part", 1))]),
    )


def join() -> Outcome:
    return Outcome(Delivery(None, None, ""), follow=[message("body", "next")], effects=Effects(joined=GROUP))


def lose_next_reply(consumer: RedisConsumer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the connection break after the server has done what it was asked next, and before it is heard."""
    connection = consumer._connection
    assert connection is not None

    def read(timeout: float) -> Any:
        Connection.read(connection, timeout)
        raise OperationalError("the connection was reset")

    monkeypatch.setattr(connection, "read", read)


def test_a_completion_in_a_lost_reply_is_told_when_the_outcome_is_given_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_next_reply(stage.consumer, monkeypatch)
    with pytest.raises(OperationalError):
        stage.consumer.turn([stage.outcome], 0, 0.0)
    stage.consumer.turn([stage.outcome], 0, 0.0)
    assert stage.completed() == [stage.outcome]
    assert stage.lengths() == (0, 1, 0)
    lose_next_reply(stage.consumer, monkeypatch)
    joined = [join(), stage.outcome]
    with pytest.raises(OperationalError):
        stage.consumer.turn(joined, 0, 0.0)
    stage.consumer.turn(joined, 0, 0.0)
    assert stage.completed() == []
    assert stage.lengths() == (0, 0, 2)


def test_a_completion_in_a_lost_reply_to_a_turn_posted_ahead_is_told(
    broker: RedisBroker, backend: RedisBackend, waker: Waker, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(broker, backend, waker)
    broker.publish([message(f"other-{number}") for number in range(2000)])
    consumer = stage.consumer
    consumer.turn((), 1024, 1.0)
    assert consumer._posted  # what comes next is claimed ahead
    stage.outcome.follow = None  # to enter a new queue would read its reply
    consumer.turn([stage.outcome], 1024, 1.0)
    assert stage.completed() == [] and consumer._posted[-1].outcomes == (stage.outcome,)
    lose_next_reply(consumer, monkeypatch)
    with pytest.raises(OperationalError):
        consumer.turn((), 0, 0.0)
    consumer.turn((), 0, 0.0)
    assert stage.completed() == [stage.outcome]
    consumer.turn([join(), stage.outcome], 0, 0.0)
    assert stage.lengths()[2] == 1
    consumer.close()


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_lost_reply_about_a_part_that_was_settled_before_it_ran(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, is_complete: bool
) -> None:
    stage.consumer.turn([Outcome(stage.outcome.delivery)], 0, 0.0)
    stage.outcome.delivery.tag = None
    if not is_complete:
        stage.backend.extend_chords([(GROUP, 1, "x")])
    lose_next_reply(stage.consumer, monkeypatch)
    with pytest.raises(OperationalError):
        stage.consumer.turn([stage.outcome], 0, 0.0)
    stage.consumer.turn([stage.outcome], 0, 0.0)
    assert stage.completed() == ([stage.outcome] if is_complete else [])
    assert stage.lengths() == (0, 0, 0 if is_complete else 1)


def test_a_join_whose_lease_was_lost_takes_effect_once(stage: Stage, server: RedisServer) -> None:
    stage.consumer.turn([stage.outcome], 0, 0.0)
    assert stage.completed() == [stage.outcome]
    server.call("DEL", *server.call("KEYS", "*fastq:turn:*"))  # as a restore does
    stage.consumer.turn([join(), stage.outcome], 0, 0.0)
    assert stage.consumer.lost == [stage.outcome.delivery]
    assert stage.lengths()[2] == 1  # the body; what follows the part is sent by whoever runs it next
    stage.consumer.turn([join()], 0, 0.0)
    assert stage.lengths()[2] == 1
