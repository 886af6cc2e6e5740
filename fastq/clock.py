"""Lamport's logical clock orders what nodes without a common clock tell each other (PROTOCOL.md §7.6)."""

from __future__ import annotations


class LamportClock:
    """Counts up with all that is sent, and past all that is heard.

    It takes no lock: threads that count at the same moment may share a number, which says what is true,
    that neither came first.
    """

    __slots__ = ("value",)

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def forward(self) -> int:
        """The number of what is sent now."""
        self.value += 1
        return self.value

    def adjust(self, other: int) -> int:
        """Count past *other*, the number of what has been heard."""
        self.value = max(self.value, other) + 1
        return self.value

    def __repr__(self) -> str:
        return f"<LamportClock {self.value}>"
