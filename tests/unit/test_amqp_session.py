"""A conversation with RabbitMQ, without a socket: every phase meets every method."""

from __future__ import annotations

from typing import Any

import pytest
from reference.amqp import content_frames, method_frame

from fastq._core.amqp import HEARTBEAT, FrameDecoder
from fastq._core.amqp_encoder import FrameEncoder
from fastq._core.amqp_methods import METHODS
from fastq.brokers.rabbitmq.endpoint import Endpoint, Node
from fastq.brokers.rabbitmq.errors import ChannelClosed, ConnectionClosed
from fastq.brokers.rabbitmq.session import Channel, Phase, Session
from fastq.exceptions import OperationalError, RemoteProtocolError

CONTENT = ("basic.deliver", "basic.return", "basic.get-ok", "basic.publish")


class Talk:
    """A session and the server on its other side, which says what the test wants."""

    def __init__(self, **options: Any) -> None:
        self.now = 100.0
        self.session = Session(Node(password="secret"), Endpoint(**options), self.now)
        self.server = FrameEncoder()
        self._decoder = FrameDecoder()
        self.greeting = self.session.take(self.now)

    def heard(self) -> list[Any]:
        """What the session has sent since the last call."""
        self._decoder.feed(self.session.take(self.now))
        return list(iter(self._decoder.next_frame, None))

    def say(self, channel: int, name: str, **fields: Any) -> None:
        """Let the server say one method."""
        self.server.method(channel, name, **fields)
        self.deliver()

    def deliver(self) -> None:
        """Let what the server has in its buffer arrive."""
        self.session.receive(self.server.take(), self.now)

    def greet(self, mechanisms: bytes = b"PLAIN AMQPLAIN") -> None:
        self.say(
            0,
            "connection.start",
            version_minor=9,
            server_properties={"product": "RabbitMQ"},
            mechanisms=mechanisms,
        )

    def tune(self, channel_max: int = 2047, frame_max: int = 131072, heartbeat: int = 60) -> None:
        self.say(0, "connection.tune", channel_max=channel_max, frame_max=frame_max, heartbeat=heartbeat)

    def open(self, **tuning: int) -> Talk:
        """Go through the handshake."""
        self.greet()
        self.tune(**tuning)
        self.say(0, "connection.open-ok")
        self.heard()
        return self

    def open_channel(self) -> Channel:
        channel = self.session.open_channel()
        self.say(channel.number, "channel.open-ok")
        self.heard()
        return channel


def talk_in(phase: Phase) -> Talk:
    """A talk that has come to *phase*."""
    talk = Talk()
    if phase is Phase.GREETING:
        return talk
    talk.greet()
    if phase is Phase.LOGIN:
        return talk
    talk.tune()
    if phase is Phase.OPENING:
        return talk
    talk.say(0, "connection.open-ok")
    if phase in (Phase.CLOSING, Phase.CLOSED):
        talk.session.close()
    if phase is Phase.CLOSED:
        with pytest.raises(OperationalError):
            talk.say(0, "connection.close-ok")
    assert talk.session.phase is phase
    return talk


# ---------------------------------------------------------------------------
# The handshake
# ---------------------------------------------------------------------------


def test_a_login_by_plain() -> None:
    talk = Talk(client_properties={"connection_name": "w1"})
    assert talk.greeting == b"AMQP\0\0\x09\x01"
    talk.greet()
    [start_ok] = talk.heard()
    assert (start_ok.mechanism, start_ok.response) == ("PLAIN", b"\0guest\0secret")
    assert start_ok.client_properties["connection_name"] == "w1"
    assert start_ok.client_properties["capabilities"]["connection.blocked"] is True
    talk.tune()
    tune_ok, opening = talk.heard()
    assert tune_ok.fields == {"channel_max": 2047, "frame_max": 131072, "heartbeat": 0}
    assert opening.virtual_host == "/"
    assert not talk.session.is_open
    talk.say(0, "connection.open-ok")
    assert talk.session.is_open
    assert talk.session.server_properties == {"product": "RabbitMQ"}


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen", "response"),
    [
        (None, b"AMQPLAIN", "AMQPLAIN", b"\x05LOGINS\0\0\0\x05guest\x08PASSWORDS\0\0\0\x06secret"),
        (None, b"EXTERNAL", "EXTERNAL", b""),
        ("EXTERNAL", b"PLAIN EXTERNAL", "EXTERNAL", b""),
    ],
)
def test_other_logins(wanted: str | None, offered: bytes, chosen: str, response: bytes) -> None:
    talk = Talk(login_method=wanted)
    talk.greet(offered)
    [start_ok] = talk.heard()
    assert (start_ok.mechanism, start_ok.response) == (chosen, response)


def test_a_login_that_is_not_offered_is_a_clear_error() -> None:
    talk = Talk(login_method="EXTERNAL")
    with pytest.raises(RemoteProtocolError, match="no login by EXTERNAL: it offers PLAIN, AMQPLAIN"):
        talk.greet()


