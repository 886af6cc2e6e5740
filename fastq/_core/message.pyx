"""Task messages: protocol v2 out and in, v1 in, and Kombu's JSON envelope (docs/PROTOCOL.md §1, §3.3).

A `Message` is what is sent and received, a `Delivery` is a message handed to this
consumer, an `Outcome` is what became of a delivery: what a broker is to do with it
and which effects take place with that, in one commit.
"""

import os
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64

from cpython.bytes cimport PyBytes_AS_STRING
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeASCII
cimport cython

from fastq._core.codec import json_dumps, json_loads
from fastq.exceptions import DecodeError

# ---------------------------------------------------------------------------
# Task ids
# ---------------------------------------------------------------------------

# One read of the system's random source serves this many ids: a read costs 0.35 µs
# for 16 bytes, and hardly more for a few kilobytes.
cdef enum:
    IDS_PER_READ = 256

cdef bytes _entropy = b""
cdef Py_ssize_t _entropy_used = 0
cdef const char *HEX = b"0123456789abcdef"


def forget_entropy():
    """Drop the random bytes that are left, so that a forked child never repeats its parent's ids."""
    global _entropy, _entropy_used
    _entropy = b""
    _entropy_used = 0


os.register_at_fork(after_in_child=forget_entropy)


cpdef str new_id():
    """A random UUID (RFC 4122, version 4) as 36 characters. Safe over threads and forks."""
    global _entropy, _entropy_used
    cdef char text[36]
    cdef unsigned char byte
    cdef const unsigned char *source
    cdef int i, at = 0
    if _entropy_used + 16 > len(_entropy):
        _entropy = os.urandom(16 * IDS_PER_READ)
        _entropy_used = 0
    source = <const unsigned char *> PyBytes_AS_STRING(_entropy) + _entropy_used
    _entropy_used += 16
    for i in range(16):
        byte = source[i]
        if i == 6:
            byte = (byte & 0x0F) | 0x40
        elif i == 8:
            byte = (byte & 0x3F) | 0x80
        if i == 4 or i == 6 or i == 8 or i == 10:
            text[at] = b"-"
            at += 1
        text[at] = HEX[byte >> 4]
        text[at + 1] = HEX[byte & 15]
        at += 2
    return PyUnicode_DecodeASCII(text, 36, NULL)


# ---------------------------------------------------------------------------
# Messages
# ---------------------------------------------------------------------------

# What a worker looks at for every message that it runs: a carrier has these at hand.
HOT_HEADERS = frozenset((
    "task", "id", "eta", "expires", "retries", "timelimit", "compression", "ignore_result", "group",
    "parent_id", "timestamp_in_ms",
))


cdef class Carrier:
    """Received bytes from which all headers and properties of a message can be read, when somebody asks."""

    cdef int read(self, Message message) except -1:
        """Give *message* all its headers and properties."""
        raise NotImplementedError


