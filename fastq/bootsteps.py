"""Parts of the user's own in a worker: `app.steps`, as Celery's documentation shows them.

A step of ``app.steps["worker"]`` or ``app.steps["consumer"]`` is a class. A worker makes one of each, asks
`include_if`, calls `create`, then `start` when its pool is up, and `stop` at its end, in reverse order.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastq import serialization
from fastq._core.message import Action, Outcome
from fastq.exceptions import FastQError, OperationalError
from fastq.topology import queue_from
from fastq.wakeup import Waker

if TYPE_CHECKING:
    from fastq._core.message import Delivery
    from fastq.worker.worker import Worker

__all__ = ("Consumer", "ConsumerStep", "StartStopStep", "Step")

logger = logging.getLogger(__name__)

AT_ONCE = 64  # messages that one turn of a consumer brings
PATIENCE = 1.0  # seconds that a turn waits, and between attempts to reach a broker that is away


class Step:
    """Something that is made with a worker. Its *parent* is the worker."""

    requires: Collection[
        Any
    ] = ()  # steps of the user's that come before; names of Celery's parts have no say
    enabled = True

    def __init__(self, parent: Worker, **kwargs: Any) -> None:
        """Receive the options of the worker."""

    def include_if(self, parent: Worker) -> bool:
        """Whether it takes part."""
        return self.enabled

    def create(self, parent: Worker) -> Any:
        """Called before the pool starts."""

    def start(self, parent: Worker) -> None:
        """Called when the pool is up, before tasks are taken."""

    def stop(self, parent: Worker) -> None:
        """Called when no task runs any more."""


class StartStopStep(Step):
    """A step that starts and stops something."""


class Consumer:
    """What a `ConsumerStep` consumes, by kombu's arguments: each message goes to *callbacks*."""

    def __init__(
        self,
        channel: Any = None,
        queues: Any = None,
        no_ack: bool = False,
        callbacks: Sequence[Callable[[Any, Message], Any]] = (),
        accept: Collection[str] | None = None,
        on_message: Callable[[Message], Any] | None = None,
        **unused: Any,
    ) -> None:
        every = queues if isinstance(queues, list | tuple) else [queues]
        self.queues = [queue_from(queue) for queue in every]
        self.no_ack = no_ack
        self.callbacks = callbacks
        self.accept = accept or ("json",)
        self.on_message = on_message


class Message:
    """A message that is no task. One that is neither acknowledged nor rejected stays this worker's."""

    def __init__(
        self, delivery: Delivery, accept: Collection[str], settle: Callable[[Outcome], None]
    ) -> None:
        assert delivery.message is not None
        self._delivery = delivery
        self._settle = settle
        self._accept = serialization.content_types(accept)
        self.headers = delivery.message.headers
        self.properties = delivery.message.properties
        self.body = delivery.message.body
        self.content_type = delivery.message.content_type
        self.content_encoding = delivery.message.content_encoding
        self.delivery_info = {
            "exchange": delivery.message.exchange,
            "routing_key": delivery.message.routing_key,
            "redelivered": bool(delivery.redelivered),
        }

    @property
    def payload(self) -> Any:
        """The decoded body. Raises `ContentDisallowed` and `DecodeError`."""
        return serialization.loads(self.body, self.content_type, self.content_encoding, self._accept)

    def ack(self) -> None:
        """Be done with it."""
        self._settle(Outcome(self._delivery))

    def reject(self, requeue: bool = False) -> None:
        """Put it into the dead set, or with *requeue* back into its queue."""
        if requeue:
            self.requeue()
        else:
            self._settle(Outcome(self._delivery, Action.BURY, reason="a consumer of the user's rejected it"))

    def requeue(self) -> None:
        """Put it back at the tail of its queue."""
        self._settle(Outcome(self._delivery, Action.REQUEUE))


class ConsumerStep(StartStopStep):
    """A step that takes messages which are no tasks, in a thread of its own for each consumer."""

    def get_consumers(self, channel: Any) -> Iterable[Consumer]:
        """The consumers to run; *channel* is None, and for `Consumer` to ignore."""
        raise NotImplementedError(f"{type(self).__name__} has no get_consumers(channel)")

    def start(self, parent: Worker) -> None:
        """Start the threads."""
        self._running = [
            _Running(parent, consumer, f"{parent.hostname}/{type(self).__name__}-{at}")
            for at, consumer in enumerate(self.get_consumers(None))
        ]

    def stop(self, parent: Worker) -> None:
        """End them; what was not acknowledged goes back."""
        for each in self._running:
            each.stop()


class _Running:
    """One consumer at work."""

    def __init__(self, worker: Worker, consumer: Consumer, node: str) -> None:
        self._consumer = consumer
        self._settled: list[Outcome] = []
        self._over = threading.Event()
        self._waker = Waker()
        self._broker = worker.app.own_broker()
        names = [worker.app.router.add(queue).name for queue in consumer.queues]
        self._source = self._broker.consumer(names, node, self._waker)
        self._thread = threading.Thread(target=self._run, name=f"fastq-{node}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._waker.set()
        self._thread.join()
        self._waker.close()

    def _run(self) -> None:
        while not self._over.is_set():
            self._turn(AT_ONCE, PATIENCE)
        try:
            self._source.turn(self._settled, 0, 0.0)
            self._source.close()
        except OperationalError as exc:
            logger.warning("What a consumer has acknowledged last may come again: %s", exc)
        self._broker.close()

    def _turn(self, room: int, patience: float) -> None:
        settled = self._settled[:]
        try:
            deliveries = self._source.turn(settled, room, patience)
        except OperationalError as exc:
            logger.warning("A consumer waits for its broker: %s", exc)
            self._over.wait(PATIENCE)
            return
        del self._settled[: len(settled)]
        for delivery in deliveries:
            self._handle(delivery)

    def _settle(self, outcome: Outcome) -> None:
        self._settled.append(outcome)
        self._waker.set()

    def _handle(self, delivery: Delivery) -> None:
        if delivery.message is None:
            self._settle(Outcome(delivery, Action.BURY, reason=delivery.error))
            return
        consumer = self._consumer
        message = Message(delivery, consumer.accept, self._settle)
        try:
            if consumer.on_message is not None:
                consumer.on_message(message)
            else:
                body = message.payload
                for callback in consumer.callbacks:
                    callback(body, message)
        except FastQError as exc:
            self._settle(Outcome(delivery, Action.BURY, reason=f"its body can't be read: {exc}"))
        except Exception as exc:
            logger.exception("A consumer raised; its message goes to the dead set")
            self._settle(Outcome(delivery, Action.BURY, reason=f"a consumer of the user's raised {exc!r}"))
        else:
            if consumer.no_ack:
                message.ack()


def make_steps(worker: Worker, options: dict[str, Any]) -> list[Step]:
    """The steps of the worker's app that take part, each behind those that it requires."""
    classes = sorted(
        set().union(*worker.app.steps.values()), key=lambda kind: (kind.__module__, kind.__qualname__)
    )
    ordered: list[Any] = []

    def add(kind: Any) -> None:
        if kind not in ordered:
            for required in kind.requires:
                if required in classes:
                    add(required)
            ordered.append(kind)

    for kind in classes:
        add(kind)
    steps = [kind(worker, **options) for kind in ordered]
    return [step for step in steps if step.include_if(worker)]
