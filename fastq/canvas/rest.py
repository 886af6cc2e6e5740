"""The rest of a long chain, which waits in the result backend instead of travelling with every step.

A message carries the steps that follow its task. In a chain of n steps that makes n² of them in
all. So of a long one a message carries a block of steps and, behind them, a task of ours,
`CHAIN_REST`: it reads the next block and lets that run in its place. Until then it stands for all
the steps that are still to come: it has the id of the last one's value, and belongs to the same chord,
so that whoever sees the chain fail, Celery's workers too, tells so to who waits for its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastq._core.codec import json_dumps
from fastq._core.message import new_id
from fastq.canvas.plain import kind_of, value_id
from fastq.canvas.steps import Sig, is_plural

if TYPE_CHECKING:
    from fastq.app.base import FastQ

CHAIN_REST = "fastq.chain_rest"
# Steps in a message: a few kilobytes, and so few blocks to read that it hardly tells.
BLOCK_STEPS = 64
# Seconds that the next block is kept: time for the steps of one block, each of which may wait in a queue.
KEPT_SECONDS = 30 * 24 * 3600.0
# Options of a step that say where it goes: `CHAIN_REST` goes where the step before it went.
ADDRESS = ("queue", "exchange", "exchange_type", "routing_key", "priority", "route_name")


def block_steps(app: FastQ) -> int:
    """How many steps of a chain a message of *app* carries, ``task_chain_block``; 0: all of them."""
    size: int | str = app.conf.task_chain_block
    if size == "auto":
        is_shared = app.broker.has_celery_peers or app.broker.routes
        size = 0 if is_shared else BLOCK_STEPS
    backend = app.backend
    # Blocks are JSON: the arguments of a program that uses another serializer may have no form in that.
    if not size or backend is None or not backend.keeps_chains or app.conf.task_serializer != "json":
        return 0
    return int(size)


def split(rest: Sequence[Sig], size: int) -> tuple[tuple[Sig, ...], str, list[bytes]] | None:
    """*rest*, reversed, with a `CHAIN_REST` in place of all but its first *size* steps.

    Returns (that, the chain's id, blocks of the other steps, which are to be kept). None if the rest is
    short, or ends in a group, the members of which could not be told of a failure.
    """
    if len(rest) <= size or is_plural(rest[0]):
        return None
    steps = list(reversed(rest))
    chain_id = new_id()
    starts = range(0, len(steps), size)
    blocks = [steps[start : start + size] for start in starts]
    for number, block in enumerate(blocks[:-1]):
        block.append(_rest(chain_id, number, block[-1], steps[-1]))
    first, *others = blocks
    return tuple(reversed(first)), chain_id, [json_dumps(block) for block in others]


def _rest(chain_id: str, number: int, before: Sig, last: Sig) -> dict[str, Any]:
    """The task that goes on after the step *before* with block *number* of a chain that ends with *last*."""
    said = {name: value for name in ADDRESS if (value := before["options"].get(name)) is not None}
    said.setdefault("route_name", _routed_as(before))
    end = last
    while kind_of(end) == "chord":
        end = end["kwargs"]["body"]
    if kind_of(end) == "chain":
        end = end["kwargs"]["tasks"][-1]
    for name in ("chord", "group_id", "group_index", "link_error", "reply_to"):
        if end["options"].get(name) is not None:
            said[name] = end["options"][name]
    return {
        "task": CHAIN_REST,
        "args": [chain_id, number],
        "kwargs": {},
        "options": {**said, "task_id": value_id(last)},
        "subtask_type": None,
        "immutable": False,
    }


def _routed_as(sig: Mapping[str, Any]) -> Any:
    """The name by which the last task of *sig* is routed."""
    while kind_of(sig) == "chord":
        sig = sig["kwargs"]["body"]
    task = sig["kwargs"].get("task")
    return task["task"] if kind_of(sig) in ("xmap", "xstarmap") and isinstance(task, Mapping) else sig["task"]
