"""A conversation with RabbitMQ, without the socket: handshake, channels, heartbeats, closing.

A `Session` takes the bytes that arrive and the time, and has bytes to send; a driver moves
them (`connection` does, over a blocking socket)::

    session = Session(node, endpoint, time.monotonic())
    sock.sendall(session.take())
    while not session.is_open:
        session.receive(sock.recv(65536), time.monotonic())
        sock.sendall(session.take())
    channel = session.open_channel()
    session.request(channel, "queue.declare", queue="celery", durable=True)
    …                                   # send and receive, until
    [declared] = channel.take_replies(1)

What is asked of a channel is answered in order, so requests may be piled up. Whatever comes
unasked is put where its reader looks: deliveries, returned messages, confirms and cancelled
consumers on their channel, `blocked` on the session. What ends a channel is in its `error`;
what ends the session is raised by `receive`, then and ever after.
"""

from __future__ import annotations

import math
import platform
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any

from fastq._core.amqp import HEARTBEAT, Content, FrameDecoder
from fastq._core.amqp_encoder import FRAME_MIN, PROTOCOL_HEADER, FrameEncoder
from fastq._core.amqp_methods import Method, method_name
from fastq._core.amqp_table import encode_table
from fastq.brokers.rabbitmq.endpoint import LOGIN_METHODS, Endpoint, Node
from fastq.brokers.rabbitmq.errors import ChannelClosed, ConnectionClosed
from fastq.exceptions import OperationalError, RemoteProtocolError
from fastq.version import __version__

REPLY_SUCCESS = 200
# What we can take; RabbitMQ offers some things only to those who say so.
CAPABILITIES = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "authentication_failure_close": True,
}
# A peer is given up when it has been silent for so many heartbeats (AMQP 0-9-1 §4.2.7).
MISSED_HEARTBEATS = 2
TLS_ALERT = b"\x15\x03"  # how a server of TLS answers to what is none


class Phase(Enum):
    """How far a session is."""

    GREETING = "waiting for the server's greeting"
    LOGIN = "logging in"
    OPENING = "entering the virtual host"
    OPEN = "open"
    CLOSING = "saying goodbye"
    CLOSED = "closed"


