"""Why a message that was taken back too often is not delivered again (D2)."""

from __future__ import annotations

import sys

# What a worker gives back when it leaves is counted but does not die: a stop is no crash.
NO_LIMIT = sys.maxsize


def lease_ran_out(node: str) -> str:
    """The cause of death that a worker's silence is taken for."""
    return f"the lease of {node} ran out"


def death_reason(count: int, limit: int, cause: str) -> str:
    """What the dead set says of a message that was taken back *count* times; *cause* tells of the last."""
    times = "once" if count == 1 else f"{count} times"
    return f"its worker died {times} while it held the message ({cause}); {limit} redeliveries are allowed"
