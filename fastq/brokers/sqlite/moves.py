"""The ways of messages between ready, claimed, delayed and dead, each inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fastq._core.message import Delivery, Message, decode_delivery, decode_envelope
from fastq.brokers.priority import priority_step
from fastq.brokers.redelivery import death_reason, lease_ran_out
from fastq.brokers.sqlite.statements import SQL
from fastq.exceptions import DecodeError

# How many delayed messages one transaction makes ready: a million that fall due at once must not
# hold the file's write lock for seconds.
DUE_AT_ONCE = 1000


class Row(NamedTuple):
    """A message as it is going to be written."""

    queue: str
    step: int
    due: float | None
    envelope: bytes


def rows_of(messages: Iterable[Message]) -> list[Row]:
    """Encode *messages*, before the transaction, so that it is short and its lock too."""
    return [Row(each.queue, priority_step(each.priority), each.due, each.envelope()) for each in messages]


def add(db: sqlite3.Connection, rows: Sequence[Row], now: float) -> None:
    """Put new messages at the tail of their queues, or into the schedule if they are due after *now*."""
    ready = [row for row in rows if row.due is None or row.due <= now]
    delayed = [row for row in rows if row.due is not None and row.due > now] if len(ready) < len(rows) else []
    first = _next_id(db)
    numbered = enumerate(ready + delayed, first)
    db.executemany(SQL["add_message"], [(at, row.queue, row.step, now, row.envelope) for at, row in numbered])
    db.execute(SQL["make_all_ready"], (first, first + len(ready) - 1))
    db.executemany(SQL["delay"], [(row.due, at) for at, row in enumerate(delayed, first + len(ready))])


def move_due(db: sqlite3.Connection, now: float) -> int:
    """Put delayed messages whose time has come at the tail of their queues; returns how many."""
    ids = [number for (number,) in db.execute(SQL["due"], (now, DUE_AT_ONCE))]
    if ids:
        db.execute(SQL["delete_due"], (now, DUE_AT_ONCE))
        _to_tail(db, ids, now)
    return len(ids)


def settle(db: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Remove claimed messages that are done with."""
    numbers = [(number,) for number in ids]
    db.executemany(SQL["delete_claim"], numbers)
    db.executemany(SQL["delete_message"], numbers)


def requeue(db: sqlite3.Connection, ids: Sequence[int], now: float) -> None:
    """Put claimed messages at the tail of their queues."""
    db.executemany(SQL["delete_claim"], [(number,) for number in ids])
    _to_tail(db, ids, now)


def park(db: sqlite3.Connection, number: int, until: float) -> None:
    """Put a claimed message into the schedule."""
    db.execute(SQL["delete_claim"], (number,))
    db.execute(SQL["delay"], (until, number))


def bury(db: sqlite3.Connection, number: int, message: Message | None, reason: str, now: float) -> None:
    """Move a claimed message to the dead set; *message* is what it says, None if that can't be read."""
    name = message.id if message is not None and message.id else f"message-{number}"
    task = "" if message is None else message.task
    told = reason.encode("utf-8", "replace").decode()  # SQLite takes no lone surrogates
    db.execute(SQL["delete_claim"], (number,))
    db.execute(SQL["bury"], (number, name, task, told, now))


def give_back(db: sqlite3.Connection, ids: Sequence[int]) -> None:
    """Put claimed messages at the head of their queues, with no redelivery counted."""
    numbers = [(number,) for number in ids]
    db.executemany(SQL["delete_claim"], numbers)
    db.executemany(SQL["make_ready"], numbers)


def redeliver(db: sqlite3.Connection, ids: Sequence[int], limit: int, now: float, cause: str) -> None:
    """Put claimed messages at the head of their queues, counted up; past *limit* into the dead set.

    *cause* says in the past tense what happened to the worker, for the reason of those that die.
    """
    db.executemany(SQL["count_up"], [(number,) for number in ids])
    back = []
    for number in ids:
        (count,) = db.execute(SQL["redelivered"], (number,)).fetchone()
        if count <= limit:
            back.append(number)
        else:
            (envelope,) = db.execute(SQL["envelope"], (number,)).fetchone()
            bury(db, number, _try_decode(envelope), death_reason(count, limit, cause), now)
    give_back(db, back)


def restore(db: sqlite3.Connection, worker: int, node: str, limit: int, now: float) -> None:
    """Take away the claims of a *worker* whose lease ran out.

    A crash does not tell which of its messages was running. So all are counted the first
    time; later on only those that were marked as started.
    """
    claims = db.execute(SQL["claims_of"], (worker,)).fetchall()
    redeliver(db, [number for number, counts in claims if counts], limit, now, lease_ran_out(node))
    give_back(db, [number for number, counts in claims if not counts])
    db.execute(SQL["delete_worker"], (worker,))


def dying(db: sqlite3.Connection, worker: int, node: str, limit: int) -> dict[int, tuple[Delivery, str]]:
    """What `restore` would bury, by its number, with the reason."""
    rows = db.execute(SQL["dying"], (worker, limit)).fetchall()
    return {
        number: (
            decode_delivery(envelope, number, queue, count),
            death_reason(count, limit, lease_ran_out(node)),
        )
        for number, queue, count, envelope in rows
    }


def revive(db: sqlite3.Connection, ids: Sequence[int], now: float) -> None:
    """Send dead messages to the tail of their queues, their redeliveries forgotten."""
    db.executemany(SQL["delete_dead"], [(number,) for number in ids])
    _to_tail(db, ids, now, redelivered=0)


def purge(db: sqlite3.Connection, queue: str) -> int:
    """Remove what is ready or delayed in *queue*; returns how many messages that were."""
    count = db.execute(SQL["purge_ready"], (queue,)).rowcount
    db.execute(SQL["purge_ready_rows"], (queue,))
    delayed = db.execute(SQL["delayed_of"], (queue,)).fetchall()
    db.executemany(SQL["delete_delayed"], delayed)
    db.executemany(SQL["delete_message"], [(number,) for _, number in delayed])
    return count + len(delayed)


def _to_tail(db: sqlite3.Connection, ids: Sequence[int], now: float, redelivered: int | None = None) -> None:
    if not ids:
        return
    first = _next_id(db)
    db.executemany(SQL["move_to_tail"], [(new, now, redelivered, old) for new, old in enumerate(ids, first)])
    db.execute(SQL["make_all_ready"], (first, first + len(ids) - 1))


def _next_id(db: sqlite3.Connection) -> int:
    (number,) = db.execute(SQL["next_id"]).fetchone()
    return int(number)


def _try_decode(envelope: bytes) -> Message | None:
    try:
        return decode_envelope(envelope)
    except DecodeError:
        return None