@cython.final
@cython.freelist(256)
cdef class Message:
    """One task message, independent of any broker.

    *headers* is the v2 header map with ``task`` and ``id`` in it; a received v1 message
    has none until `upgrade_v1`. *properties* holds ``correlation_id``, ``reply_to``,
    ``delivery_mode``, ``expiration``, ``mandatory`` where set. *body* is serialized and, if the header
    ``compression`` says so, compressed. *queue* is where it goes; *exchange* and
    *routing_key* are the address it was published to. *due* is the unix time (seconds)
    until which a broker keeps it in its schedule, or None.
    """

    def __init__(self, str task, str id, dict headers, bytes body, *, str queue, dict properties=None,
                 str content_type="application/json", str content_encoding="utf-8",
                 str exchange="", str routing_key=None, priority=None, due=None):
        self.task = task
        self.id = id
        self._headers = headers
        self._properties = {} if properties is None else properties
        self.body = body
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.queue = queue
        self.exchange = exchange
        self.routing_key = queue if routing_key is None else routing_key
        self.priority = priority
        self.due = due

    @property
    def headers(self):
        """The header map; of a message from RabbitMQ it is decoded now."""
        return self.all_headers()

    @headers.setter
    def headers(self, dict headers):
        if self._carrier is not None:
            self._read()  # the properties
        self._headers = headers

    @property
    def properties(self):
        """The property map; of a message from RabbitMQ it is decoded now."""
        if self._carrier is not None:
            self._read()
        return self._properties

    @properties.setter
    def properties(self, dict properties):
        if self._carrier is not None:
            self._read()  # the headers
        self._properties = properties

    cpdef object header(self, str name):
        """One of `HOT_HEADERS`, or None, without decoding the others."""
        assert name in HOT_HEADERS
        return self._headers.get(name)

    cdef dict all_headers(self):
        if self._carrier is not None:
            self._read()
        return self._headers

    cdef int _read(self) except -1:
        cdef Carrier carrier = self._carrier
        carrier.read(self)
        self._carrier = None
        return 0

    cpdef bytes envelope(self):
        """Kombu's JSON envelope, the form in which Redis and SQL keep a message (§3.3).

        A body of text travels as it is, other bytes in base64 (``body_encoding``).
        """
        cdef dict headers = self.all_headers()
        cdef dict properties = self._properties.copy()
        cdef str body = _text(self)
        if body is None:
            body = b2a_base64(self.body, newline=False).decode("ascii")
            properties["body_encoding"] = "base64"
        else:
            properties.pop("body_encoding", None)  # a received message may have come in base64
        properties["delivery_info"] = {"exchange": self.exchange, "routing_key": self.routing_key}
        # Celery's workers key what they hold by this tag, so no two messages may share it (§3.7).
        if not isinstance(properties.get("delivery_tag"), str):
            properties["delivery_tag"] = new_id()
        if self.priority is not None:
            properties["priority"] = self.priority
        return json_dumps({
            "body": body,
            "content-encoding": self.content_encoding,
            "content-type": self.content_type,
            "headers": headers,
            "properties": properties,
        })

    cpdef tuple to_tuple(self):
        """The fields as plain values, for `marshal`; `message_from_tuple` is its inverse."""
        return (self.task, self.id, self.all_headers(), self._properties, self.body, self.content_type,
                self.content_encoding, self.queue, self.exchange, self.routing_key, self.priority, self.due)

    def __repr__(self):
        return f"<Message {self.task}[{self.id}] for {self.queue!r}>"


cdef str _text(Message message):
    """The body as text, or None where it is not."""
    if message.content_encoding != "utf-8" or "compression" in message.all_headers():
        return None
    try:
        return message.body.decode("utf-8")
    except UnicodeDecodeError:
        return None


def message_from_tuple(tuple fields) -> Message:
    """The message whose `Message.to_tuple` gave *fields*."""
    (task, id, headers, properties, body, content_type, content_encoding,
     queue, exchange, routing_key, priority, due) = fields
    return new_message(task, id, headers, properties, body, content_type, content_encoding,
                       queue, exchange, routing_key, priority, due)


cdef Message new_message(str task, str id, dict headers, dict properties, bytes body, str content_type,
                         str content_encoding, str queue, str exchange, str routing_key, priority, due):
    cdef Message message = Message.__new__(Message)
    message.task = task
    message.id = id
    message._headers = headers
    message._properties = properties
    message.body = body
    message.content_type = content_type
    message.content_encoding = content_encoding
    message.queue = queue
    message.exchange = exchange
    message.routing_key = routing_key
    message.priority = priority
    message.due = due
    return message


