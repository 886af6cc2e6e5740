"""The entry of ``beat_schedule`` that a call of `FastQ.add_periodic_task` makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# The task that starts a chain, group or chord, which are no tasks themselves; it is fastq's own.
START = "fastq.start"
WORKFLOWS = ("chain", "group", "chord")

# What belongs to the entry itself, and not to the message that it sends.
ENTRY_OPTIONS = ("relative", "overlap", "catch_up", "jitter")


def periodic_entry(
    schedule: Any, sig: Any, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The name that the call of *sig* has by itself, and the entry."""
    own: dict[str, Any] = {}
    if isinstance(sig, Mapping):  # a signature; the arguments come before its own
        given = sig.clone(args, kwargs)  # type: ignore[attr-defined]
        task, args, kwargs, own = given["task"], given["args"], given["kwargs"], given["options"]
        if given.get("subtask_type") in WORKFLOWS:
            return repr(given), _entry(schedule, START, [dict(given)], {}, options)
    else:
        task = sig if isinstance(sig, str) else sig.name
    shown = [repr(arg) for arg in args] + [f"{name}={value!r}" for name, value in kwargs.items()]
    return f"{task}({', '.join(shown)})", _entry(schedule, task, args, kwargs, {**own, **options})


def _entry(
    schedule: Any, task: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "schedule": schedule,
        "task": task,
        "args": args,
        "kwargs": dict(kwargs),
        "options": {name: value for name, value in options.items() if name not in ENTRY_OPTIONS},
        **{name: options[name] for name in ENTRY_OPTIONS if name in options},
    }
