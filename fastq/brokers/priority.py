"""Priorities as Kombu's Redis transport has them: four steps, 0 the most urgent (PROTOCOL §3.2)."""

from __future__ import annotations

STEPS = (0, 3, 6, 9)


def priority_step(priority: int | None) -> int:
    """The largest step that is not above *priority*, which is first brought into 0 to 9; None counts as 0."""
    if priority is None:
        return 0
    return min(max(priority, 0), 9) // 3 * 3
