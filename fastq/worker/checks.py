"""What a worker refuses at its start, because it could not be kept later."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence

from fastq.exceptions import ImproperlyConfigured, nearest_name

PICKLE = frozenset({"pickle", "application/x-python-serialize"})


def refuse_pickle_as_root(accept_content: Iterable[str]) -> None:
    """Raise `ImproperlyConfigured` when we are root and unpickle messages, which can hold any code."""
    if os.geteuid() == 0 and PICKLE & set(accept_content) and not os.environ.get("C_FORCE_ROOT"):
        raise ImproperlyConfigured(
            "this worker would run as root and accept pickle, so that whoever can send a message is root: "
            "start it as another user (--uid), or set C_FORCE_ROOT=1 if you know better"
        )


def unused_settings(unused: Mapping[str, str]) -> list[str]:
    """A line for each reason why settings have no effect: *unused* has the reason by the setting's name."""
    by_reason: dict[str, list[str]] = {}
    for name, why in unused.items():
        by_reason.setdefault(why, []).append(name)
    return [f"Without effect: {', '.join(names)}: {why}" for why, names in by_reason.items()]


def choose_queues(
    known: Sequence[str], wanted: Sequence[str], excluded: Collection[str], creates_missing: bool
) -> list[str]:
    """The queues to consume: *wanted*, else all *known* ones, without those *excluded*.

    Raises `ImproperlyConfigured` when none is left, or one is not known and may not be made.
    """
    chosen = list(dict.fromkeys(wanted or known))
    for name in chosen:
        if name not in known and not creates_missing:
            hint = nearest_name(name, known)
            raise ImproperlyConfigured(
                f"no queue is named {name!r}, and task_create_missing_queues is off{hint}"
            )
    left = [name for name in chosen if name not in excluded]
    if not left:
        raise ImproperlyConfigured("no queue is left to consume: --exclude-queues names them all")
    return left
