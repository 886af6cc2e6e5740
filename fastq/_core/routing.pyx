"""Routing keys to queues: direct, topic, fanout and headers exchanges (AMQP 0-9-1 §3.1.3).

Also the members of Kombu's binding sets on Redis (docs/PROTOCOL.md §3.5). A routing key
is words joined by dots; as on RabbitMQ the empty key has no words, and ``a.`` has two.
"""

cimport cython

from fastq.exceptions import DecodeError

EXCHANGE_TYPES = ("direct", "topic", "fanout", "headers")
HEADER_MATCHES = ("all", "any", "all-with-x", "any-with-x")

# Between the parts of a member of Kombu's binding sets.
KOMBU_SEPARATOR = "\x06\x16"

cdef enum:
    ROUTED = 65536  # keys and queues that an exchange remembers at most: half a megabyte of pointers


# ---------------------------------------------------------------------------
# One binding
# ---------------------------------------------------------------------------

cdef list _words(str key):
    return key.split(".") if key else []


cpdef bint topic_matches(str pattern, str routing_key) except -1:
    """Whether *pattern* admits *routing_key* (AMQP 0-9-1 §3.1.3.3).

    Both are words joined by dots; ``*`` stands for exactly one word, ``#`` for zero or more,
    so ``stock.#`` admits ``stock``.
    """
    # On a mismatch let the last '#' swallow one more word. Earlier ones need no second
    # look: whatever they could skip, the last one can too. So it is O(pattern * key).
    cdef list wanted = _words(pattern), words = _words(routing_key)
    cdef Py_ssize_t i = 0, j = 0, after_hash = -1, resume = 0
    while j < len(words):
        if i < len(wanted) and wanted[i] == "#":
            i += 1
            after_hash, resume = i, j
        elif i < len(wanted) and (wanted[i] == "*" or wanted[i] == words[j]):
            i += 1
            j += 1
        elif after_hash >= 0:
            resume += 1
            i, j = after_hash, resume
        else:
            return False
    while i < len(wanted) and wanted[i] == "#":
        i += 1
    return i == len(wanted)


def headers_match(dict arguments, dict headers) -> bool:
    """Whether a binding with *arguments* admits a message with *headers* (AMQP 0-9-1 §3.1.3.4).

    ``x-match`` is ``all`` (the default) or ``any``; both pass over arguments that begin with
    ``x-``, and ``all-with-x`` and ``any-with-x`` (RabbitMQ's) do not. An argument without a
    value (None) asks only that the header is there; any other wants the same type and value.
    Raises `ValueError` for another ``x-match``.
    """
    return HeaderBinding("", arguments).admits(headers)


@cython.final
cdef class HeaderBinding:
    """A binding of a headers exchange, with what it asks of a message taken out of *arguments*."""

    cdef readonly str queue
    cdef readonly dict arguments
    cdef dict _wanted
    cdef bint _is_any

    def __init__(self, str queue, dict arguments):
        match = arguments.get("x-match", "all")
        if match not in HEADER_MATCHES:
            raise ValueError(f"a binding has the x-match {match!r}: use one of {', '.join(HEADER_MATCHES)}")
        with_x = match.endswith("-with-x")
        self.queue = queue
        self.arguments = arguments
        self._is_any = match.startswith("any")
        self._wanted = {
            name: value for name, value in arguments.items()
            if name != "x-match" and (with_x or not name.startswith("x-"))
        }

    def admits(self, dict headers) -> bool:
        """Whether a message with *headers* (None: without any) passes."""
        cdef bint is_match
        for name, value in self._wanted.items():
            is_match = headers is not None and name in headers
            if is_match and value is not None:
                found = headers[name]
                is_match = type(found) is type(value) and found == value
            if is_match == self._is_any:
                return self._is_any
        return not self._is_any


# ---------------------------------------------------------------------------
# A table of many bindings
# ---------------------------------------------------------------------------

