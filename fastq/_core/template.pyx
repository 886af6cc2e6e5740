"""Messages of one kind, fast: all that does not depend on a call's arguments is worked out once."""

cimport cython

from posix.time cimport CLOCK_REALTIME, clock_gettime, timespec

from fastq._core.codec import json_dumps
from fastq._core.message cimport Message, new_id
from fastq._core.preview cimport preview
from fastq._core.request cimport Context

cdef dict NO_EMBED = {}

cdef enum:
    SHOWN = 1024  # characters of the arguments that are shown, Celery's argsrepr_maxsize


cdef long long _now_ms() noexcept:
    """The unix time in milliseconds."""
    cdef timespec now
    clock_gettime(CLOCK_REALTIME, &now)
    return <long long> now.tv_sec * 1000 + now.tv_nsec // 1000000


@cython.final
cdef class Template:
    """What the messages of one task with the same options have in common.

    *headers* and *properties* hold all but what each message adds: its id, whose child it
    is, and what its arguments look like; with *tells_time* when it was sent, too. *encode*
    turns a body ``(args, kwargs, embed)`` into bytes; None means plain JSON. *repr_depth* is
    how deep arguments are shown. There is
    one message for each of *queues*.
    """

    cdef str task
    cdef dict headers
    cdef dict properties
    cdef list queues
    cdef str exchange
    cdef str routing_key
    cdef str content_type
    cdef str content_encoding
    cdef object priority
    cdef object due
    cdef object encode
    cdef int repr_depth
    cdef bint tells_time
    cdef bint shows_args
    cdef bint shows_kwargs

    def __init__(self, str task, dict headers, dict properties, list queues, *, str exchange, str routing_key,
                 str content_type="application/json", str content_encoding="utf-8", priority=None, due=None,
                 encode=None, int repr_depth=3, bint tells_time=False):
        self.task = task
        self.headers = headers
        self.properties = properties
        self.queues = queues
        self.exchange = exchange
        self.routing_key = routing_key
        self.content_type = content_type
        self.content_encoding = content_encoding
        self.priority = priority
        self.due = due
        self.encode = encode
        self.repr_depth = repr_depth
        self.tells_time = tells_time
        self.shows_args = "argsrepr" not in headers
        self.shows_kwargs = "kwargsrepr" not in headers

    def messages(self, args, kwargs, Context request, str task_id=None, announce=None, embed=None,
                 str group_id=None, group_index=None) -> list:
        """The messages of one call, sent from the run *request* or from outside of any (None).

        Without a *task_id* it gets a new one. *announce* is called with the body, the headers
        and the properties before they are encoded, and may change the latter two. *embed* is what
        follows the task (§1.4), *group_id* and *group_index* its place in a group. Many calls that
        have the same embed may give it as JSON, if that `is_json` and nothing is announced.
        """
        cdef dict headers = self.headers.copy()
        cdef dict properties = self.properties.copy()
        if task_id is None:
            task_id = new_id()
            if len(self.queues) == 1:  # copies need tags of their own (§3.7)
                properties["delivery_tag"] = task_id
        headers["id"] = task_id
        if request is not None:
            headers.setdefault("root_id", request.root_id or request.id)
            headers.setdefault("parent_id", request.id)
        elif "root_id" not in headers:
            headers["root_id"] = task_id
        if group_id is not None:
            headers["group"] = group_id
            headers["group_index"] = group_index
        if self.shows_args:
            shown = args if type(args) is tuple else tuple(args)
            headers["argsrepr"] = preview(shown, SHOWN, self.repr_depth)
        if self.shows_kwargs:
            headers["kwargsrepr"] = preview(kwargs, SHOWN, self.repr_depth) if kwargs else "{}"
        if self.tells_time:
            headers["timestamp_in_ms"] = _now_ms()
        cdef bytes data
        if type(embed) is bytes:
            data = b"[%b,%b,%b]" % (json_dumps(args), json_dumps(kwargs), embed)
        else:
            body = (args, kwargs, NO_EMBED if embed is None else embed)
            if announce is not None:
                announce(body, headers, properties)
            data = json_dumps(body) if self.encode is None else self.encode(body)
        return [self._message(queue, task_id, headers, properties, data) for queue in self.queues]

    @property
    def is_json(self):
        """Whether bodies are plain JSON."""
        return self.encode is None

    cdef Message _message(self, str queue, str task_id, dict headers, dict properties, bytes data):
        cdef Message message = Message.__new__(Message)
        message.task = self.task
        message.id = task_id
        message._headers = headers
        message._properties = properties
        message.body = data
        message.content_type = self.content_type
        message.content_encoding = self.content_encoding
        message.queue = queue
        message.exchange = self.exchange
        message.routing_key = self.routing_key
        message.priority = self.priority
        message.due = self.due
        return message
