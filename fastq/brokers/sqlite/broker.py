"""The embedded broker: publishing, and looking into one SQLite file (D10)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from sqlite3 import Connection
from typing import TYPE_CHECKING, Any

from fastq._core.message import Message, decode_envelope
from fastq.brokers.base import Broker, BrokerOptions, DeadMessage, QueueInfo, TaskPlace
from fastq.brokers.exchanges import Bound, Stored
from fastq.brokers.sqlite import bindings, moves
from fastq.brokers.sqlite.statements import SQL
from fastq.brokers.sqlite.store import Store, database_path
from fastq.exceptions import DecodeError

if TYPE_CHECKING:
    from fastq.backends.base import Backend
    from fastq.brokers.listening import Listener
    from fastq.brokers.retry_policy import RetryPolicy
    from fastq.brokers.sqlite.consumer import SQLiteConsumer
    from fastq.brokers.sqlite.schedule_store import SQLiteScheduleStore
    from fastq.topology import Exchange, Queue
    from fastq.wakeup import Waker

# Messages per transaction of a bulk publish: enough that its fsync costs nothing per message, and few
# enough that others get the write lock every few hundredths of a second.
PUBLISH_AT_ONCE = 2000


class SQLiteBroker(Broker):
    """Keeps messages in one file, that any number of processes of this machine may use."""

    keeps_schedules = True

    def __init__(self, url: str, options: BrokerOptions) -> None:
        super().__init__(url, options)
        self.path = database_path(url, options.app_name)
        self._store = Store(self.path, options.publish_deadline)

    def publish(
        self,
        messages: Sequence[Message],
        deadline: float | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        until = time.monotonic() + (self.options.publish_deadline if deadline is None else deadline)
        rows = iter(moves.rows_of(messages))
        while batch := list(islice(rows, PUBLISH_AT_ONCE)):
            left = max(until - time.monotonic(), 0.0)
            with self._store.writing(left) as db:
                moves.add(db, batch, time.time())

    def consumer(
        self, queues: Sequence[str], worker: str, waker: Waker, backend: Backend | None = None
    ) -> SQLiteConsumer:
        from fastq.brokers.sqlite.consumer import SQLiteConsumer  # a client that only publishes needs none

        shared = backend if backend is not None and backend.shares_store_with(self) else None
        return SQLiteConsumer(self._store, self.options, queues, worker, waker, shared)

    def _exchange(self, name: str, exchange_type: str, bound: Sequence[Bound]) -> Stored:
        with self._store.lent() as db:
            stored = bindings.read(db, name, exchange_type)
        fresh = [each for each in bound if each not in stored.bound]
        if fresh:
            with self._store.writing() as db:
                bindings.store(db, name, fresh)
                stored = bindings.read(db, name, exchange_type)
        return stored

    def announce(
        self, exchange: Exchange, messages: Sequence[Message], deadline: float | None = None
    ) -> None:
        """Write into the file beside, where an announcement lies for a minute; nothing is synced."""
        from fastq.brokers.sqlite import listening  # for remote control and events

        left = self.options.publish_deadline if deadline is None else deadline
        listening.announce(listening.file_beside(self.path), exchange.name, messages, left)

    def listen(self, queue: Queue, waker: Waker | None = None) -> Listener:
        """Watch the file beside."""
        from fastq.brokers.sqlite.listening import SQLiteListener

        return SQLiteListener(self.path, queue, waker)

    def revoke(self, records: Mapping[str, float]) -> None:
        with self._store.writing() as db:
            db.execute(SQL["forget_revoked"], (time.time(),))
            db.executemany(SQL["revoke"], list(records.items()))

    def revoked(self) -> dict[str, float]:
        with self._store.lent() as db:
            return dict(db.execute(SQL["revoked"], (time.time(),)).fetchall())

    def pause(self, queue: str, is_paused: bool) -> None:
        with self._store.writing() as db:
            db.execute(SQL["pause" if is_paused else "resume"], (queue,))

    def paused(self, queues: Iterable[str]) -> frozenset[str]:
        with self._store.lent() as db:
            return frozenset(queues) & {queue for (queue,) in db.execute(SQL["paused"])}

    def delayed(self, queues: Iterable[str], limit: int) -> list[tuple[float, Message]]:
        found = []
        with self._store.lent() as db:
            for queue in queues:
                for due, envelope in db.execute(SQL["delayed"], (queue, limit)):
                    try:
                        message = decode_envelope(envelope)
                    except DecodeError:  # shown when it is due, and dies
                        continue
                    message.queue = queue
                    found.append((due, message))
        return sorted(found, key=lambda each: each[0])[:limit]

    def schedule_store(self, name: str) -> SQLiteScheduleStore:
        from fastq.brokers.sqlite.schedule_store import SQLiteScheduleStore  # for beats

        return SQLiteScheduleStore(self._store, name)

    def queues(self, names: Iterable[str] = ()) -> list[QueueInfo]:
        now = time.time()
        with self._store.lent() as db:
            counts = dict.fromkeys(names, (0, 0, 0, 0))
            counts.update((name, numbers) for name, *numbers in db.execute(SQL["counts"]))
            heads = {name: db.execute(SQL["head"], (name,)).fetchone() for name in counts}
        return [
            QueueInfo(
                name=name,
                ready=ready,
                claimed=claimed,
                delayed=delayed,
                dead=dead,
                oldest_age=None if heads[name] is None else max(now - heads[name][0], 0.0),
            )
            for name, (ready, claimed, delayed, dead) in sorted(counts.items())
        ]

    def purge(self, queue: str) -> int:
        with self._store.writing() as db:
            return moves.purge(db, queue)

    def locate(self, task_id: str, queues: Iterable[str] = ()) -> TaskPlace | None:
        # SQLite finds the bytes far faster than Python reads envelopes. An id that JSON may have
        # escaped is looked for in every message.
        plain = task_id.isascii() and task_id.isprintable() and not set('"\\') & set(task_id)
        needle = task_id.encode() if plain else b"{"
        with self._store.lent() as db:
            for queue, redelivered, envelope, *row in db.execute(SQL["places"], (needle,)):
                due, node, dead_name, reason = row
                if dead_name != task_id and _id_in(envelope) != task_id:
                    continue  # another task's message, which names this one as its parent
                if dead_name is not None:
                    return TaskPlace(state="dead", queue=queue, reason=reason, redelivered=redelivered)
                if node is not None:
                    return TaskPlace(state="claimed", queue=queue, worker=node, redelivered=redelivered)
                if due is not None:
                    return TaskPlace(state="delayed", queue=queue, until=due, redelivered=redelivered)
                return TaskPlace(state="queued", queue=queue, redelivered=redelivered)
        return None

    def dead(self, queue: str | None = None, limit: int = 100) -> list[DeadMessage]:
        with self._store.lent() as db:
            rows: list[Any] = db.execute(SQL["dead"], (queue, queue, limit)).fetchall()
        return [
            DeadMessage(id=name, queue=queue, task=task, reason=reason, died_at=died_at, raw=raw)
            for name, queue, task, reason, died_at, raw in rows
        ]

    def retry_dead(self, ids: Iterable[str] | None, queue: str | None = None) -> int:
        with self._store.writing() as db:
            numbers = _dead_ids(db, ids, queue)
            moves.revive(db, numbers, time.time())
        return len(numbers)

    def drop_dead(self, ids: Iterable[str] | None, queue: str | None = None) -> int:
        with self._store.writing() as db:
            numbers = _dead_ids(db, ids, queue)
            db.executemany(SQL["delete_dead"], [(number,) for number in numbers])
            db.executemany(SQL["delete_message"], [(number,) for number in numbers])
        return len(numbers)

    def close(self) -> None:
        self._store.close()

    def description(self) -> str:
        return f"sqlite:///{self.path}"


def _dead_ids(db: Connection, names: Iterable[str] | None, queue: str | None) -> list[int]:
    wanted = None if names is None else set(names)
    rows = db.execute(SQL["dead_ids"], (queue, queue)).fetchall()
    return [number for number, name in rows if wanted is None or name in wanted]


def _id_in(envelope: bytes) -> str | None:
    try:
        message = decode_envelope(envelope)
    except DecodeError:
        return None
    return message.id or message.properties.get("correlation_id")