class Channel:
    """One channel of a session. Its reader empties the queues of what came unasked."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_open = False
        self.error: OperationalError | None = None  # why it is closed
        self.deliveries: deque[Content] = deque()
        self.returned: deque[Content] = deque()  # mandatory messages that no queue took
        self.confirms: deque[Method] = deque()  # basic.ack and basic.nack for what was published
        self.cancelled: deque[str] = deque()  # tags of consumers that the broker has ended
        self._awaited: deque[str] = deque()
        self._replies: deque[Method | Content] = deque()

    def has_replies(self, count: int) -> bool:
        """Whether so many replies have come, or none will come any more."""
        return len(self._replies) >= count or self.error is not None

    def take_replies(self, count: int) -> list[Method | Content]:
        """The replies to the oldest *count* requests; raises `error` if the channel ended before them."""
        if len(self._replies) < count and self.error is not None:
            raise self.error
        return [self._replies.popleft() for _ in range(count)]

    def await_reply(self, request: str) -> None:
        """Expect the answer to *request* next."""
        self._awaited.append(request)

    def take_in(self, frame: Method | Content) -> bool:
        """Put away what has arrived, but for deliveries; False for what nobody has asked for."""
        name = frame.name
        if name == "basic.return":
            self.returned.append(frame)  # type: ignore[arg-type]
        elif name in ("basic.ack", "basic.nack"):
            self.confirms.append(frame)  # type: ignore[arg-type]
        elif name == "basic.cancel":
            self.cancelled.append(frame.consumer_tag)  # type: ignore[arg-type]
        elif self._awaited and (name == f"{self._awaited[0]}-ok" or _is_empty_get(name, self._awaited[0])):
            if self._awaited.popleft() == "channel.open":
                self.is_open = True
            self._replies.append(frame)
        else:
            return False
        return True

    def end(self, error: OperationalError | None) -> None:
        """Close it: nothing more can be asked, or will come."""
        self.is_open = False
        if self.error is None:
            self.error = error

    def __repr__(self) -> str:
        return f"<Channel {self.number} {'open' if self.is_open else 'closed'}>"


def _is_empty_get(reply: str, request: str) -> bool:
    return reply == "basic.get-empty" and request == "basic.get"


class Session:
    """One connection to *node* from its first byte on. Not safe over threads."""

    def __init__(self, node: Node, endpoint: Endpoint, now: float) -> None:
        self.where = node.describe()
        self.phase = Phase.GREETING
        self.error: OperationalError | None = None  # why it is closed
        self.encoder = FrameEncoder()  # for methods without a reply, such as publishes and acks
        self.server_properties: dict[str, Any] = {}
        self.blocked: str | None = None  # why the broker takes no publishes now, in its words
        self.heartbeat = 0  # seconds, as agreed; 0: none
        self.channels: dict[int, Channel] = {}
        self._node = node
        self._endpoint = endpoint
        # Nobody may send more before there was an agreement.
        self._decoder = FrameDecoder(FRAME_MIN)
        self._channel_max = 0
        self._login_method = ""
        self._greeting = PROTOCOL_HEADER
        self._sent_at = self._received_at = now

    @property
    def is_open(self) -> bool:
        """Whether the handshake is done and nobody has closed."""
        return self.phase is Phase.OPEN

    # -- Bytes --------------------------------------------------------------

    def take(self, now: float) -> bytes:
        """All that is to be sent; the caller does so at once."""
        data = self._greeting + self.encoder.take()
        self._greeting = b""
        if data:
            self._sent_at = now
        return data

    def receive(self, data: bytes, now: float) -> None:
        """Take in what has arrived. Raises the error that ends the session, if it does."""
        if self.error is not None:
            raise self.error
        self._received_at = now
        self._decoder.feed(data)
        try:
            for frame in iter(self._decoder.next_frame, None):
                self._take_in(frame)
        except RemoteProtocolError as exc:
            self.fail(self._explained(exc, data))
        if self.error is not None:
            raise self.error

    def _explained(self, exc: RemoteProtocolError, data: bytes) -> RemoteProtocolError:
        """*exc* with the place where it happened, and what to do if *data* is no AMQP."""
        if self.phase is Phase.GREETING and data.startswith(TLS_ALERT):
            return RemoteProtocolError(f"{self.where} wants TLS: let the URL begin with amqps://")
        if self.where in str(exc):
            return exc
        return RemoteProtocolError(f"{self.where}: {exc}")

    def fail(self, error: OperationalError) -> None:
        """End the session, and every channel, with *error*."""
        if self.error is None:
            self.error = error
        self.phase = Phase.CLOSED
        self._decoder.readers.clear()
        for channel in self.channels.values():
            channel.end(self.error)

    def beat(self, now: float) -> float:
        """Append a heartbeat if one is due; returns the seconds until the next look.

        Raises what has ended the session, also when the peer has been silent too long. Call
        `receive` with what is there before: a process that was busy has much to catch up with.
        """
        if self.error is not None:
            raise self.error
        if not self.heartbeat or not self.is_open:
            return float("inf")
        silence = now - self._received_at
        if silence > MISSED_HEARTBEATS * self.heartbeat:
            self.fail(
                OperationalError(
                    f"{self.where} has been silent for {silence:.0f} s, though a heartbeat is due every "
                    f"{self.heartbeat:g} s: it hangs, or the network has lost the connection"
                )
            )
            assert self.error is not None
            raise self.error
        due = self._sent_at + self.heartbeat / 2
        if now >= due:
            self.encoder.heartbeat()
            return self.heartbeat / 2
        return due - now

    # -- Requests -----------------------------------------------------------

    def open_channel(self) -> Channel:
        """A new channel, which is open once its reply has come."""
        number = next(n for n in range(1, self._channel_max + 2) if n not in self.channels)
        if number > self._channel_max:
            raise OperationalError(
                f"all {self._channel_max} channels of the connection to {self.where} are in use"
            )
        channel = self.channels[number] = Channel(number)
        self._decoder.readers[number] = channel.deliveries
        self.encoder.method(number, "channel.open")
        channel.await_reply("channel.open")
        return channel

    def request(self, channel: Channel, name: str, **fields: Any) -> None:
        """Append a method that *channel* will get a reply to."""
        if channel.error is not None:
            raise channel.error
        self.encoder.method(channel.number, name, **fields)
        channel.await_reply(name)

    def close_channel(self, channel: Channel) -> None:
        """Append the end of *channel*; its last reply is ``channel.close-ok``."""
        self.request(channel, "channel.close", reply_code=REPLY_SUCCESS)
        channel.is_open = False

    def close(self) -> None:
        """Append the end of the session: it is closed once the reply has come."""
        if self.phase not in (Phase.CLOSING, Phase.CLOSED):
            self.encoder.method(0, "connection.close", reply_code=REPLY_SUCCESS)
            self.phase = Phase.CLOSING

    # -- What arrives -------------------------------------------------------

    def _take_in(self, frame: Any) -> None:
        channel = self.channels.get(frame.channel) if frame is not HEARTBEAT else None
        if channel is not None and type(frame) is Content and self.phase is Phase.OPEN:
            if not channel.take_in(frame):
                raise RemoteProtocolError(f"{self.where} sent {frame.name}, which nobody has asked for")
        elif frame is not HEARTBEAT and self.phase is not Phase.CLOSED:
            if frame.channel == 0:
                self._take_step(frame)
            elif self.phase is not Phase.CLOSING:
                self._take_method(channel, frame)

    def _take_step(self, method: Method) -> None:
        """What the server says about the whole connection."""
        step = STEPS.get((self.phase, method.name)) or ALWAYS.get(method.name)
        if step is not None:
            step(self, method)
        elif self.phase is not Phase.CLOSING:
            raise RemoteProtocolError(f"{self.where} sent {method.name} while we were {self.phase.value}")

    def _take_method(self, channel: Channel | None, method: Any) -> None:
        """What the server says about one channel."""
        if channel is None:
            if method.name == "channel.close-ok":
                return  # our close and the server's have crossed
            raise RemoteProtocolError(
                f"{self.where} sent {method.name} on channel {method.channel}, which is closed"
            )
        if method.name == "channel.close":
            self._end_channel(channel, method)
        elif method.name == "channel.flow":
            self.encoder.method(channel.number, "channel.flow-ok", active=method.active)
        elif not channel.take_in(method):
            raise RemoteProtocolError(f"{self.where} sent {method.name}, which nobody has asked for")
        elif method.name == "channel.close-ok":
            self._drop_channel(
                channel, OperationalError(f"channel {channel.number} to {self.where} is closed")
            )

    def _end_channel(self, channel: Channel, close: Method) -> None:
        self.encoder.method(channel.number, "channel.close-ok")
        after = method_name(close.class_id, close.method_id) if close.class_id else ""
        error = ChannelClosed(channel.number, self.where, close.reply_code, close.reply_text, after)
        self._drop_channel(channel, error)

    def _drop_channel(self, channel: Channel, error: OperationalError) -> None:
        channel.end(error)
        del self.channels[channel.number], self._decoder.readers[channel.number]

    def _on_start(self, start: Method) -> None:
        if (start.version_major, start.version_minor) != (0, 9):
            raise RemoteProtocolError(
                f"{self.where} speaks AMQP {start.version_major}-{start.version_minor}, not 0-9"
            )
        self.server_properties = start.server_properties
        offered = start.mechanisms.decode("ascii", "replace").split()
        self._login_method = self._choose_login(offered)
        self.encoder.method(
            0,
            "connection.start-ok",
            client_properties={
                "product": "fastq",
                "version": __version__,
                "platform": f"Python {platform.python_version()}",
                "capabilities": CAPABILITIES,
                **self._endpoint.client_properties,
            },
            mechanism=self._login_method,
            response=self._login_response(),
            locale="en_US",
        )
        self.phase = Phase.LOGIN

    def _choose_login(self, offered: list[str]) -> str:
        wanted = self._endpoint.login_method
        for method in LOGIN_METHODS if wanted is None else (wanted,):
            if method in offered:
                return method
        raise RemoteProtocolError(
            f"{self.where} takes no login by {wanted or ', '.join(LOGIN_METHODS)}: it offers "
            f"{', '.join(offered)}"
        )

    def _login_response(self) -> bytes:
        if self._login_method == "PLAIN":
            return f"\0{self._node.username}\0{self._node.password}".encode()
        if self._login_method == "AMQPLAIN":
            return encode_table({"LOGIN": self._node.username, "PASSWORD": self._node.password})[4:]
        return b""  # EXTERNAL: the certificate says it all

    def _on_secure(self, secure: Method) -> None:
        self.encoder.method(0, "connection.secure-ok", response=self._login_response())

    def _on_tune(self, tune: Method) -> None:
        frame_max = _lesser(tune.frame_max, self._endpoint.frame_max)
        if frame_max < FRAME_MIN:
            raise RemoteProtocolError(
                f"{self.where} wants frames of {frame_max} bytes, and {FRAME_MIN} is the least"
            )
        self._channel_max = _lesser(tune.channel_max, self._endpoint.channel_max)
        # A client that wants none gets none: nobody would send them for an idle connection.
        wanted = math.ceil(self._endpoint.heartbeat)
        self.heartbeat = _lesser(tune.heartbeat, wanted) if wanted else 0
        self._decoder.tune(frame_max, self._channel_max)
        self.encoder.tune(frame_max)
        self.encoder.method(
            0,
            "connection.tune-ok",
            channel_max=self._channel_max,
            frame_max=frame_max,
            heartbeat=self.heartbeat,
        )
        self.encoder.method(0, "connection.open", virtual_host=self._node.virtual_host)
        self.phase = Phase.OPENING

    def _on_open_ok(self, _: Method) -> None:
        self.phase = Phase.OPEN

    def _on_blocked(self, blocked: Method) -> None:
        self.blocked = blocked.reason or "it gives no reason"

    def _on_unblocked(self, _: Method) -> None:
        self.blocked = None

    def _on_close(self, close: Method) -> None:
        self.encoder.method(0, "connection.close-ok")
        after = method_name(close.class_id, close.method_id) if close.class_id else ""
        self.fail(ConnectionClosed(self.where, close.reply_code, close.reply_text, after))

    def _on_close_ok(self, _: Method) -> None:
        self.fail(OperationalError(f"the connection to {self.where} is closed"))


def _lesser(theirs: int, ours: int) -> int:
    """The lesser of two limits, of which 0 is none."""
    return min(theirs, ours) if theirs and ours else theirs or ours


# What the server may say on channel 0, and when.
STEPS: dict[tuple[Phase, str], Callable[[Session, Method], None]] = {
    (Phase.GREETING, "connection.start"): Session._on_start,
    (Phase.LOGIN, "connection.secure"): Session._on_secure,
    (Phase.LOGIN, "connection.tune"): Session._on_tune,
    (Phase.OPENING, "connection.open-ok"): Session._on_open_ok,
    (Phase.OPEN, "connection.blocked"): Session._on_blocked,
    (Phase.OPEN, "connection.unblocked"): Session._on_unblocked,
    (Phase.CLOSING, "connection.close-ok"): Session._on_close_ok,
}
ALWAYS: dict[str, Callable[[Session, Method], None]] = {"connection.close": Session._on_close}
