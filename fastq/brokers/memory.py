"""A broker within one process, for tests: `memory://`, or `memory://NAME` for one of several.

It keeps the messages themselves, not their envelopes. Its stores outlive the brokers that
open them, so a client and a worker thread of one process meet under one URL.
"""

from __future__ import annotations

import os
import select
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

from fastq._core.message import Action, Delivery, Message, Outcome
from fastq.backends.base import StoredResult
from fastq.brokers.base import Broker, BrokerOptions, Consumer, DeadMessage, QueueInfo, TaskPlace
from fastq.brokers.exchanges import Bound, Stored, bindings_of
from fastq.brokers.memory_store import Claim, Dead, Item, MemoryStore, Waiting, Worker, open_store
from fastq.brokers.redelivery import NO_LIMIT
from fastq.brokers.workflows import settle_chords
from fastq.exceptions import OperationalError

if TYPE_CHECKING:
    from fastq.backends.base import Backend
    from fastq.brokers.listening import Listener
    from fastq.brokers.memory_schedules import MemoryScheduleStore
    from fastq.brokers.retry_policy import RetryPolicy
    from fastq.topology import Exchange, Queue
    from fastq.wakeup import Waker


class MemoryBroker(Broker):
    """Keeps messages in this process."""

    keeps_schedules = True
    is_private = True

    def __init__(self, url: str, options: BrokerOptions) -> None:
        super().__init__(url, options)
        self._store = open_store(url)
        self.name = self._store.name

    def publish(
        self,
        messages: Sequence[Message],
        deadline: float | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        store = self._store
        if store.pid != os.getpid():
            raise OperationalError(
                f"{self.url} lies in process {store.pid}, out of reach of its child {os.getpid()}: "
                "use the threads or the solo pool, or sqlite://"
            )
        now = time.time()
        with store.lock:
            for message in messages:
                store.put(Item(message, now), now, message.due)

    def consumer(
        self, queues: Sequence[str], worker: str, waker: Waker, backend: Backend | None = None
    ) -> MemoryConsumer:
        shared = backend if backend is not None and backend.shares_store_with(self) else None
        return MemoryConsumer(self._store, self.options, queues, worker, waker, shared)

    def _exchange(self, name: str, exchange_type: str, bound: Sequence[Bound]) -> Stored:
        with self._store.lock:
            self._store.bind(name, bound)
            stored = list(self._store.bindings[name])
        return Stored(exchange_type or (stored[-1].exchange_type if stored else ""), stored)

    def announce(
        self, exchange: Exchange, messages: Sequence[Message], deadline: float | None = None
    ) -> None:
        with self._store.lock:
            for listener in self._store.listeners:
                listener.tell(exchange.name, messages)

    def listen(self, queue: Queue, waker: Waker | None = None) -> Listener:
        from fastq.brokers.memory_listening import MemoryListener  # for remote control and events

        return MemoryListener(self._store, queue, waker)

    def revoke(self, records: Mapping[str, float]) -> None:
        with self._store.lock:
            self._store.revoked.update(records)

    def revoked(self) -> dict[str, float]:
        now = time.time()
        with self._store.lock:
            return {record: until for record, until in self._store.revoked.items() if until > now}

    def pause(self, queue: str, is_paused: bool) -> None:
        with self._store.lock:
            if is_paused:
                self._store.paused.add(queue)
            else:
                self._store.paused.discard(queue)

    def paused(self, queues: Iterable[str]) -> frozenset[str]:
        with self._store.lock:
            return frozenset(queues) & self._store.paused

    def delayed(self, queues: Iterable[str], limit: int) -> list[tuple[float, Message]]:
        wanted = set(queues)
        with self._store.lock:
            found = [(due, item.message) for due, _, item in self._store.delayed]
        chosen = [(due, message) for due, message in found if message.queue in wanted]
        return sorted(chosen, key=lambda each: each[0])[:limit]

    def schedule_store(self, name: str) -> MemoryScheduleStore:
        from fastq.brokers.memory_schedules import MemoryScheduleStore  # for beats

        return MemoryScheduleStore(self._store, name)

    def queues(self, names: Iterable[str] = ()) -> list[QueueInfo]:
        now = time.time()
        with self._store.lock:
            every = Counter(dict.fromkeys(names, 0))
            ready = Counter({key: len(line) for key, line in self._store.ready.items() if line})
            lengths: Counter[str] = Counter()
            for (queue, _), length in ready.items():
                lengths[queue] += length
            claimed = Counter(
                claim.item.message.queue
                for worker in self._store.workers.values()
                for claim in worker.claims.values()
            )
            delayed = Counter(item.message.queue for _, _, item in self._store.delayed)
            dead = Counter(each.item.message.queue for each in self._store.dead)
            heads = {queue: self._store.head(queue) for queue in lengths}
        return [
            QueueInfo(
                name=name,
                ready=lengths[name],
                claimed=claimed[name],
                delayed=delayed[name],
                dead=dead[name],
                oldest_age=max(now - heads[name].queued_at, 0.0) if name in heads else None,
            )
            for name in sorted({*every, *lengths, *claimed, *delayed, *dead})
        ]

    def purge(self, queue: str) -> int:
        with self._store.lock:
            return self._store.purge(queue)

    def locate(self, task_id: str, queues: Iterable[str] = ()) -> TaskPlace | None:
        with self._store.lock:
            for item, place in self._store.places():
                if item.message.id == task_id:
                    return place
        return None

    def dead(self, queue: str | None = None, limit: int = 100) -> list[DeadMessage]:
        with self._store.lock:
            entries = [each for each in self._store.dead if queue in (None, each.item.message.queue)]
        return [
            DeadMessage(
                id=each.item.message.id,
                queue=each.item.message.queue,
                task=each.item.message.task,
                reason=each.reason,
                died_at=each.died_at,
                raw=each.item.message.envelope(),
            )
            for each in entries[: -limit - 1 : -1]
        ]

    def retry_dead(self, ids: Iterable[str] | None, queue: str | None = None) -> int:
        now = time.time()
        with self._store.lock:
            entries = self._store.exhume(ids, queue)
            for each in entries:
                self._store.put(Item(each.item.message, now), now)
        return len(entries)

    def drop_dead(self, ids: Iterable[str] | None, queue: str | None = None) -> int:
        with self._store.lock:
            return len(self._store.exhume(ids, queue))

    def close(self) -> None:
        """Do nothing: there is no connection, and what is stored stays."""


class MemoryConsumer(Consumer):
    """Takes turns under the store's lock, and waits on its waker."""

    is_connected = True

    def __init__(
        self,
        store: MemoryStore,
        options: BrokerOptions,
        queues: Sequence[str],
        worker: str,
        waker: Waker,
        backend: Backend | None,
    ) -> None:
        """With a *backend* results are stored under the same lock."""
        self.lost = []
        self.completed = []
        self.commits_results = backend is not None
        self._store = store
        self._options = options
        self._queues = list(queues)
        self._node = worker
        self._waker = waker
        self._backend = backend
        self._epoch = 0
        declared = [options.queue(name) for name in queues]
        self._bindings = bindings_of(declared)
        self._private = frozenset(queue.name for queue in declared if queue.is_private)
        self._worker = Worker(worker, 0.0)

    def turn(self, outcomes: Sequence[Outcome], room: int, timeout: float) -> list[Delivery]:
        until = time.monotonic() + timeout
        waiting = Waiting(frozenset(self._queues), self._waker)
        poll = select.poll()
        poll.register(self._waker.fileno(), select.POLLIN)
        try:
            taken, pause = self._step(outcomes, room, waiting)
            while not taken and not self.completed:
                pause = min(pause, until - time.monotonic())
                was_set = bool(poll.poll(max(pause, 0.0) * 1000))
                if was_set:
                    self._waker.clear()
                taken, pause = self._step((), room, waiting)
                if was_set or time.monotonic() >= until:
                    break
        finally:
            with self._store.lock:
                self._store.waiting.remove(waiting)
        return taken

    def _step(self, outcomes: Sequence[Outcome], room: int, waiting: Waiting) -> tuple[list[Delivery], float]:
        """Settle, and claim; returns deliveries, and the seconds until there may be more to do."""
        store = self._store
        may_bury = self._tell_of_burials()
        with store.lock:
            self._renew()
            if self._backend is not None and any(outcome.effects for outcome in outcomes):
                held = [each for each in outcomes if self._is_held(each)]
                outcomes, complete = settle_chords(held, self._backend)
                self.completed += complete
            for outcome in outcomes:
                if outcome.action != Action.RETURN:
                    self._settle(outcome)
            # Each goes in front of the one before it, so that they stand in their old order.
            for outcome in reversed(outcomes):
                if outcome.action == Action.RETURN:
                    self._settle(outcome)
            store.move_due(time.time())
            store.restore(self._options.max_redeliveries, may_bury)
            taken = self._claim(room)
            if waiting not in store.waiting:
                store.waiting.append(waiting)
            return taken, min(store.next_event(), self._options.lease / 3)

    def _tell_of_burials(self) -> Set[int] | None:
        """Have `before_burial` called, without the lock; what may be buried then, None: anything."""
        if self.before_burial is None:
            return None
        dying: dict[int, tuple[Delivery, str]] = {}
        with self._store.lock:
            expired = self._store.expired().values()
            for worker in expired:
                dying |= self._store.dying(worker, self._options.max_redeliveries)
        if not dying or self.before_burial(list(dying.values())):
            return dying.keys()
        with self._store.lock:
            for worker in expired:  # as if it had just renewed: the next round comes when that has run out
                worker.lease_until = time.monotonic() + self._options.lease / 3
        return frozenset()

    def _renew(self) -> None:
        if self._worker is not self._store.workers.get(self._epoch):
            self.lost += [claim.delivery for claim in self._worker.claims.values()]
            self._worker = Worker(self._node, 0.0, self._private)
            self._epoch = next(self._store.serials)
            self._store.workers[self._epoch] = self._worker
            for exchange, bound in self._bindings.items():
                self._store.bind(exchange, bound)
        self._worker.lease_until = time.monotonic() + self._options.lease

    def _is_held(self, outcome: Outcome) -> bool:
        return outcome.delivery.tag is None or outcome.delivery.tag in self._worker.claims

    def _settle(self, outcome: Outcome) -> None:
        claim = None
        if outcome.delivery.tag is not None:
            claim = self._worker.claims.pop(outcome.delivery.tag, None)
            if claim is None:
                return  # lost, or settled before
        now = time.time()
        for message in outcome.follow or ():
            self._store.put(Item(message, now), now, message.due)
        finished = outcome.delivery.message
        if self._backend is not None and outcome.result is not None and finished is not None:
            self._backend.store([StoredResult(finished.id, outcome.state or "", outcome.result)])
        if self._backend is not None and outcome.effects is not None:
            self._backend.store([StoredResult(*further) for further in outcome.effects.results])
            self._backend.begin_chords(outcome.effects.chords)
            for group_id, document in outcome.effects.groups:
                self._backend.save_group(group_id, document)
        if claim is not None:
            self._move(claim.item, outcome, now)

    def _move(self, item: Item, outcome: Outcome, now: float) -> None:
        if outcome.action == Action.REQUEUE:
            item.queued_at = now
            self._store.put(item, now)
        elif outcome.action == Action.PARK:
            self._store.put(item, now, outcome.until)
        elif outcome.action == Action.BURY:
            self._store.dead.append(Dead(item, outcome.reason or "no reason was given", now))
        elif outcome.action == Action.RETURN:
            self._store.put_first(item)
        elif outcome.action == Action.REDELIVER:
            self._store.put_back(item, self._options.max_redeliveries, f"a child of {self._node} died")

    def _claim(self, room: int) -> list[Delivery]:
        taken: list[Delivery] = []
        for queue in self._queues:
            for item in self._store.take(queue, room - len(taken)):
                tag = next(self._store.serials)
                delivery = Delivery(item.message, tag, queue, item.redelivered)
                self._worker.claims[tag] = Claim(item, delivery)
                taken.append(delivery)
        return taken

    def consume(self, queues: Sequence[str]) -> None:
        declared = [self._options.queue(name) for name in queues]
        with self._store.lock:
            self._queues = list(queues)
            for exchange, bound in bindings_of(declared).items():
                self._bindings[exchange] = bound
                self._store.bind(exchange, bound)

    def mark_started(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        with self._store.lock:
            for each in deliveries:
                if each.tag in self._worker.claims:
                    self._worker.claims[each.tag].is_started = True
        return list(deliveries)

    def close(self, unstarted: Sequence[Delivery] = ()) -> None:
        tags = {each.tag for each in unstarted}
        with self._store.lock:
            if self._store.workers.pop(self._epoch, None) is self._worker:
                for tag, claim in reversed(self._worker.claims.items()):
                    if tag in tags:
                        self._store.put_first(claim.item)
                    else:
                        self._store.put_back(claim.item, NO_LIMIT, f"{self._node} was stopped")
                self._store.drop_private(self._worker)
            self._worker.claims.clear()
