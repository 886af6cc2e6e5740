"""The messages that every side gets: seeded, so that two runs measure the same bytes."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import orjson

SEED = 20260101
QUEUE = "celery"
NOOP = "benches.noop"
MARK = "benches.mark"
BODY = b'[[], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
WARM_UP_SHARE = 10  # one in so many tasks runs before the clock starts


def task_ids(count: int, seed: int = SEED) -> list[str]:
    """*count* UUIDs of version 4, the same ones for the same *seed*."""
    source = random.Random(seed)
    return [str(UUID(int=source.getrandbits(128), version=4)) for _ in range(count)]


def headers(task: str, task_id: str, *, ignore_result: bool = False) -> dict[str, Any]:
    """The headers of a call without arguments (docs/PROTOCOL.md §1.2)."""
    return {
        "lang": "py",
        "task": task,
        "id": task_id,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": None,
        "argsrepr": "()",
        "kwargsrepr": "{}",
        "origin": "gen1000@bench",
        "ignore_result": ignore_result,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }


def envelope(call: dict[str, Any], body_encoding: str | None = None) -> bytes:
    """Kombu's JSON envelope of the call with the headers *call* (docs/PROTOCOL.md §3.3).

    *body_encoding* "base64" is how Celery sends it, None how fastq does.
    """
    properties = {
        "correlation_id": call["id"],
        "reply_to": "6f1a4f7e-6a4c-3f0e-8a52-3f9a2c6f1d10",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": QUEUE},
        "priority": 0,
        "delivery_tag": call["id"],
    }
    if body_encoding:
        properties["body_encoding"] = body_encoding
    return orjson.dumps(
        {
            "body": b64encode(BODY).decode() if body_encoding else BODY.decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": call,
            "properties": properties,
        }
    )


def calls(ids: list[str], results: bool = True) -> Iterator[dict[str, Any]]:
    """Headers of calls of the no-op task with *ids*; without results two of them are marks.

    A mark appends the time at which it runs to a file, for there is no result to tell it.
    One stands after the warm-up and one at the end.
    """
    for position, task_id in enumerate(ids):
        is_mark = not results and position in (len(ids) // WARM_UP_SHARE, len(ids) - 1)
        yield headers(MARK if is_mark else NOOP, task_id, ignore_result=not results)


def workload(ids: list[str], *, body_encoding: str | None = None, results: bool = True) -> Iterator[bytes]:
    """The envelopes of `calls`."""
    for call in calls(ids, results):
        yield envelope(call, body_encoding)
