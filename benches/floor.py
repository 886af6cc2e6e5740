"""The floor on Redis (DESIGN.md §5): a plain-Python loop over hiredis on a raw socket.

It claims, parses, calls, stores results with their notification and settles, as safely as
fastq does, and nothing else: no gates, no signals, no states, no tracing. Run as a program
it drains the queue and ends when that is empty: ``python -m benches.floor URL BATCH RESULTS``.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import hiredis
import orjson

from benches.data import MARK, NOOP, QUEUE

READ_BYTES = 65536
# SETEX of the key for a day, then PUBLISH to the channel of the same name.
STORE = (
    b"*4\r\n$5\r\nSETEX\r\n$%d\r\n%b\r\n$5\r\n86400\r\n$%d\r\n%b\r\n"
    b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n"
)
TURN = Path(__file__).with_name("floor.lua").read_text()


class Connection:
    """A blocking socket to one Redis server, with hiredis for both directions."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname or "localhost", parts.port or 6379))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()
        self.call("SELECT", parts.path.strip("/") or "0")

    def send(self, packed: bytes) -> None:
        """Write commands that `hiredis.pack_command` packed."""
        self._socket.sendall(packed)

    def reply(self) -> Any:
        """The next reply; raises what the server reports as an error."""
        while (reply := self._reader.gets()) is False:
            received = self._socket.recv(READ_BYTES)
            if not received:
                raise ConnectionError("the server closed the connection")
            self._reader.feed(received)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def call(self, *command: str | bytes | int) -> Any:
        """Send one command and wait for its reply."""
        self.send(hiredis.pack_command(command))
        return self.reply()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def noop() -> None:
    """The task that does nothing."""


def mark() -> None:
    """Append the time at which this ran to the file named by BENCH_MARKS."""
    with open(os.environ["BENCH_MARKS"], "a") as file:
        file.write(f"{time.time()}\n")


TASKS = {NOOP: noop, MARK: mark}


def run(raw: bytes, results: bool) -> bytes:
    """Run the task of one envelope; the packed commands that store its result, if any."""
    message = orjson.loads(raw)
    headers = message["headers"]
    args, kwargs, _embed = orjson.loads(message["body"])
    value = TASKS[headers["task"]](*args, **kwargs)
    if not results:
        return b""
    task_id = headers["id"]
    key = b"celery-task-meta-" + task_id.encode()
    document = orjson.dumps(
        {
            "status": "SUCCESS",
            "result": value,
            "traceback": None,
            "children": [],
            "date_done": datetime.now(timezone.utc),
            "task_id": task_id,
        }
    )
    sizes = len(key), len(document)
    return STORE % (sizes[0], key, sizes[1], document, sizes[0], key, sizes[1], document)


def drain(connection: Connection, batch: int, results: bool) -> int:
    """Run everything that lies in the queue, *batch* at a time; returns how much that was."""
    turn = connection.call("SCRIPT", "LOAD", TURN)
    keys = (QUEUE, "floor:claims", "floor:tag")
    done, tags, stores = 0, range(0), b""
    while True:
        connection.send(stores + hiredis.pack_command(("EVALSHA", turn, 3, *keys, batch, *tags)))
        for _ in range(2 * len(tags) if results else 0):
            connection.reply()
        first, *envelopes = connection.reply()
        if not envelopes:
            return done
        stores = b"".join([run(raw, results) for raw in envelopes])
        tags = range(first, first + len(envelopes))
        done += len(envelopes)


def push_one_by_one(connection: Connection, envelopes: Iterable[bytes]) -> None:
    """LPUSH each envelope and wait for the reply before the next one."""
    for envelope in envelopes:
        connection.call("LPUSH", QUEUE, envelope)


def push_in_bulk(connection: Connection, envelopes: list[bytes], at_once: int = 1000) -> None:
    """LPUSH *at_once* envelopes with each command."""
    for start in range(0, len(envelopes), at_once):
        connection.call("LPUSH", QUEUE, *envelopes[start : start + at_once])


if __name__ == "__main__":
    url, batch_size, with_results = sys.argv[1:]
    drain(Connection(url), int(batch_size), with_results == "results")
