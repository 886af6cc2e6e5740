"""Connections to Redis. Every fault becomes `OperationalError` here."""

from __future__ import annotations

import math
import select
import socket
import struct
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hiredis import ReplyError

from fastq._core.resp import NO_REPLY, Argument, Replies, pack, pack_many
from fastq.brokers.pool import Pool
from fastq.brokers.redis.endpoint import Endpoint, open_socket
from fastq.brokers.redis.refusals import asks_for_login, code_of, is_passing, with_advice
from fastq.exceptions import OperationalError

# Below the 128 KiB from which malloc maps fresh pages for every read.
READ_BYTES = 65536
# A server on the same machine answers before a thread that waits has slept and woken. Asking it again for so
# long makes a `delay` twice as fast, and costs no more of the processor than the sleep.
SPIN_SECONDS = 100e-6
# After replies that took longer, so many are waited for asleep at most before one is spun for again.
MOST_SLEPT = 30
# An idle connection older than this is asked whether it was closed, before it is used.
TRUSTED_SECONDS = 1.0


class ServerRefused(OperationalError):
    """The server answered with an error that another attempt would not change."""

    is_passing = False


def checked(reply: Any) -> Any:
    """*reply*, unless it is an error of the server: that is raised."""
    if isinstance(reply, ReplyError):
        message = str(reply)
        if is_passing(message):
            raise OperationalError(f"Redis is not ready: {with_advice(message)}")
        if asks_for_login(message):
            raise OperationalError(f"Redis has forgotten this login: {with_advice(message)}")
        raise _refused(message)
    return reply


def _refused(message: str) -> ServerRefused:
    return ServerRefused(f"Redis refused a command: {with_advice(message)}")


