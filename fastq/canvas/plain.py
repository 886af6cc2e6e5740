"""Signatures as the plain maps in which they travel (docs/PROTOCOL.md §8.1).

A `Signature` is such a map with methods; what comes in a message is one without. All that turns
workflows into messages works on either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastq.canvas.lazy import Lazy

# The options that say what follows a task. They travel in its body, not in its headers.
FOLLOWERS = frozenset({"link", "link_error", "chain", "chord"})


def listed(value: Any) -> list[Any]:
    """*value* as a list: it is one, or its only item; None is none."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def plain(value: Any) -> Any:
    """*value* with every signature in it, and every lazy list of them, as a plain map or list."""
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | Lazy):
        return [plain(item) for item in value]
    return value


def embedded(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """What of *options* travels in the third part of a body (§1.4); None if nothing does."""
    embed: dict[str, Any] = {}
    for option, field in (("link", "callbacks"), ("link_error", "errbacks")):
        if options.get(option):
            embed[field] = [plain(each) for each in listed(options[option])]
    if options.get("chain"):
        embed["chain"] = plain(options["chain"])
    if options.get("chord"):
        embed["chord"] = plain(options["chord"])
    return embed or None


# Celery leaves their ``subtask_type`` empty.
_KINDS = {"celery.map": "xmap", "celery.starmap": "xstarmap", "celery.chunks": "chunks"}


def kind_of(sig: Mapping[str, Any]) -> str | None:
    """What kind of workflow a signature, or a map of one, is; None for a task."""
    return sig.get("subtask_type") or _KINDS.get(sig.get("task", ""))


def members_of(group: Mapping[str, Any]) -> Any:
    """The signatures in a group: a list, a tuple or a `Lazy`."""
    return group["kwargs"]["tasks"]


def header_of(chord: Mapping[str, Any]) -> Any:
    """The signatures in the header of a chord, which is a group or the list of its members."""
    header = chord["kwargs"]["header"]
    return members_of(header) if isinstance(header, Mapping) else header


def value_id(sig: Mapping[str, Any]) -> str | None:
    """The id that the value of *sig*, of a chord's body for example, has already."""
    while kind_of(sig) == "chord" and isinstance(sig["kwargs"].get("body"), Mapping):
        sig = sig["kwargs"]["body"]
    found: str | None = sig["options"].get("task_id")
    if found is None and kind_of(sig) == "chain" and sig["kwargs"]["tasks"]:
        return value_id(sig["kwargs"]["tasks"][-1])
    return found
