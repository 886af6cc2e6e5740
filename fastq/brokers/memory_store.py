"""What the memory broker keeps: queues, schedule, claims and dead set of one URL, within one process."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Set
from heapq import heapify, heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from fastq._core.message import Delivery, Message
from fastq.brokers.base import TaskPlace
from fastq.brokers.exchanges import Bound
from fastq.brokers.priority import STEPS, priority_step
from fastq.brokers.redelivery import death_reason, lease_ran_out

if TYPE_CHECKING:
    from fastq.brokers.memory_listening import MemoryListener
    from fastq.wakeup import Waker


# Plain classes where fields change, named tuples where none does: the dataclasses module takes 10 ms to
# import, a dataclass 1.5 ms to make.
class Item:
    """A message in the store, and what is known of it."""

    __slots__ = ("message", "queued_at", "redelivered")

    def __init__(self, message: Message, queued_at: float) -> None:
        self.message = message
        self.queued_at = queued_at  # unix seconds
        self.redelivered = 0


class Claim:
    """A message that a worker holds."""

    __slots__ = ("delivery", "is_started", "item")

    def __init__(self, item: Item, delivery: Delivery) -> None:
        self.item = item
        self.delivery = delivery
        self.is_started = False

    @property
    def counts(self) -> bool:
        """Whether its loss counts as a redelivery."""
        return self.is_started or not self.item.redelivered


class Worker:
    """A consumer's hold on its claims."""

    __slots__ = ("claims", "lease_until", "node", "private")

    def __init__(self, node: str, lease_until: float, private: frozenset[str] = frozenset()) -> None:
        self.node = node
        self.lease_until = lease_until  # monotonic seconds
        self.private = private  # names of the queues that go with it
        self.claims: dict[int, Claim] = {}  # by tag


class Dead(NamedTuple):
    """An item of the dead set."""

    item: Item
    reason: str
    died_at: float  # unix seconds


class Waiting(NamedTuple):
    """A consumer that has found nothing."""

    queues: frozenset[str]
    waker: Waker