class Connection:
    """A logged-in connection to one Redis database. Not safe over threads.

    Any `OperationalError` but `ServerRefused` leaves it useless: close it.
    """

    def __init__(self, connected: socket.socket, endpoint: Endpoint) -> None:
        self._socket = connected
        # The kernel keeps the time of a plain socket: Python would poll before every call. A patched
        # socket (gevent) must not block, and one with TLS reads in pieces: they keep Python's way.
        self._is_plain = type(connected).__module__ == "socket"
        self._limit = None if self._is_plain else connected.gettimeout()
        if self._is_plain:
            connected.settimeout(None)
        self._pending = getattr(connected, "pending", None)  # TLS keeps decrypted bytes back
        self._to_sleep = 0  # replies to wait for asleep before one is spun for
        self._slept = 0  # how many that were after the last one that came too late
        self.endpoint = endpoint
        self.replies = Replies()
        self.server_version: tuple[int, ...] = (0,)
        self.is_resp3 = False
        self.used_at = 0.0  # monotonic

    def fileno(self) -> int:
        """The socket's descriptor, to wait on after `hear` found nothing."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket without a word to the server."""
        self._socket.close()

    def send(self, data: bytes, timeout: float) -> None:
        """Write all of *data* within *timeout* seconds."""
        self._allow(timeout)
        try:
            self._socket.sendall(data)
        except OSError as exc:
            raise self._broken("sending to", exc) from exc

    def read(self, timeout: float) -> Any:
        """The next reply; server errors are returned, not raised. Takes *timeout* seconds at most."""
        replies = self.replies
        reply = replies.next_reply()
        deadline = 0.0
        while reply is NO_REPLY:
            now = time.monotonic()
            if not deadline:
                deadline = now + timeout
            self.receive(deadline - now)
            reply = replies.next_reply()
        return reply

    def call(self, *arguments: Argument, timeout: float) -> Any:
        """Send one command and return its reply. Raises `ServerRefused` for an error reply."""
        self.send(pack(*arguments), timeout)
        return checked(self.read(timeout))

    def call_many(self, commands: Sequence[Sequence[Argument]], timeout: float) -> list[Any]:
        """Send commands in one write and return their replies, error replies among them."""
        self.send(pack_many(commands), timeout)
        return [self.read(timeout) for _ in commands]

    def transact(self, commands: Sequence[Sequence[Argument]], timeout: float) -> Any:
        """Run commands in one transaction; returns their replies, or None if a watched key has changed."""
        replies = self.call_many([["MULTI"], *commands, ["EXEC"]], timeout)
        for reply in replies:  # the first error says why the others were discarded
            checked(reply)
        return replies[-1] if replies[-1] is None else [checked(reply) for reply in replies[-1]]

    def receive(self, timeout: float) -> None:
        """Wait at most *timeout* seconds for some bytes and take them in."""
        if self._is_plain and self._receive_soon():
            return
        self._allow(timeout)
        try:
            data = self._socket.recv(READ_BYTES)
        except OSError as exc:
            raise self._broken("waiting for", exc) from exc
        self._take_in(data)

    def wait_readable(self, timeout: float) -> bool:
        """Whether bytes are there to receive within *timeout* seconds. Takes no lock and reads nothing."""
        if self._pending is not None and self._pending():
            return True
        return _is_readable(self._socket, timeout)

    def hear(self, *, looks: bool) -> list[Any]:
        """The push messages that are here, without waiting; *looks*: also those still in the socket.

        For times when no reply is owed. Raises `OperationalError` at the end of the stream.
        """
        if looks or (self._pending is not None and self._pending()):
            self._receive_ready()
        reply = self.replies.next_reply()
        if reply is not NO_REPLY:
            raise OperationalError(
                f"{self.endpoint.describe()} sent a reply that nobody asked for: {reply!r}"
            )
        pushes = self.replies.pushes[:]
        self.replies.pushes.clear()
        return pushes

    def has_ended(self) -> bool:
        """Whether the server has closed this idle connection, or says something unasked."""
        return _is_readable(self._socket)

    def _receive_soon(self) -> bool:
        """Spin for some bytes, where they have come as soon before; whether there were any."""
        if self._to_sleep:
            self._to_sleep -= 1
            return False
        ends = time.monotonic() + SPIN_SECONDS
        while not self._receive_now():
            if time.monotonic() >= ends:
                self._slept = self._to_sleep = min(2 * self._slept + 1, MOST_SLEPT)
                return False
        self._slept = 0
        return True

    def _receive_ready(self) -> None:
        """Take in the bytes that are here, without waiting."""
        if self._is_plain:
            while self._receive_now() == READ_BYTES:  # else that was all
                pass
        else:
            while self.wait_readable(0.0):
                self.receive(1.0)

    def _receive_now(self) -> int:
        """Take in what one call gives without waiting, from a plain socket; how many bytes that were."""
        try:
            data = self._socket.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise self._broken("waiting for", exc) from exc
        self._take_in(data)
        return len(data)

    def _take_in(self, data: bytes) -> None:
        if not data:
            raise OperationalError(f"{self.endpoint.describe()} closed the connection")
        self.replies.feed(data)

    def _allow(self, timeout: float) -> None:
        # Never 0: that would make the socket non-blocking.
        limit = max(timeout, 0.001)
        if self.endpoint.socket_timeout is not None:
            limit = min(limit, self.endpoint.socket_timeout)
        # Setting it costs a system call: leave a limit that is about the same.
        if self._limit is None or not limit * 0.95 <= self._limit <= limit * 1.05:
            if self._is_plain:
                seconds = struct.pack("ll", int(limit), int(limit % 1 * 1e6))
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, seconds)
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, seconds)
            else:
                self._socket.settimeout(limit)
            self._limit = limit

    def _broken(self, doing: str, exc: OSError) -> OperationalError:
        is_late = isinstance(exc, TimeoutError | BlockingIOError)
        what = f"no answer within {self._limit:.3g} s" if is_late else str(exc)
        return OperationalError(f"{doing} {self.endpoint.describe()}: {what}")


def _is_readable(waiting: socket.socket, timeout: float = 0.0) -> bool:
    poll = select.poll()
    poll.register(waiting, select.POLLIN)
    return bool(poll.poll(math.ceil(timeout * 1000)))


def connect(endpoint: Endpoint, timeout: float) -> Connection:
    """Open a connection and log in within *timeout* seconds, once. Raises `OperationalError`."""
    deadline = time.monotonic() + timeout
    if not endpoint.sentinels:
        address: tuple[str, int] | str = endpoint.path or (endpoint.host, endpoint.port)
        return _open(endpoint, address, *endpoint.login(), endpoint.db, deadline)
    problems = []
    for sentinel in endpoint.sentinels:
        try:
            return _ask_sentinel(endpoint, sentinel, deadline)
        except OperationalError as exc:
            problems.append(str(exc))
    raise OperationalError(f"no sentinel led to a master {endpoint.master_name!r}: " + "; ".join(problems))


