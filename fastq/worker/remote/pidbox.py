"""The thread that answers remote control, whatever the rest of its worker does (docs/PROTOCOL.md §7).

It has connections of its own, so that neither a turn that waits nor a broker that was away a moment
ago holds it up. What may be done in the worker's loop alone is an order to it, and the reply goes
out when that is done; commands that come meanwhile are answered before.
"""

from __future__ import annotations

import logging
import re
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from fastq import serialization
from fastq._core.codec import json_dumps
from fastq._core.message import Message, new_id
from fastq.brokers.listening import Listener
from fastq.exceptions import EncodeError, FastQError, OperationalError
from fastq.topology import TRANSIENT, Exchange, Queue
from fastq.wakeup import Waker
from fastq.worker.remote import inspecting, steering  # noqa: F401  (they register their commands)
from fastq.worker.remote.registry import NO_REPLY, Pending, find_command

if TYPE_CHECKING:
    from fastq.brokers.base import Broker
    from fastq.worker.autoscale import Autoscaler
    from fastq.worker.remote.node import Node

logger = logging.getLogger("fastq.worker.control")

# Seconds after which it looks around although nothing calls.
LONGEST_WAIT = 60.0
# Seconds between two looks at how much work there is, with --autoscale.
SCALE_EVERY = 1.0
# Seconds between attempts to listen while the broker is away: doubled from the first to the last.
FIRST_PAUSE, LAST_PAUSE = 0.05, 2.0
# Seconds that the thread has to end.
STOP_SECONDS = 2.0


def is_meant(body: dict[str, Any], node: str) -> bool:
    """Whether a request is for the worker called *node*: by destination, else by pattern, else for all."""
    destination = body.get("destination")
    if destination:
        return node in destination
    pattern, matcher = body.get("pattern"), body.get("matcher")
    if not pattern:
        return True
    if matcher == "pcre":
        return re.match(pattern, node) is not None
    if matcher in (None, "glob"):
        return fnmatchcase(node, pattern)
    raise ValueError(f"no matcher is named {matcher!r}: use glob or pcre")


