"""Events of tasks as JSON, fast (docs/PROTOCOL.md §6.3): a busy worker makes three of each task."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.string cimport memcpy

from fastq._core.codec import json_dumps
from fastq._core.message import JOBS
from fastq._core.message cimport REQUEUE, Delivery, Message, Outcome


@cython.final
cdef class EventWriter:
    """Writes the events that one worker sends of its tasks.

    *own* is what begins each of them: the JSON of a map's first fields, the last one ``"clock":`` without
    its value. *tells* says of a task's name whether its events are sent. Each method appends to *out* a
    JSON map for each event. `clock` is that of the last event.
    """

    cdef public long long clock
    cdef bytes own
    cdef object tells
    cdef dict names     # of tasks: as JSON, or None for those that are not told of

    def __init__(self, bytes own, tells):
        self.own = own
        self.tells = tells
        self.names = {name: None for name in JOBS}

    def received(self, deliveries, double at, list out):
        """Write ``task-received`` of each of *deliveries*, which came at the unix time *at*."""
        cdef bytes stamp = _number(at)
        cdef Message message
        for delivery in deliveries:
            message = (<Delivery> delivery).message
            name = self._name(message)
            if name is not None:
                out.append(b"".join((
                    self.own, self._tick(), self._described(message, <bytes> name, True),
                    b',"timestamp":', stamp, b',"type":"task-received"}',
                )))

    def ended(self, outcomes, double at, dict started, list out):
        """Write what became of tasks, known at the unix time *at*.

        *started* holds the deliveries, by identity, of which ``task-started`` was written; those that have
        ended are removed.
        """
        cdef bytes stamp = _number(at)
        cdef Outcome outcome
        for each in outcomes:
            outcome = <Outcome> each
            was_told = started.pop(id(outcome.delivery), None) is not None
            if self._name(outcome.delivery.message) is None:
                continue
            uuid = _text(outcome.delivery.message.id)
            fields = _of_outcome(outcome)
            if fields is not None and outcome.runtime > 0 and not was_told:
                self._write_started(uuid, at - outcome.runtime, out)
            if fields is not None:
                out.append(b"".join((self.own, self._tick(), b',"uuid":', uuid, <bytes> fields,
                                     b',"timestamp":', stamp, b"}")))

    def started(self, Delivery delivery, double at, list out):
        """Write ``task-started`` of *delivery*, which began at the unix time *at*."""
        if self._name(delivery.message) is not None:
            self._write_started(_text(delivery.message.id), at, out)

    cpdef sent(self, Message message, double at, list out):
        """Write ``task-sent`` of *message*."""
        name = self._name(message)
        if name is None:
            return
        out.append(b"".join((
            self.own, self._tick(), self._described(message, <bytes> name, False),
            b',"queue":', _text(message.queue or message.routing_key),
            b',"exchange":', _text(message.exchange),
            b',"routing_key":', _text(message.routing_key or message.queue),
            b',"timestamp":', _number(at), b',"type":"task-sent"}',
        )))

    cdef _write_started(self, bytes uuid, double at, list out):
        out.append(b"".join((self.own, self._tick(), b',"uuid":', uuid,
                             b',"timestamp":', _number(at), b',"type":"task-started"}')))

    cdef object _name(self, Message message):
        """The name of *message*'s task as JSON; None: nothing is told of it."""
        if message is None:
            return None
        try:
            return self.names[message.task]
        except KeyError:
            name = self.names[message.task] = _text(message.task) if self.tells(message.task) else None
            return name

    cdef bytes _tick(self):
        cdef char text[24]
        self.clock += 1
        return text[_digits(text, sizeof(text), self.clock):sizeof(text)]

    cdef bytes _described(self, Message message, bytes name, bint may_shadow):
        """The fields that say what a message asks for; with *may_shadow* by the name it is shown with."""
        cdef dict headers = message.all_headers()
        cdef bytes uuid = _text(message.id)
        shadow = headers.get("shadow") if may_shadow else None
        root = headers.get("root_id")
        return b"".join((
            b',"uuid":', uuid,
            b',"name":', name if shadow is None else _text(shadow),
            b',"args":', _text(headers.get("argsrepr")),
            b',"kwargs":', _text(headers.get("kwargsrepr")),
            b',"root_id":', uuid if root == message.id else _text(root),
            b',"parent_id":', _text(headers.get("parent_id")),
            b',"retries":', _text(headers.get("retries") or 0),
            b',"eta":', _text(headers.get("eta")),
            b',"expires":', _text(headers.get("expires")),
        ))


cdef object _of_outcome(Outcome outcome):
    """The fields that tell of *outcome*, and its event's type; None: there is nothing to tell."""
    cdef str state = outcome.state
    shown, traceback = (None, None) if outcome.shown is None else outcome.shown
    if state == "SUCCESS":
        return b"".join((b',"result":', _text(shown), b',"runtime":', _number(outcome.runtime),
                         b',"type":"task-succeeded"'))
    if state == "FAILURE" or state == "RETRY":
        return b"".join((b',"exception":', _text(shown), b',"traceback":', _text(traceback),
                         b',"type":"task-failed"' if state == "FAILURE" else b',"type":"task-retried"'))
    if state == "REJECTED":
        return b',"requeue":%b,"type":"task-rejected"' % _text(outcome.action == REQUEUE)
    if state == "REVOKED":
        # Its reason is the one with which it was refused, or that of a task that was ended.
        return b',"terminated":%b,"signum":null,"expired":%b,"type":"task-revoked"' % (
            _text(outcome.reason not in ("expired", "revoked")), _text(outcome.reason == "expired"))
    return None


cdef bytes _text(value):
    """*value* as JSON."""
    cdef Py_ssize_t length, place
    cdef const char *data
    cdef char *into
    cdef bytes text
    if value is None:
        return b"null"
    if type(value) is str and (<str> value).isascii():
        # Most are ids and names, which need no escapes; to copy them takes a third of the time.
        data = PyUnicode_AsUTF8AndSize(value, &length)
        for place in range(length):
            if data[place] < 32 or data[place] == c'"' or data[place] == c"\\":
                break
        else:
            text = PyBytes_FromStringAndSize(NULL, length + 2)
            into = PyBytes_AS_STRING(text)
            into[0] = into[length + 1] = c'"'
            memcpy(into + 1, data, length)
            return text
    return json_dumps(value)


@cython.cdivision(True)
cdef bytes _number(double value):
    """*value*, which is not below 0, with seven digits behind the point: snprintf takes ten times as long."""
    cdef char text[40]
    cdef long long whole = <long long> value
    cdef long long rest = <long long> ((value - whole) * 1e7)
    cdef int place = sizeof(text)
    for _ in range(7):
        place -= 1
        text[place] = <char> (c"0" + rest % 10)
        rest //= 10
    place -= 1
    text[place] = c"."
    place = _digits(text, place, whole)
    return text[place:sizeof(text)]


@cython.cdivision(True)
cdef int _digits(char *text, int end, long long number) noexcept:
    """Write *number* so that it ends before *end*; returns where it begins."""
    while True:
        end -= 1
        text[end] = <char> (c"0" + number % 10)
        number //= 10
        if number == 0:
            return end
