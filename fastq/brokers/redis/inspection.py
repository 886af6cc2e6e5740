"""What people ask of a Redis broker: how long its queues are, where a message lies, what died and why."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from hiredis import ReplyError

from fastq._core.codec import json_loads
from fastq._core.message import Message, decode_envelope
from fastq._core.resp import Argument
from fastq._core.turn import redeliveries, without_count
from fastq.brokers.base import DeadMessage, QueueInfo, TaskPlace
from fastq.brokers.redis import keys
from fastq.brokers.redis.connection import Connection, checked
from fastq.brokers.redis.layout import Layout
from fastq.brokers.redis.refusals import code_of
from fastq.exceptions import DecodeError

# How many entries one reply may hold: some milliseconds in which the server serves nobody else.
PAGE = 1000
# How many messages the first reply of a search holds; the next ones hold about so many bytes.
FIRST_PAGE = 20
PAGE_BYTES = 1 << 20


def queues(connection: Connection, layout: Layout, names: Iterable[str], timeout: float) -> list[QueueInfo]:
    """The counts of every queue that holds something, and of *names*, sorted by name."""
    wanted = set(names)
    workers = _workers(connection, layout, timeout)
    found = []
    for name in sorted(wanted | set(_known_queues(connection, layout, timeout))):
        info = _count(connection, layout, name, workers, timeout)
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


def _count(
    connection: Connection, layout: Layout, name: str, workers: Iterable[str], timeout: float
) -> QueueInfo:
    ready = layout.ready(name)
    claims = [keys.claims(layout.prefix, name, epoch) for epoch in workers]
    commands: list[list[Argument]] = [["LLEN", key] for key in ready]
    commands += [["HLEN", key] for key in claims]
    commands += [["ZCARD", keys.delayed(layout.prefix, name)], ["ZCARD", keys.dead(layout.prefix, name)]]
    commands += [["LINDEX", key, -1] for key in ready]
    replies = connection.call_many(commands, timeout)
    heads = replies[-len(ready) :]
    counts = [0 if _is_foreign(reply) else checked(reply) for reply in replies[: -len(ready)]]
    return QueueInfo(
        name=name,
        ready=sum(counts[: len(ready)]),
        claimed=sum(counts[len(ready) : -2]),
        delayed=counts[-2],
        dead=counts[-1],
        oldest_age=_age(next((head for head in heads if isinstance(head, bytes)), None)),
    )


def _age(raw: bytes | None) -> float | None:
    """Seconds since the message *raw* was sent, or due; None if it does not tell (task_send_timestamp)."""
    if raw is None:
        return None
    from fastq.brokers.sent_time import ready_since  # for people who ask; it imports a worker's gate

    try:
        since = ready_since(decode_envelope(raw))
    except DecodeError:
        return None
    return None if since is None else max(time.time() - since, 0.0)


def _is_foreign(reply: Any) -> bool:
    """Whether a key of a queue's name is no list: it is somebody else's, as turn.lua takes it too."""
    return isinstance(reply, ReplyError) and code_of(str(reply)) == "WRONGTYPE"


def purge(connection: Connection, layout: Layout, queue: str, timeout: float) -> int:
    """Delete what is ready or delayed in *queue*; returns how many messages there were."""
    ready = layout.ready(queue)
    delayed = keys.delayed(layout.prefix, queue)
    commands: list[list[Argument]] = [["LLEN", key] for key in ready]
    # UNLINK leaves it to another thread of the server to free a long list.
    commands += [["ZCARD", delayed], ["UNLINK", *ready, delayed]]
    return sum(connection.transact(commands, timeout)[:-1])


def locate(
    connection: Connection, layout: Layout, task_id: str, names: Iterable[str], timeout: float
) -> TaskPlace | None:
    """Where the message of *task_id* lies. What moves to another place meanwhile may be missed: ask again."""
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
        # From the newest: what is sent meanwhile moves the others on, so none that stays is passed over.
        start, count = 0, FIRST_PAGE
        if _is_foreign(connection.call_many([["LLEN", key]], timeout)[0]):
            continue
        while page := connection.call("LRANGE", key, start, start + count - 1, timeout=timeout):
            for raw in page:
                if _is_of(raw, task_id):
                    return TaskPlace(state="queued", queue=queue, redelivered=redeliveries(raw))
            start += len(page)
            count = _next_count(page)
    return None


def delayed(
    connection: Connection, layout: Layout, queues: Iterable[str], limit: int, timeout: float
) -> list[tuple[float, Message]]:
    """The messages that are due first, with their times."""
    found: list[tuple[float, Message]] = []
    for queue in queues:
        key = keys.delayed(layout.prefix, queue)
        reply = connection.call("ZRANGE", key, 0, limit - 1, "WITHSCORES", timeout=timeout)
        pairs = reply if reply and isinstance(reply[0], list) else zip(reply[::2], reply[1::2], strict=True)
        for member, score in pairs:
            try:
                message = decode_envelope(member.partition(b":")[2])
            except DecodeError:  # shown when it is due, and dies
                continue
            message.queue = queue
            found.append((float(score), message))
    return sorted(found, key=lambda each: each[0])[:limit]


def revoke(connection: Connection, layout: Layout, records: Mapping[str, float], timeout: float) -> None:
    """Add to the set, and drop from it what has run out."""
    key = keys.revoked(layout.prefix)
    commands: list[list[Argument]] = [["ZREMRANGEBYSCORE", key, "-inf", time.time()]]
    pairs = list(records.items())
    for start in range(0, len(pairs), PAGE):
        page = [part for record, until in pairs[start : start + PAGE] for part in (repr(until), record)]
        commands.append(["ZADD", key, *page])
    for reply in connection.call_many(commands, timeout):
        checked(reply)


def revoked(connection: Connection, layout: Layout, timeout: float) -> dict[str, float]:
    """What has not run out."""
    key, now = keys.revoked(layout.prefix), time.time()
    reply = connection.call("ZRANGEBYSCORE", key, now, "+inf", "WITHSCORES", timeout=timeout)
    pairs = reply if reply and isinstance(reply[0], list) else zip(reply[::2], reply[1::2], strict=True)
    return {record.decode(): float(until) for record, until in pairs}


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
    cursor, count = b"0", FIRST_PAGE
    while True:
        cursor, flat = connection.call(command, key, cursor, "COUNT", count, timeout=timeout)
        yield from zip(flat[::2], flat[1::2], strict=True)
        if cursor == b"0":
            return
        count = _next_count(flat)


def _next_count(page: list[bytes]) -> int:
    """How many entries to ask for next, when the last reply was *page*."""
    size = sum(map(len, page)) // max(len(page), 1)
    return min(max(PAGE_BYTES // max(size, 1), 1), PAGE)


def _is_of(raw: bytes, task_id: str) -> bool:
    """Whether the envelope *raw* is the message of *task_id*; most are told apart without decoding them."""
    if not any(form in raw for form in _forms(task_id)):
        return False
    message = _decoded(raw)
    # A v1 message keeps its id in the body, which was not decoded.
    return message is None or message.id in (task_id, "")


@lru_cache(maxsize=1)
def _forms(task_id: str) -> list[bytes]:
    """*task_id* as it may stand in JSON, whose writers differ in what they escape."""
    import json  # 2 ms to import, for those who look for a task

    quoted = {json.dumps(task_id, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True)}
    return [form.encode() for form in {task_id, *quoted}]


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
        for start in range(0, limit, PAGE):
            last = min(start + PAGE, limit) - 1
            key = keys.dead(layout.prefix, name)
            newest = connection.call("ZRANGE", key, start, last, "REV", timeout=timeout)
            found += _entries(connection, layout, name, newest, timeout)
            if len(newest) < PAGE:
                break
        found = sorted(found, key=lambda entry: entry.died_at, reverse=True)[:limit]
    return found


def find_dead(connection: Connection, layout: Layout, id: str, timeout: float) -> DeadMessage | None:
    """The dead set's entry of this *id*."""
    for name in _known_queues(connection, layout, timeout):
        for entry in _entries(connection, layout, name, [id.encode()], timeout):
            return entry
    return None


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
                id=_shown(entry),
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
    # An id that is no UTF-8 was shown with something else in its place.
    looks_at_all = ids is None or any("\ufffd" in id for id in ids)
    for name in _known_queues(connection, layout, timeout) if queue is None else [queue]:
        key = keys.dead(layout.prefix, name)
        pages = _all_ids(connection, key, timeout)
        if ids is not None:
            pages = _among(pages, ids) if looks_at_all else _these_ids(connection, key, ids, timeout)
        for page in pages:
            values = connection.call("HMGET", keys.dead_entries(layout.prefix, name), *page, timeout=timeout)
            for entry, value in zip(page, values, strict=True):
                if value is not None:  # else taken away meanwhile
                    yield name, entry, without_count(value.partition(b"\0")[2])


