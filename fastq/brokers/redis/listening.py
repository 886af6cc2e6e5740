"""Announcements on Redis: pub/sub, and Celery's lists for direct exchanges (docs/PROTOCOL.md §3.5, §3.8)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastq._core.message import Message, decode_envelope
from fastq._core.resp import NO_REPLY, Argument, pack, pack_many
from fastq._core.routing import kombu_member, parse_kombu_member
from fastq.brokers.listening import ANSWER_SECONDS, CONNECT_SECONDS, Listener, admits, wait_for
from fastq.brokers.redis import keys
from fastq.brokers.redis.connection import Connection, checked
from fastq.brokers.redis.layout import Layout
from fastq.brokers.redis.servers import Servers
from fastq.exceptions import DecodeError, OperationalError
from fastq.topology import Exchange, Queue

if TYPE_CHECKING:
    from fastq.wakeup import Waker

# Seconds that the binding of a listener to a direct exchange, and what lies in its list, outlive it at most.
LEFT_SECONDS = 3600


def announce(
    connection: Connection, layout: Layout, exchange: Exchange, messages: Sequence[Message], timeout: float
) -> None:
    """Send *messages* to whoever listens to *exchange*."""
    commands: list[list[Argument]] = []
    if exchange.type != "direct":
        commands = [
            ["PUBLISH", _channel(layout, exchange, each.routing_key), each.envelope()] for each in messages
        ]
    else:
        # Without a look at the bindings the lists of those who have left would pile up.
        bindings = keys.kombu_bindings(layout.prefix, exchange.name)
        for member in connection.call("SMEMBERS", bindings, timeout=timeout):
            try:
                key, _, queue = parse_kombu_member(member)
            except DecodeError:  # somebody else's
                continue
            ready = layout.ready(queue)[0]
            told = [each.envelope() for each in messages if each.routing_key == key]
            if told:
                commands += [["LPUSH", ready, *told], ["EXPIRE", ready, LEFT_SECONDS]]
    if commands:
        for reply in connection.call_many(commands, timeout):
            checked(reply)


def _channel(layout: Layout, exchange: Exchange, routing_key: str) -> str:
    """The channel; to a fanout exchange the key means nothing."""
    return layout.channel(exchange.name, routing_key if exchange.type == "topic" else "")


class RedisListener(Listener):
    """Listens on a connection of its own."""

    def __init__(self, servers: Servers, layout: Layout, queue: Queue, waker: Waker | None) -> None:
        self._servers = servers
        self._layout = layout
        self._queue = queue
        self._waker = waker
        self._connection: Connection | None = None
        self._direct = [each for each in queue.all_bindings if each.exchange.type == "direct"]
        self._lists: Sequence[bytes] = layout.ready(queue.name) if self._direct else ()
        self._is_popping = False  # a BRPOP is on its way

    def hear(self, timeout: float) -> list[Message]:
        deadline = time.monotonic() + timeout
        try:
            connection = self._connected()
            while True:
                heard = self._take(connection)
                left = deadline - time.monotonic()
                if heard or left <= 0:
                    return heard
                if wait_for(connection.fileno(), self._waker, left):
                    return self._take(connection)
        except OperationalError:
            self._disconnect()
            raise

    def close(self) -> None:
        if self._connection is None:
            return
        self._disconnect()
        if not self._direct:
            return
        try:
            connection = self._servers.connect(CONNECT_SECONDS)
        except OperationalError:
            return  # what is left there expires
        try:
            commands: list[list[Argument]] = [["SREM", key, member] for key, member in self._members()]
            connection.call_many([*commands, ["DEL", *self._lists]], ANSWER_SECONDS)
        except OperationalError:
            pass
        finally:
            connection.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._servers.connect(CONNECT_SECONDS)
            try:
                self._begin(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _begin(self, connection: Connection) -> None:
        """Subscribe, or bind the list."""
        if self._direct:
            expires = int((time.time() + LEFT_SECONDS) * 1000)
            deadlines = keys.kombu_binding_deadlines(self._layout.prefix)
            for key, member in self._members():
                connection.call("SADD", key, member, timeout=ANSWER_SECONDS)
            raises = ["GT"] if connection.server_version >= (6, 2) else []
            for each in self._direct:
                exchange = each.exchange.name
                connection.call("ZADD", deadlines, *raises, expires, exchange, timeout=ANSWER_SECONDS)
            return
        patterns = [self._pattern(each.exchange, each.routing_key) for each in self._queue.all_bindings]
        connection.send(pack("PSUBSCRIBE", *patterns), ANSWER_SECONDS)
        # The server has subscribed when it says so, by a push or, without RESP3, a reply for each.
        ends = time.monotonic() + ANSWER_SECONDS
        confirmed = 0
        while confirmed < len(patterns):
            connection.receive(ends - time.monotonic())
            confirmed += sum(each[0] == b"psubscribe" for each in _said(connection))

    def _pattern(self, exchange: Exchange, routing_key: str) -> str:
        """What to subscribe to: at least what *routing_key* admits."""
        channel = _channel(self._layout, exchange, routing_key)
        escaped = "".join("\\" + each if each in "\\?[]" else each for each in channel)
        return escaped.replace("#", "*")

    def _members(self) -> list[tuple[str, str]]:
        """The key of each binding set with our member of it."""
        prefix = self._layout.prefix
        return [
            (
                keys.kombu_bindings(prefix, each.exchange.name),
                kombu_member(each.routing_key, "", self._queue.name),
            )
            for each in self._direct
        ]

    def _take(self, connection: Connection) -> list[Message]:
        """What is here, without waiting."""
        heard: list[Message] = []
        while True:
            if self._direct and not self._is_popping:
                connection.send(pack_many([["BRPOP", *self._lists, 0]]), ANSWER_SECONDS)
                self._is_popping = True
            while connection.wait_readable(0.0):
                connection.receive(ANSWER_SECONDS)
            said = _said(connection)
            if not said:
                return heard
            for each in said:
                self._is_popping = False
                heard += self._read(each)

    def _read(self, said: Any) -> list[Message]:
        if not self._direct and said[0] not in (b"message", b"pmessage"):
            return []
        try:
            message = decode_envelope(said[-1])
        except DecodeError:
            return []
        # A pattern of Redis may admit more than one of AMQP.
        return [message] if admits(self._queue, message.exchange, message.routing_key) else []

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._is_popping = False


def _said(connection: Connection) -> list[Any]:
    """The pushes and replies that have been received."""
    said = connection.replies.pushes[:]
    connection.replies.pushes.clear()
    while (reply := connection.replies.next_reply()) is not NO_REPLY:
        said.append(checked(reply))
    said += connection.replies.pushes
    connection.replies.pushes.clear()
    return said
