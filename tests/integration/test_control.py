"""Remote control of a worker in this process: what it replies, and what it does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from reference.fixtures import PROTOCOL_DATA, fixture

from fastq import FastQ, group
from fastq._core.message import new_id
from fastq.contrib.testing import start_worker
from fastq.exceptions import TaskRevokedError
from fastq.worker.control import control_command, inspect_command

PATIENCE = 10.0
NODE = "w1@example"


@pytest.fixture
def app() -> Iterator[FastQ]:
    app = FastQ("proj", broker=f"memory://{new_id()}", set_as_current=False)
    with app:
        yield app


@pytest.fixture
def gate(app: FastQ) -> Iterator[Gate]:
    """A task that waits until it is let go, so that what is behind it waits too."""
    gate = Gate(app)
    yield gate
    gate.go.set()


class Gate:
    """The tasks of these tests."""

    def __init__(self, app: FastQ) -> None:
        self.go = threading.Event()
        self.ran: list[str] = []
        self.started = threading.Semaphore(0)

        @app.task(name="proj.sleep", bind=True)
        def sleep(task: Any, *args: Any) -> str:
            self.started.release()
            while not self.go.is_set():
                time.sleep(0.005)
            self.ran.append(task.request.id)
            return "slept"

        @app.task(name="proj.add")
        def add(x: int, y: int) -> int:
            self.ran.append(add.request.id)
            return x + y

        self.sleep, self.add = sleep, add

    def occupy(self, count: int) -> list[Any]:
        """Have so many tasks run."""
        sent = [self.sleep.delay(60) for _ in range(count)]
        for _ in sent:
            assert self.started.acquire(timeout=PATIENCE)
        return sent


@pytest.fixture
def worker(app: FastQ, gate: Gate) -> Iterator[Any]:
    app.conf.worker_prefetch_multiplier = 4
    app.conf.worker_pool_restarts = True
    with start_worker(app, pool="threads", concurrency=2, hostname=NODE, perform_ping_check=False) as worker:
        wait_until(lambda: app.control.ping(timeout=0.2))
        yield worker
        gate.go.set()


def wait_until(claim: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE
    while not (found := claim()):
        assert time.monotonic() < until
        time.sleep(0.005)
    return found


def said(app: FastQ, command: str, **arguments: Any) -> Any:
    """What the worker replies."""
    (reply,) = app.control.broadcast(command, arguments, reply=True, limit=1, timeout=PATIENCE)
    return reply[NODE]


# -- shapes ------------------------------------------------------------------------------------------


def shape(value: Any) -> Any:
    """The keys and types of *value*; of a list those of its first member, of a map by tasks or ids none."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return (
        "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__
    )


# What another system, pool or library says in other fields, or Celery's own in words of its own.
LOOSE = {
    "stats",  # compared below
    "conf",
    "dump_conf",
    "report",
    "memdump",
    "enable_events",
    "disable_events",
    "heartbeat",
    "objgraph",
    "pool_restart",
    "shutdown",
    "time_limit",  # hard ones are not for threads
}


def is_compared(name: str) -> bool:
    return fixture(name)["request_body_decoded"]["method"] not in LOOSE and "autoscale" not in name


CONTROL_FIXTURES = sorted(path.stem for path in PROTOCOL_DATA.glob("control-*.json"))


