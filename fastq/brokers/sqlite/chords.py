"""Chords in the tables of a store, each step inside the caller's transaction."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable

from fastq._core.message import part_name
from fastq.backends.base import BackendOptions, CompleteChord, Part
from fastq.brokers.sqlite.statements import SQL

DONE = "done"
# Seconds that a chord that has ended is known, so that a part that comes late does not count: Celery's least.
MARKED = 300.0


def begin(
    db: sqlite3.Connection, chords: Iterable[tuple[str, int]], options: BackendOptions, now: float
) -> None:
    """Tell the sizes of *chords*."""
    expires = _expiry(options, now)
    db.executemany(SQL["begin_chord"], [(group_id, size, expires) for group_id, size in chords])


def extend(
    db: sqlite3.Connection, extended: Iterable[tuple[str, int, str]], options: BackendOptions, now: float
) -> None:
    """Let chords grow, once for each name."""
    for group_id, count, name in extended:
        db.execute(SQL["touch_chord"], (group_id, _expiry(options, now)))
        if db.execute(SQL["add_part"], (group_id, f"extended:{name}", None, None)).rowcount:
            db.execute(SQL["grow_chord"], (count, group_id))


def count(
    db: sqlite3.Connection, parts: Iterable[Part], options: BackendOptions, now: float
) -> list[CompleteChord]:
    """Count *parts*; returns the chords that are complete by the last ones of them."""
    groups: dict[str, list[Part]] = {}
    for part in parts:
        groups.setdefault(part.group_id, []).append(part)
    complete = []
    for group_id, members in groups.items():
        name = part_name(members[-1].task_id, members[-1].position)
        if _count(db, group_id, members, name, _expiry(options, now)):
            complete.append(CompleteChord(group_id, name))
    return complete


def _count(
    db: sqlite3.Connection, group_id: str, parts: list[Part], last: str, expires: float | None
) -> bool:
    found = db.execute(SQL["chord"], (group_id,)).fetchone()
    if found is not None and found[2] == DONE:
        return False
    db.execute(SQL["touch_chord"], (group_id, expires))
    before = db.total_changes
    db.executemany(
        SQL["add_part"],
        [
            (group_id, part_name(part.task_id, part.position), _position(part.position), part.member)
            for part in parts
        ],
    )
    db.execute(SQL["count_parts"], (db.total_changes - before, group_id))
    size, counted, joined_by = db.execute(SQL["chord"], (group_id,)).fetchone()
    if size is None or counted < size or joined_by not in (None, last):
        return False
    db.execute(SQL["take_chord"], (last, group_id))
    return True


def members(db: sqlite3.Connection, group_id: str) -> list[bytes] | None:
    """The members of a chord in their order; None if there are none."""
    return [member for (member,) in db.execute(SQL["parts"], (group_id,))] or None


def end(db: sqlite3.Connection, group_id: str, now: float) -> bool:
    """Forget a chord that is joined; whether nobody has done so before."""
    ended = db.execute(SQL["end_chord"], (now + MARKED, group_id)).rowcount
    if ended:
        db.execute(SQL["delete_parts"], (group_id,))
    return bool(ended)


def sweep(db: sqlite3.Connection, now: float, limit: int) -> int:
    """Delete chords that have expired, at most *limit*, with their parts; returns how many."""
    expired = db.execute(SQL["expired_chords"], (now, limit)).fetchall()
    for statement in ("delete_parts", "delete_chord"):
        db.executemany(SQL[statement], expired)
    return len(expired)


def _position(index: int | None) -> float:
    return math.inf if index is None else index


def _expiry(options: BackendOptions, now: float) -> float | None:
    return None if options.chord_expires is None else now + options.chord_expires
