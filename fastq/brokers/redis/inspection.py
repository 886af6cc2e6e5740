"""What people ask of a Redis broker: how long its queues are, where a message lies, what died and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fastq._core.codec import json_loads
from fastq._core.message import Message, decode_envelope
from fastq._core.resp import Argument
from fastq._core.turn import redeliveries, without_count
from fastq.brokers.base import DeadMessage, QueueInfo, TaskPlace
from fastq.brokers.redis import keys
from fastq.brokers.redis.connection import Connection, checked
from fastq.brokers.redis.layout import Layout
from fastq.exceptions import DecodeError

# How many messages one reply may hold while a queue is searched.
PAGE = 1000


def queues(connection: Connection, layout: Layout, names: Iterable[str], timeout: float) -> list[QueueInfo]:
    """The counts of every queue that holds something, and of *names*, sorted by name."""
    wanted = set(names)
    found = []
    for name in sorted(wanted | set(_known_queues(connection, layout, timeout))):
        info = _count(connection, layout, name, timeout)
        if name in wanted or info.ready or info.claimed or info.delayed or info.dead:
            found.append(info)
    return found


def _known_queues(connection: Connection, layout: Layout, timeout: float) -> list[str]:
    members = connection.call("SMEMBERS", keys.queues(layout.prefix), timeout=timeout)
    return sorted(member.decode() for member in members)


def _workers(connection: Connection, layout: Layout, timeout: float) -> dict[str, dict[str, Any]]:
    """What each registered worker epoch has written down about itself."""
    known = connection.call("HGETALL", keys.workers(layout.prefix), timeout=timeout)
    pairs = known.items() if isinstance(known, dict) else zip(known[::2], known[1::2], strict=True)
    return {epoch.decode(): json_loads(text) for epoch, text in pairs}


def _count(connection: Connection, layout: Layout, name: str, timeout: float) -> QueueInfo:
    ready = layout.ready(name)
    claims = [keys.claims(layout.prefix, name, epoch) for epoch in _workers(connection, layout, timeout)]
    commands: list[list[Argument]] = [["LLEN", key] for key in ready]
    commands += [["HLEN", key] for key in claims]
    commands += [["ZCARD", keys.delayed(layout.prefix, name)], ["ZCARD", keys.dead(layout.prefix, name)]]
    counts = [checked(reply) for reply in connection.call_many(commands, timeout)]
    return QueueInfo(
        name=name,
        ready=sum(counts[: len(ready)]),
        claimed=sum(counts[len(ready) : -2]),
        delayed=counts[-2],
        dead=counts[-1],
        oldest_age=None,  # an envelope does not tell when it was sent
    )


def purge(connection: Connection, layout: Layout, queue: str, timeout: float) -> int:
    """Delete what is ready or delayed in *queue*; returns how many messages there were."""
    ready = layout.ready(queue)
    delayed = keys.delayed(layout.prefix, queue)
    commands: list[list[Argument]] = [["LLEN", key] for key in ready]
    commands += [["ZCARD", delayed], ["DEL", *ready, delayed]]
    return sum(connection.transact(commands, timeout)[:-1])


def locate(
    connection: Connection, layout: Layout, task_id: str, names: Iterable[str], timeout: float
) -> TaskPlace | None:
    """Where the message of *task_id* lies. What moves meanwhile may be missed: ask again."""
    workers = _workers(connection, layout, timeout)
    for queue in sorted({*names, *_known_queues(connection, layout, timeout)}):
        place = (
            _find_ready(connection, layout, queue, task_id, timeout)
            or _find_delayed(connection, layout, queue, task_id, timeout)
            or _find_claimed(connection, layout, queue, task_id, workers, timeout)
            or _find_dead(connection, layout, queue, task_id, timeout)
        )
        if place is not None:
            return place
    return None


def _find_ready(
    connection: Connection, layout: Layout, queue: str, task_id: str, timeout: float
) -> TaskPlace | None:
    for key in layout.ready(queue):
        # From the end that is served next.
        last = -1
        while page := connection.call("LRANGE", key, last - PAGE + 1, last, timeout=timeout):
            for raw in page:
                if _is_of(raw, task_id):
                    return TaskPlace(state="queued", queue=queue, redelivered=redeliveries(raw))
            last -= PAGE
    return None


def _find_delayed(
    connection: Connection, layout: Layout, queue: str, task_id: str, timeout: float
) -> TaskPlace | None:
    for member, score in _scan(connection, "ZSCAN", keys.delayed(layout.prefix, queue), timeout):
        raw = member.partition(b":")[2]
        if _is_of(raw, task_id):
            until = float(score)
            return TaskPlace(state="delayed", queue=queue, until=until, redelivered=redeliveries(raw))
    return None


def _find_claimed(
    connection: Connection,
    layout: Layout,
    queue: str,
    task_id: str,
    workers: dict[str, dict[str, Any]],
    timeout: float,
) -> TaskPlace | None:
    for epoch, known in workers.items():
        for _, raw in _scan(connection, "HSCAN", keys.claims(layout.prefix, queue, epoch), timeout):
            if _is_of(raw, task_id):
                name = known["name"]
                return TaskPlace(state="claimed", queue=queue, worker=name, redelivered=redeliveries(raw))
    return None


def _find_dead(
    connection: Connection, layout: Layout, queue: str, task_id: str, timeout: float
) -> TaskPlace | None:
    for _, value in _scan(connection, "HSCAN", keys.dead_entries(layout.prefix, queue), timeout):
        reason, _, raw = value.partition(b"\0")
        if _is_of(raw, task_id):
            text = reason.decode("utf-8", "replace")
            return TaskPlace(state="dead", queue=queue, reason=text, redelivered=redeliveries(raw))
    return None


def _scan(connection: Connection, command: str, key: str, timeout: float) -> Iterator[tuple[bytes, bytes]]:
    cursor = b"0"
    while True:
        cursor, flat = connection.call(command, key, cursor, "COUNT", PAGE, timeout=timeout)
        yield from zip(flat[::2], flat[1::2], strict=True)
        if cursor == b"0":
            return


def _is_of(raw: bytes, task_id: str) -> bool:
    """Whether the envelope *raw* is the message of *task_id*; most are told apart without decoding them."""
    # JSON writers differ in what they escape.
    forms = {task_id, _quoted(task_id), _quoted(task_id, ascii_only=True)}
    if not any(form.encode() in raw for form in forms):
        return False
    message = _decoded(raw)
    # A v1 message keeps its id in the body, which was not decoded.
    return message is None or message.id in (task_id, "")


def _quoted(text: str, ascii_only: bool = False) -> str:
    import json  # 2 ms to import, for those who look for a task

    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


def _decoded(raw: bytes) -> Message | None:
    try:
        return decode_envelope(raw)
    except DecodeError:
        return None


def dead(
    connection: Connection, layout: Layout, queue: str | None, limit: int, timeout: float
) -> list[DeadMessage]:
    """The newest *limit* entries, newest first."""
    found: list[DeadMessage] = []
    for name in _known_queues(connection, layout, timeout) if queue is None else [queue]:
        newest = connection.call(
            "ZRANGE", keys.dead(layout.prefix, name), 0, limit - 1, "REV", timeout=timeout
        )
        found += _entries(connection, layout, name, newest, timeout)
    return sorted(found, key=lambda entry: entry.died_at, reverse=True)[:limit]


def _entries(
    connection: Connection, layout: Layout, queue: str, ids: list[bytes], timeout: float
) -> list[DeadMessage]:
    if not ids:
        return []
    commands: list[list[Argument]] = [
        ["HMGET", keys.dead_entries(layout.prefix, queue), *ids],
        ["ZMSCORE", keys.dead(layout.prefix, queue), *ids],
    ]
    values, scores = (checked(reply) for reply in connection.call_many(commands, timeout))
    found = []
    for entry, value, score in zip(ids, values, scores, strict=True):
        if value is None or score is None:
            continue  # taken away meanwhile
        reason, _, raw = value.partition(b"\0")
        message = _decoded(raw)
        found.append(
            DeadMessage(
                id=entry.decode("utf-8", "replace"),
                queue=queue,
                task="" if message is None else message.task,
                reason=reason.decode("utf-8", "replace"),
                died_at=float(score),
                raw=without_count(raw),
            )
        )
    return found


def retry_dead(
    connection: Connection, layout: Layout, ids: set[str] | None, queue: str | None, timeout: float
) -> int:
    """Send entries back to the tail of their queues, each in one transaction with its removal."""
    retried = 0
    for name, entry, raw in _chosen(connection, layout, ids, queue, timeout):
        message = _decoded(raw)
        key, _, _ = layout.destination(name, None if message is None else message.priority)
        commands: list[list[Argument]] = [
            ["WATCH", keys.dead_entries(layout.prefix, name)],
            ["HEXISTS", keys.dead_entries(layout.prefix, name), entry],
        ]
        if not checked(connection.call_many(commands, timeout)[1]):
            connection.call("UNWATCH", timeout=timeout)
            continue  # somebody else was faster
        if connection.transact([["LPUSH", key, raw], *_removal(layout, name, entry)], timeout) is not None:
            retried += 1
    return retried


def drop_dead(
    connection: Connection, layout: Layout, ids: set[str] | None, queue: str | None, timeout: float
) -> int:
    """Delete entries of the dead set."""
    dropped = 0
    for name, entry, _ in _chosen(connection, layout, ids, queue, timeout):
        dropped += connection.transact(_removal(layout, name, entry), timeout)[0]
    return dropped


def _chosen(
    connection: Connection, layout: Layout, ids: set[str] | None, queue: str | None, timeout: float
) -> Iterator[tuple[str, bytes, bytes]]:
    """(queue, entry id, envelope without its count) of the entries with *ids*, or of all, oldest first."""
    for name in _known_queues(connection, layout, timeout) if queue is None else [queue]:
        entries = connection.call("ZRANGE", keys.dead(layout.prefix, name), 0, -1, timeout=timeout)
        if ids is not None:
            entries = [entry for entry in entries if entry.decode("utf-8", "replace") in ids]
        for start in range(0, len(entries), PAGE):
            page = entries[start : start + PAGE]
            key = keys.dead_entries(layout.prefix, name)
            for entry, value in zip(page, connection.call("HMGET", key, *page, timeout=timeout), strict=True):
                if value is not None:  # else taken away meanwhile
                    yield name, entry, without_count(value.partition(b"\0")[2])


def _removal(layout: Layout, queue: str, entry: bytes) -> list[list[Argument]]:
    return [
        ["HDEL", keys.dead_entries(layout.prefix, queue), entry],
        ["ZREM", keys.dead(layout.prefix, queue), entry],
    ]
