"""Connections to whichever node of a RabbitMQ cluster can be reached.

>>> connector = Connector(parse_endpoint("amqp://a;amqp://b", {}))  # doctest: +SKIP
>>> connection = connector.connect(timeout=4.0)                     # doctest: +SKIP
>>> connection = connector.connect_within(30.0)  # with pauses      # doctest: +SKIP
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from fastq.brokers.backoff import pauses
from fastq.brokers.rabbitmq.connection import Connection, connect
from fastq.brokers.rabbitmq.endpoint import Endpoint, Node
from fastq.exceptions import OperationalError


class Connector:
    """Opens connections, first to the node that took the last one, then to the others by the strategy."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._order = _order(endpoint)
        self._node = next(self._order)

    def connect(self, timeout: float) -> Connection:
        """Try each node once, within *timeout* seconds in all. Raises `OperationalError`.

        A login that is refused ends it at once: it would be refused again.
        """
        deadline = time.monotonic() + timeout
        problems: list[OperationalError] = []
        for _ in self.endpoint.nodes:
            left = deadline - time.monotonic()
            if problems and left <= 0:
                break
            try:
                return connect(self.endpoint, self._node, min(left, self.endpoint.connect_timeout))
            except OperationalError as exc:
                problems.append(exc)
                if not exc.is_passing:
                    raise
                self._node = next(self._order)
        if len(problems) == 1:
            raise problems[0]
        raise OperationalError(
            "no node of RabbitMQ can be reached: " + "; ".join(str(problem) for problem in problems)
        ) from problems[-1]

    def connect_within(self, deadline: float) -> Connection:
        """Go round the nodes for *deadline* seconds, with growing pauses, until one takes a connection."""
        ends = time.monotonic() + deadline
        for pause in pauses():
            try:
                return self.connect(max(ends - time.monotonic(), 0.001))
            except OperationalError as exc:
                if not exc.is_passing or time.monotonic() + pause >= ends:
                    raise
            time.sleep(pause)
        raise AssertionError("the pauses have no end")


def _order(endpoint: Endpoint) -> Iterator[Node]:
    """The nodes in the order of the failover strategy, without end."""
    nodes = list(endpoint.nodes)
    if callable(endpoint.failover):
        by_url = {node.url: node for node in nodes}
        for url in endpoint.failover([node.url for node in nodes]):
            yield by_url[url]
        return
    while True:
        if endpoint.failover == "shuffle":
            from random import shuffle

            shuffle(nodes)
        yield from nodes
