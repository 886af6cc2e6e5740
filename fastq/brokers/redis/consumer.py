"""A worker's hold on its queues in Redis: one script a turn, one push message to wake it (D4, D6, D8)."""

from __future__ import annotations

import json
import math
import os
import random
import select
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fastq._core.message import Action, Delivery, Message, Outcome, decode_delivery
from fastq._core.resp import Argument
from fastq._core.turn import TurnCodec
from fastq.brokers.base import BrokerOptions, Consumer
from fastq.brokers.exchanges import bindings_of
from fastq.brokers.redis import bindings, keys
from fastq.brokers.redis.broadcasts import Broadcasts
from fastq.brokers.redis.connection import Connection, ServerRefused, checked
from fastq.brokers.redis.layout import Layout
from fastq.brokers.redis.scripts import is_unknown, run_script, script
from fastq.brokers.redis.servers import Servers
from fastq.exceptions import ImproperlyConfigured, OperationalError

if TYPE_CHECKING:
    from fastq.backends.base import CompleteChord
    from fastq.backends.redis import RedisBackend
    from fastq.wakeup import Waker

OLDEST_SERVER = (6, 2)  # RPOP with a count
# How many claims one call of restore.lua moves at most: some milliseconds in which nobody else is served.
RESTORED_AT_ONCE = 2000
ANY_CLAIM = b"*"  # to restore.lua: whatever is to be buried may be
# How many messages one turn claims at most: enough to make the round trip cheap, few enough for one reply.
CLAIMED_AT_ONCE = 512
# When a turn was given as many messages as it asked for, and at least this many, the next ones are claimed
# while these run: so server and worker do not wait for each other. A drain gains a third by it.
AHEAD_FROM = 32
# Seconds from one look that found nothing to the next: doubled each time, until something is found.
FIRST_PAUSE = 0.001
LAST_POLL = 0.05  # where the server can't tell of changes
# Where it does, a change may lie in another database, for the server tells of key names alone, or another
# worker was faster. A change that comes later than this after the last look is looked at once.
LAST_PAUSE = 0.02


class Posted(NamedTuple):
    """A turn that was sent and whose reply is awaited."""

    number: int
    outcomes: Sequence[Outcome]
    asked: int  # messages at most
    first_id: int
    waits: bool
    renews: bool
    is_ours: bool  # the caller of `turn` has handed over its outcomes, and does not give them again
    request: bytes
    lasts: dict[
        tuple[bytes, bytes], Outcome
    ]  # which is not settled if a chord is complete: `TurnCodec.lasts`


