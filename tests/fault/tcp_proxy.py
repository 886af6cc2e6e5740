"""A TCP proxy that a test can make drop, delay and cut what goes through it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time


class Proxy:
    """Forwards connections to one address. Switches act on all connections, at once.

    `drops_replies` swallows what the server says; `delay` holds every chunk back for so
    many seconds; `refuses` closes new connections; `cut` resets all open ones.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.drops_replies = False
        self.refuses = False
        self.delay = 0.0
        self.dropped_bytes = 0
        self.dropped = threading.Event()  # set when a reply was swallowed
        self._target = (host, port)
        self._lock = threading.Lock()  # guards `_open`
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._start(self._accept)

    def cut(self) -> int:
        """Reset every open connection; returns how many ends there were."""
        with self._lock:
            ends, self._open = self._open, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(ends)

    def close(self) -> None:
        """Stop listening, cut everything and end the threads."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5.0)

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._open += [client, server]
            self._start(self._forward, client, server, False)
            self._start(self._forward, server, client, True)

    def _forward(self, source: socket.socket, sink: socket.socket, is_reply: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.delay:
                    time.sleep(self.delay)
                if is_reply and self.drops_replies:
                    self.dropped_bytes += len(data)
                    self.dropped.set()
                    continue
                sink.sendall(data)
        # One direction that ends, ends both; the other thread closes the other socket.
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        source.close()
