"""Chords on the keys of Celery's workers: what chords.lua needs to keep them, and what it tells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from fastq._core.message import part_name
from fastq._core.resp import Argument
from fastq.backends.base import BackendOptions, CompleteChord, Part

# Celery's least life of a claim, and of the mark that a chord has ended: seconds.
LEAST_CLAIM = 5.0
LEAST_MARK = 300.0


class ChordKeeping(NamedTuple):
    """How one application keeps chords; `TurnCodec` takes the fields as bytes, in this order."""

    prefix: bytes  # of the keys of groups
    is_ordered: bytes  # b"1": .j is a sorted set, else a list
    ttl: bytes  # milliseconds; empty: for ever
    group_ttl: bytes  # the same for what describes a group
    claim: bytes  # milliseconds
    mark: bytes  # milliseconds

    def began(self, chords: Iterable[tuple[str, int]]) -> list[Argument]:
        """The records that tell the sizes of *chords*."""
        arguments: list[Argument] = []
        for group_id, size in chords:
            arguments += [b"K", self.key(group_id), size, self.ttl]
        return arguments

    def extended(self, extended: Iterable[tuple[str, int, str]]) -> list[Argument]:
        """The records that let chords grow."""
        arguments: list[Argument] = []
        for group_id, count, name in extended:
            arguments += [b"T", self.key(group_id), count, name, self.ttl]
        return arguments

    def counted(self, parts: Iterable[Part]) -> list[Argument]:
        """The records that count *parts*: one for each chord."""
        groups: dict[str, list[Part]] = {}
        for part in parts:
            groups.setdefault(part.group_id, []).append(part)
        arguments: list[Argument] = []
        for group_id, ended in groups.items():
            arguments += [b"C", self.key(group_id), self.is_ordered, self.ttl, self.group_ttl, self.claim]
            arguments += [len(ended), *(part_name(part.task_id, part.position) for part in ended)]
            for part in ended:
                if self.is_ordered == b"1":
                    arguments.append("+inf" if part.position is None else part.position)
                arguments.append(part.member)
        return arguments

    def ended(self, group_id: str) -> list[Argument]:
        """The record that ends a chord."""
        return [b"J", 0, self.key(group_id), self.mark]

    def key(self, group_id: str) -> bytes:
        """The key of a group, before the suffixes of its chord."""
        return self.prefix + group_id.encode("utf-8", "surrogatepass")

    def told(self, what: Sequence[Any]) -> CompleteChord:
        """What chords.lua tells of a complete chord."""
        key, name, is_taken, members, *described = what
        return CompleteChord(
            key[len(self.prefix) :].decode("utf-8", "surrogatepass"),
            name.decode("utf-8", "surrogatepass"),
            bool(is_taken),
            members,
            described[0] if described else None,
        )


def keeping(prefix: str, options: BackendOptions) -> ChordKeeping:
    """How the application of *options* keeps chords under keys that begin with *prefix*."""
    expires = options.chord_expires
    # What describes a group is read by people, too: never less than a result.
    lasting = max(expires, options.expires) if expires and options.expires else None
    claim = max(LEAST_CLAIM, 2 * (options.join_timeout or LEAST_CLAIM))
    return ChordKeeping(
        prefix.encode(),
        b"1" if options.transport_options.get("result_chord_ordered", True) else b"0",
        _ms(expires),
        _ms(lasting),
        _ms(claim),
        _ms(max(2 * claim, LEAST_MARK)),
    )


def _ms(seconds: float | None) -> bytes:
    return b"%d" % max(round(seconds * 1000), 1) if seconds else b""
