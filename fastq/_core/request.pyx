"""The request of a running task, Celery's `Context`, and which one runs here now."""

from contextvars import ContextVar

cimport cython
from cpython.contextvars cimport PyContextVar_Reset, PyContextVar_Set, get_value

# What Celery's Context gives for a field that the message does not carry.
DEFAULTS = {
    "task": None, "lang": "py", "shadow": None, "eta": None, "expires": None,
    "group": None, "group_index": None, "timelimit": None, "root_id": None, "parent_id": None,
    "argsrepr": None, "kwargsrepr": None, "origin": None, "replaced_task_nesting": 0,
    "stamped_headers": None, "stamps": None, "logfile": None, "loglevel": None, "utc": None,
}
# Headers of the protocol; every other one is the user's (docs/PROTOCOL.md §1.2).
PROTOCOL_HEADERS = frozenset(DEFAULTS) | {"id", "retries", "ignore_result", "compression", "redelivered"}
# Header of a message that a worker had and gave back before it ran, where the broker does not show it: when,
# in unix seconds.
RETURNED = "fastq-returned"
HIDDEN_HEADERS = PROTOCOL_HEADERS | {RETURNED}

# Celery gives the two parts of the header timelimit by names of their own too.
LIMITS = {"time_limit": 0, "soft_time_limit": 1}

# One for every thread, greenlet and asyncio task.
cdef object _current = ContextVar("fastq.request", default=None)


@cython.final
@cython.freelist(64)
cdef class Context:
    """Task.request: what a task may know of the message that it runs for.

    Fields that the message carries are read from its headers when asked for; any
    attribute may be set. Outside of a run every field has its default, and
    *called_directly* is True.
    """

    def __init__(self, task_object=None, Message message=None, **fields):
        self.task_object = task_object
        self.called_directly = True
        self.message = message
        self.retries = 0
        self.ignore_result = False
        self.children = []
        if message is not None:
            self.id = message.id
            self.retries = message.header("retries") or 0
        self.update(fields)

    def __getattr__(self, str name):
        # Reached for what is neither a field nor was set on this request.
        if self.message is not None and name in self.message.all_headers():
            return self.message.all_headers()[name]
        if name in LIMITS:
            return (self.timelimit or (None, None))[LIMITS[name]]
        try:
            return DEFAULTS[name]
        except KeyError:
            raise AttributeError(f"the request of a task has no field {name!r}") from None

    @property
    def headers(self):
        """The user's own headers."""
        if self.message is None:
            return None
        return {key: value for key, value in self.message.headers.items() if key not in HIDDEN_HEADERS}

    @property
    def properties(self):
        """The properties of the message (§1.3)."""
        return None if self.message is None else self.message.properties

    @property
    def correlation_id(self):
        """The property correlation_id; the task's id as a rule."""
        return None if self.message is None else self.message.properties.get("correlation_id", self.id)

    @property
    def reply_to(self):
        """The queue to which an rpc result goes."""
        return None if self.message is None else self.message.properties.get("reply_to")

    @property
    def delivery_info(self):
        """Where the message came from: exchange, routing_key, priority, redelivered."""
        if self.message is None:
            return None
        info = {
            "exchange": self.message.exchange,
            "routing_key": self.message.routing_key,
            "priority": self.message.priority,
            "redelivered": self.redelivered > 0 or RETURNED in self.message.headers,
        }
        return info | {"is_eager": True} if self.is_eager else info

    @property
    def callbacks(self):
        """Signatures to run with the result."""
        return self._embedded("callbacks")

    @property
    def errbacks(self):
        """Signatures to run when the task fails."""
        return self._embedded("errbacks")

    @property
    def chain(self):
        """What is left of the chain, reversed."""
        return self._embedded("chain")

    @property
    def chord(self):
        """The body of the chord of whose header this task is a part."""
        return self._embedded("chord")

    @property
    def taskset(self):
        """The old name of `group`."""
        return self.group

    def _embedded(self, str key):
        return None if self.embed is None else self.embed.get(key)

    cpdef commit_with(self, list messages, Effects effects):
        """Have *messages* sent and *effects* take place in the commit that settles this run."""
        if messages:
            self.follow = messages if self.follow is None else self.follow + messages
        if effects is None:
            return
        if self.effects is None:
            self.effects = effects
        else:
            self.effects.add(effects)

    def update(self, *args, **fields):
        """Set fields, as `dict.update` would."""
        for name, value in dict(*args, **fields).items():
            setattr(self, name, value)

    def get(self, str key, default=None):
        """The field *key*, or *default*."""
        return getattr(self, key, default)

    def clear(self):
        """Forget every field that was set by hand."""
        vars(self).clear()

    def __repr__(self):
        return f"<Context: {self.id!r} args={self.args!r} kwargs={self.kwargs!r}>"


cpdef Context current_request():
    """The request of the task that runs in this thread, greenlet or asyncio task; None outside of one."""
    return get_value(_current)


cdef object enter(Context context):
    """Make *context* the current request; what `leave` takes back is returned."""
    context.outer = get_value(_current)
    return PyContextVar_Set(_current, context)


cdef object leave(object token):
    PyContextVar_Reset(_current, token)


def push_request(Context context):
    """Make *context* the current request of its task, until `pop_request`."""
    enter(context)


def pop_request() -> Context:
    """Make the request before the current one current again; returns the one that was."""
    cdef Context context = get_value(_current)
    if context is not None:
        PyContextVar_Set(_current, context.outer)
    return context


def request_of(task) -> Context | None:
    """The innermost request of *task* that runs here; a task may call others in place."""
    cdef Context context = get_value(_current)
    while context is not None and context.task_object is not task:
        context = context.outer
    return context