cpdef Message decode_envelope(bytes raw):
    """Read Kombu's JSON envelope, of protocol v2 or v1 (§1.5, §3.3).

    Only what every later step relies on is checked here: the shape of the envelope and
    that a v2 message has a name and an id. Raises `DecodeError` saying what is wrong.
    A v1 message comes back with an empty *task*: see `upgrade_v1`.
    """
    cdef dict headers, properties, info
    try:
        envelope = json_loads(raw)
    except DecodeError as exc:
        raise DecodeError(f"the envelope can't be read: {exc}") from None
    if not isinstance(envelope, dict):
        raise DecodeError(f"the envelope is a JSON {type(envelope).__name__}, not an object")
    headers = _map(envelope, "headers")
    properties = _map(envelope, "properties")
    info = _map(properties, "delivery_info")
    body = _body(envelope.get("body"), properties.get("body_encoding"))
    content_type = envelope.get("content-type")
    if type(content_type) is not str:
        raise DecodeError(f"the content type is {content_type!r}, not a string")
    content_encoding = envelope.get("content-encoding")
    if type(content_encoding) is not str:
        content_encoding = "utf-8"
    task = headers.get("task", "")
    task_id = headers.get("id", "")
    check_address(task, task_id)
    routing_key = info.get("routing_key")
    exchange = info.get("exchange")
    if type(routing_key) is not str:
        routing_key = ""
    if type(exchange) is not str:
        exchange = ""
    priority = properties.get("priority")
    if type(priority) is not int:
        priority = None
    return new_message(task, task_id, headers, properties, body, content_type, content_encoding,
                       routing_key, exchange, routing_key, priority, None)


cdef int check_address(task, task_id) except -1:
    """Refuse a v2 message whose headers *task* and *id* are no strings, or which has no id."""
    if type(task) is not str or type(task_id) is not str:
        raise DecodeError(f"the headers name the task {task!r} and the id {task_id!r}; both must be strings")
    if task and not task_id:
        raise DecodeError(f"the message for task {task!r} has no id")
    _check_unicode(task)
    _check_unicode(task_id)
    return 0


cdef int _check_unicode(str name) except -1:
    """Refuse a lone surrogate: names become keys, topics and lines of a log, all of them UTF-8."""
    cdef Py_ssize_t size
    try:
        PyUnicode_AsUTF8AndSize(name, &size)
    except UnicodeEncodeError:
        raise DecodeError(f"{name!r} is not valid Unicode") from None
    return 0


cdef dict _map(dict owner, str key):
    value = owner.get(key)
    if value is None:
        return {}
    if type(value) is not dict:
        raise DecodeError(f"{key!r} is a JSON {type(value).__name__}, not an object")
    return <dict> value


cdef bytes _body(body, encoding):
    if type(body) is not str:
        raise DecodeError("the envelope has no body" if body is None else "the body is not a string")
    if encoding != "base64":
        return (<str> body).encode("utf-8", "surrogatepass")
    try:
        return a2b_base64(body)
    except (Base64Error, ValueError) as exc:
        raise DecodeError(f"the body is not base64: {exc}") from None


# What a v1 body says that v2 says in headers, and of which type it must be. A header may be written anew,
# also by a broker that has no form for everything that JSON has.
cdef dict V1_HEADERS = {
    "eta": str, "expires": str, "retries": int, "timelimit": list, "taskset": str, "group": str,
    "group_index": int,
}


cdef bint _is_fit(value, type_) except -1:
    if type_ is list:  # of numbers, or of nothing
        return type(value) is list and all(each is None or _is_fit(each, int) for each in value)
    if type_ is int:
        return type(value) is float or (type(value) is int and -(1 << 63) <= value < 1 << 63)
    return type(value) is type_


