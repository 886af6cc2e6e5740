"""Whether code may wait for results where it runs: a pool whose tasks wait for each other can stand still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fastq._core.request import current_request

# Whether tasks of this process's pool hold up others while they wait; greenlets don't.
_blocks = True
# What allow_join_result and denied_join_result say here; None: neither does.
_may_join: ContextVar[bool | None] = ContextVar("fastq.may_join", default=None)


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Let the code of this block wait for results although it runs in a task."""
    token = _may_join.set(True)
    try:
        yield
    finally:
        _may_join.reset(token)


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Refuse the code of this block to wait for results, as in a task."""
    token = _may_join.set(False)
    try:
        yield
    finally:
        _may_join.reset(token)


def may_wait() -> bool:
    """Whether code that runs here may wait for the results of what it sends."""
    said = _may_join.get()
    return said if said is not None else not _blocks or current_request() is None


def set_task_join_will_block(blocks: bool) -> None:
    """Say whether a task that waits here holds up the others of its pool."""
    global _blocks
    _blocks = blocks


def task_join_will_block() -> bool:
    """Whether code that runs here is refused to wait for results."""
    return not may_wait()


def assert_will_not_block() -> None:
    """Raise `RuntimeError` in a task: a pool whose tasks wait for each other can stand still for ever."""
    if not may_wait():
        raise RuntimeError(
            "Never call result.get() within a task: the pool can stand still when all its tasks wait. "
            "Link tasks instead, or use allow_join_result()."
        )
