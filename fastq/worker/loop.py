"""The worker's one loop: claims in, outcomes out (DESIGN.md §1, D3).

    consumer.turn ──► gate ──► pool ──► outcomes ──► consumer.turn

A turn settles what has ended and brings what is next. The loop waits in one place, in
the turn, until the broker has something or the pool sets the waker.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Container
from contextlib import nullcontext
from typing import TYPE_CHECKING

from fastq._core.message import Action, Delivery, Outcome
from fastq.brokers.workflows import Waiting
from fastq.exceptions import OperationalError
from fastq.worker import garbage
from fastq.worker.elsewhere import Elsewhere
from fastq.worker.followups import Followups
from fastq.worker.heartbeat import Heartbeat
from fastq.worker.orders import Order, Orders

if TYPE_CHECKING:
    from fastq._core.consume import Gate
    from fastq._core.tally import Tally
    from fastq._core.window import PrefetchWindow
    from fastq.brokers.base import Consumer
    from fastq.wakeup import Waker
    from fastq.worker.duplicates import Duplicates
    from fastq.worker.pools.base import Pool
    from fastq.worker.state import WorkerState
    from fastq.worker.task_log import TaskLog

logger = logging.getLogger("fastq.worker")

# Seconds that a turn may wait when nothing calls; it only bounds how late a clock is looked at.
LONGEST_TURN = 5.0
# Seconds between turns while the window is full, so that leases are renewed and stops are seen; if a lease is
# short, this part of it: a turn may come late, and the lease must outlast the next one.
FULL_WINDOW_TURN = 1.0
PART_OF_LEASE = 1 / 6
# A task that runs longer than this many seconds frees what waits behind it for other workers (D11).
STUCK_AFTER = 0.1
# Seconds between attempts to reach a broker that is away: doubled from the first to the last.
FIRST_BACKOFF, LAST_BACKOFF = 0.1, 3.0


class Loop:
    """Moves deliveries from the broker through *gate* to *pool*, and outcomes back.

    *open_consumer* makes a consumer without connecting. *elsewhere* writes what does not go into
    the consumer's own store. *followups* holds back outcomes that are not whole yet. *lease* is how
    long claims last without a turn, in seconds. *duplicates* finds redelivered messages that need not
    run. *tally* counts what becomes of tasks. *ends_lost*: what runs is ended when another worker has
    it. *max_retries* bounds how often in a row the broker is tried (None: for ever). *recall* is called
    before the first claim, and before the first one after the broker was away; it may raise
    `OperationalError`.
    """

    def __init__(
        self,
        pool: Pool,
        open_consumer: Callable[[], Consumer],
        *,
        waker: Waker,
        gate: Gate,
        window: PrefetchWindow,
        elsewhere: Elsewhere,
        followups: Followups,
        state: WorkerState,
        lease: float,
        duplicates: Duplicates | None = None,
        tally: Tally | None = None,
        ends_lost: bool = False,
        max_retries: int | None = None,
        recall: Callable[[], None] | None = None,
    ) -> None:
        self._pool = pool
        self._open_consumer = open_consumer
        self._waker = waker
        self._gate = gate
        self._window = window
        self._elsewhere = elsewhere
        self._followups = followups
        self._state = state
        self._duplicates = duplicates
        self._tally = tally
        self._ends_lost = ends_lost
        self._full_window_turn = min(FULL_WINDOW_TURN, lease * PART_OF_LEASE)
        self._max_retries = max_retries
        self._recall = recall
        self._is_stale = recall is not None  # what others have said meanwhile is to be read up
        self.events: TaskLog | None = None  # told what becomes of tasks; any thread may set it
        self._consumer: Consumer | None = None
        # Outcomes that did not take effect yet; they outlive a lost connection.
        self._outcomes: list[Outcome] = []
        # Admitted, and to be submitted by the next turn of the loop's own thread.
        self._kept: list[Delivery] = []
        # Redelivered messages run one for each slot, so that a crash tells which one it was.
        self._suspects: deque[Delivery] = deque()
        self._suspects_running: set[int] = set()
        # Guards the consumer, and the lists above, against the heartbeat of an inline pool.
        self._lock = threading.Lock()
        self._orders = Orders(waker)
        self._stop_at: float | None = None  # monotonic seconds; None: go on
        self._is_aborted = False
        self._failures = 0

    # -- being told to stop --------------------------------------------------------

    def stop(self, timeout: float) -> None:
        """Take nothing more, finish what runs within *timeout* seconds, give back the rest; `run` returns.

        A later call can only shorten the time. May be called from any thread and from signal handlers.
        """
        stop_at = time.monotonic() + timeout
        self._stop_at = stop_at if self._stop_at is None else min(self._stop_at, stop_at)
        self._waker.set()

    def abort(self) -> None:
        """Give everything back now, also what runs, and return from `run`."""
        self._is_aborted = True
        self.stop(0.0)

    def is_stopping(self) -> bool:
        """Whether `stop` or `abort` was called."""
        return self._stop_at is not None

    def running(self) -> list[tuple[Delivery, float]]:
        """What runs now, with the monotonic time of each start."""
        return self._pool.running()

    @property
    def state(self) -> WorkerState:
        """What it has done so far."""
        return self._state

    # -- being told what to do ------------------------------------------------------

    @property
    def consumer(self) -> Consumer | None:
        """What it takes messages by; for orders alone."""
        return self._consumer

    def order(self, action: Callable[[], object]) -> Order:
        """Have *action* called in this loop's thread between two turns. May be called from any thread."""
        return self._orders.give(action)

    def drop_revoked(self) -> None:
        """Settle what waits here and was revoked meanwhile. An order."""
        refused = []
        for delivery in self._withdraw():
            outcome = self._gate.revoke(delivery)
            if outcome is None:
                self._kept.append(delivery)
            else:
                refused.append(outcome)
        self._settle_soon(refused)

    def give_back_but(self, queues: Container[str]) -> None:
        """Return to the broker what waits here and came from none of *queues*. An order."""
        for delivery in self._withdraw():
            if delivery.queue not in queues and delivery.tag is not None:
                self._outcomes.append(Outcome(delivery, Action.RETURN))
            else:
                self._kept.append(delivery)
        self._unclaim()

    def waiting(self) -> list[Delivery]:
        """What is held here and does not run. From any thread: it may miss what is just moving."""
        return [*self._pool.waiting(), *self._kept, *self._suspects]

    def _withdraw(self) -> list[Delivery]:
        """All that waits here and has not started, out of everybody's hands."""
        waiting = [*self._take_back(), *self._kept, *self._suspects]
        self._kept = []
        self._suspects.clear()
        self._suspects_running.difference_update(map(id, waiting))
        return waiting

    @property
    def window(self) -> PrefetchWindow:
        """How much this worker holds and may hold."""
        return self._window

    @property
    def held(self) -> int:
        """How many deliveries wait or run here; what has ended may be on its way to the broker."""
        return max(self._window.unsettled - len(self._outcomes), 0)

    @property
    def is_connected(self) -> bool:
        """Whether the broker is at hand."""
        return self._consumer is not None and self._consumer.is_connected

    # -- running ---------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to stop. Faults of the broker are waited out, not raised.

        Raises `OperationalError` only when the broker stayed away for *max_retries* attempts.
        """
        self._consumer = self._open_consumer()
        garbage.settle()  # the application stays for good
        # Where tasks run in this very thread, the heartbeat takes the turns meanwhile.
        heartbeat = Heartbeat(self) if self._pool.runs_inline else None
        busy = heartbeat or nullcontext()
        try:
            while not self._is_over():
                with self._lock:
                    ready = self._turn()
                if ready:
                    with busy:
                        self._pool.submit(ready)
        except BaseException:
            self._leave(heartbeat)
            raise
        self._leave(heartbeat)

    def beat(self) -> None:
        """Settle what has ended, renew the lease, free what waits behind a long task; take no new messages.

        For the heartbeat's thread, while this loop's own is busy in a task.
        """
        with self._lock:
            if self._orders:
                self._orders.obey()
            self._return_stuck()
            self._collect()
            for job in self._followups.due(time.monotonic()):  # the pool is busy, maybe for an hour
                self._settle_soon([self._gate.tracer.run(job)])
            try:
                self._exchange(0, 0.0)
            except OperationalError as exc:
                self._back_off(exc)

    def _is_over(self) -> bool:
        if self._stop_at is None:
            return False
        if self._is_aborted or time.monotonic() >= self._stop_at:
            return True
        with self._lock:  # a beat may still be at the consumer
            self._hand_back(self._take_back())
            self._unclaim()
            is_idle = not self._pool.running() and not self._outcomes and not self._followups
            return is_idle and self._window.unsettled <= 0

    def _patience(self) -> float:
        """Seconds that the next turn may wait for something new."""
        if self._kept or (self._suspects and self._free_slots() > 0):
            return 0.0
        until = [LONGEST_TURN + (now := time.monotonic())]
        if self._stop_at is not None:
            until += (self._full_window_turn + now, self._stop_at)
        until += (at for at in (self._pool.deadline(), self._followups.next_at()) if at is not None)
        return max(0.0, min(until) - now)

    def _turn(self) -> list[Delivery]:
        """Commit what has ended, and bring what may run now; nothing while the broker is away."""
        if self._orders:
            self._orders.obey()
        self._collect()
        patience = self._patience()
        room = self._room()
        if room == 0 and not self._outcomes and patience > 0:
            self._wait_for_pool(min(patience, self._full_window_turn))
            self._collect()
            patience = self._patience()
            room = self._room()
        try:
            if self._is_stale and self._recall is not None:
                self._recall()
                self._is_stale = False
            # With no room it has waited already, and has cleared a waker that may have said "stop".
            deliveries = self._exchange(room, patience if room else 0.0)
        except OperationalError as exc:
            self._back_off(exc)
            return []
        self._failures = 0
        admitted = self._admit(deliveries)
        return self._followups.due(time.monotonic()) + admitted if self._followups else admitted

    def _room(self) -> int:
        """How many deliveries this turn may bring, in place of those that it settles."""
        return 0 if self._stop_at is not None else self._window.room(len(self._outcomes))

    def _exchange(self, room: int, patience: float) -> list[Delivery]:
        """One turn of the consumer; on success the outcomes are gone."""
        consumer = self._consumer
        assert consumer is not None
        if self._followups:
            self._outcomes += self._followups.again(time.monotonic())
        outcomes = self._outcomes
        waiting: Waiting = []
        if outcomes and self._elsewhere:
            outcomes, waiting = self._write_elsewhere(consumer, outcomes)
        deliveries = consumer.turn(outcomes, room, 0.0 if waiting else patience)
        self._state.turned_at = time.monotonic()
        self._waker.clear()
        if consumer.commits_results and consumer.completed:
            waiting = consumer.completed[:]
            consumer.completed.clear()
        if waiting:  # before it is forgotten which chords were joined for them
            self._hold_back(waiting)
        if self._outcomes:
            self._count_settled(self._outcomes)
            self._outcomes = []
        if consumer.lost:
            self._drop_lost(consumer)
        return deliveries

    def _collect(self) -> None:
        """Fetch from the pool what has ended."""
        ended = self._pool.outcomes()
        if not ended:
            return
        self._window.observe(ended)
        if self._tally is not None:
            self._tally.ended(ended, time.time())
        for outcome in ended:
            if outcome.delivery.redelivered:
                self._suspects_running.discard(id(outcome.delivery))
        self._settle_soon(ended)

    def _settle_soon(self, outcomes: list[Outcome]) -> None:
        """Have *outcomes* settled with the next turn, or when they are whole."""
        if (events := self.events) is not None:
            events.ended(outcomes)
        self._outcomes += self._followups.screen(outcomes, time.monotonic())

    def _hold_back(self, waiting: Waiting) -> None:
        """Keep in the window what a turn has left as it was, since it completes a chord."""
        count = self._followups.complete(waiting, time.monotonic())
        self._window.take(count)
        self._state.settled -= count

    def _count_settled(self, outcomes: list[Outcome]) -> None:
        count = len(outcomes) - self._followups.settled(outcomes)
        self._window.settle(count)
        self._state.settled += count

    def _wait_for_pool(self, patience: float) -> None:
        """The window is full: wait until the pool ends something."""
        self._return_stuck()
        if not self._outcomes:
            self._waker.wait(patience)
            self._waker.clear()

    def _write_elsewhere(self, consumer: Consumer, outcomes: list[Outcome]) -> tuple[list[Outcome], Waiting]:
        """Write what lives in other stores: what is to be settled now, and what completes a chord."""
        try:
            return self._elsewhere.write(outcomes)
        except OperationalError:
            consumer.turn((), 0, 0.0)  # the claims stay ours while another store is away
            raise

    # -- what comes in -----------------------------------------------------------------

    def _admit(self, deliveries: list[Delivery]) -> list[Delivery]:
        """What may run now, of *deliveries* and of the suspects."""
        if deliveries:
            self._window.take(len(deliveries))
            self._state.received += len(deliveries)
            refused: list[Outcome] = []
            deliveries = self._gate.admit(deliveries, time.time(), refused)
            if (events := self.events) is not None:
                events.received([*deliveries, *(each.delivery for each in refused)])
            if refused:
                if self._tally is not None:
                    self._tally.ended(refused, time.time())
                self._settle_soon(refused)
        if self._kept:
            deliveries = self._kept + deliveries
            self._kept = []
        if any(delivery.redelivered for delivery in deliveries):
            suspects = [delivery for delivery in deliveries if delivery.redelivered]
            self._state.redelivered += len(suspects)
            self._suspects.extend(self._without_duplicates(suspects))
            deliveries = [delivery for delivery in deliveries if not delivery.redelivered]
        if self._suspects:
            deliveries = self._start_suspects() + deliveries
        acks_late = self._gate.tracer.acks_late
        early = [delivery for delivery in deliveries if delivery.tag is not None and not acks_late(delivery)]
        if not early:
            return deliveries
        late = [delivery for delivery in deliveries if delivery.tag is None or acks_late(delivery)]
        return self._settle_before(early) + late

    def _without_duplicates(self, suspects: list[Delivery]) -> list[Delivery]:
        """Those of *suspects* that have not succeeded before; the others are acknowledged."""
        if self._duplicates is None:
            return suspects
        done = self._duplicates.among(suspects)
        for delivery in done:
            assert delivery.message is not None
            name, task_id = delivery.message.task, delivery.message.id
            logger.info("Task %s[%s] has succeeded before and does not run again", name, task_id)
            outcome = Outcome(delivery)
            if self._gate.tracer.may_be_followed(delivery):
                self._followups.follow_success(outcome, time.monotonic())
            else:
                self._outcomes.append(outcome)
        return [delivery for delivery in suspects if delivery not in done]

    def _start_suspects(self) -> list[Delivery]:
        """As many redelivered messages as there are slots, after the broker knows that they start."""
        free = min(self._free_slots(), len(self._suspects))
        starting = [self._suspects.popleft() for _ in range(free)]
        if not starting:
            return []
        try:
            assert self._consumer is not None
            started = self._consumer.mark_started(starting)
        except OperationalError as exc:
            self._suspects.extendleft(reversed(starting))
            self._back_off(exc)
            return []
        self._window.settle(len(starting) - len(started))
        self._suspects_running.update(map(id, started))
        return started

    def _free_slots(self) -> int:
        """How many suspects may start now."""
        return self._window.concurrency - len(self._suspects_running)

    def _settle_before(self, early: list[Delivery]) -> list[Delivery]:
        """Settle messages of tasks that are acknowledged before they run; those that may run have no tag."""
        consumer = self._consumer
        assert consumer is not None
        try:
            consumer.turn([Outcome(delivery) for delivery in early], 0, 0.0)
        except OperationalError as exc:
            # Whether it took effect is not known. They run when it is: to settle them again does no harm.
            self._kept += early
            self._suspects_running.difference_update(map(id, early))
            self._back_off(exc)
            return []
        taken = set(map(id, early)).intersection(map(id, consumer.lost))
        settled = [delivery for delivery in early if id(delivery) not in taken]
        self._window.settle(len(taken))
        self._suspects_running -= taken
        for delivery in settled:
            delivery.tag = None
        return settled

    def _drop_lost(self, consumer: Consumer) -> None:
        """Forget claims that others have now: what did not start does not, what runs does so for nothing."""
        gone = list(consumer.lost)
        consumer.lost.clear()
        lost = set(map(id, gone))
        self._state.lost += len(lost)
        logger.warning(
            "%d messages are no longer this worker's: its lease ran out, or its connection broke. They are "
            "delivered again; what becomes of them here has no effect once another worker has them",
            len(lost),
        )
        waiting = [*self._take_back(), *self._kept, *self._suspects]
        if self._ends_lost:
            self._pool.end([delivery for delivery, _ in self._pool.running() if id(delivery) in lost])
            consumer.adopt([])
        else:
            # What has ended since the pool was last asked goes on as well: its outcome is to come.
            unstarted = set(map(id, waiting))
            consumer.adopt([delivery for delivery in gone if id(delivery) not in unstarted])
        self._suspects.clear()
        self._suspects_running.difference_update(map(id, waiting))
        self._kept = [delivery for delivery in waiting if id(delivery) not in lost]
        self._window.settle(len(waiting) - len(self._kept))

    # -- what goes back -----------------------------------------------------------------

    def _return_stuck(self) -> None:
        """Let other workers have what waits here behind a task that takes long (D11)."""
        running = self._pool.running()
        if not running:
            return
        elapsed = time.monotonic() - min(started for _, started in running)
        if elapsed < STUCK_AFTER or len(running) < self._window.concurrency or not self._window.is_adaptive:
            return
        self._window.stretch(elapsed)
        if self._has_idle_peers(len(running)):
            self._hand_back(self._take_back())
            self._unclaim()

    def _has_idle_peers(self, running: int) -> bool:
        assert self._consumer is not None
        try:
            return self._consumer.has_idle_peers(running)
        except OperationalError as exc:
            self._back_off(exc)
            return False

    def _unclaim(self) -> None:
        assert self._consumer is not None
        try:
            self._consumer.unclaim()
        except OperationalError as exc:
            self._back_off(exc)

    def _take_back(self) -> list[Delivery]:
        """The deliveries that the pool has not begun; jobs it keeps."""
        unstarted = self._followups.keep(self._pool.take_back())
        if not self._pool.runs_inline and (jobs := self._followups.due(time.monotonic())):
            self._pool.submit(jobs)
        return unstarted

    def _hand_back(self, unstarted: list[Delivery]) -> None:
        """Return deliveries that did not start to their queues."""
        unstarted = [*unstarted, *self._kept, *self._suspects]
        self._suspects.clear()
        self._suspects_running.difference_update(map(id, unstarted))
        # What was settled before it ran the broker no longer has: it must run here.
        self._kept = [delivery for delivery in unstarted if delivery.tag is None]
        self._outcomes += [
            Outcome(delivery, Action.RETURN) for delivery in unstarted if delivery.tag is not None
        ]

    # -- faults ---------------------------------------------------------------------------

    def _back_off(self, exc: OperationalError) -> None:
        """Wait before the broker is tried again; what has ended meanwhile is kept."""
        self._failures += 1
        if self._max_retries is not None and self._failures > self._max_retries:
            raise exc
        pause = min(LAST_BACKOFF, FIRST_BACKOFF * 2 ** min(self._failures - 1, 10)) * random.uniform(0.5, 1.0)
        log = logger.warning if self._failures == 1 else logger.info
        what = "The broker is away" if exc.is_passing else "The broker refuses this worker"
        log("%s: %s. Trying again in %.1f s; running tasks go on.", what, exc, pause)
        self._state.reconnects += 1
        self._is_stale = self._recall is not None
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0 and not self._is_aborted:
            if self._stop_at is not None and time.monotonic() >= self._stop_at:
                return
            self._waker.wait(min(left, FIRST_BACKOFF))
            self._waker.clear()
            self._state.waited_at = time.monotonic()
            self._collect()  # what is ready would keep waking us, and limits must be kept meanwhile

    def _leave(self, heartbeat: Heartbeat | None) -> None:
        """Settle what has ended and give back all the rest."""
        if heartbeat is not None:
            heartbeat.stop()
        unstarted = [*self._followups.keep(self._pool.take_back()), *self._kept, *self._suspects]
        self._pool.stop(force=self._is_aborted or bool(self._pool.running()))
        with self._lock:
            self._collect()
            assert self._consumer is not None
            try:
                if self._outcomes:
                    self._exchange(0, 0.0)
                # What waits has run, and its process has not died.
                self._consumer.close([*unstarted, *self._followups.waiting()])
            except OperationalError as exc:
                logger.error(
                    "The broker is away, so %d outcomes could not be settled: %s. Others run these tasks "
                    "again when this worker's lease has run out.",
                    len(self._outcomes),
                    exc,
                )
