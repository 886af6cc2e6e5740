"""What a worker refuses at its start, because it could not be kept later."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastq.exceptions import ImproperlyConfigured, nearest_name

if TYPE_CHECKING:
    from fastq.worker.pools.base import Pool

logger = logging.getLogger(__name__)

PICKLE = frozenset({"pickle", "application/x-python-serialize"})


def refuse_pickle_as_root(accept_content: Iterable[str]) -> None:
    """Raise `ImproperlyConfigured` when we are root and unpickle messages, which can hold any code."""
    if os.geteuid() == 0 and PICKLE & set(accept_content) and not os.environ.get("C_FORCE_ROOT"):
        raise ImproperlyConfigured(
            "this worker would run as root and accept pickle, so that whoever can send a message is root: "
            "start it as another user (--uid), or set C_FORCE_ROOT=1 if you know better"
        )


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


def check_limits(pool: type[Pool], conf: Any, tasks: Iterable[Any]) -> None:
    """Raise `ImproperlyConfigured` when *pool* can't keep a limit set for every task; warn of single ones."""
    for kind, setting, is_kept in (
        ("hard", "task_time_limit", pool.keeps_hard_limits),
        ("soft", "task_soft_time_limit", pool.keeps_soft_limits),
    ):
        if is_kept:
            continue
        seconds = getattr(conf, setting)
        if seconds:
            option = setting.removeprefix("task_").replace("_", "-")
            raise ImproperlyConfigured(
                f"the {pool.name} pool can't keep a {kind} time limit, and {setting} is {seconds:g} s: "
                f"choose another with -P, such as prefork, or drop {setting} or --{option}"
            )
        for task in tasks:
            if getattr(task, setting.removeprefix("task_"), None):
                logger.warning(
                    "The %s pool can't keep the %s time limit of task %s", pool.name, kind, task.name
                )
