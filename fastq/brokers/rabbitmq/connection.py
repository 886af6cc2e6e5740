"""A connection to RabbitMQ over a socket. Every fault becomes `OperationalError` here.

    >>> connection = connect(endpoint, endpoint.nodes[0], timeout=4.0)      # doctest: +SKIP
    >>> channel = connection.open_channel(timeout=4.0)                      # doctest: +SKIP
    >>> connection.call(channel, "queue.declare", 4.0, queue="celery", durable=True)  # doctest: +SKIP
    <Method queue.declare-ok(queue='celery', message_count=0, consumer_count=0) on channel 1>
    >>> connection.encoder.publish_messages(channel.number, messages)       # doctest: +SKIP
    >>> connection.flush(4.0)                                               # doctest: +SKIP
    >>> connection.receive(1.0)  # or until something has come              # doctest: +SKIP
    True
    >>> channel.confirms, channel.returned, channel.deliveries              # doctest: +SKIP

The socket never blocks: waiting is done by `select.poll`, which gevent patches, so that a
blocked broker never holds up its hub. While it waits to write it also reads, so that two full
pipes can't wait for each other, and ``connection.blocked`` is heard.

**Heartbeats.** Whoever waits in here sends them when they are due. A worker's loop calls
`receive` in each turn, and its heartbeat's thread takes turns while a task keeps the loop busy
(one at a time: a connection is not safe over threads). A client's idle connection has nobody
who would: so it asks for none (`Endpoint.heartbeat` 0), TCP's keep-alive watches it instead,
and `is_usable` finds out before it is used again.
"""

from __future__ import annotations

import math
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from fastq._core.amqp import Content
from fastq._core.amqp_encoder import FrameEncoder
from fastq._core.amqp_methods import Method
from fastq.brokers.rabbitmq.endpoint import Endpoint, Node
from fastq.brokers.rabbitmq.session import Channel, Phase, Session
from fastq.brokers.sockets import open_tcp
from fastq.exceptions import OperationalError

# Below the 128 KiB from which malloc maps fresh pages for every read.
READ_BYTES = 65536
CLOSE_SECONDS = 1.0  # that a goodbye may take


