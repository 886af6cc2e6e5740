"""To those who listen now: announcements, which no one keeps (docs/PROTOCOL.md §3.8, §6, §7).

Remote control and events travel so. A listener has a queue of its own, bound to exchanges as any
queue is; what is announced to them while it listens is for it, and what is announced when nobody
listens is gone. The messages have no task and no id::

    # a worker's ear for remote control, and the answer
    pidbox = Exchange("celery.pidbox", "fanout", durable=False)
    listener = broker.listen(Queue("w1@host.celery.pidbox", pidbox, auto_delete=True, …), waker)
    for request in listener.hear(timeout=60.0): …
    broker.announce(Exchange("reply.celery.pidbox", "direct", durable=False), [reply])

    # events: a worker announces a batch, each message with its own routing key
    celeryev = Exchange("celeryev", "topic")
    broker.announce(celeryev, [Message("", "", {"hostname": node}, body, queue="",
        exchange="celeryev", routing_key="task.multi", properties={"delivery_mode": 1})])
    # and a monitor hears those of workers and of tasks
    broker.listen(Queue("celeryev.ID", celeryev, "worker.#", bindings=[binding(celeryev, "task.#")]), waker)
"""

from __future__ import annotations

import math
import select
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from fastq._core.message import Message
from fastq._core.routing import topic_matches
from fastq.topology import Queue

if TYPE_CHECKING:
    from fastq.wakeup import Waker


# Seconds that a listener may take to connect, and to get one answer.
CONNECT_SECONDS = 4.0
ANSWER_SECONDS = 5.0


class Listener(ABC):
    """Hears what is announced to the exchanges of one queue. Used by one thread at a time."""

    @abstractmethod
    def hear(self, timeout: float) -> list[Message]:
        """What has been announced since the last call; waits at most *timeout* seconds for something.

        The first call begins to listen. Returns early, maybe with nothing, when the waker is set.
        Raises `OperationalError` when the broker can't be reached: the next call listens anew, and
        what was announced meanwhile is lost.
        """

    @abstractmethod
    def close(self) -> None:
        """Listen no more. Never raises `OperationalError`."""


def admits(queue: Queue, exchange: str, routing_key: str) -> bool:
    """Whether what is announced to *exchange* with this key is for the listener of *queue*."""
    for each in queue.all_bindings:
        if each.exchange.name != exchange:
            continue
        if each.exchange.type == "fanout" or each.routing_key == routing_key:
            return True
        if each.exchange.type == "topic" and topic_matches(each.routing_key, routing_key):
            return True
    return False


def wait_for(descriptor: int, waker: Waker | None, timeout: float) -> bool:
    """Wait at most *timeout* seconds for *descriptor*; returns whether the waker was set, and clears it."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    if waker is not None:
        poll.register(waker.fileno(), select.POLLIN)
    woken = {each for each, _ in poll.poll(max(math.ceil(timeout * 1000), 0))}
    if waker is None or waker.fileno() not in woken:
        return False
    waker.clear()
    return True
