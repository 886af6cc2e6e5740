"""A connection to RabbitMQ: a real one, and a scripted one that does what RabbitMQ never does."""

from __future__ import annotations

import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from amqp_peer import Caller, Peer
from servers import RabbitServer, free_port, skip_or_fail

from fastq._core.message import Message, new_id
from fastq.brokers.rabbitmq.connection import Connection
from fastq.brokers.rabbitmq.connector import Connector
from fastq.brokers.rabbitmq.endpoint import parse_endpoint
from fastq.brokers.rabbitmq.errors import ChannelClosed, ConnectionClosed
from fastq.brokers.rabbitmq.session import Channel
from fastq.exceptions import OperationalError, RemoteProtocolError

WAIT = 10.0  # seconds for what takes no time as a rule


opened: list[Connection] = []


def open_connection(url: str, **options: Any) -> Connection:
    opened.append(Connector(parse_endpoint(url, {}, **options)).connect(WAIT))
    return opened[-1]


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    yield
    while opened:
        opened.pop().abandon()


@pytest.fixture
def connection(rabbitmq_server: RabbitServer) -> Connection:
    return open_connection(rabbitmq_server.url())


@pytest.fixture
def channel(connection: Connection) -> Channel:
    return connection.open_channel(WAIT)


@pytest.fixture
def queue(connection: Connection, channel: Channel) -> str:
    """A queue of this test's own, which goes with its connection."""
    declared = connection.call(channel, "queue.declare", WAIT, queue=new_id(), exclusive=True)
    name: str = declared.queue
    return name


def wait_for(condition: Callable[[], bool], connection: Connection) -> None:
    connection.wait_until(condition, WAIT, "what the test waits for")


def task(queue: str, body: bytes = b"[[], {}, {}]", **headers: Any) -> Message:
    task_id = new_id()
    return Message("proj.add", task_id, {"task": "proj.add", "id": task_id, **headers}, body, queue=queue)


# ---------------------------------------------------------------------------
# Logging in
# ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PLAIN", "AMQPLAIN"])
def test_logging_in(rabbitmq_server: RabbitServer, method: str) -> None:
    connection = open_connection(rabbitmq_server.url(), login_method=method)
    assert connection.server_properties["product"] == "RabbitMQ"
    connection.close()


@pytest.mark.parametrize("name", ["/slashed", "a b/c", "plain"])
def test_virtual_hosts_of_any_name(rabbitmq_server: RabbitServer, name: str) -> None:
    rabbitmq_server.control("add_vhost", name)
    rabbitmq_server.control("set_permissions", "--vhost", name, "guest", ".*", ".*", ".*")
    open_connection(rabbitmq_server.url(name)).close()


def test_a_wrong_password_and_a_wrong_virtual_host_are_told_apart(rabbitmq_server: RabbitServer) -> None:
    with pytest.raises(ConnectionClosed, match=r"403 ACCESS_REFUSED.*check user and passw") as caught:
        open_connection(f"amqp://guest:wrong@127.0.0.1:{rabbitmq_server.port}")
    assert not caught.value.is_passing and "wrong" not in str(caught.value)
    with pytest.raises(ConnectionClosed, match=r"530 NOT_ALLOWED.*check that the virtual host exists"):
        open_connection(rabbitmq_server.url("nowhere"))


def test_nobody_there() -> None:
    with pytest.raises(OperationalError, match=r"127.0.0.1:\d+.*refused; does it run"):
        open_connection(f"amqp://127.0.0.1:{free_port()}")


def test_the_next_node_is_taken(rabbitmq_server: RabbitServer) -> None:
    connection = open_connection(f"amqp://127.0.0.1:{free_port()};{rabbitmq_server.url()}")
    assert str(rabbitmq_server.port) in connection.where
    connection.close()


# ---------------------------------------------------------------------------
# Channels and messages
# ---------------------------------------------------------------------------


def test_messages_go_there_and_back(connection: Connection, channel: Channel, queue: str) -> None:
    connection.call(channel, "confirm.select", WAIT)
    sent = [task(queue, nested={"list": [1, None, 2.5, "é"]}) for _ in range(2_000)]
    sent.append(task(queue, bytes(3_000_000)))
    connection.encoder.publish_messages(channel.number, sent)
    wait_for(lambda: any(c.delivery_tag == len(sent) for c in channel.confirms), connection)
    connection.call(channel, "basic.qos", WAIT, prefetch_count=100)
    connection.call(channel, "basic.consume", WAIT, queue=queue, consumer_tag="me")
    got: list[Message] = []
    while len(got) < len(sent):
        assert channel.deliveries or connection.receive(WAIT)  # the first may have come with consume-ok
        while channel.deliveries:
            content = channel.deliveries.popleft()
            message = content.delivery(queue).message
            assert message is not None and content.consumer_tag == "me"
            got.append(message)
            connection.encoder.ack(channel.number, content.delivery_tag, multiple=True)
        connection.flush(WAIT)
    assert [(m.id, m.headers, m.body) for m in got] == [(m.id, m.headers, m.body) for m in sent]
    connection.call(channel, "basic.cancel", WAIT, consumer_tag="me")
    assert connection.call(channel, "queue.declare", WAIT, queue=queue, passive=True).message_count == 0
    assert connection.call(channel, "basic.get", WAIT, queue=queue).name == "basic.get-empty"


