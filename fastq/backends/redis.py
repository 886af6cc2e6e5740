"""Redis as a result backend: Celery's documents, announced on channels named as their keys (§5.1)."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fastq._core.resp import Argument
from fastq.backends.base import Backend, BackendOptions, CompleteChord, Part, Pulse, StoredResult
from fastq.backends.redis_waits import IDS_PER_READ, WaitHub
from fastq.brokers.redis import keys
from fastq.brokers.redis.chords import keeping
from fastq.brokers.redis.connection import Connection, ConnectionPool
from fastq.brokers.redis.endpoint import Endpoint, parse_endpoint
from fastq.brokers.retry_policy import policy_from
from fastq.states import SUCCESS

if TYPE_CHECKING:
    from fastq.brokers.base import Broker

# Commands with more keys than this are cut: each blocks the server while it runs.
KEYS_PER_COMMAND = 1000


# What Celery's retry policy of results is, unless it is set.
RETRIES = {"max_retries": 20, "interval_start": 0}


class RedisBackend(Backend):
    """Results in a Redis database; the server forgets them when they expire."""

    keeps_chords = True
    keeps_chains = True

    def __init__(self, url: str, options: BackendOptions) -> None:
        super().__init__(url, options)
        self.endpoint = parse_endpoint(url, options.transport_options, options.ssl, options.connect_timeout)
        prefix = str(options.transport_options.get("global_keyprefix") or "")
        if prefix and prefix[-1] not in ":_-.":
            prefix += "_"
        self.key_prefix = keys.result(prefix, "")
        self._group_prefix = keys.group(prefix, "")
        self._chain_prefix = keys.chain(prefix, "")
        self._mark_prefix = keys.success(prefix, "")
        self.chords = keeping(self._group_prefix, options)
        given = options.transport_options.get("retry_policy")
        policy = None
        if given is not None:
            policy = policy_from({**RETRIES, **given}, "result_backend_transport_options")
        limit = options.transport_options.get("max_connections")
        self._pool = ConnectionPool(self.endpoint, limit=limit, retry_policy=policy)
        self._deadline = options.deadline
        if policy is not None:
            self._deadline = policy.deadline(self.endpoint.connect_timeout)
        self._hub: WaitHub | None = None
        self._pid = os.getpid()

    def ttl(self, state: str) -> bytes:
        """Milliseconds that a result of *state* is kept, as an argument; empty: for ever."""
        expires = self.options.expires
        if state == "FAILURE" and self.options.failure_expires is not None:
            expires = self.options.failure_expires
        return b"%d" % max(round(expires * 1000), 1) if expires else b""

    def store(self, results: Sequence[StoredResult], deadline: float | None = None) -> None:
        """Store and announce in one script for each thousand; repeating it is harmless."""
        from fastq.brokers.redis.scripts import run_script  # hashlib and files, which no waiting client needs

        def store_all(connection: Connection, timeout: float) -> None:
            for start in range(0, len(results), KEYS_PER_COMMAND):
                arguments: list[Argument] = []
                for result in results[start : start + KEYS_PER_COMMAND]:
                    arguments += [self.key_prefix + result.task_id, self.ttl(result.state)]
                    arguments += [b"1" if result.state == SUCCESS else b"0", result.document]
                run_script(connection, "store.lua", [], arguments, timeout)

        self._pool.run(store_all, self._deadline if deadline is None else deadline)

    def fetch(self, task_ids: Sequence[str]) -> list[bytes | None]:
        """Read the documents with MGET."""
        names = [self.key_prefix + task_id for task_id in task_ids]

        def fetch_all(connection: Connection, timeout: float) -> list[bytes | None]:
            found: list[bytes | None] = []
            for start in range(0, len(names), KEYS_PER_COMMAND):
                found += connection.call("MGET", *names[start : start + KEYS_PER_COMMAND], timeout=timeout)
            return found

        return self._pool.run(fetch_all, self._deadline)

    def wait(
        self, task_ids: Collection[str], timeout: float | None, pulse: Pulse | None = None
    ) -> Generator[tuple[str, bytes], None, None]:
        """Subscribe to the keys, then read them, then wait; all waiting threads share one connection.

        Of many in a dict those that are there are read first: the others alone need a subscription.
        """
        ends = None if timeout is None else time.monotonic() + timeout
        if timeout is not None and timeout <= 0:
            yield from self._present(task_ids, None)
            return
        if len(task_ids) > IDS_PER_READ and isinstance(task_ids, dict):
            yield from self._present(task_ids, pulse)
        if self._hub is None or self._pid != os.getpid():
            # A hub from before a fork belongs to the parent, and its locks may be held for ever.
            self._pid = os.getpid()
            self._hub = WaitHub(self.endpoint, self.key_prefix, self._deadline, self.fetch)
        left = None if ends is None else max(ends - time.monotonic(), 0.0)
        yield from self._hub.wait(task_ids, left, pulse)

    def _present(self, task_ids: Collection[str], pulse: Pulse | None) -> Iterator[tuple[str, bytes]]:
        """Yield (id, document) of each document that is there."""
        asked = list(task_ids)
        for start in range(0, len(asked), KEYS_PER_COMMAND):
            block = asked[start : start + KEYS_PER_COMMAND]
            for task_id, document in zip(block, self.fetch(block), strict=True):
                if document is not None:
                    yield task_id, document
            if pulse is not None:
                pulse.beat()

    def forget(self, task_ids: Sequence[str]) -> None:
        """Delete the documents and what marks them as final."""
        names = [self.key_prefix + task_id for task_id in task_ids]
        names += [self._mark_prefix + task_id for task_id in task_ids]

        def forget_all(connection: Connection, timeout: float) -> None:
            for start in range(0, len(names), KEYS_PER_COMMAND):
                connection.call("DEL", *names[start : start + KEYS_PER_COMMAND], timeout=timeout)

        self._pool.run(forget_all, self._deadline)

    def save_group(self, group_id: str, document: bytes) -> None:
        """Write Celery's key of the group."""
        ttl = self.ttl(SUCCESS)
        life = (b"PX", ttl) if ttl else ()
        self._call("SET", self._group_prefix + group_id, document, *life)

    def restore_group(self, group_id: str) -> bytes | None:
        """Read that key."""
        document: bytes | None = self._call("GET", self._group_prefix + group_id)
        return document

    def delete_group(self, group_id: str) -> None:
        """Delete that key."""
        self._call("DEL", self._group_prefix + group_id)

    def save_chain(self, chain_id: str, blocks: Sequence[bytes], seconds: float) -> None:
        """Write a hash of fastq's own."""
        numbered = [part for number, steps in enumerate(blocks) for part in (b"%d" % number, steps)]
        self._run("save_chain.lua", self._chain_prefix + chain_id, seconds, numbered)

    def chain_block(self, chain_id: str, index: int, seconds: float) -> bytes | None:
        """Read that hash."""
        key = self._chain_prefix + chain_id
        steps: bytes | None = self._run("chain_block.lua", key, seconds, [b"%d" % index])
        return steps

    def _run(self, name: str, key: str, seconds: float, arguments: list[bytes]) -> Any:
        """Call a script for one key that is to be kept for *seconds*."""
        from fastq.brokers.redis.scripts import run_script

        told = [b"%d" % max(round(seconds * 1000), 1), *arguments]
        return self._pool.run(
            lambda connection, timeout: run_script(connection, name, [key], told, timeout), self._deadline
        )

    def begin_chords(self, chords: Sequence[tuple[str, int]], deadline: float | None = None) -> None:
        """Write Celery's keys of their sizes."""
        self._tell(self.chords.began(chords), deadline)

    def extend_chords(self, extended: Sequence[tuple[str, int, str]], deadline: float | None = None) -> None:
        """Add to Celery's keys of what comes to their sizes."""
        self._tell(self.chords.extended(extended), deadline)

    def count_parts(self, parts: Sequence[Part], deadline: float | None = None) -> list[CompleteChord]:
        """Count in one script; repeating it is harmless."""
        told = self._tell(self.chords.counted(parts), deadline)
        return [self.chords.told(what) for number, what in zip(told[::2], told[1::2], strict=True) if number]

    def parts(self, group_id: str, deadline: float | None = None) -> list[bytes] | None:
        """Read Celery's key of them."""
        key = self.chords.key(group_id)
        read = ("ZRANGE" if self.chords.is_ordered == b"1" else "LRANGE", key + b".j", 0, -1)

        def read_all(connection: Connection, timeout: float) -> list[bytes] | None:
            owner, members = connection.transact([("GET", key + b".c"), read], timeout)
            return None if owner == b"done" or not members else members

        return self._pool.run(read_all, self._deadline if deadline is None else deadline)

    def end_chord(self, group_id: str, deadline: float | None = None) -> bool:
        """Delete all of its keys but the mark that it has ended."""
        return bool(self._tell(self.chords.ended(group_id), deadline)[-1])

    def _tell(self, records: list[Argument], deadline: float | None) -> list[Any]:
        """Have *records* carried out by workflow.lua."""
        from fastq.brokers.redis.scripts import run_script

        def call(connection: Connection, timeout: float) -> list[Any]:
            told: list[Any] = run_script(connection, "workflow.lua", [], records, timeout)
            return told

        return self._pool.run(call, self._deadline if deadline is None else deadline)

    def _call(self, *arguments: Argument) -> Any:
        return self._pool.run(
            lambda connection, timeout: connection.call(*arguments, timeout=timeout), self._deadline
        )

    def shares_store_with(self, broker: Broker) -> bool:
        """Whether *broker* is the same database of the same server."""
        endpoint = getattr(broker, "endpoint", None)
        return isinstance(endpoint, Endpoint) and endpoint.store == self.endpoint.store

    def close(self) -> None:
        """Close the idle connections and the one that waits."""
        self._pool.close()
        if self._hub is not None and self._pid == os.getpid():
            self._hub.close()
        self._hub = None

    def description(self) -> str:
        """The URL without its password."""
        return self.endpoint.describe()
