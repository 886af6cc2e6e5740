"""Exchanges in Redis: Celery's binding sets, keys of ours, and pub/sub (docs/PROTOCOL.md §3.4 to §3.8).

Bindings of direct and topic exchanges lie where Celery's producers look for them. Those of fanout and
headers exchanges lie in a hash of ours, for Celery has none of the latter and sends to the former by pub/sub:
its queues receive what is published on their channels, ours get a copy in their lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fastq._core.codec import json_dumps, json_loads
from fastq._core.message import Message, message_from_tuple
from fastq._core.resp import Argument
from fastq._core.routing import kombu_member, parse_kombu_member, topic_regex
from fastq.brokers.exchanges import Bound, Stored
from fastq.brokers.redis import keys
from fastq.brokers.redis.connection import Connection, checked
from fastq.brokers.redis.layout import Layout
from fastq.exceptions import DecodeError

# In the properties of what goes out by pub/sub: fastq's queues have got a copy of it already.
COPIED = "fastq-copied"


def binding_commands(
    layout: Layout, exchange: str, bound: Iterable[Bound], owner: str = ""
) -> list[list[Argument]]:
    """The commands that store bindings of *exchange*; *owner* is the worker epoch whose end ends them."""
    commands: list[list[Argument]] = []
    for each in bound:
        commands.append(["HSET", keys.exchanges(layout.prefix), exchange, each.exchange_type])
        if each.exchange_type in ("fanout", "headers"):
            commands.append(["HSET", keys.bindings(layout.prefix, exchange), own_member(each), owner])
            continue
        pattern = topic_regex(each.routing_key) if each.exchange_type == "topic" else ""
        member = kombu_member(each.routing_key, pattern, each.queue)
        commands.append(["SADD", keys.kombu_bindings(layout.prefix, exchange), member])
        # Celery sweeps the former set away where the latter is missing (§3.5).
        commands.append(["SADD", keys.kombu_permanent_bindings(layout.prefix, exchange), member])
    return commands


def own_member(bound: Bound) -> str:
    """A binding as the hash of ours names it."""
    return json_dumps([bound.queue, bound.routing_key, dict(sorted(bound.arguments.items()))]).decode()


def exchange(
    connection: Connection,
    layout: Layout,
    name: str,
    exchange_type: str,
    bound: Sequence[Bound],
    timeout: float,
) -> tuple[Stored, list[str]]:
    """Store bindings, and read all of the exchange; also the channels on which Celery's workers listen.

    A user who may not write the bindings can read them all the same.
    """
    reading: list[list[Argument]] = [
        ["HGET", keys.exchanges(layout.prefix), name],
        ["HKEYS", keys.bindings(layout.prefix, name)],
        ["SMEMBERS", keys.kombu_bindings(layout.prefix, name)],
    ]
    replies = connection.call_many([*binding_commands(layout, name, bound), *reading], timeout)
    known_type, own, members = (checked(reply) for reply in replies[-len(reading) :])
    kombus = sorted(_kombu_bindings(members))
    if not exchange_type:
        is_topic = any(pattern for _, pattern, _ in kombus)
        exchange_type = known_type.decode() if known_type else "topic" if is_topic else ""
    if exchange_type in ("fanout", "headers"):
        found = [_own_bound(exchange_type, member) for member in sorted(own)]
        channels: list[str] = []
        if exchange_type == "fanout" and kombus:
            # The queue without a name stands for them.
            found.append(Bound(exchange_type, "", ""))
            channels = sorted({layout.channel(name, key) for key, _, _ in kombus})
        return Stored(exchange_type, found), channels
    return Stored(exchange_type, [Bound(exchange_type, queue, key) for key, _, queue in kombus]), []


def publications(message: Message, channels: Iterable[str]) -> list[list[Argument]]:
    """The commands that send *message* to those who listen on *channels*."""
    copy = message_from_tuple(message.to_tuple())
    copy.properties = {**copy.properties, COPIED: True}
    envelope = copy.envelope()
    return [["PUBLISH", channel, envelope] for channel in channels]


def _kombu_bindings(members: Iterable[bytes]) -> list[tuple[str, str, str]]:
    """Routing key, pattern and queue of each of *members* that can be read."""
    found = []
    for member in members:
        try:
            found.append(parse_kombu_member(member))
        except DecodeError:  # somebody else's: no queue can be told from it
            continue
    return found


def _own_bound(exchange_type: str, member: bytes) -> Bound:
    queue, routing_key, arguments = json_loads(member)
    return Bound(exchange_type, queue, routing_key, arguments)