class Pidbox:
    """Listens for the worker *node*, and answers."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._app = node.app
        self._waker = Waker()
        self._pending: list[tuple[dict[str, Any], Pending]] = []
        self._is_stopped = False
        self._has_ended = False
        self._scaler = node.worker.autoscaler
        self._scaled_at = 0.0  # monotonic
        conf = self._app.conf
        self._exchange = Exchange(f"{conf.control_exchange}.pidbox", "fanout", durable=False)
        # Its name is like no other's, so that a server which has not noticed the end of our last
        # connection does not refuse the next one.
        self._queue = Queue(
            f"{node.hostname}.{new_id()}.{conf.control_exchange}.pidbox",
            self._exchange,
            durable=bool(conf.control_queue_durable),
            exclusive=bool(conf.control_queue_exclusive),
            auto_delete=True,
            expires=conf.control_queue_expires,
            message_ttl=conf.control_queue_ttl,
        )

    def start(self) -> None:
        """Begin to listen."""
        self._node.pool.start_thread(self._run, "fastq-control")

    def stop(self) -> None:
        """End the thread, once it has said what it has to say."""
        self._is_stopped = True
        self._waker.set()
        ends = time.monotonic() + STOP_SECONDS
        while not self._has_ended and time.monotonic() < ends:
            time.sleep(0.005)

    # -- in the thread ------------------------------------------------------------------

    def _run(self) -> None:
        broker = self._node.broker = self._app.own_broker()
        listener = broker.listen(self._queue, self._waker)
        pause = FIRST_PAUSE
        is_new = True  # what was said before is to be read up
        is_said = False  # the log has that it is cut off
        try:
            while not self._is_stopped:
                try:
                    if is_new:
                        self._hear(listener, 0.0)
                        self._node.revocations.recall_elsewhere(broker)
                        broker.close()  # it connects again when there is something to say
                        is_new = is_said = False
                        pause = FIRST_PAUSE
                    self._hear(listener, LONGEST_WAIT if self._scaler is None else SCALE_EVERY)
                    if self._scaler is not None:
                        self._scale(self._scaler, broker)
                except OperationalError as exc:
                    if not is_said:
                        logger.warning("Remote control is cut off: %s. It will listen again.", exc)
                    is_new = is_said = True
                    self._waker.wait(pause)
                    self._waker.clear()
                    pause = min(2 * pause, LAST_PAUSE)
            self._say_what_is_done()
        except Exception:
            logger.exception("Remote control has ended")
        finally:
            listener.close()
            broker.close()
            self._has_ended = True

    def _hear(self, listener: Listener, timeout: float) -> None:
        for message in listener.hear(timeout):
            try:
                self.handle(message)
            except OperationalError:
                raise
            except Exception:
                logger.exception("A remote control message could not be handled")
        self._say_what_is_done()

    def _scale(self, scaler: Autoscaler, broker: Broker) -> None:
        """Have the pool grow or shrink to what the work needs."""
        now = time.monotonic()
        if now - self._scaled_at < SCALE_EVERY:
            return
        self._scaled_at = now
        node = self._node
        names = list(node.worker.queue_names)
        lengths = {each.name: each.ready for each in broker.queues(names)}
        waiting = sum(lengths.get(name, 0) for name in names) + len(node.reserved())
        wanted = scaler.decide(len(node.active()), waiting, node.window.runtime, now)
        if wanted != node.pool.options.concurrency:
            logger.info("Scaling to %d at once: %d tasks wait", wanted, waiting)
            node.loop.order(lambda: node.worker.resize(wanted))

    def handle(self, message: Message) -> None:
        """Do what one request asks, and answer it, now or later."""
        try:
            body = self._app.load_body(message)
        except FastQError as exc:
            logger.error("A remote control message can't be read: %s", exc)
            return
        clock = message.headers.get("clock")
        if isinstance(clock, int):
            self._app.clock.adjust(clock)
        if not isinstance(body, dict) or not is_meant(body, self._node.hostname):
            return
        reply = self.call(str(body.get("method")), body.get("arguments") or {})
        if isinstance(reply, Pending):
            self._pending.append((body, reply))
            reply.order.notify(self._waker.set)
        else:
            self._answer(body, reply)

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        """The reply of the command *name*; an error is one."""
        try:
            command = find_command(name)
        except KeyError as exc:
            logger.error("No such control command: %s", name)
            return {"error": repr(exc)}
        try:
            return command.function(self._node, **arguments)
        except Exception as exc:
            logger.error("The control command %s has failed: %r", name, exc)
            return {"error": repr(exc)}

    def _say_what_is_done(self) -> None:
        waiting, self._pending = self._pending, []
        for body, pending in waiting:
            order = pending.order
            if not order.is_done:
                self._pending.append((body, pending))
            elif order.error is not None:
                self._answer(body, {"error": repr(order.error)})
            else:
                self._answer(body, pending.reply(order.value))

    def _answer(self, body: dict[str, Any], reply: Any) -> None:
        reply_to = body.get("reply_to")
        if not isinstance(reply_to, dict) or reply is NO_REPLY:
            return
        said = {self._node.hostname: reply}
        try:
            types = serialization.dumps(said, self._app.conf.task_serializer)
        except EncodeError:  # what a command of the user's returned
            shown = {self._node.hostname: inspecting.plain(reply)}
            types = (*serialization.types_of("json"), json_dumps(shown))
        content_type, content_encoding, data = types
        exchange = Exchange(str(reply_to.get("exchange")), "direct", durable=False)
        message = Message(
            "",
            "",
            {"ticket": body.get("ticket"), "clock": self._app.clock.forward()},
            data,
            queue="",
            exchange=exchange.name,
            routing_key=str(reply_to.get("routing_key")),
            properties={"delivery_mode": TRANSIENT},
            content_type=content_type,
            content_encoding=content_encoding,
            priority=0,
        )
        self._node.broker.announce(exchange, [message])