def test_a_refused_login_says_what_to_check_and_is_not_tried_again() -> None:
    talk = talk_in(Phase.LOGIN)
    with pytest.raises(ConnectionClosed, match=r"403 ACCESS_REFUSED.*check user and password") as caught:
        talk.say(0, "connection.close", reply_code=403, reply_text="ACCESS_REFUSED")
    assert not caught.value.is_passing
    assert [frame.name for frame in talk.heard()][-1] == "connection.close-ok"


@pytest.mark.parametrize(
    ("theirs", "ours", "agreed"),
    [
        (
            {"channel_max": 10, "frame_max": 8192, "heartbeat": 60},
            {"heartbeat": 10.0},
            {"channel_max": 10, "frame_max": 8192, "heartbeat": 10},
        ),
        (
            {"channel_max": 0, "frame_max": 0, "heartbeat": 0},
            {"heartbeat": 10.0},
            {"channel_max": 2047, "frame_max": 131072, "heartbeat": 10},
        ),
        (
            {"channel_max": 2047, "frame_max": 131072, "heartbeat": 5},
            {"heartbeat": 10.0, "channel_max": 3, "frame_max": 4096},
            {"channel_max": 3, "frame_max": 4096, "heartbeat": 5},
        ),
    ],
)
def test_limits_are_the_lesser_of_both(theirs: Any, ours: Any, agreed: Any) -> None:
    talk = Talk(**ours)
    talk.greet()
    talk.heard()
    talk.tune(**theirs)
    assert talk.heard()[0].fields == agreed


def test_before_there_was_an_agreement_nobody_sends_large_frames() -> None:
    talk = Talk()
    with pytest.raises(RemoteProtocolError, match="and 4096 at most"):
        talk.say(0, "connection.start", version_minor=9, mechanisms=bytes(5000))


# ---------------------------------------------------------------------------
# Phases and methods
# ---------------------------------------------------------------------------

EXPECTED = {
    Phase.GREETING: {"connection.start"},
    Phase.LOGIN: {"connection.secure", "connection.tune"},
    Phase.OPENING: {"connection.open-ok"},
    Phase.OPEN: {"connection.blocked", "connection.unblocked"},
}
FITTING = {
    "connection.start": {"version_minor": 9, "mechanisms": b"PLAIN"},
    "connection.tune": {"frame_max": 131072, "channel_max": 10},
}


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("name", [spec[2] for spec in METHODS if spec[2] not in CONTENT])
def test_every_phase_meets_every_method(phase: Phase, name: str) -> None:
    talk = talk_in(phase)
    fields = FITTING.get(name, {})
    if phase is Phase.CLOSED:
        with pytest.raises(OperationalError, match="is closed"):
            talk.say(0, name, **fields)
    elif name == "connection.close":
        with pytest.raises(ConnectionClosed):
            talk.say(0, name, **fields)
    elif phase is Phase.CLOSING:
        if name == "connection.close-ok":
            with pytest.raises(OperationalError, match="is closed"):
                talk.say(0, name)
        else:
            talk.say(0, name, **fields)  # what was under way when we said goodbye
    elif name in EXPECTED[phase]:
        talk.say(0, name, **fields)
    else:
        with pytest.raises(RemoteProtocolError, match=f"sent {name} while we were"):
            talk.say(0, name, **fields)
        assert talk.session.phase is Phase.CLOSED


def test_blocked_and_unblocked() -> None:
    talk = Talk().open()
    assert talk.session.blocked is None
    talk.say(0, "connection.blocked", reason="low on memory")
    assert talk.session.blocked == "low on memory"
    talk.say(0, "connection.unblocked")
    assert talk.session.blocked is None


# ---------------------------------------------------------------------------
# Channels
# ---------------------------------------------------------------------------


def test_requests_may_be_piled_up_and_are_answered_in_order() -> None:
    talk = Talk().open()
    channel = talk.open_channel()
    channel.take_replies(1)
    for queue in ("a", "b"):
        talk.session.request(channel, "queue.declare", queue=queue)
    assert [frame.queue for frame in talk.heard()] == ["a", "b"]
    talk.server.method(1, "queue.declare-ok", queue="a")
    talk.deliver()
    assert not channel.has_replies(2)
    talk.say(1, "queue.declare-ok", queue="b")
    assert [reply.queue for reply in channel.take_replies(2)] == ["a", "b"]


def test_what_comes_unasked_waits_for_its_reader() -> None:
    talk = Talk().open()
    channel = talk.open_channel()
    talk.say(1, "basic.ack", delivery_tag=3, multiple=True)
    talk.say(1, "basic.nack", delivery_tag=4)
    talk.say(1, "basic.cancel", consumer_tag="c1")
    assert [(confirm.name, confirm.delivery_tag) for confirm in channel.confirms] == [
        ("basic.ack", 3),
        ("basic.nack", 4),
    ]
    assert list(channel.cancelled) == ["c1"]
    talk.say(1, "channel.flow", active=True)
    assert [(frame.name, frame.active) for frame in talk.heard()] == [("channel.flow-ok", True)]


