"""A worker's turn on Redis as bytes: outcomes into the request of turn.lua, its reply into deliveries."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcmp, memcpy
from libc.stdint cimport uint32_t
cimport cython

from fastq._core.message cimport (
    ACK, BURY, PARK, REDELIVER, REQUEUE, RETURN, Delivery, Effects, Message, Outcome, part_name,
)
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


cdef bint _has_effects(list outcomes) except -1:
    for outcome in outcomes:
        if (<Outcome> outcome).effects is not None:
            return True
    return False


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
    *result_prefix* None neither results nor effects are stored; *ttl* and *failure_ttl* are whole
    milliseconds as bytes, empty: kept for ever. *claimed* is from how many of *queues*, the first ones,
    it claims: the others are there for what is held of them. *chords* is how chords are kept: the prefix
    of their keys, whether their parts are ordered, the milliseconds that they, and what describes their
    groups, are kept, and those of a claim and of the mark of one that has ended; all bytes.
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
    cdef tuple _chords
    # Of the last request: the outcome that is not to be settled if a chord is told to be complete, by the
    # chord's key and the name of its part.
    cdef readonly dict lasts
    # Of the last reply: the chords that are complete, as chords.lua tells them.
    cdef readonly list told
    cdef Py_ssize_t _claimed  # from so many queues, the first ones, messages are claimed
    cdef bytes _constant
    cdef Py_ssize_t _constant_count
    cdef Packer _packer
    cdef Py_ssize_t _count
    cdef double _now

    def __init__(self, bytes sha, bytes epoch, bytes leases, bytes turn, list queues, steps, destination, *,
                 int max_redeliveries=3, bytes result_prefix=None, bytes ttl=b"", bytes failure_ttl=b"",
                 tuple chords=None, claimed=None):
        self.held = {}
        self._claimed = len(queues) if claimed is None else claimed
        self.lasts = {}
        self.told = []
        self._chords = chords
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
        packer.put_number(self._claimed)
        self._count = self._constant_count + 7
        self.lasts = {}
        if live:
            if self._stores and _has_effects(live):
                live = self._put_workflows(live)
            self._put_outcomes(live)
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

    cdef int _put_outcomes(self, list outcomes) except -1:
        if self._stores:
            self._put_results(outcomes)
        self._put_acks(outcomes)
        for outcome in outcomes:
            if (<Outcome> outcome).action != RETURN:
                self._put_rest(<Outcome> outcome)
        # Each goes in front of the one before it, so that they stand in their old order.
        for outcome in reversed(outcomes):
            if (<Outcome> outcome).action == RETURN:
                self._put_rest(<Outcome> outcome)
        return 0

    # -- workflows ------------------------------------------------------------------

    cdef list _put_workflows(self, list outcomes):
        """Put what depends on chords, and count their parts; returns those *outcomes* that are left."""
        cdef Outcome outcome
        cdef Effects effects
        cdef dict groups = {}  # group id: its parts
        cdef dict last = {}    # group id: the outcome of the last of these
        cdef list rest = []
        for outcome in outcomes:
            if outcome.effects is not None:
                for group_id, count, name in outcome.effects.extended:
                    self._put_all((b"T", self._chord_key(group_id), count, name, self._chords[2]))
        for outcome in outcomes:
            effects = outcome.effects
            if effects is not None and effects.joined is not None:
                self._put_join(outcome)
                continue
            rest.append(outcome)
            if effects is not None:
                for part in effects.parts:
                    groups.setdefault(part[0], []).append(part)
                    last[part[0]] = outcome
        if not groups:
            return rest
        for group_id, parts in groups.items():
            self._put_parts(group_id, parts, last[group_id])
        return self._put_conditional(rest, last)

    cdef int _put_join(self, Outcome outcome) except -1:
        """Put the outcome of a join: in vain if another was faster, or a chord around it is complete."""
        cdef Effects effects = outcome.effects
        cdef dict groups = {}
        cdef bytes packed
        cdef Py_ssize_t count
        for part in effects.parts:
            groups.setdefault(part[0], []).append(part)
        for group_id, parts in groups.items():
            self._put_parts(group_id, parts, outcome)
        packed, count = self._packed(outcome)
        if groups:
            self._put_condition(list(groups), count + 4)
        self._put_all((b"J", count, self._chord_key(effects.joined), self._chords[5]))
        self._packer.put_raw(PyBytes_AS_STRING(packed), PyBytes_GET_SIZE(packed))
        self._count += count
        return 0

    cdef int _put_parts(self, str group_id, list parts, Outcome last) except -1:
        cdef Packer packer = self._packer
        cdef bytes key = self._chord_key(group_id)
        cdef bint is_ordered = self._chords[1] == b"1"
        _, ordered, ttl, group_ttl, claim, _ = self._chords
        self._put_all((b"C", key, ordered, ttl, group_ttl, claim, len(parts)))
        for _, task_id, index, _ in parts:
            name = part_name(task_id, index)
            packer.put(name)
        for _, _, index, member in parts:
            if is_ordered:
                packer.put("+inf" if index is None else index)
            packer.put(member)
        self._count += len(parts) * (3 if is_ordered else 2)
        self.lasts[key, name.encode()] = last
        return 0

    cdef list _put_conditional(self, list outcomes, dict last):
        """Put outcomes that wait if a chord of theirs is complete; returns the others."""
        cdef list others = []
        cdef dict waiting = {}  # id of an outcome: its chords
        cdef bytes packed
        cdef Py_ssize_t count
        for group_id, outcome in last.items():
            waiting.setdefault(id(outcome), []).append(group_id)
        for outcome in outcomes:
            groups = waiting.get(id(outcome))
            if groups is None:
                others.append(outcome)
                continue
            packed, count = self._packed(<Outcome> outcome)
            self._put_condition(groups, count)
            self._packer.put_raw(PyBytes_AS_STRING(packed), PyBytes_GET_SIZE(packed))
            self._count += count
        return others

    cdef int _put_condition(self, list groups, Py_ssize_t count) except -1:
        """Have *count* arguments passed over if one of *groups* is complete."""
        self._put_all((b"I", count, len(groups)))
        for group_id in groups:
            self._put_all((self._chord_key(group_id),))
        return 0

    cdef tuple _packed(self, Outcome outcome):
        """The records of *outcome*, and how many arguments these are."""
        cdef Packer packer = self._packer
        cdef Py_ssize_t count = self._count
        self._packer, self._count = Packer(), 0
        try:
            self._put_outcomes([outcome])
            return self._packer.take(), self._count
        finally:
            self._packer, self._count = packer, count

    cdef bytes _chord_key(self, str group_id):
        return <bytes> self._chords[0] + group_id.encode("utf-8", "surrogatepass")

    cdef int _put_effects(self, Effects effects) except -1:
        """What takes effect whether or not a chord is complete by it."""
        for task_id, state, document in effects.results:
            self._put_result(task_id, state, document)
        for group_id, size in effects.chords:
            self._put_all((b"K", self._chord_key(group_id), size, self._chords[2]))
        for group_id, document in effects.groups:
            self._put_all((b"V", self._chord_key(group_id), document, self._chords[3]))
        return 0

    # -- results and settlements --------------------------------------------------------

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
            self._put_result(outcome.delivery.message.id, outcome.state, outcome.result)
        if plain:
            packer.put_bulk(b"R", 1)
            packer.put_number(len(plain))
            for outcome in plain:
                packer.put(outcome.delivery.message.id)
                packer.put(outcome.result)
            self._count += 2 + 2 * len(plain)
        return 0

    cdef int _put_result(self, task_id, state, bytes document) except -1:
        ttl = self._failure_ttl if state == "FAILURE" else self._ttl
        return self._put_all((b"G", task_id, ttl, b"1" if state == "SUCCESS" else b"0", document))

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
        if outcome.effects is not None and self._stores:
            self._put_effects(outcome.effects)
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

    def settled(self, outcomes, waiting=()) -> None:
        """Forget the claims of *outcomes*: their turn took place, but for those that are *waiting*."""
        cdef Outcome outcome
        cdef set left = {id(outcome) for outcome in waiting}
        for outcome in outcomes:
            if left and id(outcome) in left:
                continue
            if self.held.get(outcome.delivery.tag) is outcome.delivery:
                del self.held[outcome.delivery.tag]

    def deliveries(self, list reply, long long first_id) -> list:
        """The deliveries in the *reply* to the turn that claimed from *first_id* on; chords go to `told`."""
        cdef list found = [], envelopes
        cdef Py_ssize_t at, number, steps = len(self._steps)
        cdef str queue
        cdef bytes raw, suffix, tag
        self.told = []
        for at in range(2, len(reply), 2):
            number = reply[at]
            if number < 0:
                self.told.append(reply[at + 1])
                continue
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
