"""Results within one process, for tests: `memory://`, or `memory://NAME` for one of several."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Collection, Generator, Sequence
from typing import NamedTuple

from fastq.backends.base import Backend, BackendOptions, CompleteChord, Part, Pulse, StoredResult
from fastq.backends.memory_chords import Chords
from fastq.brokers.base import Broker
from fastq.brokers.memory import MemoryBroker
from fastq.states import SUCCESS

# Expired results that one call of `store` removes for each that it stores: more than one, so that
# they can't pile up.
SWEPT_PER_STORED = 2


class Stored(NamedTuple):
    """A result and when it ends."""

    result: StoredResult
    expires: float | None  # monotonic seconds, None: never


class Chain(NamedTuple):
    """The steps of a chain that are still to come, and when they end."""

    blocks: dict[int, bytes]  # by their index
    expires: float  # monotonic seconds


class ResultStore:
    """What backends of one name share."""

    def __init__(self) -> None:
        self.lock = threading.Lock()  # guards everything below
        self.results: dict[str, Stored] = {}  # by task id, oldest first
        self.groups: dict[str, Stored] = {}  # what describes them, by group id, oldest first
        self.chords = Chords()
        self.chains: dict[str, Chain] = {}  # by their ids
        self.waiting: dict[str, list[queue.SimpleQueue[StoredResult]]] = {}  # mailboxes by task id

    def find(self, task_id: str) -> StoredResult | None:
        """The result of *task_id*, if it is there and has not expired."""
        stored = self.results.get(task_id)
        if stored is None or has_expired(stored):
            return None
        return stored.result

    def put(self, result: StoredResult, expires: float | None) -> None:
        """Store *result* as the newest and hand it to who waits for it, unless a SUCCESS is there."""
        present = self.find(result.task_id)
        if present is not None and present.state == "SUCCESS":
            return
        self.results.pop(result.task_id, None)
        self.results[result.task_id] = Stored(result, expires)
        for mailbox in self.waiting.get(result.task_id, ()):
            mailbox.put(result)

    def sweep(self, limit: int) -> int:
        """Remove expired results and groups from the oldest on, up to one that has not, at most *limit*."""
        swept = 0
        for kept in (self.results, self.groups):
            while kept and swept < limit:
                oldest = next(iter(kept))
                if not has_expired(kept[oldest]):
                    break
                del kept[oldest]
                swept += 1
        return swept


class MemoryBackend(Backend):
    """Keeps results in this process."""

    keeps_chords = True
    keeps_chains = True

    def __init__(self, url: str, options: BackendOptions) -> None:
        super().__init__(url, options)
        self.name = url.partition("://")[2].strip("/")
        self._store = _stores.setdefault(self.name, ResultStore())

    def store(self, results: Sequence[StoredResult], deadline: float | None = None) -> None:
        with self._store.lock:
            for result in results:
                self._store.put(result, self._expiry(result.state))
            self._store.sweep(SWEPT_PER_STORED * len(results))

    def fetch(self, task_ids: Sequence[str]) -> list[bytes | None]:
        with self._store.lock:
            found = [self._store.find(task_id) for task_id in task_ids]
        return [None if each is None else each.document for each in found]

    def wait(
        self, task_ids: Collection[str], timeout: float | None, pulse: Pulse | None = None
    ) -> Generator[tuple[str, bytes], None, None]:
        until = None if timeout is None else time.monotonic() + timeout
        mailbox: queue.SimpleQueue[StoredResult] = queue.SimpleQueue()
        wanted = dict.fromkeys(task_ids)
        with self._store.lock:
            for task_id in wanted:
                if (present := self._store.find(task_id)) is not None:
                    mailbox.put(present)
                self._store.waiting.setdefault(task_id, []).append(mailbox)
        try:
            while True:
                now = time.monotonic()
                left = None if until is None else max(until - now, 0.0)
                pause = left
                if pulse is not None and (left is None or pulse.due < now + left):
                    pause = max(pulse.due - now, 0.0)
                try:
                    arrived = mailbox.get(timeout=pause)
                except queue.Empty:
                    if pause == left:
                        return
                else:
                    yield arrived.task_id, arrived.document
                if pulse is not None:
                    pulse.beat()
        finally:
            self._leave(wanted, mailbox)

    def _leave(self, task_ids: Collection[str], mailbox: queue.SimpleQueue[StoredResult]) -> None:
        with self._store.lock:
            for task_id in task_ids:
                mailboxes = self._store.waiting[task_id]
                mailboxes.remove(mailbox)
                if not mailboxes:
                    del self._store.waiting[task_id]

    def forget(self, task_ids: Sequence[str]) -> None:
        with self._store.lock:
            for task_id in task_ids:
                self._store.results.pop(task_id, None)

    def save_group(self, group_id: str, document: bytes) -> None:
        described = Stored(StoredResult(group_id, SUCCESS, document), self._expiry(SUCCESS))
        with self._store.lock:
            self._store.groups.pop(group_id, None)
            self._store.groups[group_id] = described
            self._store.sweep(SWEPT_PER_STORED)

    def restore_group(self, group_id: str) -> bytes | None:
        with self._store.lock:
            described = self._store.groups.get(group_id)
        return None if described is None or has_expired(described) else described.result.document

    def delete_group(self, group_id: str) -> None:
        with self._store.lock:
            self._store.groups.pop(group_id, None)

    def save_chain(self, chain_id: str, blocks: Sequence[bytes], seconds: float) -> None:
        with self._store.lock:
            self._store.chains[chain_id] = Chain(dict(enumerate(blocks)), time.monotonic() + seconds)

    def chain_block(self, chain_id: str, index: int, seconds: float) -> bytes | None:
        with self._store.lock:
            chain = self._store.chains.pop(chain_id, None)
            if chain is None or chain.expires <= time.monotonic():
                return None
            left = {at: block for at, block in chain.blocks.items() if at >= index}
            self._store.chains[chain_id] = Chain(left, time.monotonic() + seconds)
            return left.get(index)

    def begin_chords(self, chords: Sequence[tuple[str, int]], deadline: float | None = None) -> None:
        with self._store.lock:
            self._store.chords.begin(chords, self.options.chord_expires)

    def extend_chords(self, extended: Sequence[tuple[str, int, str]], deadline: float | None = None) -> None:
        with self._store.lock:
            self._store.chords.extend(extended, self.options.chord_expires)

    def count_parts(self, parts: Sequence[Part], deadline: float | None = None) -> list[CompleteChord]:
        with self._store.lock:
            complete = self._store.chords.count(parts, self.options.chord_expires)
        # A join in a child of the prefork pool can't read what is in this process.
        return [
            chord._replace(members=self.parts(chord.group_id), described=self.restore_group(chord.group_id))
            for chord in complete
        ]

    def parts(self, group_id: str, deadline: float | None = None) -> list[bytes] | None:
        with self._store.lock:
            return self._store.chords.members(group_id)

    def end_chord(self, group_id: str, deadline: float | None = None) -> bool:
        with self._store.lock:
            return self._store.chords.end(group_id)

    def cleanup(self) -> int:
        with self._store.lock:
            swept = self._store.chords.sweep()
            for kept in (self._store.results, self._store.groups):
                expired = [each for each, stored in kept.items() if has_expired(stored)]
                for each in expired:
                    del kept[each]
                swept += len(expired)
            now = time.monotonic()
            ended = [each for each, chain in self._store.chains.items() if chain.expires <= now]
            for each in ended:
                del self._store.chains[each]
        return swept + len(ended)

    def shares_store_with(self, broker: Broker) -> bool:
        return isinstance(broker, MemoryBroker) and broker.name == self.name

    def close(self) -> None:
        """Do nothing: there is no connection, and what is stored stays."""

    def _expiry(self, state: str) -> float | None:
        seconds = self.options.expires
        if state == "FAILURE" and self.options.failure_expires is not None:
            seconds = self.options.failure_expires
        return None if seconds is None else time.monotonic() + seconds


def has_expired(stored: Stored) -> bool:
    """Whether *stored* is past its end."""
    return stored.expires is not None and stored.expires <= time.monotonic()


_stores: dict[str, ResultStore] = {}