@pytest.mark.parametrize("name", list(filter(is_compared, CONTROL_FIXTURES)))
def test_replies_have_the_shapes_of_celerys(app: FastQ, gate: Gate, worker: Any, name: str) -> None:
    wanted = fixture(name)
    body = wanted["request_body_decoded"]
    method, arguments = body["method"], dict(body["arguments"])
    running, waiting = gate.occupy(2), gate.add.delay(1, 2)
    later = gate.add.apply_async((1, 2), countdown=300)
    wait_until(lambda: said(app, "reserved"))
    if method == "query_task":
        arguments["ids"] = [running[0].id, waiting.id, later.id, "nope"]
    if method in ("revoked", "hello", "dump_revoked"):
        said(app, "revoke", task_id=["00000000-0000-4000-8000-0000000000a3"])
    if "terminate" in name and "unknown" not in name:
        arguments["task_id"] = running[1].id
    reply = said(app, method, **arguments)
    celerys = next(iter(wanted["replies"][0].values()))
    if method == "query_task":
        assert [state for state, _ in reply.values()] == ["active", "reserved", "scheduled"]
        (_, reply), (_, celerys) = next(iter(reply.values())), next(iter(celerys.values()))
    if isinstance(celerys, dict) and celerys.keys() <= {"ok", "error"}:
        assert reply.keys() == celerys.keys()
        if celerys.get("ok", "x").split()[0] not in ("tasks", "terminate:", "headers"):
            assert reply == celerys or "error" in celerys
    elif celerys:
        assert shape(reply) == shape(celerys)
    assert (reply is None) == (celerys is None)


def test_stats_have_what_flower_and_celery_read(app: FastQ, gate: Gate, worker: Any) -> None:
    gate.occupy(2)
    stats = said(app, "stats")
    celerys = fixture("control-stats-threads")["replies"][0][NODE]
    assert celerys.keys() <= stats.keys()
    assert celerys["broker"].keys() == stats["broker"].keys()
    assert celerys["pool"].keys() <= stats["pool"].keys()
    assert celerys["rusage"].keys() == stats["rusage"].keys()
    assert stats["total"] == {"proj.sleep": 2}
    assert type(stats["clock"]) is str


def test_settings_are_shown_without_their_secrets(app: FastQ, worker: Any) -> None:
    assert said(app, "conf")["worker_pool_restarts"] is True
    assert "task_serializer" not in said(app, "conf")
    assert said(app, "conf", with_defaults=True)["task_serializer"] == "json"
    assert "worker_pool_restarts: True" in said(app, "report")["ok"]


# -- who is meant ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "answers"),
    [
        ({}, True),
        ({"destination": [NODE]}, True),
        ({"destination": NODE}, True),
        ({"destination": ["other@example"]}, False),
        ({"pattern": "w*", "matcher": "glob"}, True),
        ({"pattern": "x*"}, False),
        ({"pattern": r"w\d@", "matcher": "pcre"}, True),
        ({"pattern": r"\d", "matcher": "pcre"}, False),
    ],
)
def test_a_command_is_for_those_who_are_named(
    app: FastQ, worker: Any, options: dict[str, Any], answers: bool
) -> None:
    replies = app.control.ping(timeout=PATIENCE if answers else 0.2, limit=1, **options)
    assert replies == ([{NODE: {"ok": "pong"}}] if answers else [])


def test_inspect_gives_replies_by_node_or_one_nodes(app: FastQ, worker: Any) -> None:
    assert app.control.inspect(limit=1).ping() == {NODE: {"ok": "pong"}}
    assert app.control.inspect(destination=NODE).ping() == {"ok": "pong"}
    assert app.control.inspect(destination="nobody@example", timeout=0.1).ping() is None
    assert app.control.inspect(destination=["nobody@example"], timeout=0.1).ping() is None


def test_ones_own_commands_are_answered(app: FastQ, worker: Any) -> None:
    @inspect_command(name="test_told", alias="test_alias", args=[("unit", str)], signature="[unit]")
    def told(node: Any, unit: str = "s") -> dict[str, Any]:
        """How it is."""
        return {"node": node.hostname, "unit": unit, "what": object}

    @control_command
    def test_raising(node: Any) -> None:
        raise LookupError("never mind")

    reply = said(app, "test_told", unit="ms")
    assert (reply["node"], reply["unit"]) == (NODE, "ms")
    assert said(app, "test_alias")["unit"] == "s"
    assert said(app, "test_raising") == {"error": "LookupError('never mind')"}


# -- revoking ----------------------------------------------------------------------------------------


