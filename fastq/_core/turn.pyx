"""A worker's turn on Redis as bytes: outcomes into the request of turn.lua, its reply into deliveries."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcmp, memcpy
from libc.stdint cimport uint32_t
cimport cython

from fastq._core.message cimport ACK, BURY, PARK, REDELIVER, REQUEUE, RETURN, Delivery, Message, Outcome
from fastq._core.resp cimport Packer

from fastq._core.message import decode_delivery

cdef enum:
    # Lua can't unpack more than 8,000 values at once.
    IDS_PER_RECORD = 1000
    # Room in front of a request for its "*N\r\n", known when all else is packed.
    HEADROOM = 24

cdef bytes COUNTED = b'{"fastq-redelivered":'
cdef bytes BEFORE_TURN = b"x" * HEADROOM


cdef uint32_t redelivery_count(bytes raw) noexcept:
    """The count that envelope.lua has put in front of *raw*, else 0."""
    cdef const char *text = PyBytes_AS_STRING(raw)
    cdef Py_ssize_t at = PyBytes_GET_SIZE(COUNTED), length = PyBytes_GET_SIZE(raw)
    cdef uint32_t count = 0
    if length <= at or memcmp(text, PyBytes_AS_STRING(COUNTED), at) != 0:
        return 0
    while at < length and c"0" <= text[at] <= c"9":
        count = count * 10 + <uint32_t> (text[at] - 48)
        at += 1
    return count


def redeliveries(bytes raw) -> int:
    """How often the message in the stored envelope *raw* was taken back from a worker that died."""
    return redelivery_count(raw)


def without_count(bytes raw) -> bytes:
    """The stored envelope *raw* as its publisher wrote it, without a redelivery count."""
    if not raw.startswith(COUNTED):
        return raw
    return b"{" + raw[raw.index(b",") + 1:]


@cython.final
cdef class QueueKeys:
    """The keys of one queue that a turn touches, as bytes; *ready* has one list for each priority step."""

    cdef readonly str name
    cdef readonly list ready
    cdef readonly bytes claims
    cdef readonly bytes started
    cdef readonly bytes delayed
    cdef readonly bytes dead
    cdef readonly bytes entries

    def __init__(
        self, str name, list ready, bytes claims, bytes started, bytes delayed, bytes dead, bytes entries
    ):
        self.name = name
        self.ready = ready
        self.claims = claims
        self.started = started
        self.delayed = delayed
        self.dead = dead
        self.entries = entries


@cython.final
cdef class TurnCodec:
    """Packs turns of one worker epoch and reads their replies; see turn.lua for the form of both.

    *steps* are the priority steps, the first of them 0. *destination* gives the ready
    list and the schedule of any message as (list, delayed, step), all bytes. With
    *result_prefix* None results are not stored; *ttl* and *failure_ttl* are whole
    milliseconds as bytes, empty: kept for ever.
    """

    cdef dict held
    cdef list _queues
    cdef dict _numbers
    cdef list _suffixes
    cdef list _steps
    cdef object _destination
    cdef bint _stores
    cdef int _max_redeliveries
    cdef bytes _ttl
    cdef bytes _failure_ttl
    cdef bytes _constant
    cdef Py_ssize_t _constant_count
    cdef Packer _packer
    cdef Py_ssize_t _count
    cdef double _now

    def __init__(self, bytes sha, bytes epoch, bytes leases, bytes turn, list queues, steps, destination, *,
                 int max_redeliveries=3, bytes result_prefix=None, bytes ttl=b"", bytes failure_ttl=b""):
        self.held = {}
        self._queues = queues
        self._numbers = {(<QueueKeys> queue).name: number for number, queue in enumerate(queues)}
        self._steps = [b"%d" % step for step in steps]
        self._suffixes = [b"" if step == 0 else b":%d" % step for step in steps]
        self._destination = destination
        self._stores = result_prefix is not None
        self._max_redeliveries = max_redeliveries
        self._ttl = ttl
        self._failure_ttl = failure_ttl
        self._packer = Packer()
        names = [leases, turn]
        for queue in queues:
            names += [queue.claims, queue.delayed]
        for queue in queues:
            names += queue.ready
        fixed = [b"EVALSHA", sha, b"%d" % len(names), *names, epoch, b"%d" % len(queues),
                 b"%d" % len(self._steps), result_prefix or b"", ttl, *self._suffixes]
        for argument in fixed:
            self._packer.put(argument)
        self._constant = self._packer.take()
        self._constant_count = len(fixed)

    @property
    def unsettled(self):
        """Every delivery that is claimed and not settled, by tag."""
        return self.held

    def request(self, outcomes, long long number, long long lease_ms, long long room, long long first_id,
                bint waits, long long rotation, double now) -> bytes:
        """The command for turn *number*.

        It claims up to *room* messages under ids from *first_id* on. Outcomes whose
        claim is not held (any more) are left out. *now* is this machine's unix time in
        seconds: where the server's is ahead, it parks for so much longer.
        """
        cdef Packer packer = self._packer
        cdef Py_ssize_t begin
        cdef bytes packed, header
        cdef list live = self._live(outcomes)
        self._now = now
        packer.clear()
        packer.put_raw(PyBytes_AS_STRING(BEFORE_TURN), HEADROOM)
        packer.put_raw(PyBytes_AS_STRING(self._constant), PyBytes_GET_SIZE(self._constant))
        packer.put_number(number)
        packer.put_number(lease_ms)
        packer.put_number(room)
        packer.put_number(first_id)
        packer.put_number(1 if waits else 0)
        packer.put_number(rotation)
        self._count = self._constant_count + 6
        if live:
            if self._stores:
                self._put_results(live)
            self._put_acks(live)
            for outcome in live:
                if (<Outcome> outcome).action != RETURN:
                    self._put_rest(<Outcome> outcome)
            # Each goes in front of the one before it, so that they stand in their old order.
            for outcome in reversed(live):
                if (<Outcome> outcome).action == RETURN:
                    self._put_rest(<Outcome> outcome)
        # Only now is the number of arguments known: write it right before them.
        header = b"*%d\r\n" % self._count
        begin = HEADROOM - PyBytes_GET_SIZE(header)
        packed = PyBytes_FromStringAndSize(packer.data + begin, packer.used - begin)
        memcpy(PyBytes_AS_STRING(packed), PyBytes_AS_STRING(header), PyBytes_GET_SIZE(header))
        packer.clear()
        return packed

    cdef list _live(self, outcomes):
        """Those of *outcomes* whose claim is held; a tag alone may be one of another epoch."""
        cdef Outcome outcome
        cdef list live = []
        for outcome in outcomes:
            if outcome.delivery.tag is None or self.held.get(outcome.delivery.tag) is outcome.delivery:
                live.append(outcome)
        return live

    cdef int _put_results(self, list outcomes) except -1:
        """Whoever was first to succeed is right: only a first SUCCESS may be written unseen."""
        cdef Packer packer = self._packer
        cdef Outcome outcome
        cdef list plain = []
        for outcome in outcomes:
            if outcome.result is None or outcome.delivery.message is None:
                continue
            if outcome.delivery.redelivered == 0 and outcome.state == "SUCCESS":
                plain.append(outcome)
                continue
            packer.put_bulk(b"G", 1)
            packer.put(outcome.delivery.message.id)
            packer.put(self._failure_ttl if outcome.state == "FAILURE" else self._ttl)
            packer.put_bulk(b"1" if outcome.state == "SUCCESS" else b"0", 1)
            packer.put(outcome.result)
            self._count += 5
        if plain:
            packer.put_bulk(b"R", 1)
            packer.put_number(len(plain))
            for outcome in plain:
                packer.put(outcome.delivery.message.id)
                packer.put(outcome.result)
            self._count += 2 + 2 * len(plain)
        return 0

    cdef int _put_acks(self, list outcomes) except -1:
        cdef Packer packer = self._packer
        cdef Outcome outcome
        cdef list tags
        cdef Py_ssize_t number, start
        cdef list acks = [[] for _ in self._queues]
        for outcome in outcomes:
            if outcome.action == ACK and outcome.delivery.tag is not None:
                (<list> acks[self._numbers[outcome.delivery.queue]]).append(outcome.delivery.tag)
        for number in range(len(acks)):
            for start in range(0, len(acks[number]), IDS_PER_RECORD):
                tags = acks[number][start:start + IDS_PER_RECORD]
                packer.put_bulk(b"A", 1)
                packer.put_number(number)
                packer.put_number(len(tags))
                for tag in tags:
                    packer.put(tag)
                self._count += 3 + len(tags)
        return 0

    cdef int _put_rest(self, Outcome outcome) except -1:
        cdef Delivery delivery = outcome.delivery
        cdef QueueKeys queue
        if outcome.follow is not None:
            for message in outcome.follow:
                self._put_message(<Message> message)
        if delivery.tag is None:
            return 0
        queue = <QueueKeys> self._queues[self._numbers[delivery.queue]]
        if delivery.redelivered:
            self._put_all((b"S", queue.started, delivery.tag))
        if outcome.action != ACK:
            self._put_return(outcome, delivery, queue)
        return 0

    cdef int _put_return(self, Outcome outcome, Delivery delivery, QueueKeys queue) except -1:
        number = self._numbers[delivery.queue]
        step = self._step_number(delivery.tag)
        if outcome.action == REQUEUE:
            self._put_all((b"Q", number, delivery.tag, queue.ready[step]))
        elif outcome.action == REDELIVER:
            self._put_all((b"H", number, delivery.tag, queue.ready[step], queue.dead, queue.entries,
                           self._max_redeliveries))
        elif outcome.action == RETURN:
            self._put_all((b"U", number, delivery.tag, queue.ready[step]))
        elif outcome.action == PARK:
            self._put_all((b"W", number, delivery.tag, outcome.until, self._steps[step], self._now))
        elif outcome.action == BURY:
            reason = (outcome.reason or "").replace("\0", " ").encode("utf-8", "replace")
            self._put_all((b"B", number, delivery.tag, queue.dead, queue.entries, reason))
        else:
            raise ValueError(f"a delivery can't be settled by the action {outcome.action}")
        return 0

    cdef int _put_message(self, Message message) except -1:
        if not message.queue:  # it went out by pub/sub
            return 0
        ready, delayed, step = self._destination(message.queue, message.priority)
        if message.due is None:
            self._put_all((b"P", ready, message.envelope(), delayed))
        else:
            # What is due already is moved on by the same turn.
            self._put_all((b"D", delayed, float(message.due), step + b":" + message.envelope()))
        return 0

    cdef int _put_all(self, tuple arguments) except -1:
        for argument in arguments:
            self._packer.put(argument)
        self._count += len(arguments)
        return 0

    cdef Py_ssize_t _step_number(self, bytes tag) except -1:
        cdef Py_ssize_t colon = tag.find(b":")
        return 0 if colon < 0 else self._suffixes.index(tag[colon:])

    def settled(self, outcomes) -> None:
        """Forget the claims of *outcomes*: their turn took place."""
        cdef Outcome outcome
        for outcome in outcomes:
            if self.held.get(outcome.delivery.tag) is outcome.delivery:
                del self.held[outcome.delivery.tag]

    def deliveries(self, list reply, long long first_id) -> list:
        """The deliveries in the *reply* to the turn that claimed from *first_id* on."""
        cdef list found = [], envelopes
        cdef Py_ssize_t at, number, steps = len(self._steps)
        cdef str queue
        cdef bytes raw, suffix, tag
        for at in range(2, len(reply), 2):
            number = reply[at]
            envelopes = <list> reply[at + 1]
            queue = (<QueueKeys> self._queues[number // steps]).name
            suffix = <bytes> self._suffixes[number % steps]
            for raw in envelopes:
                tag = b"%d" % first_id
                if suffix:
                    tag += suffix
                first_id += 1
                delivery = decode_delivery(raw, tag, queue, redelivery_count(raw))
                self.held[tag] = delivery
                found.append(delivery)
        return found

    def adopt(self, str queue, bytes tag, bytes raw) -> Delivery:
        """The delivery of a claim that a lost reply has told of."""
        delivery = decode_delivery(raw, tag, queue, redelivery_count(raw))
        self.held[tag] = delivery
        return delivery
