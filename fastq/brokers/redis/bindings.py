"""The bindings of a worker's queues: stored when it registers; some end with it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from fastq._core.codec import json_dumps
from fastq._core.resp import Argument
from fastq.brokers.exchanges import Bound
from fastq.brokers.redis import exchanges, keys
from fastq.brokers.redis.connection import Connection, ServerRefused
from fastq.brokers.redis.layout import Layout
from fastq.brokers.redis.scripts import run_script


def bind(
    connection: Connection,
    layout: Layout,
    bindings: Mapping[str, Sequence[Bound]],
    private: Collection[str],
    epoch: str,
    timeout: float,
) -> None:
    """Store the bindings of a worker's queues, by exchange; those of *private* ones end with its *epoch*.

    A user who may not do so can serve queues of direct exchanges all the same: they have names.
    """
    commands: list[list[Argument]] = []
    for name, bound in bindings.items():
        own = [each for each in bound if each.queue in private]
        commands += exchanges.binding_commands(layout, name, own, epoch)
        commands += exchanges.binding_commands(layout, name, [each for each in bound if each not in own])
    if commands:
        texts = [json_dumps(command) for command in commands]
        try:
            run_script(connection, "bind.lua", [keys.leases(layout.prefix)], texts, timeout)
        except ServerRefused:
            if any(each.exchange_type != "direct" for bound in bindings.values() for each in bound):
                raise


def private_keys(
    layout: Layout, bindings: Mapping[str, Sequence[Bound]], private: Iterable[str]
) -> list[dict[str, Any]]:
    """What restore.lua must know of *private* queues to delete them when their worker is gone.

    One that is bound to direct or topic exchanges stays: Celery's sets know no owners.
    """
    return [
        {
            "name": queue,
            "registry": keys.queues(layout.prefix),
            "keys": [key.decode() for key in layout.ready(queue)] + [keys.delayed(layout.prefix, queue)],
            "bindings": [
                [keys.bindings(layout.prefix, name), exchanges.own_member(each)]
                for name, bound in bindings.items()
                for each in bound
                if each.queue == queue
            ],
        }
        for queue in private
    ]
