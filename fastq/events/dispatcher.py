"""Sends events."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fastq import serialization
from fastq._core.codec import json_dumps, json_loads
from fastq._core.message import Message
from fastq.app.current import app_or_default
from fastq.events.event import Event, get_exchange, group_from, routing_key
from fastq.exceptions import OperationalError

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.brokers.base import Broker

logger = logging.getLogger("fastq.events")

# Seconds that sending an event may take when the broker is away.
SEND_SECONDS = 1.0
# Events in one message, which then has about 100 KB.
BATCH_MOST = 400
# How the routing key ends of lists of events of one group.
MULTI = ".multi"
# Events that are kept while the broker is away; older ones go.
KEPT_WHILE_OFFLINE = 10_000


def utc_offset() -> float:
    """Hours by which this machine's clock on the wall is behind UTC (PROTOCOL.md §6.2)."""
    return (time.altzone if time.localtime().tm_isdst else time.timezone) / 3600


def beginning(own: Mapping[str, Any]) -> bytes:
    """How the JSON of an event begins that has the fields *own*, up to the value of its clock."""
    return b'%b,"clock":' % json_dumps(dict(own))[:-1]


class Announcer:
    """Announces events of the node *hostname* through *broker*. Safe from any thread."""

    def __init__(
        self, app: FastQ, broker: Broker, hostname: str, serializer: str, delivery_mode: int = 1
    ) -> None:
        self._broker = broker
        self._exchange = get_exchange(name=app.conf.event_exchange)
        self._serializer = serializer
        self._headers = {"hostname": hostname}
        self._properties = {"delivery_mode": delivery_mode}

    def message(self, key: str, body: Any) -> Message:
        """The message of an event, or of a list of them."""
        content_type, encoding, data = serialization.dumps(body, self._serializer)
        return self._message(key, data, content_type, encoding)

    def message_of_json(self, key: str, events: list[bytes]) -> Message:
        """The message of an event, or of a list of several, which are JSON already."""
        data = events[0] if len(events) == 1 and not key.endswith(MULTI) else b"[%b]" % b",".join(events)
        if self._serializer != "json":
            return self.message(key, json_loads(data))
        return self._message(key, data, "application/json", "utf-8")

    def _message(self, key: str, data: bytes, content_type: str, encoding: str) -> Message:
        return Message(
            "",
            "",
            self._headers,
            data,
            queue="",
            exchange=self._exchange.name,
            routing_key=key,
            properties=dict(self._properties),
            content_type=content_type,
            content_encoding=encoding,
            priority=0,
        )

    def announce(self, messages: list[Message]) -> None:
        """Send *messages*. Raises `OperationalError` when that takes longer than `SEND_SECONDS`."""
        self._broker.announce(self._exchange, messages, SEND_SECONDS)


class EventDispatcher:
    """Sends events of the node *hostname*. Safe from any thread.

    *connection* is what `FastQ.connection` gives, None the app's own. *groups* are those whose events are
    sent, none meaning all. Events of a group in *buffer_group* are sent by `flush`, or when there are
    *buffer_limit*, as one list. With *buffer_while_offline* an event that can't be sent is kept for
    `flush`, up to 10,000 of them; else `send` raises `OperationalError`.
    """

    app: FastQ | None = None

    def __init__(
        self,
        connection: Any = None,
        hostname: str | None = None,
        enabled: bool = True,
        channel: Any = None,
        buffer_while_offline: bool = True,
        app: FastQ | None = None,
        serializer: str | None = None,
        groups: Iterable[str] | None = None,
        delivery_mode: int = 1,
        buffer_group: Iterable[str] | None = None,
        buffer_limit: int = 24,
        on_send_buffered: Callable[[], Any] | None = None,
    ) -> None:
        self.app = app = app_or_default(app or self.app)
        self.connection = connection or channel
        self.hostname = hostname or f"gen{os.getpid()}@{socket.gethostname()}"
        self.buffer_while_offline = buffer_while_offline
        self.buffer_group = frozenset(buffer_group or ())
        self.buffer_limit = buffer_limit
        self.on_send_buffered = on_send_buffered
        self.serializer = serializer or app.conf.event_serializer
        self.groups = set(groups or ())
        self.clock = app.clock
        self.pid = os.getpid()
        self.enabled = enabled
        self.on_enabled: set[Callable[[], Any]] = set()
        self.on_disabled: set[Callable[[], Any]] = set()
        broker = app.broker if self.connection is None else self.connection.broker
        self._announcer = Announcer(app, broker, self.hostname, self.serializer, delivery_mode)
        self._lock = threading.Lock()  # guards what follows
        self._outbound: deque[Message] = deque(maxlen=KEPT_WHILE_OFFLINE)
        self._buffers: dict[str, list[dict[str, Any]]] = {}  # by group

    def enable(self) -> None:
        """Send from now on."""
        self.enabled = True
        for callback in self.on_enabled:
            callback()

    def disable(self) -> None:
        """Let `send` do nothing from now on."""
        if self.enabled:
            self.enabled = False
            for callback in self.on_disabled:
                callback()

    def send(
        self,
        type: str,
        blind: bool = False,
        retry: bool = False,
        retry_policy: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Send an event of *type* with *fields*, which must be serializable.

        *blind* leaves the clock out. Connection faults are tried again within a second in any case,
        so *retry* and *retry_policy* have no say.
        """
        group = group_from(type)
        if not self.enabled or (self.groups and group not in self.groups):
            return
        event = self._event(type, fields, blind)
        if group not in self.buffer_group:
            self._announce([self._announcer.message(routing_key(type), event)])
            return
        with self._lock:
            buffer = self._buffers.setdefault(group, [])
            buffer.append(event)
            is_full = len(buffer) >= self.buffer_limit
        if is_full:
            self.flush()
        elif self.on_send_buffered is not None:
            self.on_send_buffered()

    def publish(
        self, type: str, fields: Mapping[str, Any], producer: Any = None, blind: bool = False, **kwargs: Any
    ) -> None:
        """Send an event even where events are disabled; *producer* is not needed."""
        self._announce([self._announcer.message(routing_key(type), self._event(type, fields, blind))])

    def flush(self, errors: bool = True, groups: bool = True) -> None:
        """Send what was kept while the broker was away (*errors*), and what is buffered (*groups*)."""
        messages: list[Message] = []
        with self._lock:
            if errors:
                messages += self._outbound
                self._outbound.clear()
            if groups:
                buffers, self._buffers = self._buffers, {}
                for group, events in buffers.items():
                    messages.append(self._announcer.message(group + MULTI, events))
        if messages:
            self._announce(messages)

    def extend_buffer(self, other: EventDispatcher) -> None:
        """Take over what *other* has kept while the broker was away."""
        with self._lock:
            self._outbound.extend(other._outbound)

    def close(self) -> None:
        """Send what is buffered, and nothing more."""
        if self.enabled:
            self.flush()
        self.enabled = False

    def _event(self, type: str, fields: Mapping[str, Any], blind: bool) -> dict[str, Any]:
        clock = None if blind else self.clock.forward()
        own = {"hostname": self.hostname, "utcoffset": utc_offset(), "pid": self.pid, "clock": clock}
        return Event(type, own, **fields)

    def _announce(self, messages: list[Message]) -> None:
        try:
            self._announcer.announce(messages)
        except OperationalError as exc:
            if not self.buffer_while_offline:
                raise
            with self._lock:
                if not self._outbound:
                    logger.warning("%d events could not be sent, and are kept: %s", len(messages), exc)
                self._outbound.extend(messages)

    def __enter__(self) -> EventDispatcher:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
