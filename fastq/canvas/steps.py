"""The parts of workflows in the order in which they run, with nothing in between them.

Chains in chains are spliced, groups in groups flattened, what is empty is left out, a group of one
is that one, and a group that something follows is the header of a chord. All of it works on
signatures and on plain maps of them, and changes neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from fastq.canvas.lazy import Lazy, is_single
from fastq.canvas.plain import header_of, kind_of, listed, members_of, plain

# A map of some signature.
Sig = Mapping[str, Any]

# The body of a chord whose value is the list of its header's results: it stands for a group as one task.
ACCUMULATE = {
    "task": "celery.accumulate",
    "args": (),
    "kwargs": {"index": 0},
    "options": {},
    "subtask_type": None,
    "immutable": False,
}


class Step(NamedTuple):
    """A step of a chain, and what the chains around it add to it."""

    sig: Sig
    links: tuple[Any, ...] = ()
    errbacks: tuple[Any, ...] = ()
    args: tuple[Any, ...] = ()  # before its own


def steps_of(chain: Sig) -> list[Step]:
    """The steps of *chain*: tasks and chords, and a group or a chord of groups at the end alone.

    The first one has the chain's own arguments; its callbacks are on the last, its errbacks on all.
    """
    tasks = chain["kwargs"]["tasks"]
    if not any(map(kind_of, tasks)):  # tasks alone, as in most chains
        return list(_steps(Step(chain)))
    steps: list[Step] = []
    empty: Step | None = None
    for step in _spliced(chain):
        if is_empty(step.sig):
            empty = step
        elif steps and is_plural(steps[-1].sig):
            steps[-1] = joined(steps[-1], step)
        else:
            steps.append(step)
    # A chain of nothing but empty groups has a result all the same, an empty one.
    return steps or ([empty] if empty is not None else [])


def _spliced(chain: Sig) -> Iterator[Step]:
    """The steps of *chain* and of the chains in it."""
    stack = [_steps(Step(chain))]
    while stack:
        step = next(stack[-1], None)
        if step is None:
            stack.pop()
            continue
        kind = kind_of(step.sig)
        if kind == "chunks":
            step = step._replace(sig=starmaps(step.sig))
        elif kind == "group" and is_single(members_of(step.sig)):
            step = step._replace(sig=members_of(step.sig)[0])
            kind = kind_of(step.sig)
        if kind == "chain":
            stack.append(_steps(step))
        else:
            yield step


def _steps(chain: Step) -> Iterator[Step]:
    sig, options = chain.sig, chain.sig["options"]
    tasks = sig["kwargs"]["tasks"]
    links = (*listed(options.get("link")), *chain.links)
    errbacks = (*listed(options.get("link_error")), *chain.errbacks)
    args = (*chain.args, *sig["args"])
    last = len(tasks) - 1
    for index, task in enumerate(tasks):
        yield Step(task, links if index == last else (), errbacks, args)
        args = ()


def joined(before: Step, after: Step) -> Step:
    """One step of two, of which the first is plural: the second gets the list of its results."""
    sig = before.sig
    if kind_of(sig) == "group":
        header: Any = members_of(sig)
        if before.links:
            header = [_linked(member, before.links) for member in header]
        return Step(chord_of(header, after.sig), after.links, after.errbacks, before.args)
    body = sig["kwargs"]["body"]
    is_group = kind_of(body) == "group"
    body = chord_of(members_of(body), after.sig) if is_group else chain_of([body, after.sig])
    longer = {**sig, "kwargs": {**sig["kwargs"], "body": body}}
    return Step(longer, (*before.links, *after.links), after.errbacks, before.args)


def _linked(sig: Sig, links: Iterable[Any]) -> Sig:
    options = sig["options"]
    return {**sig, "options": {**options, "link": [*listed(options.get("link")), *links]}}


def chord_of(header: Any, body: Sig, **options: Any) -> dict[str, Any]:
    """The map of a chord."""
    kwargs = {"kwargs": {}, "header": header, "body": body}
    return _map("celery.chord", kwargs, options, "chord")


def chain_of(tasks: list[Any], **options: Any) -> dict[str, Any]:
    """The map of a chain."""
    return _map("celery.chain", {"tasks": tasks}, options, "chain")


def group_of(tasks: Any, **options: Any) -> dict[str, Any]:
    """The map of a group."""
    return _map("celery.group", {"tasks": tasks}, options, "group")


def _map(task: str, kwargs: dict[str, Any], options: dict[str, Any], kind: str) -> dict[str, Any]:
    return {
        "task": task,
        "args": (),
        "kwargs": kwargs,
        "options": options,
        "subtask_type": kind,
        "immutable": False,
    }


def starmaps(chunks: Sig) -> dict[str, Any]:
    """The group of tasks that *chunks* are sent as."""
    task, n = plain(chunks["kwargs"]["task"]), chunks["kwargs"]["n"]

    def parts() -> Iterator[dict[str, Any]]:
        items = iter(chunks["kwargs"]["it"])
        while part := list(islice(items, n)):
            yield {
                "task": "celery.starmap",
                "args": (),
                "kwargs": {"task": task, "it": part},
                "options": {},
                "subtask_type": None,
                "immutable": True,
            }

    return group_of(Lazy(parts()), **chunks["options"])


def flattened(tasks: Iterable[Sig]) -> Iterator[Sig]:
    """The members of a group, with those of groups in it in their place, and without empty chains."""
    stack = [iter(tasks)]
    while stack:
        member = next(stack[-1], None)
        if member is None:
            stack.pop()
            continue
        kind = kind_of(member)
        if kind == "group":
            stack.append(iter(members_of(member)))
        elif kind == "chunks":
            stack.append(iter(members_of(starmaps(member))))
        elif kind != "chain" or not is_empty(member):
            yield member


def is_empty(sig: Sig) -> bool:
    """Whether there is nothing in *sig* to run."""
    kind = kind_of(sig)
    if kind == "chain":
        return all(is_empty(task) for task in sig["kwargs"]["tasks"])
    return kind == "group" and not any(True for _ in flattened(members_of(sig)))


def is_plural(sig: Sig) -> bool:
    """Whether the value of *sig* is that of a group."""
    kind = kind_of(sig)
    if kind == "chord":  # nothing unrolls its body: a group of one is a group there
        body = sig["kwargs"]["body"]
        return kind_of(body) == "group" or is_plural(body)
    if kind == "chain":
        steps = reversed(sig["kwargs"]["tasks"])
        return any(is_plural(step) for step in islice((step for step in steps if not is_empty(step)), 1))
    if kind == "group":
        return not is_single(members_of(sig)) or is_plural(members_of(sig)[0])
    return kind == "chunks"


def header_members(chord: Sig) -> Iterator[Sig]:
    """The tasks of a chord's header."""
    return flattened(header_of(chord))
