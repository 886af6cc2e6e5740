"""What beats share in Redis: two scripts, and hashes of the entries and their states."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastq._core.codec import json_dumps, json_loads
from fastq._core.resp import Argument
from fastq.brokers.redis import keys
from fastq.brokers.redis.scripts import run_script
from fastq.brokers.schedule_store import Kept, Look, Run, ScheduleStore, digest

if TYPE_CHECKING:
    from fastq.brokers.redis.broker import RedisBroker
    from fastq.brokers.redis.connection import Connection


class RedisScheduleStore(ScheduleStore):
    """Uses the connections of the broker."""

    def __init__(self, broker: RedisBroker, name: str) -> None:
        self._broker = broker
        prefix = broker.layout.prefix
        self._lease = keys.beat_lease(prefix, name)
        self._facts = keys.beat_facts(prefix, name)
        self._entries = keys.beat_entries(prefix, name)
        self._states = keys.beat_states(prefix, name)
        self._paused = keys.beat_paused(prefix, name)
        self._digest = ("", frozenset[str]())
        self._served = ""  # at the last look

    def look(self, beat: str, lease: float, stale: str, names: Collection[str]) -> Look:
        if self._digest[1] != names:
            self._digest = (digest(names), frozenset(names))
        arguments: list[Argument] = [
            beat,
            int(lease * 1000),
            stale,
            self._digest[0],
            json_dumps(sorted(names)),
        ]
        found = self._broker.run(
            lambda connection, left: run_script(
                connection, "beat_look.lua", [self._lease, self._facts], arguments, left
            )
        )
        now, token, version, served, alive_at = found
        self._served = served.decode()
        return Look(float(now), token.decode(), int(version), self._served, float(alive_at))

    def resign(self, beat: str) -> None:
        def resign(connection: Connection, left: float) -> None:
            # That it may be another's by the time it goes does no harm: a lease only saves work.
            token = connection.call("GET", self._lease, timeout=left) or b""
            if token.rpartition(b" ")[0] == beat.encode():
                connection.call("DEL", self._lease, timeout=left)

        self._broker.run(resign)

    def leader(self) -> str:
        token: bytes = self._call("GET", self._lease) or b""
        return token.decode().rpartition(" ")[0]

    def served(self) -> frozenset[str]:
        names = self._call("HGET", self._facts, "names")
        return frozenset(json_loads(names) if names else ())

    def read(self) -> Kept:
        commands: list[list[Argument]] = [
            ["HGET", self._facts, "version"],
            ["HGETALL", self._entries],
            ["HGETALL", self._states],
            ["SMEMBERS", self._paused],
        ]
        version, entries, states, paused = self._broker.run(
            lambda connection, left: connection.transact(commands, left)
        )
        return Kept(
            int(version or 0),
            {name.decode(): definition for name, definition in _map(entries).items()},
            {name.decode(): _numbered(state) for name, state in _map(states).items()},
            frozenset(name.decode() for name in paused),
        )

    def accept(self, runs: Sequence[Run], version: int) -> list[str] | None:
        arguments: list[Argument] = [version]
        for run in runs:
            commands = [each for message in run.messages for each in self._broker.commands_of(message)]
            arguments += [run.name, run.number, run.state, len(commands)]
            for command in commands:
                arguments += [len(command), *command]
        fresh = self._broker.layout.fresh_queues()

        def accept(connection: Connection, left: float) -> Any:
            if fresh:
                connection.call("SADD", keys.queues(self._broker.layout.prefix), *fresh, timeout=left)
            return run_script(connection, "beat_accept.lua", [self._states, self._facts], arguments, left)

        said = self._broker.run(accept)
        return None if said is None else [each.decode() for each in said]

    def amend(self, runs: Sequence[Run]) -> list[bool]:
        arguments: list[Argument] = [word for run in runs for word in (run.name, run.number, run.state)]
        done = self._broker.run(
            lambda connection, left: run_script(connection, "beat_amend.lua", [self._states], arguments, left)
        )
        return [bool(each) for each in done]

    def put(self, name: str, definition: bytes) -> None:
        self._change(["HSET", self._entries, name, definition])

    def remove(self, names: Iterable[str]) -> int:
        count = 0
        for name in names:
            found = self._change(
                ["HDEL", self._entries, name], ["HDEL", self._states, name], ["SREM", self._paused, name]
            )
            count += any(found[:2])
        return count

    def pause(self, name: str, is_paused: bool) -> None:
        self._change(["SADD" if is_paused else "SREM", self._paused, name])

    def _change(self, *commands: list[Argument]) -> list[Any]:
        """Run *commands* and count up the version, in one transaction."""
        counted: list[list[Argument]] = [*commands, ["HINCRBY", self._facts, "version", 1]]
        found: list[Any] = self._broker.run(lambda connection, left: connection.transact(counted, left))
        return found

    def _call(self, *command: Argument) -> Any:
        return self._broker.run(lambda connection, left: connection.call(*command, timeout=left))


def _map(reply: Any) -> dict[bytes, bytes]:
    """A map as RESP3 gives it, or RESP2."""
    if isinstance(reply, dict):
        return reply
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _numbered(kept: bytes) -> tuple[int, bytes]:
    number, _, state = kept.partition(b" ")
    return int(number), state
