"""Which outcomes of a turn take effect, and which wait until a chord is joined."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from fastq._core.message import Outcome
from fastq.backends.base import CompleteChord, Part


class Ledger(Protocol):
    """Where chords are kept; see `fastq.backends.base.Backend`."""

    def extend_chords(self, extended: Sequence[tuple[str, int, str]], deadline: float | None = None) -> None:
        """Let chords grow."""

    def count_parts(self, parts: Sequence[Part], deadline: float | None = None) -> list[CompleteChord]:
        """Count parts; returns the chords that are complete by the last ones of them."""

    def end_chord(self, group_id: str, deadline: float | None = None) -> bool:
        """Forget a chord; whether nobody has done so before."""


Waiting = list[tuple[Outcome, CompleteChord]]


def settle_chords(
    outcomes: Sequence[Outcome], ledger: Ledger, deadline: float | None = None
) -> tuple[list[Outcome], Waiting]:
    """Count the parts in *outcomes* and end the chords that they join.

    Returns the outcomes that take effect now, and those that wait for their chord to be joined.
    The others, which join a chord that has ended already, do neither.
    """
    extended = [each for outcome in outcomes if outcome.effects for each in outcome.effects.extended]
    if extended:
        ledger.extend_chords(extended, deadline)
    effective: list[Outcome] = []
    waiting: Waiting = []
    others: list[Outcome] = []
    # A join comes before what waits for it, which then finds the chord ended.
    for outcome in outcomes:
        if outcome.effects is None or outcome.effects.joined is None:
            others.append(outcome)
        elif complete := _count([outcome], ledger, deadline):
            waiting += complete
        elif ledger.end_chord(outcome.effects.joined, deadline):
            effective.append(outcome)
    complete = _count(others, ledger, deadline)
    held_back = {id(outcome) for outcome, _ in complete}
    effective += [outcome for outcome in others if id(outcome) not in held_back]
    return effective, waiting + complete


def _count(outcomes: Iterable[Outcome], ledger: Ledger, deadline: float | None) -> Waiting:
    parts: list[Part] = []
    last: dict[str, Outcome] = {}
    for outcome in outcomes:
        for part in outcome.effects.parts if outcome.effects is not None else ():
            parts.append(Part(*part))
            last[part[0]] = outcome
    if not parts:
        return []
    return [(last[chord.group_id], chord) for chord in ledger.count_parts(parts, deadline)]
