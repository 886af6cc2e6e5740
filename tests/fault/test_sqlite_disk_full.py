"""A disk that is full: what failed can be done again, and nothing is lost or done by halves."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fastq._core.message import Message, Outcome, new_id
from fastq.backends.base import BackendOptions
from fastq.backends.sqlite import SQLiteBackend
from fastq.brokers.base import BrokerOptions
from fastq.brokers.sqlite.broker import SQLiteBroker
from fastq.exceptions import OperationalError
from fastq.wakeup import Waker

DISK_BYTES = 24 << 20


@dataclass
class Disk:
    """A folder whose space can be taken away and given back."""

    folder: Path
    fill: Callable[[], None]
    free: Callable[[], None]


@pytest.fixture(params=["tmpfs", "page limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    if request.param == "page limit":
        yield limited_by_sqlite(tmp_path, monkeypatch)
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount; SQLite's own limit is tested instead")
    ballast = tmp_path / "ballast"
    try:
        yield Disk(tmp_path, lambda: fill(ballast), ballast.unlink)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def fill(ballast: Path) -> None:
    """Write into *ballast* until the disk has no byte left."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass


def limited_by_sqlite(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """A disk that SQLite takes for full: no connection may let its file grow."""
    connect = sqlite3.connect
    opened: list[sqlite3.Connection] = []
    pages = {"limit": 1 << 30}  # SQLite takes a limit below what the file has as just that

    def connect_with_limit(*args: object, **kwargs: object) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **kwargs)  # type: ignore[call-overload]
        opened.append(connection)
        connection.execute(f"PRAGMA max_page_count = {pages['limit']}")
        return connection

    def limit(count: int) -> None:
        pages["limit"] = count
        for connection in opened:
            try:
                connection.execute(f"PRAGMA max_page_count = {count}")
            except sqlite3.ProgrammingError:
                pass  # closed meanwhile

    monkeypatch.setattr(sqlite3, "connect", connect_with_limit)
    return Disk(folder, lambda: limit(1), lambda: limit(1 << 30))


def messages(count: int, queue: str) -> list[Message]:
    ids = [new_id() for _ in range(count)]
    return [
        Message("tasks.noop", each, {"task": "tasks.noop", "id": each}, b"x" * 500, queue=queue)
        for each in ids
    ]


@pytest.fixture
def store(disk: Disk) -> Iterator[tuple[SQLiteBroker, SQLiteBackend]]:
    url = f"sqlite:///{disk.folder / 'store.sqlite3'}"
    broker, backend = SQLiteBroker(url, BrokerOptions()), SQLiteBackend(url, BackendOptions())
    yield broker, backend
    broker.close()
    backend.close()


def test_outcomes_that_found_no_room_are_settled_once_there_is(
    disk: Disk, store: tuple[SQLiteBroker, SQLiteBackend]
) -> None:
    broker, backend = store
    sent = messages(300, "q")
    broker.publish(sent)
    waker = Waker()
    consumer = broker.consumer(["q"], "w@here", waker, backend)
    deliveries = consumer.turn((), 100, 0.0)
    follow = messages(100, "next")
    outcomes = [
        Outcome(each, state="SUCCESS", result=b"r" * 40_000, follow=[after])
        for each, after in zip(deliveries, follow, strict=True)
    ]
    disk.fill()
    for _ in range(3):
        with pytest.raises(OperationalError, match=r"store\.sqlite3 has no room to grow: free space"):
            consumer.turn(outcomes, 100, 0.0)
    disk.free()
    assert backend.fetch([each.id for each in sent]) == [None] * 300
    assert [(info.name, info.ready, info.claimed) for info in broker.queues()] == [("q", 200, 100)]

    assert consumer.turn(outcomes, 0, 0.0) == []
    assert consumer.lost == []
    assert backend.fetch([each.id for each in sent[:100]]) == [b"r" * 40_000] * 100
    counts = [(info.name, info.ready, info.claimed) for info in broker.queues(["q"])]
    assert counts == [("next", 100, 0), ("q", 200, 0)]
    consumer.close()
    waker.close()


def test_a_publish_that_found_no_room_leaves_nothing_behind(
    disk: Disk, store: tuple[SQLiteBroker, SQLiteBackend]
) -> None:
    broker, _ = store
    broker.publish(messages(1, "q"))
    sent = messages(1000, "q")
    disk.fill()
    with pytest.raises(OperationalError, match="free space"):
        broker.publish(sent)
    disk.free()
    assert [info.ready for info in broker.queues()] == [1]
    broker.publish(sent)
    assert [info.ready for info in broker.queues()] == [1001]
