"""What beats share, within one process."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Sequence
from itertools import compress

from fastq.brokers.memory_store import Item, MemoryStore
from fastq.brokers.schedule_store import Kept, Look, Run, ScheduleStore, digest, renewed


class _Schedule:
    """What is kept for one application."""

    def __init__(self) -> None:
        self.token = ""
        self.until = 0.0  # monotonic
        self.alive_at = 0.0
        self.names: frozenset[str] = frozenset()
        self.version = 0
        self.entries: dict[str, bytes] = {}
        self.states: dict[str, tuple[int, bytes]] = {}
        self.paused: set[str] = set()


class MemoryScheduleStore(ScheduleStore):
    """Works under the lock of the memory store."""

    def __init__(self, store: MemoryStore, name: str) -> None:
        self._store = store
        with store.lock:
            self._kept: _Schedule = store.schedules.setdefault(name, _Schedule())

    def look(self, beat: str, lease: float, stale: str, names: Collection[str]) -> Look:
        kept = self._kept
        with self._store.lock:
            now, alive_at = time.time(), kept.alive_at
            token = kept.token if time.monotonic() < kept.until else ""
            if not token or token.rpartition(" ")[0] == beat or token == stale:
                kept.token = token = renewed(kept.token, beat)
                kept.until = time.monotonic() + lease
                kept.alive_at = now
                kept.names = frozenset(names)
            return Look(now, token, kept.version, digest(kept.names), alive_at)

    def resign(self, beat: str) -> None:
        with self._store.lock:
            if self._kept.token.rpartition(" ")[0] == beat:
                self._kept.until = 0.0

    def leader(self) -> str:
        with self._store.lock:
            return self._kept.token.rpartition(" ")[0] if time.monotonic() < self._kept.until else ""

    def served(self) -> frozenset[str]:
        with self._store.lock:
            return self._kept.names

    def read(self) -> Kept:
        kept = self._kept
        with self._store.lock:
            return Kept(kept.version, dict(kept.entries), dict(kept.states), frozenset(kept.paused))

    def accept(self, runs: Sequence[Run], version: int) -> list[str] | None:
        kept = self._kept
        with self._store.lock:
            if version != kept.version:
                return None
            said = []
            now = time.time()
            for run in runs:
                last, _ = kept.states.get(run.name, (0, b""))
                if run.number != last + 1:
                    said.append("number")
                    continue
                for message in run.messages:
                    self._store.put(Item(message, now), now, message.due)
                kept.states[run.name] = (run.number, run.state)
                said.append("")
            return said

    def amend(self, runs: Sequence[Run]) -> list[bool]:
        states = self._kept.states
        with self._store.lock:
            are_last = [states.get(run.name, (0, b""))[0] == run.number for run in runs]
            states.update((run.name, (run.number, run.state)) for run in compress(runs, are_last))
        return are_last

    def put(self, name: str, definition: bytes) -> None:
        with self._store.lock:
            self._kept.entries[name] = definition
            self._kept.version += 1

    def remove(self, names: Iterable[str]) -> int:
        kept, count = self._kept, 0
        with self._store.lock:
            for name in names:
                known = [each.pop(name, None) for each in (kept.entries, kept.states)]
                kept.paused.discard(name)
                count += any(each is not None for each in known)
            kept.version += 1
        return count

    def pause(self, name: str, is_paused: bool) -> None:
        with self._store.lock:
            (self._kept.paused.add if is_paused else self._kept.paused.discard)(name)
            self._kept.version += 1
