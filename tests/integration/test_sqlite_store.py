"""What the embedded store promises beyond the contract: its URLs, its errors, forks, and idleness."""

from __future__ import annotations

import os
import select
import sqlite3
import stat
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from fastq._core.message import Delivery, Message, Outcome, new_id
from fastq.backends.base import BackendOptions, StoredResult
from fastq.backends.sqlite import SQLiteBackend
from fastq.brokers.base import BrokerOptions
from fastq.brokers.sqlite import pause
from fastq.brokers.sqlite import store as store_module
from fastq.brokers.sqlite.broker import SQLiteBroker
from fastq.brokers.sqlite.file_watch import try_watch
from fastq.brokers.sqlite.statements import parse_statements
from fastq.brokers.sqlite.store import POLL_MAX, POLL_MIN, database_path, poll_interval
from fastq.exceptions import ImproperlyConfigured, OperationalError
from fastq.wakeup import Waker


def message(queue: str = "q") -> Message:
    task_id = new_id()
    return Message("tasks.noop", task_id, {"task": "tasks.noop", "id": task_id}, b"[[], {}, {}]", queue=queue)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


# ---- URLs ----


def test_the_embedded_file_is_named_after_the_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTQ_HOME", str(tmp_path / "home"))
    assert database_path("sqlite://", "proj") == tmp_path / "home/proj.sqlite3"
    assert database_path("sqlite:///", "a/b") == tmp_path / "home/a_b.sqlite3"
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_three_slashes_are_relative_and_four_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert database_path("sqlite:///x.db", "proj") == tmp_path / "x.db"
    assert database_path("sqlite:////var/x%20y.db", "proj") == Path("/var/x y.db")


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("sqlite://:memory:", "memory://"),
        ("sqlite:///:memory:", "memory://"),
        ("sqlite://x.db", "sqlite:///x.db"),
    ],
)
def test_what_names_no_file_is_refused_with_what_to_write(url: str, hint: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=hint):
        database_path(url, "proj")


def test_a_backend_of_another_file_shares_no_store(tmp_path: Path) -> None:
    broker = SQLiteBroker(f"sqlite:///{tmp_path}/a.db", BrokerOptions())
    assert not SQLiteBackend(f"sqlite:///{tmp_path}/b.db", BackendOptions()).shares_store_with(broker)
    (tmp_path / "link.db").symlink_to(tmp_path / "a.db")
    assert SQLiteBackend(f"sqlite:///{tmp_path}/link.db", BackendOptions()).shares_store_with(broker)


def test_statements_are_found_by_name() -> None:
    text = "-- about\n\n-- name: one\n-- (id)\nSELECT 1\n\n-- name: two\nSELECT 2\n"
    assert parse_statements(text) == {"one": "-- (id)\nSELECT 1", "two": "SELECT 2"}


# ---- errors ----


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    broker = SQLiteBroker(f"sqlite:///{tmp_path}/none/x.db", BrokerOptions())
    with pytest.raises(OperationalError, match=r"none/x\.db can't be opened: make its folder"):
        broker.publish([message()])


def test_a_file_of_another_kind_is_named(path: Path) -> None:
    path.write_bytes(b"not a database at all, " * 100)
    with pytest.raises(OperationalError, match=r"store\.sqlite3 is not an SQLite database"):
        SQLiteBroker(f"sqlite:///{path}", BrokerOptions()).publish([message()])


def test_a_corrupted_file_is_named(path: Path) -> None:
    broker = SQLiteBroker(f"sqlite:///{path}", BrokerOptions())
    broker.publish([message() for _ in range(200)])
    broker.close()
    with path.open("r+b") as file:
        file.seek(store_module.PAGE_BYTES)
        file.write(os.urandom(path.stat().st_size - store_module.PAGE_BYTES))
    with pytest.raises(OperationalError, match=r"store\.sqlite3 (is corrupted|failed)"):
        broker.publish([message()])


