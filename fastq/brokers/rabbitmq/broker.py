"""RabbitMQ as a broker: its queues and exchanges as Celery declares them (docs/PROTOCOL.md §4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from fastq._core.amqp_encoder import FrameEncoder
from fastq._core.message import Message
from fastq.brokers.base import Broker, BrokerOptions, Consumer, DeadMessage, QueueInfo, TaskPlace
from fastq.brokers.rabbitmq import dead, notes
from fastq.brokers.rabbitmq.addresses import Outgoing, to_address
from fastq.brokers.rabbitmq.connector import Connector
from fastq.brokers.rabbitmq.endpoint import parse_endpoint
from fastq.brokers.rabbitmq.errors import NOT_FOUND, ChannelClosed
from fastq.brokers.rabbitmq.sender import Sender, SenderPool
from fastq.brokers.retry_policy import RetryPolicy

if TYPE_CHECKING:
    from fastq.backends.base import Backend
    from fastq.brokers.listening import Listener
    from fastq.topology import Exchange, Queue
    from fastq.wakeup import Waker

T = TypeVar("T")

# So many messages are written before their confirms are awaited: enough that the way there and back costs
# nothing, few enough that a fault repeats little.
AT_ONCE = 1000


class RabbitMQBroker(Broker):
    """A virtual host of a RabbitMQ server or cluster."""

    routes = True

    def __init__(self, url: str, options: BrokerOptions) -> None:
        super().__init__(url, options)
        self.endpoint = parse_endpoint(
            url,
            options.transport_options,
            options.ssl,
            options.connect_timeout,
            login_method=options.login_method,
            failover=options.failover_strategy,
        )
        self._senders = SenderPool(Connector(self.endpoint), options)

    def publish(
        self,
        messages: Sequence[Message],
        deadline: float | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> None:
        """Write a thousand at a time, and wait until all are confirmed.

        A persistent message lies on disk by then. After a fault only those batches are repeated
        that were not confirmed.
        """
        batches = [messages[start : start + AT_ONCE] for start in range(0, len(messages), AT_ONCE)]

        def send(sender: Sender, left: float) -> None:
            ends = time.monotonic() + left
            while batches:
                sender.send([to_address(each) for each in batches[0]], ends - time.monotonic())
                del batches[0]

        if batches:
            self._run(send, deadline, retry_policy)

    def check(self, message: Message) -> None:
        """Write it as AMQP, whose headers can't hold all that JSON can."""
        FrameEncoder().publish_message(1, message)

    def consumer(
        self, queues: Sequence[str], worker: str, waker: Waker, backend: Backend | None = None
    ) -> Consumer:
        """A consumer with a connection of its own, opened by its first turn."""
        from fastq.brokers.rabbitmq.consumer import RabbitMQConsumer  # for workers alone

        heartbeat = self.endpoint._replace(heartbeat=self.options.heartbeat)
        return RabbitMQConsumer(Connector(heartbeat), self.options, queues, waker)

    def announce(
        self, exchange: Exchange, messages: Sequence[Message], deadline: float | None = None
    ) -> None:
        """Publish to the exchange itself, whatever is bound to it, and wait for the confirms."""
        outgoing = [Outgoing(each, exchange.name, each.routing_key, must_arrive=False) for each in messages]
        self._run(lambda sender, left: sender.announce(exchange, outgoing, left), deadline)

    def listen(self, queue: Queue, waker: Waker | None = None) -> Listener:
        """Consume *queue*, declared on a connection of its own."""
        from fastq.brokers.rabbitmq.listening import RabbitMQListener  # for remote control and events

        heartbeat = self.endpoint._replace(heartbeat=self.options.heartbeat)
        return RabbitMQListener(Connector(heartbeat), queue, waker)

    def revoke(self, records: Mapping[str, float]) -> None:
        """Append to a stream, confirmed."""
        self._run(lambda sender, left: notes.revoke(sender.connection, records, left))

    def revoked(self) -> dict[str, float]:
        """Read the stream from its beginning to its end."""
        return self._run(lambda sender, left: notes.revoked(sender.connection, left))

    def pause(self, queue: str, is_paused: bool) -> None:
        """Declare or delete an empty queue that says so."""
        self._run(lambda sender, left: notes.pause(sender.connection, queue, is_paused, left))

    def paused(self, queues: Iterable[str]) -> frozenset[str]:
        """Ask for each whether the queue that says so exists."""
        names = list(queues)
        return self._run(lambda sender, left: notes.paused(sender.connection, names, left))

    def queues(self, names: Iterable[str] = ()) -> list[QueueInfo]:
        """Ask for each of *names*, and those of the dead: RabbitMQ does not tell which others there are."""
        return self._run(lambda sender, left: dead.queues(sender, names, left))

    def purge(self, queue: str) -> int:
        """Remove what is ready. What is delayed lies on the ladders among all others, and stays."""

        def empty(sender: Sender, left: float) -> int:
            channel = sender.connection.open_channel(left)
            try:
                count: int = sender.connection.call(channel, "queue.purge", left, queue=queue).message_count
            except ChannelClosed as exc:
                if exc.code != NOT_FOUND:
                    raise
                return 0
            sender.connection.close_channel(channel, left)
            return count

        return self._run(empty)

    def locate(self, task_id: str, queues: Iterable[str] = ()) -> TaskPlace | None:
        """Search the dead set: to look into a queue would mark every message of it as redelivered."""
        return self._run(lambda sender, left: dead.locate(sender, task_id, left))

    def dead(self, queue: str | None = None, limit: int = 100) -> list[DeadMessage]:
        """Take every dead message into hands, and give it back."""
        return self._run(lambda sender, left: dead.listed(sender, queue, limit, left))

    def retry_dead(self, ids: Iterable[str] | None, queue: str | None = None) -> int:
        """Send each entry to the tail of its queue, confirmed, before it leaves the dead set."""
        chosen = None if ids is None else set(ids)
        return self._run(lambda sender, left: dead.retry(sender, chosen, queue, left))

    def drop_dead(self, ids: Iterable[str] | None, queue: str | None = None) -> int:
        """Acknowledge entries of the dead set."""
        chosen = None if ids is None else set(ids)
        return self._run(lambda sender, left: dead.drop(sender, chosen, queue, left))

    def close(self) -> None:
        """Close the idle connections."""
        self._senders.close()

    def description(self) -> str:
        """The URL without its password."""
        return self.endpoint.describe()

    def _run(
        self,
        action: Callable[[Sender, float], T],
        deadline: float | None = None,
        retry_policy: RetryPolicy | None = None,
    ) -> T:
        return self._senders.run(
            action, self.options.publish_deadline if deadline is None else deadline, retry_policy
        )