class Connection:
    """A logged-in connection. Not safe over threads.

    Timeouts are seconds for the whole call. Any `OperationalError` but `ChannelClosed` leaves it
    useless: `abandon` it.
    """

    def __init__(self, connected: socket.socket, session: Session) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._session = session

    @property
    def encoder(self) -> FrameEncoder:
        """Where to append publishes, acks and whatever else has no reply, to be sent by `flush`."""
        return self._session.encoder

    @property
    def blocked(self) -> str | None:
        """Why the broker takes no publishes now, in its words; None: it does."""
        return self._session.blocked

    @property
    def server_properties(self) -> dict[str, Any]:
        """What the server says about itself: product, version, cluster_name, capabilities."""
        return self._session.server_properties

    @property
    def heartbeat(self) -> int:
        """Seconds between heartbeats, as agreed; 0: none."""
        return self._session.heartbeat

    @property
    def where(self) -> str:
        """The URL of the node without its password, for people."""
        return self._session.where

    def fileno(self) -> int:
        """The socket's descriptor, to wait on after `receive` found nothing."""
        return self._socket.fileno()

    # -- Channels -----------------------------------------------------------

    def open_channel(self, timeout: float) -> Channel:
        """A new open channel."""
        deadline = time.monotonic() + timeout
        channel = self._session.open_channel()
        self._await(channel, 1, deadline, "channel.open")
        return channel

    def call(self, channel: Channel, name: str, timeout: float, **fields: Any) -> Any:
        """Send a method and return its reply. Raises `ChannelClosed` when that is what it leads to."""
        return self.call_many(channel, [(name, fields)], timeout)[0]

    def call_many(
        self, channel: Channel, calls: Sequence[tuple[str, dict[str, Any]]], timeout: float
    ) -> list[Method | Content]:
        """Send methods, each a name with its fields, in one write, and return their replies.

        The first one that RabbitMQ refuses closes the channel: the ones before it took place,
        the ones after it did not.
        """
        deadline = time.monotonic() + timeout
        for name, fields in calls:
            self._session.request(channel, name, **fields)
        return self._await(channel, len(calls), deadline, calls[0][0])

    def close_channel(self, channel: Channel, timeout: float) -> None:
        """Close *channel*; RabbitMQ puts back what it was given and has not settled."""
        if channel.is_open:
            deadline = time.monotonic() + timeout
            self._session.close_channel(channel)
            self._await(channel, 1, deadline, "channel.close")

    def _await(self, channel: Channel, count: int, deadline: float, request: str) -> list[Method | Content]:
        self._until(lambda: channel.has_replies(count), deadline, f"the reply to {request}")
        return channel.take_replies(count)

    # -- Bytes --------------------------------------------------------------

    def flush(self, timeout: float) -> None:
        """Send all that was appended to the encoder."""
        self._send(time.monotonic() + timeout)

    def receive(self, timeout: float) -> bool:
        """Take in what is here, or what comes first within *timeout* seconds; False if nothing does.

        Sends heartbeats that are due, and answers what RabbitMQ wants answered.
        """
        deadline = time.monotonic() + timeout
        while not self._read():
            now = time.monotonic()
            pause = self._keep_alive(now)
            if now >= deadline:
                return False
            self._poll(select.POLLIN, min(deadline - now, pause))
        self._keep_alive(time.monotonic())
        return True

    def wait_until(self, is_done: Callable[[], bool], timeout: float, what: str) -> None:
        """Take in what comes until *is_done* says so; *what* is waited for, in the error at the timeout."""
        self._until(is_done, time.monotonic() + timeout, what)

    def is_usable(self) -> bool:
        """Whether this idle connection still lives; takes in what has come meanwhile."""
        try:
            while self.receive(0.0):
                pass
        except OperationalError:
            return False
        return self._session.is_open

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Say goodbye, and wait at most *timeout* seconds for the answer. Never raises."""
        try:
            self._session.close()
            self._until(
                lambda: self._session.phase is Phase.CLOSED, time.monotonic() + timeout, "connection.close-ok"
            )
        except OperationalError:
            pass  # it has ended, which is what was wanted
        self.abandon()

    def abandon(self) -> None:
        """Close the socket without a word, as after a fork or a fault."""
        self._session.fail(OperationalError(f"the connection to {self.where} is closed"))
        self._socket.close()

    def _until(self, is_done: Callable[[], bool], deadline: float, what: str) -> None:
        self._send(deadline, what)
        while not is_done():
            if self._read():
                self._send(deadline, what)
                continue
            now = time.monotonic()
            pause = self._keep_alive(now)
            if now >= deadline:
                raise self._late(what)
            self._poll(select.POLLIN, min(deadline - now, pause))

    def _keep_alive(self, now: float) -> float:
        """Send what is due, if it can be sent at once; returns the seconds until the next look."""
        pause = self._session.beat(now)
        if len(self._session.encoder):
            self._send(now + CLOSE_SECONDS)
        return pause

    def _send(self, deadline: float, what: str = "room to send") -> None:
        if self._session.error is not None:
            raise self._session.error
        view = memoryview(self._session.take(time.monotonic()))
        while view:
            try:
                view = view[self._socket.send(view) :]
                continue
            except OSError as exc:
                wants = _waits_for(exc)
                if wants is None:
                    raise self._broken("sending to", exc) from exc
            # A heartbeat can't go between the halves of a frame, so only reading goes on meanwhile.
            if not self._read():
                left = deadline - time.monotonic()
                if left <= 0:
                    raise self._late(what)
                self._poll(wants | select.POLLIN, left)

    def _read(self) -> bool:
        """Take in what can be read at once; False if that is nothing."""
        try:
            data = self._socket.recv(READ_BYTES)
        except OSError as exc:
            if _waits_for(exc) is None:
                raise self._broken("waiting for", exc) from exc
            return False
        if not data:
            raise self._ended(f"{self.where} closed the connection")
        try:
            self._session.receive(data, time.monotonic())
        except OperationalError:
            self._say_last_words()
            raise
        return True

    def _say_last_words(self) -> None:
        """Answer a close, if that can be done at once: the broker waits for it."""
        try:
            self._socket.send(self._session.take(time.monotonic()))
        except OSError:
            pass

    def _poll(self, events: int, seconds: float) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        poll.poll(None if seconds == math.inf else max(math.ceil(seconds * 1000), 0))

    def _broken(self, doing: str, exc: OSError) -> OperationalError:
        return self._ended(f"{doing} {self.where}: {exc}")

    def _ended(self, what: str) -> OperationalError:
        if self._session.phase is Phase.GREETING:
            what += " before it said a word: is that RabbitMQ's port, with TLS or without, as it wants it?"
        elif self._session.phase is Phase.LOGIN:
            what += " during the login: are user and password right?"
        elif self._session.phase is Phase.OPENING:
            what += " when asked for the virtual host: does it exist, and may the user enter it?"
        error = OperationalError(what)
        self._session.fail(error)
        return error

    def _late(self, what: str) -> OperationalError:
        reason = ""
        if self.blocked is not None:
            reason = f": it takes no publishes now ({self.blocked}); free memory or disk there, or wait"
        return OperationalError(f"waited in vain for {what} from {self.where}{reason}")


def _waits_for(exc: OSError) -> int | None:
    """What a socket that would block waits for, as an event of poll; None for any other error."""
    if isinstance(exc, BlockingIOError):
        return select.POLLOUT
    if "ssl" in sys.modules:
        import ssl

        if isinstance(exc, ssl.SSLWantReadError):
            return select.POLLIN
        if isinstance(exc, ssl.SSLWantWriteError):
            return select.POLLOUT
    return None


def connect(endpoint: Endpoint, node: Node, timeout: float) -> Connection:
    """Connect to *node* and log in within *timeout* seconds, once. Raises `OperationalError`."""
    deadline = time.monotonic() + timeout
    try:
        connected = open_tcp(
            (node.host, node.port),
            min(timeout, endpoint.connect_timeout),
            keepalive=endpoint.keepalive,
            tls=node.tls,
        )
    except OSError as exc:
        raise OperationalError(
            f"can't connect to RabbitMQ at {node.describe()}: {exc}; does it run, and is broker_url right?"
        ) from exc
    session = Session(node, endpoint, time.monotonic())
    connection = Connection(connected, session)
    try:
        connection.wait_until(
            lambda: session.is_open, deadline - time.monotonic(), "the end of the handshake"
        )
    except BaseException:
        connection.abandon()
        raise
    return connection
