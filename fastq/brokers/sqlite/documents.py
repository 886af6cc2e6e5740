"""Result documents in the tables of a store, each step inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from zlib import crc32

from fastq.backends.base import BackendOptions, StoredResult
from fastq.brokers.sqlite import chords
from fastq.brokers.sqlite.statements import SQL

# Rows that one query for new results gives: what a waiter reads between two looks at the clock.
ROWS_AT_ONCE = 10_000


def key_of(task_id: str) -> tuple[int, str]:
    """The hash and the id under which a result is found."""
    return crc32(task_id.encode("utf-8", "surrogatepass")), task_id


def expiry_of(state: str, options: BackendOptions, now: float) -> float | None:
    """The unix time until which a result of this *state* is kept, None: for ever."""
    seconds = options.expires
    if state == "FAILURE" and options.failure_expires is not None:
        seconds = options.failure_expires
    return None if seconds is None else now + seconds


def store(
    db: sqlite3.Connection, results: Iterable[StoredResult], options: BackendOptions, now: float
) -> None:
    """Store *results*, of one task the last, unless a SUCCESS came before it or is there already."""
    chosen: dict[str, StoredResult] = {}
    for result in results:
        if result.task_id not in chosen or chosen[result.task_id].state != "SUCCESS":
            chosen[result.task_id] = result
    keys = [key_of(task_id) for task_id in chosen]
    db.executemany(SQL["replace_result"], [(*key, now) for key in keys])
    first = position(db) + 1
    db.execute(SQL["advance_results"], (len(keys),))
    db.executemany(
        SQL["add_result"],
        [
            (seq, *key, result.state, expiry_of(result.state, options, now), result.document, *key)
            for seq, (key, result) in enumerate(zip(keys, chosen.values(), strict=True), first)
        ],
    )


def position(db: sqlite3.Connection) -> int:
    """The number of the newest result. It grows with every commit that stores one."""
    (seq,) = db.execute(SQL["result_position"]).fetchone()
    return int(seq)


def find(db: sqlite3.Connection, task_ids: Iterable[str], now: float) -> dict[str, tuple[int, bytes]]:
    """The number and document of each result that is there and has not expired."""
    found = {}
    for task_id in task_ids:
        if row := db.execute(SQL["result"], (*key_of(task_id), now)).fetchone():
            found[task_id] = row
    return found


def arrived(db: sqlite3.Connection, after: int) -> tuple[int, list[str]]:
    """The ids of results newer than number *after*, in order, behind the number up to which they go."""
    newest = position(db)
    rows: Sequence[tuple[int, str]] = db.execute(SQL["results_after"], (after, ROWS_AT_ONCE)).fetchall()
    if len(rows) == ROWS_AT_ONCE or (rows and rows[-1][0] > newest):
        newest = rows[-1][0]
    return newest, [task_id for _, task_id in rows]


def forget(db: sqlite3.Connection, task_ids: Iterable[str]) -> None:
    """Delete the results of *task_ids*."""
    db.executemany(SQL["delete_result"], [key_of(task_id) for task_id in task_ids])


def save_group(
    db: sqlite3.Connection, group_id: str, document: bytes, options: BackendOptions, now: float
) -> None:
    """Keep what describes a group."""
    db.execute(SQL["save_group"], (group_id, expiry_of("SUCCESS", options, now), document))


def find_group(db: sqlite3.Connection, group_id: str, now: float) -> bytes | None:
    """What describes a group, unless it has expired."""
    row = db.execute(SQL["group"], (group_id, now)).fetchone()
    return None if row is None else row[0]


def delete_group(db: sqlite3.Connection, group_id: str) -> None:
    """Delete what describes a group."""
    db.execute(SQL["delete_group"], (group_id,))


def sweep(db: sqlite3.Connection, now: float, limit: int) -> int:
    """Delete what has expired: at most *limit* results, groups, chains and chords each; returns how many."""
    kinds = ("results", "groups", "chains")
    swept = [db.execute(SQL[f"delete_expired_{kind}"], (now, limit)).rowcount for kind in kinds]
    return sum(swept) + chords.sweep(db, now, limit)
