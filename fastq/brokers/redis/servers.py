"""The servers of one broker on Redis, of which one is used until it is away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fastq.brokers.failover import Strategy, in_order
from fastq.brokers.redis.connection import Connection, connect
from fastq.brokers.redis.endpoint import Endpoint
from fastq.exceptions import OperationalError


class Servers:
    """Connects to one of several servers. Safe over threads: all go on with the one that answered last."""

    def __init__(
        self, urls: list[str], parse: Callable[[str], Endpoint], strategy: str | Strategy | None = None
    ) -> None:
        self._parse = parse
        self._order = in_order(urls, strategy)
        self._lock = threading.Lock()  # guards the order, which one thread at a time may step through
        self.count = len(urls)
        self._endpoints = {url: parse(url) for url in urls}
        self._url = next(self._order)

    @property
    def endpoint(self) -> Endpoint:
        """The server that is used now."""
        found = self._endpoints.get(self._url)
        if found is None:  # a strategy of the user's may know others
            found = self._endpoints[self._url] = self._parse(self._url)
        return found

    def connect(self, timeout: float) -> Connection:
        """Connect within *timeout* seconds, to the next server that answers where this one does not.

        Raises `OperationalError`; at once where a server refuses us.
        """
        deadline = time.monotonic() + timeout
        problems: list[OperationalError] = []
        for left in range(self.count, 0, -1):
            url, endpoint = self._url, self.endpoint
            try:
                return connect(endpoint, max(deadline - time.monotonic(), 0.001) / left)
            except OperationalError as exc:
                if self.count == 1 or not exc.is_passing:
                    raise
                problems.append(exc)
                with self._lock:
                    if self._url == url:  # or else another thread has gone on meanwhile
                        self._url = next(self._order)
        raise OperationalError("no broker answers: " + "; ".join(map(str, problems))) from problems[-1]

    def describe(self) -> str:
        """The URLs without their passwords."""
        return "; ".join(endpoint.describe() for endpoint in self._endpoints.values())
