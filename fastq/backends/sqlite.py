"""Results in the file of the embedded broker, or in one of their own (D5, D10)."""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Sequence

from fastq.backends.base import Backend, BackendOptions, CompleteChord, Part, Pulse, StoredResult
from fastq.brokers.base import Broker
from fastq.brokers.sqlite import chains, chords, documents
from fastq.brokers.sqlite.broker import SQLiteBroker
from fastq.brokers.sqlite.store import Store, database_path, poll_interval

# Up to so many results are looked up one by one; for more, a waiter reads all that are new.
FEW = 32

# Expired results that one transaction of `cleanup` deletes, so that others get the lock between.
SWEEP_AT_ONCE = 1000


class SQLiteBackend(Backend):
    """Keeps result documents in one SQLite file. Waiters look at a counter in it, ever less often."""

    keeps_chords = True
    keeps_chains = True

    def __init__(self, url: str, options: BackendOptions) -> None:
        super().__init__(url, options)
        self.path = database_path(url, options.app_name)
        self._store = Store(self.path, options.deadline)

    def store(self, results: Sequence[StoredResult], deadline: float | None = None) -> None:
        with self._store.writing(deadline) as db:
            documents.store(db, results, self.options, time.time())

    def fetch(self, task_ids: Sequence[str]) -> list[bytes | None]:
        with self._store.lent() as db:
            found = documents.find(db, task_ids, time.time())
        return [found[task_id][1] if task_id in found else None for task_id in task_ids]

    def wait(
        self, task_ids: Collection[str], timeout: float | None, pulse: Pulse | None = None
    ) -> Generator[tuple[str, bytes], None, None]:
        wanted = task_ids if isinstance(task_ids, dict) else dict.fromkeys(task_ids)
        until = None if timeout is None else time.monotonic() + timeout
        seen = -1  # the newest result that was looked at
        active_at = time.monotonic()
        while True:
            seen, found = self._news(wanted, seen)
            if found:
                yield from found
                active_at = time.monotonic()
            if pulse is not None:
                pulse.beat()
            now = time.monotonic()
            pause = poll_interval(now - active_at)
            if until is not None:
                pause = min(pause, until - now)
                if pause <= 0.0:
                    return
            if pulse is not None:
                pause = max(min(pause, pulse.due - now), 0.0)
            time.sleep(pause)

    def _news(self, wanted: Collection[str], seen: int) -> tuple[int, list[tuple[str, bytes]]]:
        """The newest number, and what came for *wanted* after number *seen* (-1: all that is there)."""
        now = time.time()
        with self._store.lent() as db:
            newest = documents.position(db)
            if newest == seen:
                return seen, []
            candidates: Collection[str] = wanted
            if len(wanted) > FEW and seen >= 0:
                newest, arrived = documents.arrived(db, seen)
                candidates = dict.fromkeys(task_id for task_id in arrived if task_id in wanted)
            found = documents.find(db, candidates, now)
        # What came after the counter was read comes with the next look, and only then.
        return newest, [(each, document) for each, (seq, document) in found.items() if seen < seq <= newest]

    def forget(self, task_ids: Sequence[str]) -> None:
        with self._store.writing() as db:
            documents.forget(db, task_ids)

    def save_group(self, group_id: str, document: bytes) -> None:
        with self._store.writing() as db:
            documents.save_group(db, group_id, document, self.options, time.time())

    def restore_group(self, group_id: str) -> bytes | None:
        with self._store.lent() as db:
            return documents.find_group(db, group_id, time.time())

    def delete_group(self, group_id: str) -> None:
        with self._store.writing() as db:
            documents.delete_group(db, group_id)

    def save_chain(self, chain_id: str, blocks: Sequence[bytes], seconds: float) -> None:
        with self._store.writing() as db:
            chains.save(db, chain_id, blocks, time.time() + seconds)

    def chain_block(self, chain_id: str, index: int, seconds: float) -> bytes | None:
        with self._store.writing() as db:
            now = time.time()
            return chains.find(db, chain_id, index, now, now + seconds)

    def begin_chords(self, begun: Sequence[tuple[str, int]], deadline: float | None = None) -> None:
        with self._store.writing(deadline) as db:
            chords.begin(db, begun, self.options, time.time())

    def extend_chords(self, extended: Sequence[tuple[str, int, str]], deadline: float | None = None) -> None:
        with self._store.writing(deadline) as db:
            chords.extend(db, extended, self.options, time.time())

    def count_parts(self, parts: Sequence[Part], deadline: float | None = None) -> list[CompleteChord]:
        with self._store.writing(deadline) as db:
            return chords.count(db, parts, self.options, time.time())

    def parts(self, group_id: str, deadline: float | None = None) -> list[bytes] | None:
        with self._store.lent() as db:
            return chords.members(db, group_id)

    def end_chord(self, group_id: str, deadline: float | None = None) -> bool:
        with self._store.writing(deadline) as db:
            return chords.end(db, group_id, time.time())

    def cleanup(self) -> int:
        total = 0
        while True:
            with self._store.writing() as db:
                swept = documents.sweep(db, time.time(), SWEEP_AT_ONCE)
            total += swept
            if swept < SWEEP_AT_ONCE:
                return total

    def shares_store_with(self, broker: Broker) -> bool:
        return isinstance(broker, SQLiteBroker) and broker.path.resolve() == self.path.resolve()

    def close(self) -> None:
        self._store.close()

    def description(self) -> str:
        return f"sqlite:///{self.path}"