@cython.final
cdef class TopicNode:
    """A place in the trie of patterns: what follows it, word by word, and the queues that end here."""

    def __cinit__(self):
        self.children = {}
        self.queues = {}

    cdef bint is_empty(self) noexcept:
        return not self.children and not self.queues and self.star is None and self.hash is None

    cdef TopicNode child(self, str word):
        if word == "*":
            return self.star
        if word == "#":
            return self.hash
        return self.children.get(word)

    cdef TopicNode make_child(self, str word):
        cdef TopicNode node = self.child(word)
        if node is None:
            node = TopicNode.__new__(TopicNode)
            if word == "*":
                self.star = node
            elif word == "#":
                node.is_hash = True
                self.hash = node
            else:
                self.children[word] = node
        return node

    cdef int drop_child(self, str word) except -1:
        if word == "*":
            self.star = None
        elif word == "#":
            self.hash = None
        else:
            del self.children[word]
        return 0


cdef int _enter(TopicNode node, list active, uint64_t step) except -1:
    """Add *node* to the *active* places of this *step*, once, and what a '#' of no words leads to."""
    while node is not None and node.visited != step:
        node.visited = step
        active.append(node)
        node = node.hash
    return 0


cdef list _queues_at(list nodes):
    """The queues that end at *nodes*, each once."""
    cdef TopicNode node
    cdef dict first = None, found = None
    for node in nodes:
        if not node.queues:
            continue
        if first is None:
            first = node.queues
            continue
        if found is None:
            found = first.copy()
        found.update(node.queues)
    if first is None:
        return []
    return list(first if found is None else found)


@cython.final
cdef class Bindings:
    """The bindings of one exchange of *exchange_type*: ``direct``, ``topic``, ``fanout`` or ``headers``.

    Binding the same queue twice in the same way is binding it once (AMQP 0-9-1 §1.7.2.3). Not
    safe for threads that bind while others route.
    """

    def __init__(self, str exchange_type):
        if exchange_type not in EXCHANGE_TYPES:
            raise ValueError(f"{exchange_type!r} is no exchange type: use one of {', '.join(EXCHANGE_TYPES)}")
        self.exchange_type = exchange_type
        self._by_key = {}
        self._all = {}
        self._headers = []
        self._routed = {}
        self._root = TopicNode.__new__(TopicNode)

    def __len__(self):
        return len(self._all) + len(self._headers)

    def bind(self, str queue, str pattern="", dict arguments=None) -> None:
        """Bind *queue* by *pattern*: a routing key (direct), a pattern (topic), nothing of note (fanout).

        A headers exchange goes by *arguments* instead, see `headers_match`.
        """
        cdef dict queues
        if self.exchange_type == "headers":
            if self._find_headers(queue, arguments or {}) < 0:
                self._headers.append(HeaderBinding(queue, dict(arguments or {})))
            return
        if (queue, pattern) in self._all:
            return
        if self.exchange_type == "direct":
            queues = self._by_key.setdefault(pattern, {})
            queues[queue] = None
        elif self.exchange_type == "topic":
            self._make_node(pattern).queues[queue] = None
            self._forget_routed()
        self._all[queue, pattern] = None

    def unbind(self, str queue, str pattern="", dict arguments=None) -> bool:
        """Undo the `bind` of the same arguments; return whether there was one."""
        cdef Py_ssize_t at
        cdef dict queues
        if self.exchange_type == "headers":
            at = self._find_headers(queue, arguments or {})
            if at >= 0:
                del self._headers[at]
            return at >= 0
        if (queue, pattern) not in self._all:
            return False
        del self._all[queue, pattern]
        if self.exchange_type == "direct":
            queues = self._by_key[pattern]
            del queues[queue]
            if not queues:
                del self._by_key[pattern]
        elif self.exchange_type == "topic":
            self._drop_from_trie(queue, pattern)
            self._forget_routed()
        return True

    cpdef list route(self, str routing_key, dict headers=None):
        """The queues that get a message of *routing_key* and *headers*, each once."""
        if self.exchange_type == "direct":
            return list(self._by_key.get(routing_key, ()))
        if self.exchange_type == "topic":
            return self._route_topic(routing_key)
        if self.exchange_type == "fanout":
            return list(dict.fromkeys([queue for queue, _ in self._all]))
        return list(dict.fromkeys([binding.queue for binding in self._headers if binding.admits(headers)]))

    cdef int _forget_routed(self) except -1:
        self._routed.clear()
        self._kept = 0
        return 0

    cdef list _route_topic(self, str routing_key):
        """Look it up among the keys that were asked for lately: programs use few of them."""
        cdef list found = self._routed.get(routing_key)
        if found is None:
            found = self._walk(_words(routing_key))
            self._kept += 1 + len(found)
            if self._kept > ROUTED:
                self._forget_routed()
            else:
                self._routed[routing_key] = found
        return found[:]

    cdef list _walk(self, list words):
        """Walk the trie with the set of all places that the words so far may have led to."""
        cdef list active = [], following
        cdef TopicNode node
        cdef object word
        self._step += 1
        _enter(self._root, active, self._step)
        for word in words:
            following = []
            self._step += 1
            for node in active:
                _enter(<TopicNode> node.children.get(word), following, self._step)
                _enter(node.star, following, self._step)
                if node.is_hash:  # it swallows this word as well
                    _enter(node, following, self._step)
            active = following
        return _queues_at(active)

    cdef TopicNode _make_node(self, str pattern):
        cdef TopicNode node = self._root
        for word in _words(pattern):
            node = node.make_child(word)
        return node

    cdef int _drop_from_trie(self, str queue, str pattern) except -1:
        cdef list path = [], words = _words(pattern)
        cdef TopicNode node = self._root
        for word in words:
            path.append(node)
            node = node.child(word)
        del node.queues[queue]
        while words and node.is_empty():
            node = path.pop()
            node.drop_child(words.pop())
        return 0

    cdef Py_ssize_t _find_headers(self, str queue, dict arguments) except -2:
        cdef Py_ssize_t at
        for at, binding in enumerate(self._headers):
            if binding.queue == queue and binding.arguments == arguments:
                return at
        return -1

    def __repr__(self):
        return f"<Bindings of a {self.exchange_type} exchange: {len(self)}>"


