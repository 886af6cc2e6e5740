"""The floor on SQLite: rows in and out through the standard library's sqlite3, durable, in transactions."""

from __future__ import annotations

import sqlite3
import time
from itertools import islice
from pathlib import Path

import orjson

from benches.data import NOOP, workload

SCHEMA = """
CREATE TABLE message (tag INTEGER PRIMARY KEY, queue TEXT NOT NULL, claimed_by TEXT, envelope BLOB NOT NULL);
CREATE TABLE result (task_id TEXT PRIMARY KEY, document BLOB NOT NULL) WITHOUT ROWID;
"""
CLAIM = """
UPDATE message SET claimed_by = 'floor'
WHERE tag IN (SELECT tag FROM message WHERE claimed_by IS NULL ORDER BY tag LIMIT ?)
RETURNING tag, envelope
"""


def open_database(path: Path) -> sqlite3.Connection:
    """A new database at *path*: WAL, and each commit on the disk before it returns."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = FULL")
    database.executescript(SCHEMA)
    return database


def enqueue(database: sqlite3.Connection, ids: list[str], at_once: int) -> float:
    """Insert a message for each of *ids*, *at_once* to a transaction; returns messages per second."""
    envelopes = workload(ids)
    start = time.perf_counter()
    while batch := list(islice(envelopes, at_once)):
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT INTO message (queue, envelope) VALUES ('celery', ?)", zip(batch))
        database.execute("COMMIT")
    return len(ids) / (time.perf_counter() - start)


def drain(database: sqlite3.Connection, at_once: int) -> float:
    """Claim, run, store results and settle everything, *at_once* to a turn; returns tasks per second.

    A turn is one transaction, as fastq's is (DESIGN.md D4): it settles the last batch and claims the next.
    """
    start = time.perf_counter()
    done = 0
    settled: list[tuple[int]] = []
    documents: list[tuple[str, bytes]] = []
    while True:
        database.execute("BEGIN IMMEDIATE")
        database.executemany("INSERT OR REPLACE INTO result VALUES (?, ?)", documents)
        database.executemany("DELETE FROM message WHERE tag = ?", settled)
        claimed = database.execute(CLAIM, (at_once,)).fetchall()
        database.execute("COMMIT")
        if not claimed:
            return done / (time.perf_counter() - start)
        settled = [(tag,) for tag, _ in claimed]
        documents = [run(envelope) for _, envelope in claimed]
        done += len(claimed)


def run(raw: bytes) -> tuple[str, bytes]:
    """Run the no-op task of one envelope; its id and its result document."""
    message = orjson.loads(raw)
    orjson.loads(message["body"])
    headers = message["headers"]
    if headers["task"] != NOOP:
        raise LookupError(headers["task"])
    document = {"status": "SUCCESS", "result": None, "task_id": headers["id"], "date_done": time.time()}
    return headers["id"], orjson.dumps(document)