def test_what_no_queue_takes_comes_back(connection: Connection, channel: Channel) -> None:
    connection.encoder.publish_messages(channel.number, [task("no-such-queue")], mandatory=True)
    wait_for(lambda: bool(channel.returned), connection)
    returned = channel.returned.popleft()
    assert (returned.reply_code, returned.reply_text) == (312, "NO_ROUTE")


def test_an_error_closes_one_channel_alone(connection: Connection, channel: Channel, queue: str) -> None:
    other = connection.open_channel(WAIT)
    with pytest.raises(ChannelClosed, match=r"406 PRECONDITION_FAILED.*after queue.declare.*the same ones"):
        connection.call(channel, "queue.declare", WAIT, queue=queue, exclusive=True, auto_delete=True)
    assert (channel.is_open, other.is_open) == (False, True)
    with pytest.raises(ChannelClosed, match="406"):
        connection.call(channel, "queue.purge", WAIT, queue=queue)
    assert connection.call(other, "queue.purge", WAIT, queue=queue).message_count == 0
    again = connection.open_channel(WAIT)
    assert again.number == channel.number
    connection.close_channel(again, WAIT)
    connection.close_channel(again, WAIT)
    assert not again.is_open


def test_of_many_calls_those_before_the_refused_one_took_place(
    connection: Connection, channel: Channel, queue: str
) -> None:
    names = [new_id() for _ in range(3)]
    calls: list[tuple[str, dict[str, Any]]] = [
        ("queue.declare", {"queue": names[0], "exclusive": True}),
        ("queue.bind", {"queue": names[0], "exchange": "no-such-exchange"}),
        ("queue.declare", {"queue": names[1], "exclusive": True}),
    ]
    with pytest.raises(ChannelClosed, match=r"404 NOT_FOUND.*declare it first"):
        connection.call_many(channel, calls, WAIT)
    fresh = connection.open_channel(WAIT)
    connection.call(fresh, "queue.declare", WAIT, queue=names[0], passive=True)
    with pytest.raises(ChannelClosed):
        connection.call(fresh, "queue.declare", WAIT, queue=names[1], passive=True)


def test_a_consumer_learns_that_its_queue_is_gone(
    connection: Connection, channel: Channel, queue: str
) -> None:
    connection.call(channel, "basic.consume", WAIT, queue=queue, consumer_tag="me")
    other = connection.open_channel(WAIT)
    connection.call(other, "queue.delete", WAIT, queue=queue)
    wait_for(lambda: bool(channel.cancelled), connection)
    assert list(channel.cancelled) == ["me"]


# ---------------------------------------------------------------------------
# Staying alive, and learning that one does not
# ---------------------------------------------------------------------------


def test_heartbeats_keep_a_waiting_connection(rabbitmq_server: RabbitServer) -> None:
    connection = open_connection(rabbitmq_server.url(), heartbeat=1)
    assert connection.heartbeat == 1
    assert not connection.receive(0.0)
    until = time.monotonic() + 4.0
    while time.monotonic() < until:
        connection.receive(until - time.monotonic())
    connection.open_channel(WAIT)
    connection.close()


def test_rabbitmq_hangs_up_on_those_who_send_none(rabbitmq_server: RabbitServer) -> None:
    silent = open_connection(rabbitmq_server.url(), heartbeat=1)
    idle = open_connection(rabbitmq_server.url())
    assert idle.heartbeat == 0
    assert silent.is_usable()
    # Neither is read from until RabbitMQ has had enough.
    poll = select.poll()
    poll.register(silent, select.POLLRDHUP)
    assert poll.poll(WAIT * 1000)
    assert not silent.is_usable()
    assert idle.is_usable()
    idle.open_channel(WAIT)
    idle.close()


