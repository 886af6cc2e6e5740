"""A scripted AMQP server on a real socket, for what RabbitMQ never does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

from fastq._core.amqp import FrameDecoder
from fastq._core.amqp_encoder import FrameEncoder


class Peer:
    """Takes one connection after the other and runs *script* with each, in a thread of its own."""

    def __init__(self, script: Callable[[Caller], None]) -> None:
        self._script = script
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._callers: list[Caller] = []
        self.faults: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Peer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for caller in self._callers:
            caller.hang_up()
        self._thread.join()
        if exc is None and self.faults:
            raise self.faults[0]

    def _run(self) -> None:
        while True:
            try:
                connected, _ = self._listening.accept()
            except OSError:
                return
            self._callers.append(Caller(connected))
            try:
                self._script(self._callers[-1])
            except OSError:
                pass  # the client has left, as most tests end
            except BaseException as exc:
                self.faults.append(exc)


class Caller:
    """A client that has connected: what it said, and what to say to it."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.say = FrameEncoder()
        self._decoder = FrameDecoder()

    def send(self) -> None:
        """Send what was said."""
        self.socket.sendall(self.say.take())

    def tell(self, channel: int, name: str, **fields: Any) -> None:
        """Send one method."""
        self.say.method(channel, name, **fields)
        self.send()

    def hear(self) -> Any:
        """The next frame of the client."""
        while (frame := self._decoder.next_frame()) is None:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the client has left")
            self._decoder.feed(data)
        return frame

    def hang_up(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def greet(self) -> None:
        """Take the client's greeting and answer it."""
        assert self.socket.recv(8, socket.MSG_WAITALL) == b"AMQP\0\0\x09\x01"
        self.tell(0, "connection.start", version_minor=9, mechanisms=b"PLAIN")
        assert self.hear().name == "connection.start-ok"

    def welcome(self, heartbeat: int = 0) -> None:
        """Go through the whole handshake, and open one channel."""
        self.greet()
        self.tell(0, "connection.tune", channel_max=10, frame_max=131072, heartbeat=heartbeat)
        assert self.hear().name == "connection.tune-ok"
        assert self.hear().name == "connection.open"
        self.tell(0, "connection.open-ok")
        assert self.hear().name == "channel.open"
        self.tell(1, "channel.open-ok")