def _ask_sentinel(endpoint: Endpoint, sentinel: tuple[str, int], deadline: float) -> Connection:
    asked = _open(endpoint, sentinel, endpoint.sentinel_username, endpoint.sentinel_password, 0, deadline)
    try:
        found = asked.call(
            "SENTINEL", "GET-MASTER-ADDR-BY-NAME", endpoint.master_name or "", timeout=_left(deadline)
        )
    finally:
        asked.close()
    if found is None:
        raise OperationalError(f"{sentinel[0]}:{sentinel[1]} knows no master {endpoint.master_name!r}")
    master = (found[0].decode(), int(found[1]))
    connection = _open(endpoint, master, *endpoint.login(), endpoint.db, deadline)
    # A sentinel that has not heard of a failover yet names the old master.
    try:
        role = connection.call("ROLE", timeout=_left(deadline))[0]
    except OperationalError:
        connection.close()
        raise
    if role != b"master":
        connection.close()
        raise OperationalError(f"{master[0]}:{master[1]} is a {role.decode()}, not the master")
    return connection


def _open(
    endpoint: Endpoint,
    address: tuple[str, int] | str,
    username: str | None,
    password: str | None,
    db: int,
    deadline: float,
) -> Connection:
    """Connect and log in with RESP3, or with RESP2 where the server or a proxy knows no better."""
    for wants_resp3 in (True, False):
        try:
            connected = open_socket(endpoint, address, min(_left(deadline), endpoint.connect_timeout))
        except OSError as exc:
            where = address if isinstance(address, str) else f"{address[0]}:{address[1]}"
            raise OperationalError(f"can't connect to Redis at {where}: {exc}") from exc
        connection = Connection(connected, endpoint)
        try:
            if _log_in(connection, username, password, db, wants_resp3, _left(deadline)):
                return connection
        except BaseException:
            connection.close()
            raise
        connection.close()
    raise OperationalError(f"{endpoint.describe()} closes the connection at login")


def _log_in(
    connection: Connection, username: str | None, password: str | None, db: int, resp3: bool, timeout: float
) -> bool:
    """Greet and select; returns False when it must be tried again without RESP3."""
    login: list[Argument] = [] if password is None else ["AUTH", username or "default", password]
    commands: list[list[Argument]] = [["HELLO", 3, *login]] if resp3 else []
    if not resp3 and password is not None:
        commands.append(["AUTH", username, password] if username else ["AUTH", password])
    if db:
        commands.append(["SELECT", db])
    name = connection.endpoint.client_name
    if name:
        commands.append(["CLIENT", "SETNAME", name])
    try:
        replies = connection.call_many(commands, timeout)
    except OperationalError:
        if resp3:
            return False  # some proxies hang up on a command they do not know
        raise
    if resp3:
        greeting = replies[0]
        # A wrong password is not cured by another way to send it.
        if isinstance(greeting, ReplyError):
            message = str(greeting)
            if asks_for_login(message):
                raise _refused(message)
            if code_of(message) != "WRONGPASS" and not is_passing(message):
                return False
        version = checked(greeting)[b"version"]
        connection.is_resp3 = True
        connection.server_version = tuple(int(part) for part in version.split(b".") if part.isdigit())
    if name:
        replies.pop()  # a user, or a proxy, without names does as well
    for reply in replies:
        checked(reply)
    return True


def _left(deadline: float) -> float:
    return max(deadline - time.monotonic(), 0.001)


class ConnectionPool(Pool[Connection]):
    """Connections to one Redis, or by *open* to the one of several that answers."""

    harmless = ServerRefused

    def __init__(
        self, endpoint: Endpoint, *, open: Callable[[float], Connection] | None = None, **options: Any
    ) -> None:
        super().__init__(**options)
        self.endpoint = endpoint
        self._open = open or partial(connect, endpoint)

    def connect(self, timeout: float) -> Connection:
        return self._open(timeout)

    def describe(self) -> str:
        return self.endpoint.describe()

    def is_alive(self, connection: Connection, idle: float, timeout: float) -> bool:
        if idle < TRUSTED_SECONDS:
            return True
        if connection.has_ended():
            return False
        interval = self.endpoint.health_check_interval
        if not interval or idle < interval:
            return True
        # Firewalls forget idle connections without a word: leave time for another one.
        try:
            connection.call("PING", timeout=timeout / 4)
        except OperationalError:
            return False
        return True