def test_a_server_that_hangs_is_given_up(start_rabbitmq: Callable[..., RabbitServer]) -> None:
    server = start_rabbitmq()
    connection = open_connection(server.url(), heartbeat=1)
    channel = connection.open_channel(WAIT)
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    started = time.monotonic()
    try:
        with pytest.raises(OperationalError, match=r"waited in vain for the reply to queue.declare"):
            connection.call(channel, "queue.declare", 0.5, queue="q")
        assert 0.4 < time.monotonic() - started < 2.0
        with pytest.raises(OperationalError, match=r"silent for .* s, though a heartbeat is due every 1 s"):
            while True:
                connection.receive(WAIT)
        assert time.monotonic() - started < 6.0
    finally:
        server.process.send_signal(signal.SIGCONT)
    connection.abandon()
    # And one that crashes, and comes back.
    again = open_connection(server.url())
    server.kill()
    with pytest.raises(OperationalError, match=r"closed the connection|reset"):
        again.receive(WAIT)
    starting = threading.Thread(target=server.start)
    starting.start()
    connector = Connector(parse_endpoint(server.url(), {}))
    back = connector.connect_within(90.0)
    opened.append(back)
    starting.join()
    assert back.is_usable()
    # A node that an operator stops says so.
    server.control("stop_app")
    with pytest.raises(ConnectionClosed, match=r"320 CONNECTION_FORCED.*the node stops") as caught:
        back.receive(WAIT)
    assert caught.value.is_passing


