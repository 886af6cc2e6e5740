"""Steps of long chains in the tables of a store, inside the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from fastq.brokers.sqlite.statements import SQL


def save(db: sqlite3.Connection, chain_id: str, blocks: Sequence[bytes], expires: float) -> None:
    """Keep *blocks* until *expires*."""
    rows = [(chain_id, position, expires, steps) for position, steps in enumerate(blocks)]
    db.executemany(SQL["save_block"], rows)


def find(db: sqlite3.Connection, chain_id: str, index: int, now: float, expires: float) -> bytes | None:
    """The block *index*, which is kept with those after it until *expires*; those before it are deleted."""
    db.execute(SQL["delete_blocks_before"], (chain_id, index))
    db.execute(SQL["touch_chain"], (expires, chain_id, now))
    row = db.execute(SQL["block"], (chain_id, index, now)).fetchone()
    return None if row is None else row[0]
