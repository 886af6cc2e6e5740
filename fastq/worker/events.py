"""The events that a worker sends: its own, heartbeats among them, and those of its tasks (PROTOCOL.md §6).

A thread of its own makes and sends them, in batches, so that neither the loop nor a task ever waits for it.
What can't be sent is dropped.
"""

from __future__ import annotations

import logging
import os
import platform
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastq._core.task_events import EventWriter
from fastq.app.sending import origin
from fastq.events.dispatcher import BATCH_MOST, Announcer, beginning, utc_offset
from fastq.events.event import Event, routing_key
from fastq.exceptions import OperationalError
from fastq.signals import heartbeat_sent
from fastq.version import __version__
from fastq.wakeup import Waker
from fastq.worker.task_log import TaskLog, tells_of

if TYPE_CHECKING:
    from fastq._core.message import Delivery, Message
    from fastq.app.base import FastQ
    from fastq.worker.loop import Loop
    from fastq.worker.pools.base import Pool

logger = logging.getLogger(__name__)

# Seconds between two batches of events of tasks.
BATCH_SECONDS = 0.1
# Seconds between heartbeats, Celery's default.
HEARTBEAT_SECONDS = 2.0
# Seconds to wait where there is no heartbeat; and for the last events of a worker that stops.
FOREVER = 3600.0
STOP_SECONDS = 3.0
# What runs changes while it is looked at; so often the look is tried again.
LOOKS = 10

SOFTWARE = {"sw_ident": "fastq", "sw_ver": __version__, "sw_sys": platform.system()}


class WorkerEvents:
    """Sends the events of one worker, between `start` and `stop`.

    *frequency* is the time between heartbeats in seconds, 0 for none. *loop* gets the `TaskLog` while events
    of tasks are sent.
    """

    def __init__(self, app: FastQ, hostname: str, loop: Loop, pool: Pool, frequency: float) -> None:
        conf = app.conf
        self._app = app
        self._loop = loop
        self._pool = pool
        self._frequency = frequency
        self._own = {"hostname": hostname, "utcoffset": utc_offset(), "pid": os.getpid()}
        # Its own: on gevent this thread may share no connection with others.
        self._broker = app.own_broker()
        self._announcer = Announcer(app, self._broker, hostname, conf.event_serializer)
        self._waker = Waker()
        self._log = self._new_log()
        self._writer = EventWriter(beginning(self._own), tells_of(app.tasks))
        # What tasks send as they end is sent by this process as a client.
        as_client = beginning({**self._own, "hostname": origin()})
        self._sender = EventWriter(as_client, lambda name: True)
        self._is_stopping = False
        self._wants_beat = False
        self._is_away = False  # the broker is, and the log has it
        self._ended = Waker()

    # -- from any thread -------------------------------------------------------------------

    def start(self) -> None:
        """Begin, with ``worker-online``.

        That one is sent here, so that its thread finds all modules imported: under gevent two
        threads must not import the same one at a time.
        """
        try:
            self._send([self._of_worker("worker-online")])
        except NotImplementedError as exc:
            logger.warning("No events are sent: %s", exc)
            self._loop.events = None
            self._ended.set()
            return
        self._broker.close()  # the thread connects anew
        self._pool.start_thread(self._run, "fastq-events")

    def stop(self) -> None:
        """Send what is left, and ``worker-offline``; takes no longer than a second or two."""
        self._is_stopping = True
        self._waker.set()
        self._ended.wait(STOP_SECONDS)

    def enable(self) -> bool:
        """Send events of tasks; False: they are sent already."""
        if self._loop.events is not None:
            return False
        self._pool.show_outcomes(True)
        self._log = self._new_log()
        self._loop.events = self._log
        return True

    def disable(self) -> bool:
        """Send no events of tasks; False: none are sent."""
        if self._loop.events is None:
            return False
        self._loop.events = None
        self._pool.show_outcomes(False)
        return True

    def heartbeat(self) -> None:
        """Send one heartbeat now."""
        self._wants_beat = True
        self._waker.set()

    def _new_log(self) -> TaskLog:
        return TaskLog(self._waker.set, notes_sent=self._app.conf.task_send_sent_event)

    # -- in its thread -----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._serve()
            self._send([*self._of_tasks(), self._of_worker("worker-offline")])
        except Exception:
            logger.exception("The thread that sends events has failed; this worker goes on without them")
            self._loop.events = None
        finally:
            self._broker.close()
            self._ended.set()

    def _serve(self) -> None:
        next_beat = time.monotonic() + self._frequency
        is_busy = False
        while not self._is_stopping:
            self._wait(next_beat, is_busy)
            messages = self._of_tasks()
            is_busy = bool(messages) or (self._loop.events is not None and bool(self._running()))
            now = time.monotonic()
            if self._wants_beat or (self._frequency and now >= next_beat):
                self._wants_beat = False
                next_beat = now + self._frequency
                messages.append(self._of_worker("worker-heartbeat"))
                heartbeat_sent.send(sender=self)
            if messages:
                self._send(messages)

    def _wait(self, next_beat: float, is_busy: bool) -> None:
        """Wait for the next heartbeat, or for a batch of events of tasks."""
        if not is_busy:
            self._log.rest()
            left = next_beat - time.monotonic() if self._frequency else FOREVER
            if not self._waker.wait(max(left, 0.0)):
                return
            self._waker.clear()
            if self._is_stopping or self._wants_beat:
                return
        if self._waker.wait(BATCH_SECONDS):
            self._waker.clear()

    def _running(self) -> Sequence[tuple[Delivery, float]]:
        """What runs now, as far as it can be told while the loop goes on."""
        for _ in range(LOOKS):
            try:
                return self._pool.running()
            except (RuntimeError, KeyError):  # the loop has changed it meanwhile
                continue
        return ()

    def _of_tasks(self) -> list[Message]:
        """Messages with all events of tasks since the last call."""
        writer, clock = self._writer, self._app.clock
        writer.clock = clock.value
        running = self._running() if self._loop.events is not None else ()
        events = self._log.take(writer, self._sender, running)
        clock.adjust(writer.clock)
        if self._log.dropped:
            logger.warning("%d events were dropped: more came than could be sent", self._log.dropped)
            self._log.dropped = 0
        batches = [events[first : first + BATCH_MOST] for first in range(0, len(events), BATCH_MOST)]
        return [self._announcer.message_of_json("task.multi", batch) for batch in batches]

    def _of_worker(self, type_: str) -> Message:
        try:
            load = [round(each, 2) for each in os.getloadavg()]
        except OSError:
            load = [0.0, 0.0, 0.0]
        own = {**self._own, "clock": self._app.clock.forward()}
        event = Event(
            type_,
            own,
            freq=self._frequency or HEARTBEAT_SECONDS,
            active=len(self._running()),
            processed=self._loop.state.settled,
            loadavg=load,
            **SOFTWARE,
        )
        return self._announcer.message(routing_key(type_), event)

    def _send(self, messages: list[Message]) -> None:
        try:
            self._announcer.announce(messages)
        except OperationalError as exc:
            if not self._is_away:
                logger.warning("The broker is away, and so events are dropped: %s", exc)
            self._is_away = True
        else:
            self._is_away = False
