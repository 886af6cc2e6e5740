"""A worker's hold on its queues in RabbitMQ: messages pushed within a window, acks gathered (D4, D6).

RabbitMQ's own connection is the lease: when it ends, everything that was not acknowledged
goes back to its place, with a flag. How often that has happened RabbitMQ does not count on
classic queues, so we write it into a header; and as nobody can write onto a message that
lies in a queue, one that was redelivered goes to the tail, with its count, before it runs.
"""

from __future__ import annotations

import logging
import math
import select
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import compress, count
from typing import TYPE_CHECKING

from fastq._core.amqp import Content
from fastq._core.amqp_claims import release, sort_out, take_plain
from fastq._core.message import Action, Delivery, Message, Outcome
from fastq._core.request import RETURNED
from fastq.brokers.base import BrokerOptions, Consumer
from fastq.brokers.rabbitmq.addresses import (
    DUE,
    REDELIVERED,
    Outgoing,
    carried,
    count_of,
    seconds_of,
    to_address,
    to_dead_set,
    to_queue,
    to_schedule,
    to_tail,
    without_ours,
)
from fastq.brokers.rabbitmq.connection import Connection
from fastq.brokers.rabbitmq.connector import Connector
from fastq.brokers.rabbitmq.copies import Copies, Copy, Held, copy_of
from fastq.brokers.rabbitmq.declarations import of_queues
from fastq.brokers.rabbitmq.delays import plain_address
from fastq.brokers.rabbitmq.errors import NOT_IMPLEMENTED, ConnectionClosed
from fastq.brokers.rabbitmq.queue_watch import QueueWatch
from fastq.brokers.rabbitmq.sender import Sender
from fastq.exceptions import EncodeError, OperationalError

if TYPE_CHECKING:
    from fastq.brokers.rabbitmq.session import Channel
    from fastq.topology import Queue
    from fastq.wakeup import Waker

logger = logging.getLogger(__name__)

# Above this window as many messages again are asked for: they come while the first ones run.
AHEAD_FROM = 64
# How far the window must have shrunk until RabbitMQ is told.
SHRINK = 4
# basic.qos counts in 16 bits; 0 is no limit (AMQP 0-9-1 §1.8.3.1).
MOST_PREFETCHED = 65535
# A message that is due within so many seconds is delivered now: its schedule is no more exact.
NEARLY_DUE = 0.005
# Tags of one connection end where those of the next begin.
TAGS_PER_CONNECTION = 1 << 48
# How often a quorum queue takes a message back where nobody says it (RabbitMQ 4; before, without end).
DELIVERY_LIMIT = 20
# After these no message with the same names comes to the same queue that is another one.
FINAL = (Action.ACK, Action.PARK, Action.REDELIVER)


