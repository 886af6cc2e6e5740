"""The states of a task and their precedence."""

from __future__ import annotations

__all__ = (
    "ALL_STATES",
    "EXCEPTION_STATES",
    "FAILURE",
    "IGNORED",
    "PENDING",
    "PRECEDENCE",
    "PROPAGATE_STATES",
    "READY_STATES",
    "RECEIVED",
    "REJECTED",
    "RETRY",
    "REVOKED",
    "STARTED",
    "SUCCESS",
    "UNREADY_STATES",
    "precedence",
    "state",
)

PENDING = "PENDING"  # not known: perhaps waiting in a queue, perhaps never sent
RECEIVED = "RECEIVED"  # a worker took it (events only)
STARTED = "STARTED"  # it runs (only with task_track_started)
SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
REVOKED = "REVOKED"  # revoked or expired
REJECTED = "REJECTED"  # the task rejected its message (events only)
RETRY = "RETRY"  # it will run again
IGNORED = "IGNORED"  # the task raised Ignore: what is stored stays

READY_STATES = frozenset({SUCCESS, FAILURE, REVOKED})
UNREADY_STATES = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
EXCEPTION_STATES = frozenset({RETRY, FAILURE, REVOKED})
PROPAGATE_STATES = frozenset({FAILURE, REVOKED})
ALL_STATES = frozenset({PENDING, RECEIVED, STARTED, SUCCESS, FAILURE, RETRY, REVOKED})

# From the highest to the lowest. None stands for every state that is not listed: a task's own ones.
PRECEDENCE: list[str | None] = [
    SUCCESS,
    FAILURE,
    None,
    REVOKED,
    STARTED,
    RECEIVED,
    REJECTED,
    RETRY,
    PENDING,
]
_RANKS = {name: rank for rank, name in enumerate(PRECEDENCE)}
_CUSTOM_RANK = _RANKS[None]


def precedence(state: str | None) -> int:
    """Return the rank of *state*: 0 is the highest; an unknown state ranks as a task's own one."""
    return _RANKS.get(state, _CUSTOM_RANK)


class state(str):
    """A state that compares by precedence: ``state(PENDING) < state(SUCCESS)``.

    A task's own states rank below FAILURE and SUCCESS and above the other ones.

    >>> state(PENDING) < state(SUCCESS)
    True
    >>> state("PROGRESS") > state(STARTED)
    True
    """

    __slots__ = ()

    def __gt__(self, other: str) -> bool:
        return precedence(self) < precedence(other)

    def __ge__(self, other: str) -> bool:
        return precedence(self) <= precedence(other)

    def __lt__(self, other: str) -> bool:
        return precedence(self) > precedence(other)

    def __le__(self, other: str) -> bool:
        return precedence(self) >= precedence(other)