def test_a_broker_low_on_memory_says_so_and_the_deadline_holds(
    rabbitmq_server: RabbitServer, connection: Connection, channel: Channel, queue: str
) -> None:
    connection.call(channel, "confirm.select", WAIT)
    assert connection.blocked is None
    rabbitmq_server.control("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        connection.encoder.publish_messages(channel.number, [task(queue)])
        wait_for(lambda: connection.blocked is not None, connection)
        connection.encoder.publish_messages(channel.number, [task(queue)] * 2)
        with pytest.raises(OperationalError, match=r"confirm.*takes no publishes now .*memory"):
            connection.wait_until(lambda: len(channel.confirms) > 2, 0.3, "a confirm")
    finally:
        rabbitmq_server.control("set_vm_memory_high_watermark", "0.4")
    wait_for(lambda: connection.blocked is None, connection)
    wait_for(lambda: any(confirm.delivery_tag == 3 for confirm in channel.confirms), connection)


# ---------------------------------------------------------------------------
# TLS
# ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.crt, and leaf.crt and leaf.key: 127.0.0.1 for servers, the user ann for clients."""
    if shutil.which("openssl") is None:
        skip_or_fail("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(line: str) -> None:
        subprocess.run(["openssl", *line.split()], cwd=folder, check=True, capture_output=True)

    key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
    (folder / "leaf.ext").write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(f"req -x509 {key} -days 1 -keyout ca.key -out ca.crt -subj /CN=fastq-tests")
    openssl(f"req {key} -keyout leaf.key -out leaf.csr -subj /CN=ann")
    openssl("x509 -req -in leaf.csr -CA ca.crt -CAkey ca.key -days 1 -out leaf.crt -extfile leaf.ext")
    return folder


def test_tls_and_a_login_by_certificate(
    start_rabbitmq: Callable[..., RabbitServer], certificates: Path
) -> None:
    port = free_port()
    server = start_rabbitmq(
        f"listeners.ssl.1 = 127.0.0.1:{port}",
        f"ssl_options.cacertfile = {certificates / 'ca.crt'}",
        f"ssl_options.certfile = {certificates / 'leaf.crt'}",
        f"ssl_options.keyfile = {certificates / 'leaf.key'}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = false",
        "ssl_cert_login_from = common_name",
        "auth_mechanisms.1 = PLAIN",
        "auth_mechanisms.2 = EXTERNAL",
        plugins=("rabbitmq_auth_mechanism_ssl",),
    )
    server.control("add_user", "ann", "unused")
    server.control("set_permissions", "ann", ".*", ".*", ".*")
    url = f"amqps://guest:guest@127.0.0.1:{port}//"
    options = {"ca_certs": str(certificates / "ca.crt")}
    for _ in range(2):
        connection = open_connection(url, ssl=options)
        channel = connection.open_channel(WAIT)
        queue = connection.call(channel, "queue.declare", WAIT, exclusive=True).queue
        body = bytes(range(256)) * 10_000
        connection.encoder.publish_messages(channel.number, [task(queue, body)] * 3)
        connection.call(channel, "basic.consume", WAIT, queue=queue, no_ack=True)
        while len(channel.deliveries) < 3:
            assert connection.receive(WAIT)
        assert all(content.body == body for content in channel.deliveries)
        connection.close()
        # Again, now as whom the certificate names.
        files = {"certfile": str(certificates / "leaf.crt"), "keyfile": str(certificates / "leaf.key")}
        options, url = options | files, f"amqps://127.0.0.1:{port}//?login_method=EXTERNAL"
    with pytest.raises(OperationalError, match=r"(?i)certificate verify failed"):
        open_connection(url)
    with pytest.raises(OperationalError, match="wants TLS: let the URL begin with amqps://"):
        open_connection(url.replace("amqps", "amqp"))


# ---------------------------------------------------------------------------
# A scripted server
# ---------------------------------------------------------------------------


def refused(script: Callable[[Caller], None], timeout: float = 2.0) -> OperationalError:
    """The error of connecting to a server that does as *script* says."""
    with Peer(script) as peer:
        endpoint = parse_endpoint(f"amqp://ann:secret@127.0.0.1:{peer.port}", {})
        with pytest.raises(OperationalError) as caught:
            Connector(endpoint).connect(timeout)
    assert "secret" not in str(caught.value)
    return caught.value


def test_a_server_that_speaks_something_else() -> None:
    error = refused(lambda caller: caller.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    assert isinstance(error, RemoteProtocolError)
    assert "does not speak AMQP" in str(error) and "amqp://ann:***@127.0.0.1" in str(error)


def test_a_server_that_hangs_up_at_once() -> None:
    error = refused(lambda caller: caller.hang_up())
    assert "is that RabbitMQ's port, with TLS or without" in str(error) or "reset" in str(error)


def test_a_server_of_another_version() -> None:
    assert "speaks 0-8-0" in str(refused(lambda caller: caller.socket.sendall(b"AMQP\0\0\x08\0")))


def test_a_server_that_says_nothing() -> None:
    started = time.monotonic()
    error = refused(lambda caller: caller.hear(), timeout=0.3)
    assert "waited in vain for the end of the handshake" in str(error)
    assert time.monotonic() - started < 2.0


def test_a_server_that_stops_in_the_middle_of_a_frame() -> None:
    error = refused(lambda caller: caller.socket.sendall(b"\x01\0\0\0\0\1\0\0\x0a"), timeout=0.3)
    assert "waited in vain" in str(error)


def test_a_server_that_hangs_up_during_the_login() -> None:
    def script(caller: Caller) -> None:
        caller.greet()
        caller.hang_up()

    assert "during the login: are user and password right?" in str(refused(script))


def test_a_frame_over_the_agreed_size_ends_the_connection() -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        caller.socket.sendall(b"\x03\0\1\x00\x02\x00\x00")
        caller.hear()

    with Peer(script) as peer:
        connection = open_connection(f"amqp://127.0.0.1:{peer.port}")
        connection.open_channel(WAIT)
        with pytest.raises(RemoteProtocolError, match="131080 bytes, and 131072 at most"):
            connection.receive(WAIT)
        with pytest.raises(RemoteProtocolError):
            connection.receive(WAIT)
        with pytest.raises(RemoteProtocolError):
            connection.flush(WAIT)
        connection.abandon()


def test_two_full_pipes_do_not_wait_for_each_other() -> None:
    """A server that first wants its own megabytes taken, and only then takes ours."""
    heard = threading.Event()

    def script(caller: Caller) -> None:
        caller.welcome()
        for number in range(200):
            caller.say.method(1, "basic.ack", delivery_tag=number)
            caller.say.publish(1, "", "q", bytes(100_000))
        caller.send()
        for _ in range(200):
            caller.hear()
        heard.set()

    with Peer(script) as peer:
        connection = open_connection(f"amqp://127.0.0.1:{peer.port}")
        channel = connection.open_channel(WAIT)
        channel.take_in = lambda frame: True  # type: ignore[method-assign]  # whatever it is
        for _ in range(200):
            connection.encoder.publish(1, "", "q", bytes(100_000))
        connection.flush(WAIT)
        assert heard.wait(WAIT)
        connection.abandon()


def test_a_write_that_nobody_takes_ends_at_its_deadline_and_says_that_it_is_blocked() -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        caller.tell(0, "connection.blocked", reason="low on disk")
        done.wait(WAIT)

    done = threading.Event()
    with Peer(script) as peer:
        connection = open_connection(f"amqp://127.0.0.1:{peer.port}")
        connection.open_channel(WAIT)
        started = time.monotonic()
        with pytest.raises(OperationalError, match=r"waited in vain for room to send.*low on disk"):
            for _ in range(1_000):
                connection.encoder.publish(1, "", "q", bytes(100_000))
                connection.flush(0.3)
        assert time.monotonic() - started < 5.0
        connection.abandon()
        done.set()


def test_a_blocked_broker_never_stops_gevent() -> None:
    def script(caller: Caller) -> None:
        caller.welcome()
        done.wait(60.0)

    done = threading.Event()
    with Peer(script) as peer:
        program = Path(__file__).with_name("amqp_gevent_script.py")
        url = f"amqp://127.0.0.1:{peer.port}"
        ran = subprocess.run([sys.executable, str(program), url], capture_output=True, text=True, timeout=60)
        done.set()
    assert ran.returncode == 0, ran.stderr
    seconds, late_ms, what = ran.stdout.split(" ", 2)
    assert "waited in vain for room to send" in what
    assert 1.0 < float(seconds) < 4.0
    assert float(late_ms) < 250  # far below the 1.5 s for which the publisher waits, on a busy machine too
