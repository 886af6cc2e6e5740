"""Announcements on SQLite: a table in a file beside the broker's, which nobody has to keep.

A file of its own, because what is announced may be lost: it is written without an fsync, takes no turn
at the broker's write lock and wakes none of its consumers. It is called as the broker's file with
``-announced`` behind it, and may be deleted while nobody uses it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from fastq._core.message import Message, decode_envelope
from fastq.brokers.listening import Listener, admits
from fastq.brokers.sqlite.pause import Pause
from fastq.brokers.sqlite.statements import parse_statements
from fastq.exceptions import DecodeError, OperationalError
from fastq.topology import Queue
from fastq.wakeup import Waker

SQL = parse_statements((Path(__file__).parent / "announcements.sql").read_text(encoding="utf-8"))

# Seconds for which an announcement is there for those who listen; each announcement deletes older ones.
KEPT_SECONDS = 60.0
LOCK_SECONDS = 5.0
PRAGMAS = ("PRAGMA synchronous = OFF", "PRAGMA temp_store = MEMORY")


def file_beside(path: Path) -> Path:
    """The file of what is announced through the broker whose file is *path*."""
    return path.with_name(path.name + "-announced")


def announce(path: Path, exchange: str, messages: Sequence[Message], deadline: float) -> None:
    """Write *messages* for those who listen to *exchange*."""
    now = time.time()
    rows = [(exchange, each.routing_key, now, each.envelope()) for each in messages]
    with _translated(path), closing(_connect(path, deadline)) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute(SQL["forget"], (now - KEPT_SECONDS,))
        db.executemany(SQL["announce"], rows)
        db.execute("COMMIT")


class SQLiteListener(Listener):
    """Reads the table from where it stood when it began."""

    def __init__(self, path: Path, queue: Queue, waker: Waker | None) -> None:
        self._path = file_beside(path)
        self._queue = queue
        self._own_waker = Waker() if waker is None else None
        waker = waker or self._own_waker
        assert waker is not None
        self._pause = Pause(waker)
        self._db: sqlite3.Connection | None = None
        self._last = 0  # the number of the newest announcement that was seen

    def hear(self, timeout: float) -> list[Message]:
        deadline = time.monotonic() + timeout
        try:
            with _translated(self._path):
                if self._db is None:
                    self._begin()
                while not (heard := self._take()):
                    if self._pause.until(deadline):
                        return self._take()
            return heard
        except OperationalError:
            self._leave()
            raise

    def close(self) -> None:
        self._leave()
        if self._own_waker is not None:
            self._own_waker.close()
            self._own_waker = None

    def _begin(self) -> None:
        self._db = _connect(self._path, LOCK_SECONDS)
        (self._last,) = self._db.execute(SQL["newest"]).fetchone()
        self._pause.watch(self._path.with_name(self._path.name + "-wal"))

    def _take(self) -> list[Message]:
        assert self._db is not None
        rows = self._db.execute(SQL["since"], (self._last,)).fetchall()
        if not rows:
            return []
        self._last = rows[-1][0]
        self._pause.touch()
        heard = []
        for _, exchange, routing_key, envelope in rows:
            if admits(self._queue, exchange, routing_key):
                try:
                    heard.append(decode_envelope(envelope))
                except DecodeError:
                    continue
        return heard

    def _leave(self) -> None:
        self._pause.unwatch()
        if self._db is not None:
            self._db.close()
            self._db = None


def _connect(path: Path, deadline: float) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=deadline, isolation_level=None, check_same_thread=False)
    try:
        for pragma in PRAGMAS:
            db.execute(pragma)
        db.execute("PRAGMA journal_mode = WAL").fetchone()
        db.execute(SQL["schema"])
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        raise OperationalError(f"the SQLite file {path} failed: {exc}") from exc