def test_a_confirmed_revoke_means_that_it_never_runs(app: FastQ, gate: Gate, worker: Any) -> None:
    gate.occupy(2)
    held = [gate.add.delay(1, number) for number in range(4)]
    wait_until(lambda: len(said(app, "reserved")) >= 4)
    queued = [gate.add.delay(2, number) for number in range(20)]
    delayed = gate.add.apply_async((3, 3), countdown=0.2)
    kept = gate.add.delay(4, 4)
    revoked = [*held, *queued, delayed]
    replies = app.control.revoke([each.id for each in revoked], reply=True, limit=1, timeout=PATIENCE)
    assert replies[0][NODE]["ok"].endswith("flagged as revoked")
    gate.go.set()
    assert kept.get(timeout=PATIENCE) == 8
    for each in revoked:
        with pytest.raises(TaskRevokedError):
            each.get(timeout=PATIENCE)
        assert each.state == "REVOKED"
    assert not {each.id for each in revoked} & set(gate.ran)


def test_a_worker_that_starts_later_heeds_what_was_revoked(app: FastQ, gate: Gate) -> None:
    revoked, stamped, kept = (
        gate.add.delay(1, 1),
        gate.add.s(2, 2).stamp(tenant="acme").delay(),
        gate.add.delay(3, 3),
    )
    revoked.revoke()
    app.control.revoke_by_stamped_headers({"tenant": ["acme"]})
    with start_worker(app, hostname=NODE, perform_ping_check=False):
        assert kept.get(timeout=PATIENCE) == 6
        for each in (revoked, stamped):
            with pytest.raises(TaskRevokedError):
                each.get(timeout=PATIENCE)
    assert gate.ran == [kept.id]


def test_what_was_revoked_outlives_its_broker_in_a_file(app: FastQ, gate: Gate, tmp_path: Any) -> None:
    with start_worker(app, hostname=NODE, perform_ping_check=False, statedb=str(tmp_path / "state")):
        wait_until(lambda: app.control.ping(timeout=0.2))
        said(app, "revoke", task_id="some-id")
    other = FastQ("proj", broker=f"memory://{new_id()}", set_as_current=False)
    with other, start_worker(other, hostname=NODE, perform_ping_check=False, statedb=str(tmp_path / "state")):
        wait_until(lambda: other.control.ping(timeout=0.2))
        assert said(other, "revoked") == ["some-id"]


def test_terminate_ends_that_very_task(app: FastQ, gate: Gate, worker: Any) -> None:
    one, other = gate.occupy(2)
    assert said(app, "terminate", task_id=one.id, signal="KILL") == {"ok": f"terminate: {one.id}"}
    with pytest.raises(TaskRevokedError, match="terminated"):
        one.get(timeout=PATIENCE)
    assert said(app, "terminate", task_id=one.id, signal="KILL") == {"ok": "terminate: tasks unknown"}
    gate.go.set()
    assert other.get(timeout=PATIENCE) == "slept"
    assert gate.ran == [other.id]


def test_groups_are_revoked_whole(app: FastQ, gate: Gate, worker: Any) -> None:
    gate.occupy(2)
    sent = group([gate.add.s(1, number) for number in range(3)]).delay()
    sent.revoke()
    wait_until(lambda: {each.id for each in sent} <= set(said(app, "revoked")))


# -- limits, pool, queues ----------------------------------------------------------------------------


def test_rate_limits_hold_from_now_on(app: FastQ, gate: Gate, worker: Any) -> None:
    assert said(app, "rate_limit", task_name="proj.add", rate_limit="1/h")["ok"]
    first = gate.add.delay(1, 1)
    assert first.get(timeout=PATIENCE) == 2
    second = gate.add.delay(2, 2)
    wait_until(lambda: [each for each in said(app, "scheduled") if each["request"]["id"] == second.id])
    assert said(app, "rate_limit", task_name="proj.add", rate_limit=0)["ok"]
    assert gate.add.delay(3, 3).get(timeout=PATIENCE) == 6


