"""Hears the events of a fleet, and gives each to its handler."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fastq import serialization
from fastq._core.message import Message, new_id
from fastq.app.current import app_or_default
from fastq.events.event import get_exchange
from fastq.exceptions import ContentDisallowed, DecodeError, ImproperlyConfigured
from fastq.topology import Queue
from fastq.wakeup import Waker

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.brokers.base import Broker
    from fastq.brokers.listening import Listener

# Seconds after which one wait for events is followed by the next.
LONGEST_WAIT = 60.0

Handler = Callable[[dict[str, Any]], Any]


class EventReceiver:
    """Captures events through *channel*, what `FastQ.connection` gives, or the app's broker if it is None.

    *handlers* maps types of events to functions; ``"*"`` is for those that have none. *routing_key* admits
    events by their types, with dots for dashes: ``"worker.#"``. The other options say what they do in
    Celery; those that are None are the settings ``event_queue_…``.
    """

    app: FastQ | None = None

    def __init__(
        self,
        channel: Any = None,
        handlers: Mapping[str, Handler] | None = None,
        routing_key: str = "#",
        node_id: str | None = None,
        app: FastQ | None = None,
        queue_prefix: str | None = None,
        accept: Collection[str] | None = None,
        queue_ttl: float | None = None,
        queue_expires: float | None = None,
        queue_exclusive: bool | None = None,
        queue_durable: bool | None = None,
    ) -> None:
        self.app = app = app_or_default(app or self.app)
        conf = app.conf
        self.channel = self.connection = channel
        self._broker: Broker = app.read_broker if channel is None else channel.broker
        self.handlers = {} if handlers is None else handlers
        self.routing_key = routing_key
        self.node_id = node_id or new_id()
        self.queue_prefix = queue_prefix or conf.event_queue_prefix
        self.exchange = get_exchange(name=conf.event_exchange)
        exclusive = conf.event_queue_exclusive if queue_exclusive is None else queue_exclusive
        durable = conf.event_queue_durable if queue_durable is None else queue_durable
        if exclusive and durable:
            raise ImproperlyConfigured(
                "a queue of events can't be both exclusive and durable: set one of event_queue_exclusive and "
                "event_queue_durable to False"
            )
        self.queue = Queue(
            f"{self.queue_prefix}.{self.node_id}",
            self.exchange,
            routing_key,
            auto_delete=not durable,
            durable=durable,
            exclusive=exclusive,
            message_ttl=conf.event_queue_ttl if queue_ttl is None else queue_ttl,
            expires=conf.event_queue_expires if queue_expires is None else queue_expires,
        )
        self.clock = app.clock
        accepted = {conf.event_serializer, "json"} if accept is None else set(accept)
        self.accept = serialization.content_types(accepted)
        self.should_stop = False
        self._waker: Waker | None = None

    def stop(self) -> None:
        """End `capture`; may be called from any thread."""
        self.should_stop = True
        if (waker := self._waker) is not None:
            waker.set()

    def capture(self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True) -> None:
        """Hear events, and call their handlers, until `stop`.

        Ends after *limit* messages, and raises `TimeoutError` when none has come for *timeout* seconds. With
        *wakeup* the workers are asked for a heartbeat first. Raises `OperationalError` when the broker
        can't be reached; called again, it goes on.
        """
        for _ in self.itercapture(limit, timeout, wakeup):
            pass

    def itercapture(
        self, limit: int | None = None, timeout: float | None = None, wakeup: bool = True
    ) -> Iterator[None]:
        """As `capture`, yielding after each message."""
        self._waker = Waker()
        listener = self._broker.listen(self.queue, self._waker)
        try:
            messages = listener.hear(0.0)  # from here on nothing is missed
            if wakeup:
                self.wakeup_workers()
            count = 0
            while not self.should_stop:
                for message in messages:
                    self._receive(message)
                    yield
                    count += 1
                    if count == limit or self.should_stop:
                        return
                messages = self._hear(listener, timeout)
        finally:
            listener.close()
            waker, self._waker = self._waker, None
            waker.close()

    def _hear(self, listener: Listener, timeout: float | None) -> list[Message]:
        until = None if timeout is None else time.monotonic() + timeout
        while not self.should_stop:
            left = LONGEST_WAIT if until is None else until - time.monotonic()
            messages = listener.hear(min(max(left, 0.0), LONGEST_WAIT))
            if messages:
                return messages
            if until is not None and time.monotonic() >= until:
                raise TimeoutError(f"no event has come for {timeout} s")
        return []

    def wakeup_workers(self, channel: Any = None) -> None:
        """Ask all workers for a heartbeat."""
        assert self.app is not None
        self.app.control.heartbeat()

    def process(self, type: str, event: dict[str, Any]) -> None:
        """Give *event* to its handler."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler is not None:
            handler(event)

    def event_from_message(self, body: dict[str, Any], localize: bool = True) -> tuple[str, dict[str, Any]]:
        """The type of the event *body*, and itself with ``local_received``; its clock is heard of.

        *localize* is accepted as in Celery, which moves the timestamp by the difference of the zones. Unix
        time has none, so here it stays.
        """
        type_: str = body["type"]
        if type_ == "task-sent":  # clients do not follow the clock
            body["clock"] = max(self.clock.value - 1, 0)
        elif isinstance(body.get("clock"), int):
            self.clock.adjust(body["clock"])
        else:
            body["clock"] = self.clock.forward()
        body["local_received"] = time.time()
        return type_, body

    def _receive(self, message: Message) -> None:
        """Handle the event, or the events, of *message*; what is none is passed over."""
        try:
            body = serialization.loads(
                message.body, message.content_type, message.content_encoding, self.accept
            )
        except (DecodeError, ContentDisallowed):
            return
        for event in body if isinstance(body, list) else [body]:
            if isinstance(event, dict) and isinstance(event.get("type"), str):
                self.process(*self.event_from_message(event))