def test_tables_of_a_later_version_are_left_alone(path: Path) -> None:
    broker = SQLiteBroker(f"sqlite:///{path}", BrokerOptions())
    broker.publish([message()])
    broker.close()
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE fastq_counters SET value = 2 WHERE name = 'schema'")
        db.commit()
    with pytest.raises(OperationalError, match=r"tables of version 2, this fastq knows version 1"):
        broker.publish([message()])


# In the order in which they came.
LATER_TABLES = (
    "fastq_groups",
    "fastq_chords",
    "fastq_parts",
    "fastq_chains",
    "fastq_revoked",
    "fastq_paused",
)


@pytest.mark.parametrize("known", range(len(LATER_TABLES)))
def test_an_older_file_gets_the_tables_that_it_lacks(path: Path, known: int) -> None:
    backend = SQLiteBackend(f"sqlite:///{path}", BackendOptions())
    backend.store([StoredResult("kept", "SUCCESS", b"{}")])
    backend.close()
    with closing(sqlite3.connect(path)) as db:
        for later in LATER_TABLES[known:]:
            db.execute(f"DROP TABLE {later}")
        db.commit()
    backend.save_group("g", b"group")
    assert (backend.restore_group("g"), backend.fetch(["kept"])) == (b"group", [b"{}"])
    backend.close()
    with closing(sqlite3.connect(path)) as db:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables.issuperset(LATER_TABLES)


def test_a_publish_waits_for_the_lock_until_its_deadline(path: Path) -> None:
    broker = SQLiteBroker(f"sqlite:///{path}", BrokerOptions())
    broker.publish([message()])
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        with pytest.raises(OperationalError, match="stayed locked"):
            broker.publish([message()], deadline=0.2)
        assert 0.19 <= time.monotonic() - began < 2.0
        timer = threading.Timer(0.1, other.execute, ["ROLLBACK"])
        timer.start()
        broker.publish([message()], deadline=5.0)
        timer.join()
    assert [info.ready for info in broker.queues()] == [2]
    broker.close()


# ---- forks ----


def test_parent_and_child_publish_after_a_fork(path: Path) -> None:
    broker = SQLiteBroker(f"sqlite:///{path}", BrokerOptions())
    broker.publish([message()])
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for _ in range(20):
                broker.publish([message()])
            broker.close()
            status = 0
        finally:
            os._exit(status)
    for _ in range(20):
        broker.publish([message()])
    assert os.waitpid(pid, 0)[1] == 0
    assert [info.ready for info in broker.queues()] == [41]
    broker.close()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_connection_is_carried_over_a_fork(path: Path) -> None:
    broker = SQLiteBroker(f"sqlite:///{path}", BrokerOptions())
    broker.publish([message()])
    pid = os.fork()
    if pid == 0:
        files = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
        os._exit(any("store.sqlite3" in each for each in files))
    assert os.waitpid(pid, 0)[1] == 0
    broker.close()


# ---- idleness ----


def test_polling_is_quick_after_activity_and_slow_when_idle() -> None:
    assert poll_interval(0.0) == POLL_MIN
    assert POLL_MIN < poll_interval(0.2) < POLL_MAX
    assert poll_interval(100.0) == POLL_MAX


