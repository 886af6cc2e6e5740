"""The chords of the memory backend: what is known of each, by the id of its group."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from fastq._core.message import part_name
from fastq.backends.base import CompleteChord, Part

DONE = "done"
# Seconds that a chord that has ended is known, so that a part that comes late does not count: Celery's least.
MARKED = 300.0


class Chord:
    """One chord."""

    __slots__ = ("added", "expires", "extended_by", "joined_by", "parts", "size")

    def __init__(self) -> None:
        self.size: int | None = None  # None: not known yet
        self.added = 0  # what came to the size
        self.extended_by: set[str] = set()
        self.parts: dict[str, Part] = {}  # those that have ended, by name
        self.joined_by: str | None = None  # the part that completed it, or DONE
        self.expires = math.inf  # monotonic seconds

    def is_complete(self) -> bool:
        """Whether all parts have ended."""
        return self.size is not None and len(self.parts) >= self.size + self.added


class Chords:
    """All chords of one store. Not safe over threads."""

    def __init__(self) -> None:
        self._chords: dict[str, Chord] = {}  # by group id

    def begin(self, chords: Iterable[tuple[str, int]], seconds: float | None) -> None:
        """Tell sizes; what is touched here and below is kept for so many *seconds* (None: for ever)."""
        for group_id, size in chords:
            chord = self._touch(group_id, seconds)
            chord.size = size
            chord.joined_by = None

    def extend(self, extended: Iterable[tuple[str, int, str]], seconds: float | None) -> None:
        """Let chords grow, once for each name."""
        for group_id, count, name in extended:
            chord = self._touch(group_id, seconds)
            if name not in chord.extended_by:
                chord.extended_by.add(name)
                chord.added += count

    def count(self, parts: Iterable[Part], seconds: float | None) -> list[CompleteChord]:
        """Count *parts*; returns the chords that are complete by the last ones of them."""
        last: dict[str, str] = {}
        for part in parts:
            chord = self._chords.get(part.group_id)
            if chord is not None and chord.joined_by == DONE:
                continue
            name = last[part.group_id] = part_name(part.task_id, part.position)
            self._touch(part.group_id, seconds).parts.setdefault(name, part)
        complete = []
        for group_id, name in last.items():
            chord = self._chords[group_id]
            if chord.is_complete() and chord.joined_by in (None, name):
                chord.joined_by = name
                complete.append(CompleteChord(group_id, name))
        return complete

    def members(self, group_id: str) -> list[bytes] | None:
        """The members of a chord in their order; None if there are none."""
        chord = self._chords.get(group_id)
        if chord is None or not chord.parts:
            return None
        parts = sorted(
            chord.parts.values(), key=lambda part: math.inf if part.position is None else part.position
        )
        return [part.member for part in parts]

    def end(self, group_id: str) -> bool:
        """Forget a chord that is joined; whether nobody has done so before."""
        chord = self._chords.get(group_id)
        if chord is None or chord.joined_by == DONE:
            return False
        self._chords[group_id] = Chord()
        self._touch(group_id, MARKED).joined_by = DONE
        return True

    def sweep(self) -> int:
        """Delete chords that have expired; returns how many."""
        now = time.monotonic()
        expired = [group_id for group_id, chord in self._chords.items() if chord.expires <= now]
        for group_id in expired:
            del self._chords[group_id]
        return len(expired)

    def _touch(self, group_id: str, seconds: float | None) -> Chord:
        chord = self._chords.setdefault(group_id, Chord())
        chord.expires = math.inf if seconds is None else time.monotonic() + seconds
        return chord
