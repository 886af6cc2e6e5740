"""What exchanges bring to which queues, each change inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence

from fastq._core.codec import json_dumps, json_loads
from fastq.brokers.exchanges import Bound, Stored
from fastq.brokers.sqlite.moves import purge
from fastq.brokers.sqlite.statements import SQL


def read(db: sqlite3.Connection, exchange: str, exchange_type: str) -> Stored:
    """What is stored of *exchange*."""
    rows = db.execute(SQL["bindings"], (exchange,)).fetchall()
    bound = [Bound(kind, queue, key, json_loads(text.encode())) for kind, queue, key, text in rows]
    return Stored(exchange_type or (bound[-1].exchange_type if bound else ""), bound)


def store(db: sqlite3.Connection, exchange: str, bound: Iterable[Bound], owner: int | None = None) -> None:
    """Bind queues to *exchange*, as long as the worker *owner* lives, or for good."""
    rows = [(exchange, *each[1:3], _text(each), each.exchange_type, owner) for each in bound]
    db.executemany(SQL["bind"], rows)


def store_all(
    db: sqlite3.Connection, bindings: Mapping[str, Sequence[Bound]], private: Collection[str], worker: int
) -> None:
    """Bind the queues of a *worker*, by exchange; the *private* ones are its own."""
    for exchange, bound in bindings.items():
        own = [each for each in bound if each.queue in private]
        store(db, exchange, own, worker)
        store(db, exchange, [each for each in bound if each not in own])


def drop_private(db: sqlite3.Connection, worker: int) -> None:
    """Delete the queues that were the *worker*'s alone; it holds no claims any more."""
    for (queue,) in db.execute(SQL["private_queues"], (worker,)).fetchall():
        purge(db, queue)
    db.execute(SQL["unbind"], (worker,))


def _text(bound: Bound) -> str:
    return json_dumps(dict(sorted(bound.arguments.items()))).decode()
