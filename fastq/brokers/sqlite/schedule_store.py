"""What beats share in the embedded broker's file: two tables, and one transaction for each step."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fastq._core.codec import json_dumps, json_loads
from fastq.brokers.schedule_store import Kept, Look, Run, ScheduleStore, digest, renewed
from fastq.brokers.sqlite import moves
from fastq.brokers.sqlite.statements import parse_statements
from fastq.brokers.sqlite.store import Store

SQL = parse_statements((Path(__file__).parent / "schedules.sql").read_text(encoding="utf-8"))


class SQLiteScheduleStore(ScheduleStore):
    """The schedule of one application in one file."""

    def __init__(self, store: Store, app: str) -> None:
        self._store = store
        self._app = app
        self._has_tables = False

    @contextmanager
    def _lent(self) -> Iterator[sqlite3.Connection]:
        """A connection to a file that has our tables."""
        with self._store.lent() as db:
            if not self._has_tables:
                with self._store.transaction(db):
                    for statement in SQL["schema"].split(";"):
                        db.execute(statement)
                    db.execute(SQL["add_app"], (self._app,))
                self._has_tables = True
            yield db

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lent() as db, self._store.transaction(db):
            yield db

    def look(self, beat: str, lease: float, stale: str, names: Collection[str]) -> Look:
        with self._lent() as db:
            look, may_take = self._see(db, beat, stale)
        if not may_take:
            return look
        with self._writing() as db:
            look, may_take = self._see(db, beat, stale)
            if may_take:
                now, served = time.time(), digest(names)
                token = renewed(look.token, beat)
                listed = json_dumps(sorted(names)).decode()
                db.execute(SQL["renew"], (token, now + lease, now, served, listed, self._app))
                look = look._replace(now=now, token=token, served=served)
        return look

    def _see(self, db: sqlite3.Connection, beat: str, stale: str) -> tuple[Look, bool]:
        """What there is to see, and whether *beat* may take the lease."""
        token, expires, version, served, alive_at = db.execute(SQL["facts"], (self._app,)).fetchone()
        now = time.time()
        look = Look(now, token, version, served, alive_at)
        return look, not token or now >= expires or look.holder == beat or token == stale

    def resign(self, beat: str) -> None:
        with self._writing() as db:
            db.execute(SQL["resign"], (self._app, f"{beat} ", f"{beat} "))

    def leader(self) -> str:
        with self._lent() as db:
            token, expires, *_ = db.execute(SQL["facts"], (self._app,)).fetchone()
        return str(token.rpartition(" ")[0]) if time.time() < expires else ""

    def served(self) -> frozenset[str]:
        with self._lent() as db:
            (names,) = db.execute(SQL["names"], (self._app,)).fetchone()
        return frozenset(json_loads(names.encode()))

    def read(self) -> Kept:
        with self._lent() as db:
            # In this order: entries newer than the version are found out by `accept`.
            _, _, version, *_ = db.execute(SQL["facts"], (self._app,)).fetchone()
            rows = db.execute(SQL["entries"], (self._app,)).fetchall()
        return Kept(
            version,
            {name: definition for name, definition, *_ in rows if definition is not None},
            {name: (number, state) for name, _, number, state, _ in rows if number},
            frozenset(name for name, *_, paused in rows if paused),
        )

    def accept(self, runs: Sequence[Run], version: int) -> list[str] | None:
        rows = [moves.rows_of(run.messages) for run in runs]
        said = []
        with self._writing() as db:
            _, _, current, *_ = db.execute(SQL["facts"], (self._app,)).fetchone()
            if current != version:
                return None
            taken: list[moves.Row] = []
            for run, its_rows in zip(runs, rows, strict=True):
                (last,) = db.execute(SQL["number"], (self._app, run.name)).fetchone() or (0,)
                follows = run.number == last + 1
                if follows:
                    taken += its_rows
                    db.execute(SQL["set_state"], (self._app, run.name, run.number, run.state))
                said.append("" if follows else "number")
            moves.add(db, taken, time.time())
        return said

    def amend(self, runs: Sequence[Run]) -> list[bool]:
        with self._writing() as db:
            return [
                db.execute(SQL["amend"], (run.state, self._app, run.name, run.number)).rowcount > 0
                for run in runs
            ]

    def put(self, name: str, definition: bytes) -> None:
        self._change("put", (name, definition))

    def remove(self, names: Iterable[str]) -> int:
        return sum(self._change("remove", (name,)) for name in names)

    def pause(self, name: str, is_paused: bool) -> None:
        self._change("pause", (name, int(is_paused)))

    def _change(self, statement: str, values: tuple[object, ...]) -> int:
        with self._writing() as db:
            count = db.execute(SQL[statement], (self._app, *values)).rowcount
            db.execute(SQL["advance"], (self._app,))
        return count
