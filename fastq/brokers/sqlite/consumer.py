"""A worker's turns at the embedded broker, each one transaction, and its wait for work (D4, D6, D8)."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence, Set
from itertools import count
from sqlite3 import Connection
from typing import TYPE_CHECKING, NamedTuple

from fastq._core.message import Action, Delivery, Outcome, decode_delivery
from fastq.backends.base import CompleteChord, Part, StoredResult
from fastq.brokers.base import BrokerOptions, Consumer
from fastq.brokers.exchanges import bindings_of
from fastq.brokers.redelivery import NO_LIMIT
from fastq.brokers.sqlite import bindings, chords, documents, moves
from fastq.brokers.sqlite.pause import Pause
from fastq.brokers.sqlite.statements import SQL
from fastq.brokers.sqlite.store import Store
from fastq.brokers.workflows import Waiting, settle_chords
from fastq.exceptions import OperationalError

if TYPE_CHECKING:
    from fastq.backends.base import Backend, BackendOptions
    from fastq.wakeup import Waker

# The lease is renewed by any transaction, and by one of its own when this part of it has passed.
RENEW_AFTER = 1 / 3

NEVER = float("inf")

# Seconds between two sweeps of expired results, when the last one found fewer than it could take.
SWEEP_INTERVAL = 60.0

# Expired results that a turn deletes for each that it stores: more than one, so that they can't pile up.
SWEPT_PER_STORED = 2


class Claim(NamedTuple):
    """A message that this worker holds."""

    number: int  # of its row
    delivery: Delivery


class Ready(NamedTuple):
    """A row that a transaction has claimed."""

    number: int
    queue: str
    redelivered: int
    envelope: bytes


class TransactionLedger(NamedTuple):
    """The chords of a store, inside a transaction."""

    db: Connection
    options: BackendOptions
    now: float

    def extend_chords(self, extended: Sequence[tuple[str, int, str]], deadline: float | None = None) -> None:
        """See `fastq.brokers.workflows.Ledger`."""
        chords.extend(self.db, extended, self.options, self.now)

    def count_parts(self, parts: Sequence[Part], deadline: float | None = None) -> list[CompleteChord]:
        """See `fastq.brokers.workflows.Ledger`."""
        return chords.count(self.db, parts, self.options, self.now)

    def end_chord(self, group_id: str, deadline: float | None = None) -> bool:
        """See `fastq.brokers.workflows.Ledger`."""
        return chords.end(self.db, group_id, self.now)


class SQLiteConsumer(Consumer):
    """Takes turns on a connection of its own. A turn that finds nothing to do does not write."""

    def __init__(
        self,
        store: Store,
        options: BrokerOptions,
        queues: Sequence[str],
        worker: str,
        waker: Waker,
        backend: Backend | None,
    ) -> None:
        """Open nothing yet. With a *backend*, which must lie in *store*, a turn stores results too."""
        self.lost = []
        self.completed = []
        self.is_connected = False
        self.commits_results = backend is not None
        self._store = store
        self._options = options
        self._queues = list(queues)
        self._node = worker
        self._pause = Pause(waker)
        self._results = None if backend is None else backend.options
        declared = [options.queue(name) for name in queues]
        self._bindings = bindings_of(declared)
        self._private = frozenset(queue.name for queue in declared if queue.is_private)
        self._is_bound = not self._bindings
        self._db: Connection | None = None
        self._version = -1  # PRAGMA data_version: changes when another connection commits
        self._look = SQL["look"].format(queues=", ".join("?" * len(self._queues)))
        self._epoch = 0  # id of this worker's row; 0, which no row has: it has none
        self._held: dict[int, Claim] = {}  # by tag, which is never used twice
        self._tags = count(1)
        self._renew_at = 0.0  # unix seconds
        self._sweep_at = 0.0  # monotonic
        # What the last look at the file saw; the times are unix seconds.
        self._has_ready = False
        self._next_due = NEVER
        self._next_expiry = NEVER  # when the first lease of another worker ends
        self._clock_offset = time.time() - time.monotonic()
        self._leases_count_from = 0.0  # monotonic
        self._tell_at = 0.0  # monotonic: no burial before, because what goes before it has failed

    def consume(self, queues: Sequence[str]) -> None:
        self._queues = list(queues)
        self._look = SQL["look"].format(queues=", ".join("?" * len(self._queues)))
        declared = [self._options.queue(name) for name in queues]
        self._bindings |= bindings_of(declared)
        self._private |= {queue.name for queue in declared if queue.is_private}
        self._is_bound = not self._bindings
        self._version = -1  # look at the file, whatever it was found to hold before

    # ---- one turn ----

    def turn(self, outcomes: Sequence[Outcome], room: int, timeout: float) -> list[Delivery]:
        deadline = time.monotonic() + timeout
        taken = self._step(outcomes, room)
        while not taken and not self.completed:
            is_over = self._pause.until(deadline)
            try:
                taken = self._step((), room)
            except OperationalError:
                if not outcomes:
                    raise
                return []  # they are settled, so this turn has not failed; the next one will
            if is_over:
                break
        return taken

    def _step(self, outcomes: Sequence[Outcome], room: int) -> list[Delivery]:
        """Do what there is to do now. Without *outcomes* look first, and write only if there is something."""
        try:
            db = self._connection()
            if not outcomes and not self._finds_work(db, room):
                return []
            may_bury = self._tell_of_burials(db)
            taken = self._transact(db, outcomes, room, may_bury)
        except OperationalError:
            self._disconnect()
            raise
        if taken or outcomes:
            self._pause.touch()
        return taken

    def _connection(self) -> Connection:
        if self._db is None:
            self._db = self._store.connect()
            self._pause.watch(self._store.log)
            self._version = -1
            self.is_connected = True
        return self._db

    def _disconnect(self) -> None:
        if self._db is not None:
            self._pause.unwatch()
            self._db.close()
            self._db = None
            self.is_connected = False

    def _finds_work(self, db: Connection, room: int) -> bool:
        """Whether a transaction is called for: a message, one that is due, a lease of ours or another's."""
        now = time.time()
        with self._store.translated():
            (version,) = db.execute("PRAGMA data_version").fetchone()
            if version != self._version:
                found, due, expires = db.execute(self._look, (*self._queues, self._epoch)).fetchone()
                self._version = version
                self._has_ready = bool(found)
                self._next_due = NEVER if due is None else due
                self._next_expiry = NEVER if expires is None else expires
        return (
            (room > 0 and self._has_ready)
            or now >= self._next_due
            or (
                now >= self._next_expiry and not self._clock_jumped(now) and time.monotonic() >= self._tell_at
            )
            or (self._keeps_lease() and now >= self._renew_at)
            or not self._is_bound
        )

    def _keeps_lease(self) -> bool:
        """Whether something of ours ends with our lease: claims, or queues that are ours alone."""
        return bool(self._held) or bool(self._private)

    def _clock_jumped(self, now: float) -> bool:
        """Whether the wall clock was set forward, or the machine slept, less than a lease ago.

        Then every lease looks as if it had run out, and the workers need time to renew theirs.
        """
        mono = time.monotonic()
        if now - mono - self._clock_offset > self._options.lease * RENEW_AFTER:
            self._leases_count_from = mono + self._options.lease
        self._clock_offset = now - mono
        return mono < self._leases_count_from

    # ---- one transaction ----

    def _transact(
        self, db: Connection, outcomes: Sequence[Outcome], room: int, may_bury: Set[int]
    ) -> list[Delivery]:
        """Settle *outcomes*, see to the schedule and the leases, and claim; all of it or nothing."""
        loose = [each for each in outcomes if each.delivery.tag is None]
        held = self._first_of_each_held(outcomes)
        # Encoded before the transaction, so that it is short.
        follow = {id(each): moves.rows_of(each.follow) for each in (*loose, *held) if each.follow}
        waiting: Waiting = []
        now = time.time()
        with self._store.transaction(db):
            is_alive = db.execute(SQL["worker"], (self._epoch,)).fetchone() is not None
            was_lost = bool(self._held) and not is_alive
            if was_lost:
                held = []
            effective = [*loose, *held]
            if self._results is not None and any(each.effects for each in effective):
                effective, waiting = settle_chords(effective, TransactionLedger(db, self._results, now))
                held = [each for each in effective if each.delivery.tag is not None]
            self._settle(db, held, now)
            sent = [row for each in effective for row in follow.get(id(each), ())]
            if sent:
                moves.add(db, sent, now)
            self._store_results(db, effective, now)
            self._maintain(db, now, may_bury)
            ready = _take(db, self._queues, room)
            epoch = self._epoch if is_alive else 0
            renews = bool(ready) or (is_alive and (bool(outcomes) or now >= self._renew_at))
            renews = renews or (bool(self._private) and not is_alive)
            if renews:
                epoch = self._renew(db, epoch, now)
            if not self._is_bound or (self._private and not is_alive):
                bindings.store_all(db, self._bindings, self._private, epoch)
            db.executemany(SQL["claim"], [(row.number, epoch) for row in ready])
        self._version = -1  # our own commits do not show in data_version
        self._is_bound = True
        self._epoch = epoch
        if renews:
            self._renew_at = now + self._options.lease * RENEW_AFTER
        if was_lost:
            self.lost += [claim.delivery for claim in self._held.values()]
            self._held.clear()
        for each in held:
            del self._held[each.delivery.tag]
        self.completed += waiting
        return self._hold(ready)

    def _first_of_each_held(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        """One outcome for each claim: of what was settled before, nothing is settled again."""
        found: dict[int, Outcome] = {}
        for outcome in outcomes:
            if outcome.delivery.tag in self._held:
                found.setdefault(outcome.delivery.tag, outcome)
        return list(found.values())

    def _tell_of_burials(self, db: Connection) -> Set[int]:
        """Have `before_burial` called, which must be outside of the transaction; what may be buried then."""
        now = time.time()
        if self.before_burial is None or self._clock_jumped(now) or time.monotonic() < self._tell_at:
            return frozenset()
        dying: dict[int, tuple[Delivery, str]] = {}
        with self._store.translated():
            for worker, node in db.execute(SQL["expired_workers"], (now, self._epoch)).fetchall():
                dying |= moves.dying(db, worker, node, self._options.max_redeliveries)
        if not dying or self.before_burial(list(dying.values())):
            return dying.keys()
        self._tell_at = time.monotonic() + self._options.lease * RENEW_AFTER
        return frozenset()

    def _maintain(self, db: Connection, now: float, may_bury: Set[int]) -> None:
        """Make ready what is due, and what is claimed by workers whose lease ran out."""
        moves.move_due(db, now)
        if self._clock_jumped(now):
            return
        limit = self._options.max_redeliveries
        for worker, node in db.execute(SQL["expired_workers"], (now, self._epoch)).fetchall():
            if self.before_burial is None or moves.dying(db, worker, node, limit).keys() <= may_bury:
                moves.restore(db, worker, node, limit, now)
                bindings.drop_private(db, worker)

    def _renew(self, db: Connection, epoch: int, now: float) -> int:
        """Renew the lease of *epoch*, 0 for a new one; returns the epoch."""
        if epoch:
            db.execute(SQL["renew"], (now + self._options.lease, epoch))
            return epoch
        return db.execute(SQL["add_worker"], (self._node, now + self._options.lease)).lastrowid or 0

    def _settle(self, db: Connection, outcomes: Sequence[Outcome], now: float) -> None:
        numbers: dict[int, list[int]] = {
            action: [] for action in (Action.ACK, Action.REQUEUE, Action.REDELIVER, Action.RETURN)
        }
        for outcome in outcomes:
            number = self._held[outcome.delivery.tag].number
            if outcome.action == Action.PARK:
                moves.park(db, number, outcome.until)
            elif outcome.action == Action.BURY:
                moves.bury(db, number, outcome.delivery.message, outcome.reason or "no reason was given", now)
            else:
                numbers[outcome.action].append(number)
        moves.settle(db, numbers[Action.ACK])
        moves.requeue(db, numbers[Action.REQUEUE], now)
        moves.give_back(db, numbers[Action.RETURN])
        cause = f"a child of {self._node} died"
        moves.redeliver(db, numbers[Action.REDELIVER], self._options.max_redeliveries, now, cause)

    def _store_results(self, db: Connection, outcomes: Sequence[Outcome], now: float) -> None:
        if self._results is None:
            return
        stored = [
            StoredResult(each.delivery.message.id, each.state or "", each.result)
            for each in outcomes
            if each.result is not None and each.delivery.message is not None
        ]
        effects = [each.effects for each in outcomes if each.effects is not None]
        for each in effects:
            stored += [StoredResult(*further) for further in each.results]
            chords.begin(db, each.chords, self._results, now)
            for group_id, document in each.groups:
                documents.save_group(db, group_id, document, self._results, now)
        if not stored:
            return
        documents.store(db, stored, self._results, now)
        if time.monotonic() >= self._sweep_at:
            limit = SWEPT_PER_STORED * len(stored)
            if documents.sweep(db, now, limit) < limit:
                self._sweep_at = time.monotonic() + SWEEP_INTERVAL

    def _hold(self, ready: Sequence[Ready]) -> list[Delivery]:
        deliveries = []
        for row in ready:
            tag = next(self._tags)
            delivery = decode_delivery(row.envelope, tag, row.queue, row.redelivered)
            self._held[tag] = Claim(row.number, delivery)
            deliveries.append(delivery)
        return deliveries

    # ---- marking and leaving ----

    def mark_started(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        claims = [self._held[each.tag] for each in deliveries if each.tag in self._held]
        numbers = [(claim.number, self._epoch) for claim in claims]
        if numbers:
            try:
                db = self._connection()
                with self._store.transaction(db):
                    db.executemany(SQL["mark_started"], numbers)
            except OperationalError:
                self._disconnect()
                raise
        return list(deliveries)

    def close(self, unstarted: Sequence[Delivery] = ()) -> None:
        tags = {each.tag for each in unstarted}
        back = [claim.number for tag, claim in self._held.items() if tag in tags]
        counted = [claim.number for tag, claim in self._held.items() if tag not in tags]
        now = time.time()
        try:
            if self._epoch:
                db = self._connection()
                with self._store.transaction(db):
                    if db.execute(SQL["worker"], (self._epoch,)).fetchone() is not None:
                        moves.give_back(db, back)
                        moves.redeliver(db, counted, NO_LIMIT, now, f"{self._node} was stopped")
                        bindings.drop_private(db, self._epoch)
                        db.execute(SQL["delete_worker"], (self._epoch,))
        finally:
            self._disconnect()
        self._epoch = 0
        self._is_bound = not self._bindings
        self._held.clear()


def _take(db: Connection, queues: Iterable[str], room: int) -> list[Ready]:
    """Take the first messages of *queues*, at most *room*, out of their lines."""
    taken: list[Ready] = []
    for queue in queues:
        if room <= len(taken):
            break
        rows = db.execute(SQL["ready"], (queue, room - len(taken))).fetchall()
        if rows:
            taken += [Ready(number, queue, count, envelope) for _, number, count, envelope in rows]
            db.execute(SQL["delete_ready"], (queue, *rows[-1][:2]))
    return taken