class MemoryStore:
    """What brokers of one URL share. Its methods are called with `lock` held."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pid = os.getpid()
        self.lock = threading.Lock()  # guards everything below
        self.ready: defaultdict[tuple[str, int], deque[Item]] = defaultdict(deque)  # by queue and step
        self.delayed: list[tuple[float, int, Item]] = []  # heap of (due, serial, item)
        self.dead: list[Dead] = []
        self.workers: dict[int, Worker] = {}  # by epoch
        self.waiting: list[Waiting] = []
        self.serials = count(1)
        self.bindings: defaultdict[str, list[Bound]] = defaultdict(list)  # by exchange
        self.listeners: list[MemoryListener] = []  # those who hear what is announced
        self.revoked: dict[str, float] = {}  # until when, unix seconds, by the task's id
        self.paused: set[str] = set()  # names of queues
        self.schedules: dict[str, Any] = {}  # what beats share, by application

    def put(self, item: Item, now: float, due: float | None = None) -> None:
        """Put *item* at the tail of its queue, or the schedule if *due* is after *now*; wake who waits."""
        message = item.message
        if due is not None and due > now:
            heappush(self.delayed, (due, next(self.serials), item))
        else:
            self.ready[message.queue, priority_step(message.priority)].append(item)
        for each in self.waiting:
            if message.queue in each.queues or due is not None:
                each.waker.set()

    def wake(self) -> None:
        """Have whoever waits look at the clock again."""
        for each in tuple(self.waiting):
            each.waker.set()

    def put_first(self, item: Item) -> None:
        """Put *item* at the head of its queue; wake who waits."""
        message = item.message
        self.ready[message.queue, priority_step(message.priority)].appendleft(item)
        for each in self.waiting:
            if message.queue in each.queues:
                each.waker.set()

    def put_back(self, item: Item, limit: int, cause: str) -> None:
        """Put *item* at the head of its queue, counted up; past *limit* redeliveries into the dead set."""
        item.redelivered += 1
        if item.redelivered <= limit:
            self.put_first(item)
            return
        self.dead.append(Dead(item, death_reason(item.redelivered, limit, cause), time.time()))

    def take(self, queue: str, room: int) -> list[Item]:
        """Remove and return the first items of *queue*, at most *room*."""
        taken: list[Item] = []
        for step in STEPS:
            line = self.ready.get((queue, step))
            while line and len(taken) < room:
                taken.append(line.popleft())
        return taken

    def move_due(self, now: float) -> None:
        """Put what is due at the tail of its queue."""
        while self.delayed and self.delayed[0][0] <= now:
            item = heappop(self.delayed)[2]
            item.queued_at = now
            self.put(item, now)

    def expired(self) -> dict[int, Worker]:
        """The workers whose lease ran out, by epoch."""
        mono = time.monotonic()
        return {epoch: worker for epoch, worker in self.workers.items() if worker.lease_until <= mono}

    def dying(self, worker: Worker, limit: int) -> dict[int, tuple[Delivery, str]]:
        """What a restore of *worker* would bury, by tag, with the reason."""
        cause = lease_ran_out(worker.node)
        return {
            tag: (claim.delivery, death_reason(claim.item.redelivered + 1, limit, cause))
            for tag, claim in worker.claims.items()
            if claim.counts and claim.item.redelivered >= limit
        }

    def restore(self, limit: int, may_bury: Set[int] | None) -> None:
        """Take away the claims of workers whose lease ran out, unless others than *may_bury* would die."""
        for epoch, worker in self.expired().items():
            if may_bury is not None and not self.dying(worker, limit).keys() <= may_bury:
                continue
            del self.workers[epoch]
            for claim in reversed(worker.claims.values()):
                if claim.counts:
                    self.put_back(claim.item, limit, lease_ran_out(worker.node))
                else:
                    self.put_first(claim.item)

            self.drop_private(worker)

    def bind(self, exchange: str, bound: Iterable[Bound]) -> None:
        """Store bindings of *exchange*; those that it has already take their place at the end."""
        kept = self.bindings[exchange]
        for each in bound:
            if each in kept:
                kept.remove(each)
            kept.append(each)

    def drop_private(self, gone: Worker) -> None:
        """Delete the queues that were the *gone* worker's alone."""
        for queue in gone.private.difference(*(worker.private for worker in self.workers.values())):
            for exchange, bound in self.bindings.items():
                self.bindings[exchange] = [each for each in bound if each.queue != queue]
            self.purge(queue)

    def purge(self, queue: str) -> int:
        """Remove what is ready or delayed in *queue*; returns how many messages that were."""
        removed = len(self.take(queue, sys.maxsize))
        kept = [entry for entry in self.delayed if entry[2].message.queue != queue]
        removed += len(self.delayed) - len(kept)
        heapify(kept)
        self.delayed = kept
        return removed

    def head(self, queue: str) -> Item:
        """The next item of *queue*, which has one."""
        return next(line[0] for step in STEPS if (line := self.ready.get((queue, step))))

    def exhume(self, names: Iterable[str] | None, queue: str | None) -> list[Dead]:
        """Remove and return entries of the dead set; None stands for all."""
        wanted = None if names is None else set(names)
        taken: list[Dead] = []
        kept: list[Dead] = []
        for each in self.dead:
            message = each.item.message
            is_wanted = (wanted is None or message.id in wanted) and queue in (None, message.queue)
            (taken if is_wanted else kept).append(each)
        self.dead = kept
        return taken

    def places(self) -> Iterator[tuple[Item, TaskPlace]]:
        """Each item with the place where it lies."""
        for line in self.ready.values():
            for item in line:
                yield item, _place("queued", item)
        for due, _, item in self.delayed:
            yield item, _place("delayed", item, until=due)
        for worker in self.workers.values():
            for claim in worker.claims.values():
                yield claim.item, _place("claimed", claim.item, worker=worker.node)
        for dead in self.dead:
            yield dead.item, _place("dead", dead.item, reason=dead.reason)

    def next_event(self) -> float:
        """Seconds until a message is due or a lease ends; 0 if that is past."""
        due = self.delayed[0][0] - time.time() if self.delayed else float("inf")
        leases = [worker.lease_until for worker in self.workers.values()]
        return max(min(due, min(leases, default=float("inf")) - time.monotonic()), 0.0)


def _place(
    state: str, item: Item, until: float | None = None, worker: str | None = None, reason: str | None = None
) -> TaskPlace:
    return TaskPlace(
        state=state,
        queue=item.message.queue,
        until=until,
        worker=worker,
        reason=reason,
        redelivered=item.redelivered,
    )


_stores: dict[str, MemoryStore] = {}  # by name


def open_store(url: str) -> MemoryStore:
    """The store of this process that *url* names, made when it is first asked for."""
    name = url.partition("://")[2].strip("/")
    return _stores.setdefault(name, MemoryStore(name))
