"""Stamps: headers of the user's that go with every task of a workflow, and visitors that choose them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastq.canvas.signature import Signature

# The header that names those which are stamps.
NAMES = "stamped_headers"


class StampingVisitor(ABC):
    """Walks a workflow, and says for every part of it which stamps it gets.

    Each method returns stamps, or what is to be stamped by name beside other headers as
    ``{"name": value, "stamped_headers": ["name"]}``. *headers* are those given from above.
    """

    @abstractmethod
    def on_signature(self, sig: Signature[Any], **headers: Any) -> dict[str, Any]:
        """Stamps for one task."""

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
        """Stamps for the members of a group, before they are asked for."""
        return {}

    def on_group_end(self, group: Any, **headers: Any) -> None:  # noqa: B027
        """Called when every member of a group is stamped."""

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        """Stamps for the steps of a chain, before they are asked for."""
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:  # noqa: B027
        """Called when every step of a chain is stamped."""

    def on_chord_header_start(self, sig: Any, **header: Any) -> dict[str, Any]:
        """Stamps for the header of a chord: those for its group, unless a visitor says otherwise."""
        return self.on_group_start(sig.header_group(), **header)

    def on_chord_header_end(self, sig: Any, **header: Any) -> None:
        """Called when the header of a chord is stamped."""
        self.on_group_end(sig.tasks, **header)

    def on_chord_body(self, sig: Any, **header: Any) -> dict[str, Any]:
        """Stamps for the body of a chord, before it is asked for."""
        return {}

    def on_callback(self, callback: Signature[Any], **header: Any) -> dict[str, Any]:
        """Stamps for a callback, before it is asked for."""
        return {}

    def on_errback(self, errback: Signature[Any], **header: Any) -> dict[str, Any]:
        """Stamps for an errback, before it is asked for."""
        return {}


def stamps_for(
    said: Mapping[str, Any] | None,
    headers: Mapping[str, Any],
    append_stamps: bool,
    own: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The options that stamp a part of a workflow.

    They are *headers* from above, what a visitor *said*, and its *own* stamps.
    Of a stamp that several of them have, the first one counts, or all in a list with *append_stamps*;
    lists are put together in any case.
    """
    merged = dict(headers)
    merged.setdefault(NAMES, list(merged))
    if said is not None:
        _merge(merged, {NAMES: list(said), **said}, append_stamps)
    merged[NAMES] = list(dict.fromkeys(merged[NAMES]))
    if own is not None:
        names = dict.fromkeys((*merged[NAMES], *(own.get(NAMES) or ())))
        merged[NAMES] = list(names)
        _merge(merged, {name: value for name, value in own.items() if name in names}, append_stamps)
    return merged


def _merge(target: dict[str, Any], source: Mapping[str, Any], append: bool) -> None:
    for key, value in source.items():
        if key not in target:
            target[key] = value
            continue
        there = target[key]
        if isinstance(there, dict):
            target[key] = dict(there)
            _merge(target[key], value, append)
            continue
        if append and isinstance(there, int | float | str):
            there = [there]
        if isinstance(there, list) and isinstance(value, list):
            target[key] = [*there, *value]
        elif append:
            target[key] = [*(there or ()), value]


def stamp_links(
    options: Mapping[str, Any],
    visitor: StampingVisitor | None,
    append_stamps: bool,
    headers: Mapping[str, Any],
) -> None:
    """Stamp the callbacks and errbacks in *options*, by *headers* and the *visitor* alone."""
    for option, ask in (
        ("link", None if visitor is None else visitor.on_callback),
        ("link_error", None if visitor is None else visitor.on_errback),
    ):
        given = dict(headers)
        for link in options.get(option) or ():
            said = None if ask is None else ask(link, **given) or {}
            given = stamps_for(said, given, append_stamps)
            link.stamp(visitor, append_stamps, **given)