def upgrade_v1(Message message, body) -> list:
    """Turn the v1 *message* whose decoded *body* is a map into v2, in place (§1.6).

    Returns its v2 body, ``[args, kwargs, embed]``. Raises `DecodeError`, and leaves the
    message as it is, when the map does not name a task and an id, or a field has a wrong type.
    """
    if not isinstance(body, dict):
        raise DecodeError("the message is of no known protocol: its headers name no task, its body is no map")
    # Headers of v2 over a body of v1 are accepted (§1.5); what they say counts.
    task = message.task or body.get("task")
    task_id = message.id or body.get("id")
    if type(task) is not str or type(task_id) is not str or not task or not task_id:
        raise DecodeError(f"the message names the task {task!r} and the id {task_id!r}; both must be strings")
    _check_unicode(task)
    _check_unicode(task_id)
    fields = {name: body.get(name) for name in V1_HEADERS}
    for name, value in fields.items():
        if value is not None and not _is_fit(value, V1_HEADERS[name]):
            raise DecodeError(f"the body's {name!r} is {value!r:.100}, and the header of that name can't be")
    message.task = task
    message.id = task_id
    message._headers = {
        "eta": fields["eta"],
        "expires": fields["expires"],
        "retries": fields["retries"] or 0,
        "timelimit": fields["timelimit"],
        "group": fields["taskset"] or fields["group"],
        "group_index": fields["group_index"],
        **message.all_headers(),
        "task": task,
        "id": task_id,
    }
    embed = {key: body.get(key) for key in ("callbacks", "errbacks", "chord")}
    args, kwargs = body.get("args"), body.get("kwargs")
    return [[] if args is None else args, {} if kwargs is None else kwargs, embed]


# ---------------------------------------------------------------------------
# Deliveries and outcomes
# ---------------------------------------------------------------------------

# What a worker gives its pool to do beside tasks: to join a chord, and to see what follows a task that did
# not run to its end. Such a delivery comes from no broker, and a message that bears one of these names names
# an unknown task.
JOIN_JOB = "fastq.join"
FOLLOW_JOB = "fastq.follow"
JOBS = frozenset((JOIN_JOB, FOLLOW_JOB))
# What the outcome of a job says of it: it is done; or it is to be tried again, for the reason given.
JOB_DONE = "DONE"
JOB_AGAIN = "AGAIN"


@cython.final
@cython.freelist(256)
cdef class Delivery:
    """A message handed to this consumer.

    *tag* is the broker's name for this claim; *redelivered* counts how often the message
    was taken back from a worker that died. When the message could not be decoded,
    *message* is None, *error* says why and *raw* holds its bytes.
    """

    def __init__(self, Message message, tag, str queue, uint32_t redelivered=0, *,
                 str error=None, bytes raw=None):
        self.message = message
        self.tag = tag
        self.queue = queue
        self.redelivered = redelivered
        self.error = error
        self.raw = raw

    def __repr__(self):
        what = self.error if self.message is None else f"{self.message.task}[{self.message.id}]"
        return f"<Delivery {self.tag!r} from {self.queue!r}: {what}>"


def decode_delivery(bytes raw, tag, str queue, uint32_t redelivered=0) -> Delivery:
    """A delivery of the envelope *raw*; one that can't be decoded carries the reason in *error*."""
    cdef Delivery delivery = Delivery.__new__(Delivery)
    delivery.tag = tag
    delivery.queue = queue
    delivery.redelivered = redelivered
    try:
        delivery.message = decode_envelope(raw)
        delivery.message.queue = queue
    except DecodeError as exc:
        delivery.error = str(exc)
        delivery.raw = raw
    return delivery


@cython.final
cdef class Effects:
    """What the end of a task does for the workflow that it is a part of, in the commit of its outcome (D5).

    Each field is a list of tuples of plain values, as a rule empty.

    *results*: further results, as (task id, state, document).
    *parts*: members of chords that have ended, as (group id, task id, index or None, member); *member* is
    the encoded ``[1, task id, state, result]`` (docs/PROTOCOL.md §5.4).
    *chords*: chords that begin, as (group id, size). *extended*: those that grow, as (group id, by how many,
    who says so), once for each of the latter.
    *groups*: what describes groups, as (group id, document).

    *joined* is the chord that ends with this outcome, or None: the outcome takes effect only if nobody has
    ended that chord before.
    """

    def __init__(self, *, list results=None, list parts=None, list chords=None, list extended=None,
                 list groups=None, str joined=None):
        self.results = [] if results is None else results
        self.parts = [] if parts is None else parts
        self.chords = [] if chords is None else chords
        self.extended = [] if extended is None else extended
        self.groups = [] if groups is None else groups
        self.joined = joined

    def add(self, Effects other):
        """Let these be the effects of *other* too, which joins no chord."""
        self.results += other.results
        self.parts += other.parts
        self.chords += other.chords
        self.extended += other.extended
        self.groups += other.groups

    cpdef tuple to_tuple(self):
        """The fields, for `marshal`; `effects_from_tuple` is its inverse."""
        return (self.results, self.parts, self.chords, self.extended, self.groups, self.joined)

    def __repr__(self):
        return f"<Effects {self.to_tuple()}>"