class RabbitMQConsumer(Consumer):
    """Keeps one connection, with one channel to consume and acknowledge and one to publish."""

    commits_results = False

    def __init__(
        self, connector: Connector, options: BrokerOptions, queues: Sequence[str], waker: Waker
    ) -> None:
        self.lost: list[Delivery] = []
        self._connector = connector
        self._options = options
        self._queues = list(queues)
        self._waker = waker
        self._patience = max(options.lease / 2, 1.0)  # seconds that one answer may take
        self._connection: Connection | None = None
        self._epoch = 0  # counts connections
        self._channel: Channel  # to consume
        self._sender: Sender
        self._copies = Copies()  # what comes again when a connection has broken
        self._was_away = False  # whether the last attempt to connect failed
        # Whether one window may hold for all queues: RabbitMQ 4 and quorum queues know only one for each.
        self._can_share = True
        # Whether a consumer that ends lets another worker's begin, while we still run what it brought.
        self._is_single_active = False
        self._serials = count(1)
        self._watch = QueueWatch(self._patience)
        self._begin()

    def _begin(self) -> None:
        """Forget what belonged to the last connection."""
        self._epoch += 1
        self._base = self._epoch * TAGS_PER_CONNECTION
        self._held: dict[int, Delivery] = {}  # by tag: what RabbitMQ waits to hear of
        self._flagged: set[int] = set()  # tags of these that do not bear their count
        self._marks: dict[int, tuple[int, float]] = {}  # by tag: REDELIVERED, and DUE or RETURNED
        self._broken: dict[int, Content] = {}  # by tag: of these, what can't be decoded
        self._arrived: deque[Delivery] = deque()  # of these, what no turn has returned yet
        self._window = 0  # what RabbitMQ was told last; 0: it is not asked for messages
        self._shares_window = False  # whether that holds for all queues, not for each
        self._window_since = 0  # the newest tag that came by earlier consumers: it takes no place in it
        self._consumed: dict[str, str] = {}  # consumer tag: queue
        self._recover_at = math.inf  # monotonic
        self._ways: list[tuple[Delivery, Outgoing]] = []  # for what arrived and is not for the worker now
        self._owed: list[Outcome] = []  # of what ended while it had no claim, and has that of its copy now
        self._doomed: list[tuple[Delivery, str, Outgoing]] = []  # to be buried, each with the reason
        self._bury_at = 0.0  # monotonic: not before

    @property
    def is_connected(self) -> bool:  # type: ignore[override]
        """Whether the last call left a working connection."""
        return self._connection is not None

    def turn(self, outcomes: Sequence[Outcome], room: int, timeout: float) -> list[Delivery]:
        """Publish what outcomes ask for, confirmed, then acknowledge; take what has arrived."""
        try:
            return self._turn(outcomes, room, time.monotonic() + timeout)
        except OperationalError:
            self._disconnect()
            raise

    def consume(self, queues: Sequence[str]) -> None:
        """Cancel the consumers of other queues; those of new ones begin with the next turn that has room."""
        self._queues = list(queues)
        if self._connection is None:
            return
        with self._guarded() as connection:
            self._declare()
            self._cancel(connection, [tag for tag, queue in self._consumed.items() if queue not in queues])

    def mark_started(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Send those that do not bear their count yet to the tails of their queues."""
        moved = [each for each in deliveries if each.tag in self._flagged]
        if moved:
            with self._guarded() as connection:
                ways = [(each, to_queue(self._source(each), each.queue, each.redelivered)) for each in moved]
                settled = [self._copy_of(each) for each in moved]
                try:
                    self._move(connection, ways)
                except OperationalError:
                    # What was sent is no longer ours, though RabbitMQ may not know.
                    sent = [each.tag not in self._held for each in moved]
                    self.lost += compress(moved, sent)
                    self._remember(compress(settled, sent))
                    raise
                self._remember(settled)
        gone = set(map(id, moved))
        return [each for each in deliveries if id(each) not in gone]

    def adopt(self, running: Sequence[Delivery]) -> None:
        """Give *running*, whose claims were lost, those of their copies if these come back here."""
        self._copies.adopt(running, time.monotonic())

    def has_idle_peers(self, running: int) -> bool:
        """Whether another worker takes from these queues, and has taken all that waits there."""
        connection, lasting = self._connection, self._lasting()
        if connection is None or connection.blocked or not (lasting or len(self._held) > running):
            return False
        ours = Counter(self._consumed[tag] for tag in lasting)
        queues = {queue: ours[queue] for queue in self._queues if self._may_leave(queue)}
        with self._guarded():
            return self._watch.has_idle_peers(connection, queues)

    def unclaim(self) -> None:
        """Ask for nothing more, and give back what no turn has returned.

        Not to a queue that goes with its last consumer: it would be lost with it; and not to one
        that only one worker at a time may consume from: another would begin while we run a task.
        """
        if self._connection is None or not (self._consumed or self._arrived):
            return
        with self._guarded() as connection:
            self._cancel(connection, self._lasting())
            leaving = [each for each in self._arrived if self._may_leave(each.queue)]
            others = self._write_anew(connection, leaving)  # if it fails, they have arrived and no more
            self._arrived = deque(each for each in self._arrived if not self._may_leave(each.queue))
            self._return(others)
            connection.flush(self._patience)

    def close(self, unstarted: Sequence[Delivery] = ()) -> None:
        """Close the connection: RabbitMQ takes back what is held, each to its old place, with a flag.

        But what did not start goes to the tail of its queue, without one.
        """
        connection = self._connection
        try:
            if connection is not None:
                self._cancel(connection, self._lasting())  # else it would come back here
                self._write_anew(connection, [*unstarted, *self._arrived])
        finally:
            self._connection = None
            if connection is not None:
                connection.close(self._patience)
            self._begin()

    def _write_anew(self, connection: Connection, deliveries: Iterable[Delivery]) -> list[Delivery]:
        """Send those of *deliveries* that may go there to the tails of their queues; return the others."""
        anew: list[tuple[Delivery, Outgoing]] = []
        others: list[Delivery] = []
        for each in deliveries:
            if self._held.get(each.tag) is each and self._is_written_anew(each):
                anew.append((each, to_tail(self._source(each), each.queue, each.redelivered)))
            else:
                others.append(each)
        if anew:
            self._move(connection, anew)
        return others

    def _is_written_anew(self, delivery: Delivery) -> bool:
        """Whether *delivery* goes back as another message, and not with RabbitMQ's flag.

        The flag would count as a death, and whoever gets it would run it by itself, after telling the
        broker. What is flagged already, or can't be read, gains nothing; what bears no count may as
        well be flagged where RabbitMQ takes no message now, or would send it here again.
        """
        if delivery.tag in self._flagged or delivery.tag in self._broken:
            return False
        assert self._connection is not None
        is_welcome = self._connection.blocked is None and self._may_leave(delivery.queue)
        return delivery.redelivered > 0 or is_welcome

    # -- one turn ---------------------------------------------------------------------------

    def _turn(self, outcomes: Sequence[Outcome], room: int, ends: float) -> list[Delivery]:
        connection = self._connection or self._connect()
        self._take_in(connection, 0.0)
        if outcomes:
            self._settle(connection, outcomes)
        if self.lost:
            return []  # first the worker must say which of them run
        if self._arrived:
            self._watch.hear()
        if room > 0:
            self._ask_for(connection, len(self._held) - len(self._arrived) + room)
        while not self._arrived and room > 0:
            now = time.monotonic()
            if now >= self._recover_at:
                self._consume(connection)
            if now >= self._watch.look_at:
                shared = [each for each in self._queues if not _has_single_active(self._options.queue(each))]
                self._watch.look(connection, shared, now)
            if (
                self._wait(connection, max(min(ends, self._recover_at, self._watch.look_at) - now, 0.0))
                or now >= ends
            ):
                break
        return [self._arrived.popleft() for _ in range(min(room, len(self._arrived)))]

    def _wait(self, connection: Connection, timeout: float) -> bool:
        """Wait at most *timeout* seconds for something to arrive; returns whether the waker was set."""
        if self._channel.deliveries or self._channel.cancelled:  # they came before a reply
            self._take_in(connection, 0.0)
            return False
        if connection.heartbeat:
            timeout = min(timeout, connection.heartbeat / 4)
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        poll.register(self._waker.fileno(), select.POLLIN)
        woken = {descriptor for descriptor, _ in poll.poll(max(math.ceil(timeout * 1000), 0))}
        self._take_in(connection, 0.0)
        if self._waker.fileno() in woken:
            self._waker.clear()
            return True
        return False

    # -- what arrives -------------------------------------------------------------------------

    def _take_in(self, connection: Connection, timeout: float) -> None:
        """Take in what is here, and keep the connection alive."""
        while connection.receive(timeout):
            pass
        if self._channel.error is not None:
            raise self._channel.error
        came = self._channel.deliveries
        while content := take_plain(came, self._consumed, self._base, self._held, self._arrived):
            self._arrive(content)
        while self._channel.cancelled:  # after what had come by them
            self._lose_queue(self._consumed.pop(self._channel.cancelled.popleft(), None))
        if self._doomed and time.monotonic() >= self._bury_at:
            self._bury_doomed()
        if self._ways:
            self._move(connection, self._ways)
            self._ways.clear()
        if self._owed:
            self._settle(connection, self._owed)
            self._owed.clear()
        if len(connection.encoder):
            # Acknowledgements of what came again: with a narrow window nothing else comes before them.
            connection.flush(self._patience)

    def _arrive(self, content: Content) -> None:
        """Put a delivery into `_arrived`; what is not for the worker now gets a way elsewhere."""
        queue = self._consumed.get(content.consumer_tag or "", "")
        is_flagged, count, due, returned = content.redelivered, 0, 0.0, 0.0
        delivery = content.delivery(queue)
        tag = delivery.tag = self._base + content.delivery_tag
        self._held[tag] = delivery
        if content.has_own_headers:
            headers = content.headers
            count, due = count_of(headers.get(REDELIVERED)), seconds_of(headers.get(DUE))
            returned = seconds_of(headers.get(RETURNED))
            self._marks[tag] = count, due or returned
        message = delivery.message
        if message is None:
            self._broken[tag] = content
        else:
            if content.exchange:
                message.exchange, message.routing_key = plain_address(content.exchange, content.routing_key)
            if count or due:
                message.headers = without_ours(message.headers)
            if is_flagged:
                copy, now = copy_of(message, count, due or returned), time.monotonic()
                if self._knows(delivery, copy, now):
                    return
                is_flagged = not self._copies.take_unstarted(copy, now)
        if is_flagged:
            self._flagged.add(tag)
        delivery.redelivered = count + is_flagged
        if due - time.time() > NEARLY_DUE:
            self._ways.append((delivery, to_schedule(content, queue, due, count)))
        elif delivery.redelivered > self._options.max_redeliveries:
            reason = f"its process died {delivery.redelivered} times while it ran it"
            self._doomed.append((delivery, reason, to_dead_set(content, queue, reason)))
        elif content.redelivered and self._may_be_dropped(content, queue):
            self._ways.append((delivery, to_queue(content, queue, delivery.redelivered)))
        else:
            self._arrived.append(delivery)

    def _may_be_dropped(self, content: Content, queue: str) -> bool:
        """Whether RabbitMQ has had the message back half as often as its quorum queue bears.

        It drops a message then, whether anybody had begun to run it or not. Written anew it counts from 0.
        """
        limit: int = self._options.queue(queue).arguments.get("x-delivery-limit", DELIVERY_LIMIT)
        return 0 <= limit <= 2 * count_of(content.headers.get("x-delivery-count"))

    def _bury_doomed(self) -> None:
        """Send what died too often to the dead set, if what goes before that has been done."""
        dying = [(delivery, reason) for delivery, reason, _ in self._doomed]
        if self.before_burial is None or self.before_burial(dying):
            self._ways += [(delivery, way) for delivery, _, way in self._doomed]
            self._doomed.clear()
        else:
            self._bury_at = time.monotonic() + self._options.lease / 3

    def _knows(self, delivery: Delivery, copy: Copy, now: float) -> bool:
        """Whether *copy* comes only because a connection broke: the task was settled here, or runs."""
        if self._copies.is_repeat(copy, now):
            self._ack([delivery])
            self._remember([copy])
            return True
        orphan = self._copies.take_orphan(copy)
        if orphan is None:
            return False
        tag = orphan.delivery.tag = delivery.tag
        self._held[tag] = orphan.delivery
        self._flagged.add(tag)
        if orphan.outcome is not None:
            self._owed.append(orphan.outcome)
        return True

    def _remember(self, settled: Iterable[Copy]) -> None:
        """Note acknowledgements that RabbitMQ may not see before the connection breaks."""
        now = time.monotonic()
        self._copies.settled.extend((now, copy) for copy in settled)

    def _copy_of(self, delivery: Delivery) -> Copy:
        """How a copy of *delivery*, which can be decoded, will be known."""
        assert delivery.message is not None
        return copy_of(delivery.message, *self._marks.get(delivery.tag, (0, 0.0)))

    def _lose_queue(self, queue: str | None) -> None:
        if queue is None:
            return
        logger.warning(
            "RabbitMQ ended the delivery from queue %r: it was deleted, or its node is gone. Declaring it",
            queue,
        )
        self._recover_at = time.monotonic()
        self._watch.doubt()

    # -- settling -------------------------------------------------------------------------------

    def _settle(self, connection: Connection, outcomes: Sequence[Outcome]) -> None:
        """Publish first, acknowledge when that is confirmed."""
        done, others = sort_out(outcomes, self._held, self._marks, self._copies.settled, time.monotonic())
        returned: list[Delivery] = []
        published: list[Outgoing] = []
        settled: list[Copy] = []
        for outcome in others:
            delivery = outcome.delivery
            if delivery.tag is not None and self._held.get(delivery.tag) is not delivery:
                self._copies.end(outcome, time.monotonic())
                continue
            published += map(to_address, outcome.follow or ())
            if delivery.tag is None:
                continue
            if outcome.action == Action.RETURN and not self._is_written_anew(delivery):
                returned.append(delivery)
                continue
            done.append(delivery)
            if outcome.action != Action.ACK:
                published.append(self._way_of(outcome))
            if outcome.action in FINAL and delivery.message is not None:
                settled.append(self._copy_of(delivery))
        if published:
            self._send(published)
        self._return(returned)
        self._ack(done)
        self._remember(settled)
        connection.flush(self._patience)

    def _way_of(self, outcome: Outcome) -> Outgoing:
        """Where the message of *outcome* goes from here."""
        delivery = outcome.delivery
        source, queue, count = self._source(delivery), delivery.queue, delivery.redelivered
        if outcome.action == Action.PARK and outcome.until > time.time():
            try:
                return to_schedule(source, queue, outcome.until, count)
            except ValueError as exc:  # the queue's name leaves no room for the delay
                return to_dead_set(source, queue, str(exc))
        if outcome.action == Action.BURY:
            return to_dead_set(source, queue, outcome.reason or "no reason was given")
        if outcome.action == Action.REDELIVER:
            if count >= self._options.max_redeliveries:
                return to_dead_set(source, queue, f"its process died {count + 1} times while it ran it")
            count += 1
        return (to_tail if outcome.action == Action.RETURN else to_queue)(source, queue, count)

    def _send(self, ways: Sequence[Outgoing]) -> None:
        """Publish; what can't be written dies, and does not keep the others from being settled."""
        try:
            self._sender.send(ways, self._patience)
        except EncodeError:
            self._sender.send([carried(way) for way in ways], self._patience)

    def _source(self, delivery: Delivery) -> Message | Content:
        return delivery.message or self._broken[delivery.tag]

    def _move(self, connection: Connection, ways: Sequence[tuple[Delivery, Outgoing]]) -> None:
        """Send, then acknowledge, so that a message is rather in two places than in none."""
        self._send([way for _, way in ways])
        self._ack([delivery for delivery, _ in ways])
        connection.flush(self._patience)

    def _return(self, deliveries: Iterable[Delivery]) -> None:
        """Have RabbitMQ put *deliveries* back to their old places."""
        assert self._connection is not None
        for delivery in deliveries:
            self._connection.encoder.nack(self._channel.number, delivery.tag - self._base)
            del self._held[delivery.tag]
            self._forget(delivery)

    def _ack(self, deliveries: Sequence[Delivery]) -> None:
        """Acknowledge, all up to the oldest that is still held in one go."""
        if not deliveries:
            return
        assert self._connection is not None
        encoder, channel = self._connection.encoder, self._channel.number
        covered, others = release(deliveries, self._held, self._base)
        if covered:
            encoder.ack(channel, covered, multiple=True)
        for number in others:
            encoder.ack(channel, number)
        if self._flagged or self._broken or self._marks:
            for delivery in deliveries:
                self._forget(delivery)

    def _forget(self, delivery: Delivery) -> None:
        """Drop what was noted beside the claim."""
        self._flagged.discard(delivery.tag)
        self._marks.pop(delivery.tag, None)
        self._broken.pop(delivery.tag, None)

    # -- the window -------------------------------------------------------------------------------

    def _ask_for(self, connection: Connection, wanted: int) -> None:
        """Have RabbitMQ send as many messages as fill a window of *wanted*.

        A narrow one holds for all queues together. A wide one is that of each consumer: to keep
        one for all, RabbitMQ asks a process of its own about each message, at a third of its speed.
        """
        window = wanted if wanted < AHEAD_FROM else min(_rounded_up(2 * wanted), MOST_PREFETCHED)
        shares = self._can_share and (window < AHEAD_FROM or self._is_single_active)
        if len(self._consumed) == len(self._queues) and (
            self._window // SHRINK < window <= self._window or (self._is_single_active and not shares)
        ):
            return
        replaced: list[str] = []
        if not (shares and self._shares_window):
            self._cancel(connection, self._lasting())
            replaced = list(self._consumed)
        if self._shares_window and not shares:
            connection.call(self._channel, "basic.qos", self._patience, prefetch_count=0, global_=True)
        self._window, self._shares_window = window, shares
        self._window_since = 0 if shares else max(self._held, default=0)
        connection.call(self._channel, "basic.qos", self._patience, prefetch_count=window, global_=shares)
        self._consume(connection, replaced)
        self._cancel(connection, replaced)

    def _consume(self, connection: Connection, replaced: Sequence[str] = ()) -> None:
        """Begin to consume from every queue from which we do not but by the consumers *replaced*."""
        if self._recover_at < math.inf:
            self._recover_at = math.inf
            self._declare()
        consumed = {queue for tag, queue in self._consumed.items() if tag not in replaced}
        calls = []
        for queue in self._queues:
            if queue not in consumed:
                tag = f"fastq.{next(self._serials)}"
                # It must be known before the first delivery bears it.
                self._consumed[tag] = queue
                arguments = self._options.queue(queue).consumer_arguments
                calls.append(("basic.consume", {"queue": queue, "consumer_tag": tag, "arguments": arguments}))
        if not calls:
            return
        try:
            connection.call_many(self._channel, calls, self._patience)
        except ConnectionClosed as exc:
            if exc.code == NOT_IMPLEMENTED:  # one of them is a quorum queue, whatever we declared
                self._can_share = False
            raise

    def _cancel(self, connection: Connection, tags: Sequence[str]) -> None:
        """End the consumers with *tags*, and take in what has come by them."""
        if tags:
            calls = [("basic.cancel", {"consumer_tag": tag}) for tag in tags]
            connection.call_many(self._channel, calls, self._patience)
            self._take_in(connection, 0.0)
            for tag in tags:
                self._consumed.pop(tag, None)  # the broker may have ended it itself meanwhile

    def _lasting(self) -> list[str]:
        """The tags of the consumers that may end while we go on."""
        return [tag for tag, queue in self._consumed.items() if self._may_leave(queue)]

    def _may_leave(self, queue: str) -> bool:
        """Whether *queue* neither goes with its last consumer nor goes over to another worker's."""
        declared = self._options.queue(queue)
        return not (declared.auto_delete or _has_single_active(declared))

    # -- connections --------------------------------------------------------------------------------

    def _connect(self) -> Connection:
        try:
            connection = self._connector.connect(self._options.connect_timeout)
        except OperationalError:
            self._was_away = True
            raise
        if self._was_away:
            self._was_away = False
            self._copies.doubt_flags(time.monotonic())
        try:
            self._channel = connection.open_channel(self._patience)
            self._sender = Sender(connection, self._options, self._patience)
            queues = self._declare()
        except BaseException:
            connection.abandon()
            raise
        if int(connection.server_properties.get("version", "0").partition(".")[0]) >= 4 or any(
            queue.arguments.get("x-queue-type", "classic") != "classic" for queue in queues
        ):
            self._can_share = False
        self._is_single_active = any(map(_has_single_active, queues))
        self._connection = connection
        return connection

    def _declare(self) -> list[Queue]:
        """Declare the queues, and return how."""
        queues = [self._options.queue(queue) for queue in self._queues]
        self._sender.declare(of_queues(queues, self._options.delay_queue_type), self._patience)
        return queues

    def _disconnect(self) -> None:
        """Leave a connection that is of no use; RabbitMQ will deliver again what was held."""
        if self._connection is not None:
            self._connection.abandon()
            self._connection = None
            self._lose_held()
        self._begin()

    def _lose_held(self) -> None:
        """Tell the worker what it has lost, and note what may come again."""
        unseen = set(map(id, self._arrived))
        unseen.update(id(each) for each, *_ in (*self._ways, *self._doomed))
        owed = {id(outcome.delivery): outcome for outcome in self._owed}
        held: list[Held] = []
        unstarted: list[Copy] = []
        for tag, each in self._held.items():
            is_flagged = tag in self._flagged
            if id(each) not in unseen and id(each) not in owed:
                self.lost.append(each)
            if each.message is None:
                continue
            if id(each) not in unseen:
                held.append(Held(each, self._copy_of(each), owed.get(id(each)), is_flagged))
            elif not is_flagged:
                unstarted.append(self._copy_of(each))
        most = self._window * (1 if self._shares_window else len(self._queues))
        inside = sum(tag > self._window_since for tag in self._held)
        self._copies.lose(held, unstarted, max(most - inside, 0), time.monotonic())

    @contextmanager
    def _guarded(self) -> Iterator[Connection]:
        """The connection, which does not outlive a fault."""
        try:
            yield self._connection or self._connect()
        except OperationalError:
            self._disconnect()
            raise


def _rounded_up(window: int) -> int:
    """The next power of two, so that a window which follows run times is not moved for each task."""
    return 1 << (window - 1).bit_length()


def _has_single_active(queue: Queue) -> bool:
    return bool(queue.arguments.get("x-single-active-consumer"))