@pytest.mark.parametrize(("reply", "is_answer"), [("basic.get-empty", True), ("queue.declare-ok", False)])
def test_an_answer_must_fit_the_request(reply: str, is_answer: bool) -> None:
    talk = Talk().open()
    channel = talk.open_channel()
    channel.take_replies(1)
    talk.session.request(channel, "basic.get", queue="q")
    if is_answer:
        talk.say(1, reply)
        assert channel.take_replies(1)[0].name == reply
    else:
        with pytest.raises(RemoteProtocolError, match=r"queue.declare-ok, which nobody has asked for"):
            talk.say(1, reply)


def test_an_error_closes_one_channel_and_says_why() -> None:
    talk = Talk().open()
    first, second = talk.open_channel(), talk.open_channel()
    first.take_replies(1)
    talk.session.request(first, "queue.declare", queue="q")
    talk.heard()
    talk.say(1, "channel.close", reply_code=406, reply_text="PRECONDITION_FAILED", class_id=50, method_id=10)
    assert [frame.name for frame in talk.heard()] == ["channel.close-ok"]
    assert first.has_replies(1)
    with pytest.raises(ChannelClosed, match=r"406 .*after queue.declare.*it exists with other arg") as caught:
        first.take_replies(1)
    error = caught.value
    assert (error.code, error.text, error.method, error.number) == (
        406,
        "PRECONDITION_FAILED",
        "queue.declare",
        1,
    )
    assert not error.is_passing and "secret" not in str(error)
    with pytest.raises(ChannelClosed):
        talk.session.request(first, "queue.declare", queue="q")
    assert second.is_open and talk.session.is_open
    assert talk.open_channel().number == 1  # its number is free again


def test_a_consumer_timeout_is_explained() -> None:
    talk = Talk().open()
    channel = talk.open_channel()
    text = (
        "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1800 ms."
    )
    talk.say(1, "channel.close", reply_code=406, reply_text=text)
    assert "consumer_timeout: raise that in rabbitmq.conf" in str(channel.error)
    assert channel.error is not None and channel.error.is_passing


def test_two_closes_may_cross() -> None:
    talk = Talk().open()
    channel = talk.open_channel()
    talk.session.close_channel(channel)
    talk.server.method(1, "channel.close", reply_code=404, reply_text="NOT_FOUND")
    talk.server.method(1, "channel.close-ok")
    talk.deliver()
    assert isinstance(channel.error, ChannelClosed)
    assert talk.session.is_open


def test_frames_on_a_channel_that_is_not_open_are_refused() -> None:
    talk = Talk().open()
    with pytest.raises(RemoteProtocolError, match=r"basic.ack on channel 7, which is closed"):
        talk.say(7, "basic.ack")


def test_there_are_as_many_channels_as_were_agreed_on() -> None:
    talk = Talk().open(channel_max=2)
    talk.open_channel()
    talk.open_channel()
    with pytest.raises(OperationalError, match="all 2 channels"):
        talk.session.open_channel()


def test_the_end_of_the_connection_ends_its_channels() -> None:
    talk = Talk().open()
    channel = talk.open_channel()
    with pytest.raises(ConnectionClosed, match=r"320 CONNECTION_FORCED.*an operator") as caught:
        talk.say(0, "connection.close", reply_code=320, reply_text="CONNECTION_FORCED")
    assert caught.value.is_passing
    assert channel.error is caught.value and not channel.is_open


# ---------------------------------------------------------------------------
# Heartbeats
# ---------------------------------------------------------------------------


def test_heartbeats_go_out_when_nothing_else_does() -> None:
    talk = Talk(heartbeat=10.0).open()
    assert talk.session.beat(102.0) == pytest.approx(3.0)
    assert talk.heard() == []
    talk.now = 105.0
    assert talk.session.beat(105.0) == 5.0
    assert talk.heard() == [HEARTBEAT]
    assert talk.session.beat(106.0) == pytest.approx(4.0)


def test_a_silent_peer_is_given_up_after_two_heartbeats() -> None:
    talk = Talk(heartbeat=10.0).open()
    talk.now = 115.0
    talk.server.heartbeat()
    talk.deliver()
    talk.session.beat(134.9)
    with pytest.raises(OperationalError, match=r"silent for 20 s.*every 10 s"):
        talk.session.beat(135.1)
    assert talk.session.phase is Phase.CLOSED


def test_without_heartbeats_silence_is_fine() -> None:
    talk = Talk().open()
    assert talk.session.heartbeat == 0
    assert talk.session.beat(1e9) == float("inf")
    assert talk.heard() == []


def test_deliveries_come_to_their_channel_until_it_is_closed() -> None:
    talk = Talk().open()
    channel = talk.open_channel()
    delivery = method_frame(1, (60, 60), ["c", 1, False, "", "q"]) + content_frames(1, {}, b"body")
    talk.session.receive(delivery, talk.now)
    assert [each.body for each in channel.deliveries] == [b"body"]
    talk.say(1, "channel.close", reply_code=404, reply_text="NOT_FOUND")
    with pytest.raises(RemoteProtocolError, match=r"sent basic\.deliver on channel 1, which is closed"):
        talk.session.receive(delivery, talk.now)