def test_soft_time_limits_hold_from_now_on(app: FastQ, gate: Gate, worker: Any) -> None:
    assert said(app, "time_limit", task_name="proj.sleep", soft=0.05)["ok"]
    with pytest.raises(Exception, match="SoftTimeLimitExceeded"):
        gate.sleep.delay().get(timeout=PATIENCE)
    assert "error" in said(app, "time_limit", task_name="proj.sleep", hard=1)


def test_the_pool_grows_and_shrinks(app: FastQ, gate: Gate, worker: Any) -> None:
    said(app, "pool_grow", n=2)
    gate.occupy(4)
    said(app, "pool_shrink", n=3)
    gate.go.set()
    wait_until(lambda: not said(app, "active"))
    gate.go.clear()
    gate.occupy(1)
    late = gate.sleep.delay()
    wait_until(lambda: [each for each in said(app, "reserved") if each["id"] == late.id])
    assert len(said(app, "active")) == 1


def test_queues_come_and_go(app: FastQ, gate: Gate, worker: Any) -> None:
    extra = gate.add.apply_async((1, 1), queue="extra")
    assert said(app, "add_consumer", queue="extra") == {"ok": "add consumer extra"}
    assert extra.get(timeout=PATIENCE) == 2
    assert [each["name"] for each in said(app, "active_queues")] == ["celery", "extra"]
    assert said(app, "cancel_consumer", queue="extra") == {"ok": "no longer consuming from extra"}
    left = gate.add.apply_async((2, 2), queue="extra")
    assert gate.add.delay(3, 3).get(timeout=PATIENCE) == 6
    assert left.state == "PENDING"


def test_a_paused_queue_stays_paused_through_a_restart(app: FastQ, gate: Gate) -> None:
    with start_worker(app, hostname=NODE, perform_ping_check=False):
        wait_until(lambda: app.control.ping(timeout=0.2))
        app.control.pause_queue("celery", reply=True, limit=1, timeout=PATIENCE)
        waiting = gate.add.delay(1, 1)
    with start_worker(app, queues=["celery", "other"], hostname=NODE, perform_ping_check=False):
        assert gate.add.apply_async((2, 2), queue="other").get(timeout=PATIENCE) == 4
        assert waiting.state == "PENDING"
        wait_until(lambda: app.control.ping(timeout=0.2))
        app.control.resume_queue("celery", reply=True, limit=1, timeout=PATIENCE)
        assert waiting.get(timeout=PATIENCE) == 2


def test_shutdown_stops_the_worker(app: FastQ, gate: Gate, worker: Any) -> None:
    assert app.control.shutdown() is None
    wait_until(lambda: not app.control.ping(timeout=0.1))


def test_a_worker_mingles_when_it_is_told_to(app: FastQ, gate: Gate, worker: Any) -> None:
    worker._revocations.add(["known-here-alone"])
    app.clock.value = 100
    newcomer = FastQ("proj", broker=app.conf.broker_url, set_as_current=False)
    options = {"hostname": "w2@example", "perform_ping_check": False, "mingle": True}
    with newcomer, start_worker(newcomer, **options) as other:
        assert "known-here-alone" in other._revocations.records()
        assert newcomer.clock.value > 100


def test_two_workers_answer_once_each(app: FastQ, gate: Gate, worker: Any) -> None:
    twin = FastQ("proj", broker=app.conf.broker_url, set_as_current=False)
    with twin, start_worker(twin, hostname="w2@example", perform_ping_check=False):
        wait_until(lambda: len(app.control.ping(limit=2, timeout=0.2)) == 2)
        replies = app.control.ping(limit=2, timeout=PATIENCE)
        assert sorted(node for reply in replies for node in reply) == [NODE, "w2@example"]
        assert app.control.ping(pattern="w2*", limit=1) == [{"w2@example": {"ok": "pong"}}]
