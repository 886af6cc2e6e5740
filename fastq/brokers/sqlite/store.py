"""One SQLite file: its URL, its connections and transactions, and the translation of its errors.

Connections are never held while a thread sleeps, so a handful serves any number of threads and
greenlets. SQLite forbids to carry one over a fork: what is idle is closed before it.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote
from weakref import WeakSet

from fastq.brokers.sqlite.statements import SCHEMA, SQL
from fastq.exceptions import ImproperlyConfigured, OperationalError
from fastq.state_dir import state_dir

T = TypeVar("T")

SCHEMA_VERSION = 1

# Seconds between two tries for the write lock: short beside a commit's fsync, so that a publisher finds
# the gap between two turns of a busy worker. SQLite's own handler sleeps up to 0.1 s and starves there;
# and this sleep lets other greenlets run.
LOCK_RETRY = (0.0003, 0.0015)

# Seconds between two looks at the file: as short as a commit takes while something happens, and a twentieth
# of the idle time later on, up to a limit at which an idle worker takes 0.1 % of a core.
POLL_MIN, POLL_MAX = 0.001, 0.04

# The write-ahead log is copied into the file once it holds this many pages (32 MiB): less often than
# by default, because a page that is written ten times meanwhile is copied once.
CHECKPOINT_PAGES = 4096
PAGE_BYTES = 8192

PRAGMAS = (
    f"PRAGMA page_size = {PAGE_BYTES}",
    "PRAGMA synchronous = FULL",  # a commit is on the disk when it returns
    "PRAGMA secure_delete = OFF",  # some distributions overwrite what is deleted: that is one more write
    f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}",
    f"PRAGMA journal_size_limit = {CHECKPOINT_PAGES * PAGE_BYTES}",
    "PRAGMA cache_size = -16384",  # KiB
    "PRAGMA temp_store = MEMORY",
)

# What SQLite says, beginning with, and what it means to a user.
REASONS = (
    ("database or disk is full", "has no room to grow: free space on its disk"),
    ("database is locked", "stayed locked: look for a process that holds a transaction open"),
    ("database disk image is malformed", "is corrupted: restore it, or move it away with its -wal and -shm"),
    ("file is not a database", "is not an SQLite database: name another file, or move it away"),
    ("unable to open database file", "can't be opened: make its folder, or let this user write there"),
    ("attempt to write a readonly database", "may not be written to by this user: change its owner or mode"),
    ("disk I/O error", "can't be read or written: the disk reports an error"),
)

_stores: WeakSet[Store] = WeakSet()
_abandoned: list[sqlite3.Connection] = []  # a parent's connections, kept from being closed by a forked child


def poll_interval(idle: float) -> float:
    """Seconds to the next look at the file when nothing has happened for *idle* seconds."""
    return min(max(idle / 20, POLL_MIN), POLL_MAX)


def database_path(url: str, app_name: str) -> Path:
    """The file that *url* names.

    ``sqlite://`` is the file of the application in the state directory, ``sqlite:///x.db``
    is relative to the working directory, ``sqlite:////x.db`` absolute.
    """
    rest = url.partition("://")[2]
    if ":memory:" in rest:
        raise ImproperlyConfigured(f"{url} would hold for one connection: use memory:// within a process")
    if rest in ("", "/"):
        return state_dir() / f"{app_name.replace('/', '_')}.sqlite3"
    if not rest.startswith("/"):
        raise ImproperlyConfigured(f"{url} names a host; a file needs three slashes: sqlite:///{rest}")
    return Path(unquote(rest[1:])).absolute()


class Store:
    """Opens connections to one file and lends them out, safely over threads, forks and greenlets."""

    def __init__(self, path: Path, deadline: float) -> None:
        """Nothing is opened yet. *deadline* is how many seconds a call may wait for a lock."""
        self.path = path
        self.log = path.with_name(path.name + "-wal")
        self.deadline = deadline
        # Appending and popping are atomic, so the list needs no lock (which a fork could leave locked).
        self._idle: list[sqlite3.Connection] = []
        self._pid = os.getpid()
        _stores.add(self)

    def connect(self) -> sqlite3.Connection:
        """Open a connection of the caller's own. Creates the file and its tables if there are none."""
        with self.translated():
            return _retry_while_locked(self._open, self.deadline)

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=0, isolation_level=None, check_same_thread=False)
        try:
            for pragma in PRAGMAS:
                connection.execute(pragma)
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise OperationalError(f"{self.path} can't have a write-ahead log: use a local file system")
            if not connection.execute(SQL["is_created"]).fetchone():
                connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} COMMIT;")
            (version,) = connection.execute(SQL["schema_version"]).fetchone()
            if version != SCHEMA_VERSION:
                raise OperationalError(
                    f"the SQLite file {self.path} has tables of version {version}, this fastq knows version "
                    f"{SCHEMA_VERSION}: use the fastq that made it, or another file"
                )
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def lent(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection for as long as the block runs; it must not sleep."""
        if self._pid != os.getpid():  # forked by C code, which skips Python's hooks
            self._abandon()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self.connect()
        try:
            with self.translated():
                yield connection
        except OperationalError:
            connection.close()  # after a fault of the file the next call opens it anew
            raise
        except BaseException:
            self._idle.append(connection)
            raise
        self._idle.append(connection)

    @contextmanager
    def transaction(self, connection: sqlite3.Connection, deadline: float | None = None) -> Iterator[None]:
        """Commit what the block writes, durably, or nothing. Waits up to *deadline* seconds for the lock."""
        with self.translated():
            seconds = self.deadline if deadline is None else deadline
            _retry_while_locked(partial(connection.execute, "BEGIN IMMEDIATE"), seconds)
            try:
                yield
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def writing(self, deadline: float | None = None) -> Iterator[sqlite3.Connection]:
        """Lend a connection for one transaction."""
        with self.lent() as connection, self.transaction(connection, deadline):
            yield connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise `OperationalError`, with the path and what to do, in place of what sqlite3 raises."""
        try:
            yield
        except sqlite3.Error as exc:
            said = str(exc)
            reason = next((text for start, text in REASONS if said.startswith(start)), f"failed: {said}")
            raise OperationalError(f"the SQLite file {self.path} {reason}") from exc

    def close(self) -> None:
        """Close every connection that is not lent just now."""
        if self._pid != os.getpid():
            self._abandon()
        while self._idle:
            self._idle.pop().close()

    def _abandon(self) -> None:
        _abandoned.extend(self._idle)
        self._idle.clear()
        self._pid = os.getpid()


def _retry_while_locked(step: Callable[[], T], seconds: float) -> T:
    """Call *step* until the file is not locked, at most for *seconds*."""
    until = time.monotonic() + seconds
    while True:
        try:
            return step()
        except sqlite3.OperationalError as exc:
            if not str(exc).startswith("database is locked") or time.monotonic() >= until:
                raise
            from random import uniform  # 2 ms to import, for those who find the file locked

            time.sleep(uniform(*LOCK_RETRY))


def _close_idle() -> None:
    for store in list(_stores):
        store.close()


os.register_at_fork(before=_close_idle)