class RedisConsumer(Consumer):
    """One worker epoch after another: a new one begins when the lease of the last was lost."""

    def __init__(
        self,
        servers: Servers,
        layout: Layout,
        options: BrokerOptions,
        queues: Sequence[str],
        worker: str,
        waker: Waker,
        backend: RedisBackend | None,
        publications: Callable[[Message], list[list[Argument]]],
    ) -> None:
        """*publications* gives the commands that send a message without a queue."""
        self.lost: list[Delivery] = []
        self.completed: list[tuple[Outcome, CompleteChord]] = []
        self.commits_results = backend is not None
        self._servers = servers
        self._layout = layout
        self._options = options
        self._queues = list(queues)
        self._worker = worker
        self._waker = waker
        self._backend = backend
        self._patience = max(options.lease / 2, 1.0)  # seconds that one reply may take
        self._rotates = options.transport_options.get("queue_order_strategy", "round_robin") == "round_robin"
        if options.transport_options.get("queue_order_strategy") == "sorted":
            self._queues.sort()
        self._known = self._queues  # with those behind them that were consumed before
        self._publications = publications
        declared = [options.queue(name) for name in queues]
        self._bindings = bindings_of(declared)
        self._private = [queue.name for queue in declared if queue.is_private]
        self._broadcasts = Broadcasts(layout, self._bindings)
        self._connection: Connection | None = None
        self._adopted: list[Delivery] = []  # claimed by a turn whose reply was lost
        self._committed: list[Outcome] = []  # have taken effect in a call of `turn` that failed afterwards
        self._owed: list[Outcome] = []  # handed over, and still to be settled
        self._turns = 0  # counts all turns: the queues take turns to be first
        self._is_tracked = False
        # Of the epoch; see `_begin_epoch`.
        self._codec: TurnCodec
        self._number: int  # of the last turn
        self._next_id: int  # of the next claim
        self._posted: deque[Posted]  # two at most: the newer one claims ahead
        self._is_quiet: bool  # nothing to claim when last looked, and the server tells of changes
        self._is_told: bool  # the server told of a change after that
        # All monotonic, in seconds.
        self._renew_at: float
        self._restore_at: float
        self._due_at: float
        self._look_at: float  # no look for its own sake before this
        self._pause: float
        self._begin_epoch()

    @property
    def is_connected(self) -> bool:  # type: ignore[override]
        """Whether the last call left a working connection."""
        return self._connection is not None

    def turn(self, outcomes: Sequence[Outcome], room: int, timeout: float) -> list[Delivery]:
        """Settle, renew, move what is due and claim in one script; then wait for the server's word."""
        try:
            return self._turn(outcomes, room, timeout)
        except OperationalError:
            self._disconnect()
            raise

    def mark_started(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Put the claims into the set of their queue's started ones."""
        commands: list[list[Argument]] = []
        for delivery in deliveries:
            if delivery.tag in self._codec.unsettled:
                key = keys.started(self._layout.prefix, delivery.queue, self._epoch)
                commands.append(["SADD", key, delivery.tag])
        if commands:
            try:
                connection = self._connection or self._connect()
                self._adopt_posted(connection)
                for reply in connection.call_many(commands, self._patience):
                    checked(reply)
            except OperationalError:
                self._disconnect()
                raise
        return list(deliveries)

    def consume(self, queues: Sequence[str]) -> None:
        """Let the turns of this epoch claim from other lists; it keeps the claims of the queues before."""
        declared = [self._options.queue(name) for name in queues]
        self._bindings |= bindings_of(declared)
        self._private += [queue.name for queue in declared if queue.is_private]
        if not self._is_registered:
            self._queues = self._known = list(queues)
            self._begin_epoch()
            return
        try:
            connection = self._connection or self._connect()
            self._adopt_posted(connection)
            self._queues = list(queues)
            self._known = [*queues, *(name for name in self._known if name not in queues)]
            held = self._codec.unsettled
            self._lay_out()
            self._codec.unsettled.update(held)
            self._introduce(connection)
        except OperationalError:
            self._disconnect()
            raise

    def unclaim(self) -> None:
        """Return what was claimed ahead to the head of its queues."""
        if not self._posted and not self._adopted:
            return
        try:
            connection = self._connection or self._connect()
            self._adopt_posted(connection)
            self._owed += [Outcome(delivery, Action.RETURN) for delivery in self._adopted]
            self._adopted = []
            self._settle_owed(connection)
        except OperationalError:
            self._disconnect()
            raise

    def close(self, unstarted: Sequence[Delivery] = ()) -> None:
        """Give everything back by restore.lua; until that has succeeded it may be called again."""
        if not self._is_registered:
            self._disconnect()
            return
        clean = {delivery.tag for delivery in unstarted}
        try:
            connection = self._connection or self._connect()
            self._adopt_posted(connection)
            if self._owed:
                self._settle_owed(connection)
            clean.update(delivery.tag for delivery in self._adopted)
            counted = [tag for tag in self._codec.unsettled if tag not in clean]
            while self._restore(connection, self._epoch, counted) == 0:
                pass
        finally:
            self._disconnect()
        self._begin_epoch()

    # -- one turn ---------------------------------------------------------------------------

    def _turn(self, outcomes: Sequence[Outcome], room: int, timeout: float) -> list[Delivery]:
        ends = time.monotonic() + timeout
        connection = self._connection or self._connect()
        # What was posted by an earlier call is ours to see through.
        self._posted = deque(each._replace(is_ours=True) for each in self._posted)
        if self._owed:
            self._settle_owed(connection)
        if self._committed:
            outcomes = [outcome for outcome in outcomes if outcome not in self._committed]
        wants = room > 0
        room -= len(self._adopted) + sum(each.asked for each in self._posted)
        if self._is_quiet:
            self._hear(connection, looks=True)
        found: list[Delivery] = []
        now = time.monotonic()
        while True:
            if now >= self._restore_at:
                self._adopt_posted(connection)
                self._restore_expired(connection, now)
            if self._broadcasts:
                self._take_broadcasts(connection)
            is_told = not self._is_quiet and (now >= self._look_at or timeout <= 0)
            looks = room > 0 and (is_told or now >= self._due_at)
            if outcomes or looks or self._posted or now >= self._renew_at:
                found = self._exchange(connection, outcomes, room, now < ends, now)
                outcomes = ()
                now = time.monotonic()
            if found or self._adopted or self.completed or room <= 0:
                break
            if now >= ends or self._wait(connection, ends, now):
                break
            now = time.monotonic()
        self._committed.clear()
        self._adopted += found
        if not wants:
            return []
        found, self._adopted = self._adopted, []
        return found

    def _exchange(
        self, connection: Connection, outcomes: Sequence[Outcome], room: int, waits: bool, now: float
    ) -> list[Delivery]:
        """Post a turn, and take in what an earlier one, or else this one, has claimed."""
        told: list[list[Argument]] = []
        for outcome in outcomes:
            for message in outcome.follow or ():
                if message.queue:
                    self._layout.destination(message.queue, message.priority)
                else:
                    told += self._publications(message)
        if told:
            self._adopt_posted(connection)
            connection.call_many(told, self._patience)
        fresh = self._layout.fresh_queues()
        if fresh:
            self._adopt_posted(connection)
            registry = keys.queues(self._layout.prefix)
            connection.call_many([["SADD", registry, *fresh]], self._patience)
        is_ahead = bool(self._posted)
        self._post(connection, outcomes, room, waits and not is_ahead, now)
        asked = self._posted[0].asked
        found = self._take(connection, now)
        is_full = len(found) == asked >= AHEAD_FROM
        if is_ahead and room > 0 and is_full:
            return found
        if self._posted:
            found += self._take(connection, now)
        elif is_full and room > asked:
            self._post(connection, (), min(asked, room - asked), False, now)
        return found

    def _post(
        self,
        connection: Connection,
        outcomes: Sequence[Outcome],
        room: int,
        waits: bool,
        now: float,
        *,
        is_ours: bool = False,
    ) -> None:
        """Send turn.lua for *outcomes* and up to *room* messages; `_take` reads what it says."""
        asked = min(max(room, 0), CLAIMED_AT_ONCE)
        renews = now >= self._renew_at
        self._number += 1
        request = self._codec.request(
            outcomes,
            self._number,
            self._lease_ms if renews else 0,
            asked,
            self._next_id,
            waits,
            self._turns % max(len(self._queues), 1) if self._rotates else 0,
            time.time(),
        )
        self._turns += 1
        # A copy: the caller may add to its list what ends before the reply is known to be lost.
        held = tuple(outcomes)
        lasts = self._codec.lasts
        posted = Posted(self._number, held, asked, self._next_id, waits, renews, is_ours, request, lasts)
        self._posted.append(posted)
        self._next_id += asked
        connection.send(request, self._patience)

    def _take(self, connection: Connection, now: float) -> list[Delivery]:
        """Read the reply to the oldest turn that was posted."""
        reply = self._reply(connection)
        posted = self._posted[0]
        if reply[0] == 0:
            return self._start_over(connection, now)
        if reply[0] < 0:
            raise OperationalError("this worker's turn was overtaken by a later one: connecting anew")
        self._posted.popleft()
        if posted.renews:
            self._renew_at = now + self._options.lease / 6
        found = self._codec.deliveries(reply, posted.first_id)
        self._codec.settled(posted.outcomes, self._completed_by(posted))
        if not posted.is_ours:
            self._committed += posted.outcomes
        self._is_quiet = posted.waits and posted.asked > len(found) and self._is_tracked
        self._due_at = now + reply[1] / 1000 if reply[1] >= 0 else math.inf
        if posted.asked > 0:
            self._plan_look(bool(found), now)
        return found

    def _completed_by(self, posted: Posted) -> list[Outcome]:
        """The outcomes that the turn just read leaves as they are, since they complete a chord."""
        waiting = []
        if self._codec.told:
            assert self._backend is not None
            for told in self._codec.told:
                outcome = posted.lasts[told[0], told[1]]
                waiting.append(outcome)
                self.completed.append((outcome, self._backend.chords.told(told)))
        return waiting

    def _plan_look(self, has_found: bool, now: float) -> None:
        """Keep looks that find nothing apart."""
        if has_found:
            self._pause = 0.0
        elif self._is_told or not self._is_tracked:
            last = LAST_PAUSE if self._is_tracked else LAST_POLL
            self._pause = min(max(self._pause * 2, FIRST_PAUSE), last)
        self._is_told = False
        self._look_at = now + self._pause

    def _reply(self, connection: Connection) -> Any:
        reply = connection.read(self._patience)
        try:
            checked(reply)
        except ServerRefused as exc:
            if not is_unknown(exc):
                raise
            reply = self._ask_again(connection)
        # Pushes in front of the reply tell of what the script has seen already, unless they are messages.
        for push in connection.replies.pushes:
            self._broadcasts.hear(push)
        connection.replies.pushes.clear()
        return reply

    def _ask_again(self, connection: Connection) -> Any:
        """After a SCRIPT FLUSH, or a failover: nothing that is posted has happened yet."""
        for _ in list(self._posted)[1:]:
            connection.read(self._patience)
        connection.call("SCRIPT", "LOAD", script("turn.lua").text, timeout=self._patience)
        for each in self._posted:
            connection.send(each.request, self._patience)
        return checked(connection.read(self._patience))

    def _adopt_posted(self, connection: Connection) -> None:
        """Take in every reply that is owed, before anything else is asked on this connection."""
        while self._posted:
            self._adopted += self._take(connection, time.monotonic())

    def _settle_owed(self, connection: Connection) -> None:
        """Settle what no caller will give again; until that has succeeded it stays owed."""
        self._adopt_posted(connection)
        now = time.monotonic()
        owed, self._owed = self._owed, []
        self._post(connection, owed, 0, False, now, is_ours=True)
        self._take(connection, now)

    def _start_over(self, connection: Connection, now: float) -> list[Delivery]:
        """The lease ran out and others hold the claims: drop them and begin a new epoch."""
        pending = list(self._posted)
        for _ in pending[1:]:
            self._reply(connection)  # of the same epoch, so it says the same
        self._posted.clear()
        self._adopted.clear()
        self._lose_all()
        self._begin_epoch()
        self._register(connection)
        # What was settled before it ran depends on no claim.
        free = [outcome for each in pending for outcome in each.outcomes if outcome.delivery.tag is None]
        last = pending[-1]
        self._post(connection, free, last.asked, last.waits, now)
        return self._take(connection, now)

    def _lose_all(self) -> None:
        self.lost.extend(self._codec.unsettled.values())
        self._codec.unsettled.clear()

    # -- waiting ----------------------------------------------------------------------------

    def _wait(self, connection: Connection, ends: float, now: float) -> bool:
        """Wait until something may have changed or must be done; returns whether the waker was set."""
        if self._is_quiet:
            # A push may have come in one packet with the reply.
            self._hear(connection, looks=False)
            if not self._is_quiet:
                return False
        until = min(ends, self._renew_at, self._restore_at, self._due_at)
        if not self._is_quiet:
            until = min(until, self._look_at)
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._waker.fileno(), select.POLLIN)
        is_woken = False
        for descriptor, _ in poll.poll(max(math.ceil((until - now) * 1000), 0)):
            if descriptor == connection.fileno():
                self._hear(connection, looks=True)
            else:
                self._waker.clear()
                is_woken = True
        return is_woken

    def _hear(self, connection: Connection, *, looks: bool) -> None:
        """Take in the server's pushes: a change of a queue's list or schedule ends the quiet."""
        for push in connection.hear(looks=looks):
            # None in place of the keys: all of them (FLUSHALL, or a full tracking table).
            if push[0] == b"invalidate" and (push[1] is None or not self._watched.isdisjoint(push[1])):
                self._is_quiet = False
                self._is_told = True
            elif self._broadcasts.hear(push):
                self._is_quiet = False

    def _take_broadcasts(self, connection: Connection) -> None:
        """Put what was heard by pub/sub into our queues, and look there."""
        self._adopt_posted(connection)
        self._broadcasts.deliver(connection, self._patience)
        self._is_quiet = False  # the server does not tell us of our own changes
        self._look_at = 0.0

    # -- epochs and connections ---------------------------------------------------------------

    def _begin_epoch(self) -> None:
        """Forget the last epoch and name a new one; it is registered with the next connection."""
        self._epoch = f"{self._worker}:{os.urandom(6).hex()}"
        self._turn_key = keys.turn(self._layout.prefix, self._epoch)
        self._lease_ms = round(self._options.lease * 1000)
        self._is_registered = False
        self._is_quiet = False
        self._number = 0
        self._next_id = 1
        self._posted = deque()
        self._renew_at = self._restore_at = 0.0
        self._due_at = math.inf
        self._is_told = False
        self._look_at = self._pause = 0.0
        self._known = self._queues
        self._lay_out()

    def _lay_out(self) -> None:
        """Name the keys of the queues, and make the codec that knows them."""
        layout = self._layout
        self._own = [layout.queue_keys(queue, self._epoch) for queue in self._known]
        self._watched = {key for queue in self._own for key in (*queue.ready, queue.delayed)}
        self._is_quiet = False
        stored: dict[str, Any] = {}
        if self._backend is not None:
            stored = {
                "result_prefix": self._backend.key_prefix.encode(),
                "ttl": self._backend.ttl("SUCCESS"),
                "failure_ttl": self._backend.ttl("FAILURE"),
                "chords": tuple(self._backend.chords),
            }
        self._codec = TurnCodec(
            script("turn.lua").sha,
            self._epoch.encode(),
            keys.leases(layout.prefix).encode(),
            self._turn_key.encode(),
            self._own,
            layout.steps,
            layout.destination,
            max_redeliveries=self._options.max_redeliveries,
            claimed=len(self._queues),
            **stored,
        )

    def _connect(self) -> Connection:
        connection = self._servers.connect(self._options.connect_timeout * self._servers.count)
        try:
            self._prepare(connection)
            if self._is_registered:
                self._recover(connection)
            else:
                self._register(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None
        self._is_quiet = False

    def _prepare(self, connection: Connection) -> None:
        version = connection.server_version
        if not connection.is_resp3:
            info = connection.call("INFO", "server", timeout=self._patience).decode()
            version = tuple(int(part) for part in info.split("redis_version:")[1].split("\r\n")[0].split("."))
        if version < OLDEST_SERVER:
            found = ".".join(map(str, version))
            raise ImproperlyConfigured(f"a fastq worker needs Redis 6.2 or newer; {found} answers there")
        connection.call("SCRIPT", "LOAD", script("turn.lua").text, timeout=self._patience)
        self._is_tracked = False
        if connection.is_resp3:
            # NOLOOP: what this worker changes itself it need not be told.
            reply = connection.call_many([["CLIENT", "TRACKING", "ON", "NOLOOP"]], self._patience)[0]
            self._is_tracked = reply == b"OK"  # a proxy may refuse: look now and then instead
            self._broadcasts.subscribe(connection, self._patience)

    def _register(self, connection: Connection) -> None:
        """Write down who this epoch is and how to restore its claims, and take the lease."""
        prefix = self._layout.prefix
        run_script(
            connection,
            "register.lua",
            [keys.leases(prefix), keys.workers(prefix), self._turn_key],
            [self._epoch, self._lease_ms, self._description()],
            self._patience,
        )
        self._introduce_queues(connection)
        self._is_registered = True
        self._is_quiet = False
        now = time.monotonic()
        self._renew_at = now + self._options.lease / 6
        self._restore_at = now

    def _introduce(self, connection: Connection) -> None:
        """Write down anew how to restore the claims of this epoch, which consumes other queues."""
        key = keys.workers(self._layout.prefix)
        connection.call("HSET", key, self._epoch, self._description(), timeout=self._patience)
        self._introduce_queues(connection)

    def _description(self) -> str:
        """Who this epoch is and how to restore its claims."""
        return json.dumps(
            {
                "name": self._worker,
                "queues": [self._restoring(queue) for queue in self._own],
                "private": bindings.private_keys(self._layout, self._bindings, self._private),
            }
        )

    def _introduce_queues(self, connection: Connection) -> None:
        bindings.bind(connection, self._layout, self._bindings, self._private, self._epoch, self._patience)
        # For people's lists alone: a user who may not write it can work all the same.
        if self._queues:
            registry = keys.queues(self._layout.prefix)
            connection.call_many([["SADD", registry, *self._queues]], self._patience)

    def _restoring(self, queue: Any) -> dict[str, Any]:
        """What restore.lua must know of *queue*: all its keys, so that it can serve workers of any layout."""
        steps = map(str, self._layout.steps)
        return {
            "name": queue.name,
            "claims": queue.claims.decode(),
            "started": queue.started.decode(),
            "dead": queue.dead.decode(),
            "entries": queue.entries.decode(),
            "lists": {step: key.decode() for step, key in zip(steps, queue.ready, strict=True)},
        }

    def _recover(self, connection: Connection) -> None:
        """After a reconnect: learn which turn was the last to take place and what is claimed."""
        self._number += 1
        claims = [queue.claims for queue in self._own]
        found = run_script(
            connection,
            "recover.lua",
            [keys.leases(self._layout.prefix), self._turn_key, *claims],
            [self._number],
            self._patience,
        )
        self._renew_at = 0.0
        # Other workers may just be coming back too, after a restart of Redis: give them time to renew.
        self._plan_restore(time.monotonic())
        if not found:
            # What was settled before it ran depends on no claim.
            ours = [outcome for each in self._posted if each.is_ours for outcome in each.outcomes]
            self._owed += [outcome for outcome in ours if outcome.delivery.tag is None]
            self._lose_all()
            self._begin_epoch()
            self._register(connection)
            return
        for each in self._posted:
            # What completed a chord, as the reply has told, is given once more.
            waiting = list(each.outcomes)
            if int(found[0]) >= each.number:
                waiting = self._left_waiting(connection, each, set().union(*found[1:]))
                self._codec.settled(each.outcomes, waiting)
                done = (
                    () if each.is_ours else [outcome for outcome in each.outcomes if outcome not in waiting]
                )
                self._committed.extend(done)
            if each.is_ours:
                self._owed.extend(waiting)
        self._posted.clear()
        self._reconcile(connection, found[1:])

    def _left_waiting(self, connection: Connection, posted: Posted, claimed: set[bytes]) -> list[Outcome]:
        """The outcomes that a turn, which took place, did not settle, since they complete a chord."""
        waiting = []
        for (key, name), outcome in posted.lasts.items():
            if outcome in waiting:
                continue
            if outcome.delivery.tag is not None:
                stays = outcome.delivery.tag in claimed
            else:
                owner = connection.call("GET", key + b".c", timeout=self._patience)
                stays = owner == b"fastq:" + name
            if stays:
                waiting.append(outcome)
        return waiting

    def _reconcile(self, connection: Connection, claimed: list[list[bytes]]) -> None:
        """Deliver what is claimed but unknown here, and drop what is known here but claimed no more."""
        held = self._codec.unsettled
        present = set().union(*claimed)
        for tag in [tag for tag in held if tag not in present]:
            self.lost.append(held.pop(tag))
        for queue, tags in zip(self._own, claimed, strict=True):
            unknown = sorted((tag for tag in tags if tag not in held), key=_claim_number)
            if not unknown:
                continue
            envelopes = connection.call("HMGET", queue.claims, *unknown, timeout=self._patience)
            for tag, raw in zip(unknown, envelopes, strict=True):
                if raw is not None:
                    self._adopted.append(self._codec.adopt(queue.name, tag, raw))
        self._next_id = max(self._next_id, 1 + max(map(_claim_number, present), default=0))

    # -- restoring ----------------------------------------------------------------------------

    def _plan_restore(self, now: float) -> None:
        # Earlier by chance, so that a fleet does not look all at the same time.
        self._restore_at = now + self._options.lease / 3 * random.uniform(0.7, 0.95)

    def _restore_expired(self, connection: Connection, now: float) -> None:
        self._plan_restore(now)
        next_expiry_ms = self._restore(connection, "", [])
        # Another worker's lease may be much shorter than ours.
        if next_expiry_ms >= 0:
            self._restore_at = min(self._restore_at, now + next_expiry_ms / 1000)

    def _restore(self, connection: Connection, epoch: str, counted: list[bytes]) -> int:
        """Run restore.lua for *epoch*, or if '' for all expired ones.

        Returns in how many milliseconds there will be something to restore: 0 is now, -1 never.
        """
        prefix = self._layout.prefix
        listed = counted if epoch or self.before_burial else [ANY_CLAIM]
        while True:
            restored, next_expiry_ms, dying = run_script(
                connection,
                "restore.lua",
                [keys.leases(prefix), keys.workers(prefix)],
                [keys.turn(prefix, ""), self._options.max_redeliveries, RESTORED_AT_ONCE, epoch, *listed],
                self._patience,
            )
            if restored:
                self._is_quiet = False  # the server does not tell us of our own changes
            if not dying:
                return int(next_expiry_ms)
            if self.before_burial is None or not self.before_burial([_dying(*each) for each in dying]):
                return -1  # they stay until the next round
            listed = [name for name, *_ in dying]


def _dying(name: bytes, queue: bytes, count: int, reason: bytes, envelope: bytes) -> tuple[Delivery, str]:
    """What restore.lua says of a claim that is to be buried."""
    return decode_delivery(envelope, name, queue.decode(), count), reason.decode()


def _claim_number(tag: bytes) -> int:
    return int(tag.partition(b":")[0])