def effects_from_tuple(tuple fields) -> Effects:
    """The effects whose `Effects.to_tuple` gave *fields*."""
    cdef Effects effects = Effects.__new__(Effects)
    (effects.results, effects.parts, effects.chords, effects.extended, effects.groups,
     effects.joined) = fields
    return effects


cdef Effects effects_of_part(tuple part):
    """The effects of the end of one part of a chord."""
    cdef Effects effects = Effects.__new__(Effects)
    effects.results, effects.parts, effects.chords, effects.extended, effects.groups = [], [part], [], [], []
    return effects


cpdef str part_name(str task_id, index):
    """How a chord knows one of its parts, whose *index* may be None (§5.4)."""
    return f"{task_id}:{'+inf' if index is None else index}"


@cython.final
@cython.freelist(256)
cdef class Outcome:
    """What became of a delivery: how to settle it, and the effects that belong to its commit.

    *action* is an `Action`; `PARK` comes with *until* (unix seconds), `BURY` and a task that was revoked
    with *reason*. A delivery whose tag is None was settled before it ran: only the effects take place.
    *result* is the result document to store for the message's id (None: store nothing) and
    *state* its state; *follow* lists messages to publish, *effects* is an `Effects` or None.
    *failure* is the map of the exception with which a task ended that did not run to its end (§5.2),
    if its message may name tasks to follow: what it means for these is still to be worked out, where
    code of the user's may run. *runtime* is in seconds, 0 if the task did not run. *shown* is what events
    tell of it: what was returned or raised, as text, and the traceback or None; None: not asked for.
    """

    def __init__(self, Delivery delivery, int action=ACK, *, str state=None, bytes result=None,
                 list follow=None, Effects effects=None, dict failure=None, double until=0, str reason=None,
                 double runtime=0, tuple shown=None):
        self.delivery = delivery
        self.action = action
        self.state = state
        self.result = result
        self.follow = follow
        self.effects = effects
        self.failure = failure
        self.until = until
        self.reason = reason
        self.runtime = runtime
        self.shown = shown

    cpdef tuple to_tuple(self):
        """The fields but the delivery as plain values, for `marshal`."""
        cdef list follow = None
        if self.follow is not None:
            follow = [(<Message> message).to_tuple() for message in self.follow]
        return (self.action, self.state, self.result, follow, self.until, self.reason, self.runtime,
                None if self.effects is None else self.effects.to_tuple(), self.failure, self.shown)

    def __repr__(self):
        return f"<Outcome {Action(self.action).name.lower()} {self.state} of {self.delivery!r}>"


def outcome_from_tuple(Delivery delivery, tuple fields) -> Outcome:
    """The outcome of *delivery* whose `Outcome.to_tuple` gave *fields*."""
    cdef Outcome outcome = Outcome.__new__(Outcome)
    outcome.delivery = delivery
    (outcome.action, outcome.state, outcome.result, follow, outcome.until, outcome.reason,
     outcome.runtime, effects, outcome.failure, outcome.shown) = fields
    outcome.follow = None if follow is None else [message_from_tuple(message) for message in follow]
    outcome.effects = None if effects is None else effects_from_tuple(effects)
    return outcome