# ---------------------------------------------------------------------------
# Kombu's binding sets
# ---------------------------------------------------------------------------

def topic_regex(str pattern) -> str:
    """A regular expression that Kombu's `re.match` finds in exactly the keys that a topic *pattern* admits.

    Kombu writes another one itself, by which ``t.#`` does not admit ``t`` and ``*`` no empty
    word. It takes what it finds in the set, so with this one Celery's clients do right. Without
    wildcards it is Kombu's own, for it is part of the member's identity.
    """
    cdef list words = _words(pattern)
    cdef str word, regex = ""
    cdef bint after_word = False  # whether what comes next is parted from it by a dot
    if not words:
        return "^$"
    if all([word == "#" for word in words]):
        return "^"
    for word in words:
        if word == "#":
            # In front each word that it takes brings the dot behind it, later on the one before it.
            regex += r"(?:\.[^.]*)*" if after_word else r"(?:[^.]*\.)*"
            continue
        regex += (r"\." if after_word else "") + ("[^.]*" if word == "*" else _escaped(word))
        after_word = True
    # The empty key has no words, and so not one that '*' could stand for.
    cdef bint may_be_empty = all([word in ("*", "#", "") for word in words])
    return ("^(?!$)" if may_be_empty else "^") + regex + "$"


cdef str _escaped(str word):
    return "".join([char if char.isalnum() else "\\000" if char == "\0" else "\\" + char for char in word])


def kombu_member(str routing_key, str pattern, str queue) -> str:
    """The member of ``_kombu.binding.EXCHANGE`` for a binding; *pattern* is empty unless topic."""
    return KOMBU_SEPARATOR.join((routing_key, pattern, queue))


def parse_kombu_member(member) -> tuple:
    """Read a *member*, bytes or str, as (routing key, pattern, queue). Raises `DecodeError`."""
    try:
        text = member.decode("utf-8") if isinstance(member, bytes) else member
    except UnicodeDecodeError as exc:
        raise DecodeError(f"the binding {member!r} is not UTF-8") from exc
    parts = text.split(KOMBU_SEPARATOR)
    if len(parts) != 3:
        raise DecodeError(f"the binding {member!r} has {len(parts)} parts, not key, pattern and queue")
    return tuple(parts)