@pytest.mark.parametrize("watches", [True, False])
def test_a_worker_that_was_idle_sees_a_message_at_once(
    path: Path, watches: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a watch on the log; where there is none, at the next of ever rarer looks."""
    if not watches:
        monkeypatch.setattr(pause, "try_watch", lambda log: None)
    broker = SQLiteBroker(f"sqlite:///{path}", BrokerOptions())
    waker = Waker()
    consumer = broker.consumer(["q"], "w@here", waker)
    assert consumer.turn((), 1, 0.3) == []
    timer = threading.Timer(0.3, broker.publish, [[message()]])
    timer.start()
    began = time.monotonic()
    assert len(consumer.turn((), 1, 10.0)) == 1
    assert time.monotonic() - began < 1.0
    timer.join()
    consumer.close()
    broker.close()
    waker.close()


def test_a_watch_tells_of_writes_until_it_is_cleared(path: Path) -> None:
    path.touch()
    watch = try_watch(path)
    assert watch is not None
    poll = select.poll()
    poll.register(watch.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    for _ in range(300):
        path.write_bytes(b"x")
    assert poll.poll(1000) != []
    watch.clear()
    assert poll.poll(0) == []
    watch.close()
    assert try_watch(path.with_name("missing")) is None


def test_an_idle_worker_writes_nothing(path: Path) -> None:
    broker = SQLiteBroker(f"sqlite:///{path}", BrokerOptions(lease=0.05))
    waker = Waker()
    consumer = broker.consumer(["q"], "w@here", waker)
    broker.publish([message()])
    (delivery,) = consumer.turn((), 1, 1.0)
    consumer.turn([Outcome(delivery)], 1, 0.1)
    with closing(sqlite3.connect(path)) as db:
        before = db.execute("PRAGMA data_version").fetchone()
        consumer.turn((), 1, 0.2)
        assert db.execute("PRAGMA data_version").fetchone() == before
    consumer.close()
    broker.close()
    waker.close()


def test_what_a_turn_has_settled_is_not_settled_again_when_its_wait_fails(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = SQLiteBroker(f"sqlite:///{path}", BrokerOptions())
    waker = Waker()
    consumer = broker.consumer(["q"], "w@here", waker)
    # Of a task that was acknowledged before it ran; its retry must be sent once.
    ended = Outcome(Delivery(message(), None, "q"), follow=[message("other")])

    def fail(*args: object) -> bool:
        raise OperationalError("the disk is gone")

    with monkeypatch.context() as faulty:
        faulty.setattr(consumer, "_finds_work", fail)
        assert consumer.turn([ended], 1, 0.1) == []
        with pytest.raises(OperationalError):
            consumer.turn((), 1, 0.1)
    assert [(info.name, info.ready) for info in broker.queues(["other"])] == [("other", 1)]
    consumer.close()
    broker.close()
    waker.close()


def test_a_clock_that_was_set_forward_ends_no_lease(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = SQLiteBroker(f"sqlite:///{path}", BrokerOptions())
    wakers = [Waker(), Waker()]
    busy = broker.consumer(["q"], "busy@here", wakers[0])
    other = broker.consumer(["q"], "other@here", wakers[1])
    broker.publish([message()])
    (delivery,) = busy.turn((), 1, 1.0)
    assert other.turn((), 1, 0.0) == []
    wall_time = time.time
    monkeypatch.setattr(time, "time", lambda: wall_time() + 3600.0)
    assert other.turn((), 1, 0.05) == []
    busy.turn((), 1, 0.0)
    busy.turn([Outcome(delivery)], 0, 0.0)
    assert busy.lost == []
    for consumer, waker in zip((busy, other), wakers, strict=True):
        consumer.close()
        waker.close()
    broker.close()


# ---- results ----


def test_turns_sweep_expired_results_and_groups(path: Path) -> None:
    url = f"sqlite:///{path}"
    broker, backend = SQLiteBroker(url, BrokerOptions()), SQLiteBackend(url, BackendOptions(expires=0.01))
    backend.store([StoredResult(new_id(), "SUCCESS", b"{}") for _ in range(5)])
    backend.save_group("g", b"group")
    time.sleep(0.02)
    waker = Waker()
    consumer = broker.consumer(["q"], "w@here", waker, backend)
    broker.publish([message() for _ in range(3)])
    consumer.turn(
        [Outcome(each, state="SUCCESS", result=b"{}") for each in consumer.turn((), 3, 1.0)], 0, 0.0
    )
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM fastq_results").fetchone() == (3,)
        assert db.execute("SELECT count(*) FROM fastq_groups").fetchone() == (0,)
    consumer.close()
    for each in (broker, backend):
        each.close()
    waker.close()


def test_ids_whose_hashes_are_equal_are_told_apart(path: Path) -> None:
    backend = SQLiteBackend(f"sqlite:///{path}", BackendOptions())
    backend.store([StoredResult("plumless", "SUCCESS", b"a"), StoredResult("buckeroo", "SUCCESS", b"b")])
    assert backend.fetch(["plumless", "buckeroo"]) == [b"a", b"b"]  # one CRC-32: 0x4ddb0c25
    backend.close()