def _shown(entry: bytes) -> str:
    """The id of an entry, for people."""
    return entry.decode("utf-8", "replace")


def _among(pages: Iterator[list[bytes]], ids: set[str]) -> Iterator[list[bytes]]:
    """Those of *pages* that are shown as one of *ids*."""
    for page in pages:
        chosen = [entry for entry in page if _shown(entry) in ids]
        if chosen:
            yield chosen


def _all_ids(connection: Connection, key: str, timeout: float) -> Iterator[list[bytes]]:
    """Pages of the ids that lie in the dead set *key* now, oldest first; without what dies meanwhile."""
    newest = connection.call("ZRANGE", key, -1, -1, "WITHSCORES", timeout=timeout)
    if not newest:
        return
    last = _scored(newest)[-1][1]
    after = "-inf"
    while page := _scored(
        connection.call("ZRANGEBYSCORE", key, after, last, "WITHSCORES", "LIMIT", 0, PAGE, timeout=timeout)
    ):
        yield [entry for entry, _ in page]
        after = f"({page[-1][1]}"  # no two have died at the same time


def _these_ids(connection: Connection, key: str, ids: set[str], timeout: float) -> Iterator[list[bytes]]:
    """Pages of those of *ids* that lie in the dead set *key*, oldest first."""
    wanted = [id.encode() for id in ids]
    found: list[tuple[float, bytes]] = []
    for start in range(0, len(wanted), PAGE):
        page = wanted[start : start + PAGE]
        scores = connection.call("ZMSCORE", key, *page, timeout=timeout)
        found += [
            (float(score), entry) for score, entry in zip(scores, page, strict=True) if score is not None
        ]
    found.sort()
    for start in range(0, len(found), PAGE):
        yield [entry for _, entry in found[start : start + PAGE]]


def _scored(reply: list[Any]) -> list[tuple[bytes, str]]:
    """The members and scores of a reply WITHSCORES; RESP3 has them in pairs, RESP2 in one row."""
    pairs = reply if reply and isinstance(reply[0], list) else zip(reply[::2], reply[1::2], strict=True)
    return [(member, score.decode() if isinstance(score, bytes) else repr(score)) for member, score in pairs]


def _removal(layout: Layout, queue: str, entry: bytes) -> list[list[Argument]]:
    return [
        ["HDEL", keys.dead_entries(layout.prefix, queue), entry],
        ["ZREM", keys.dead(layout.prefix, queue), entry],
    ]
