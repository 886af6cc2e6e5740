"""What a workflow comes to, worked out in one process, one step after another, with no thought of speed.

The semantics are Celery 5.7's. Where Celery's own answer depends on how a workflow was put
together, hangs or is none, `Expected.celery_differs` says why; its keys are explained in DIFFERENCES.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from workflows.description import Chain, Chord, Chunks, Errback, Group, Map, Node, Task, parts
from workflows.errors import OUR_REFUSAL, UNREGISTERED, raised_text
from workflows.values import combine

DIFFERENCES = {
    "pending group": (
        "A step before a group failed. Celery stores that for the group's id, where nobody looks, and the "
        "members stay pending: whoever waits for the group's result waits for ever."
    ),
    "aborted chord": (
        "The header of a chord failed whose body is a chord itself. Celery stores that for the id of the "
        "inner header, and the inner body, whose result is waited for, stays pending."
    ),
    "aborted part": (
        "The header of a chord failed that is a part of another chord. Celery does not count that part: "
        "the other chord never ends."
    ),
    "first errback": (
        "The header of a chord failed whose body is a chain. Whether Celery calls the errbacks of the "
        "chain's first task depends on whether the chord was a step of a chain itself."
    ),
    "plural body": (
        "A chord whose body is a group is followed by another group or chord. Celery starts that once for "
        "each member of the first group, instead of once with all their results."
    ),
    "plural part": (
        "A part of a chord, not a group itself, has a group's result. Celery counts each member of that as a "
        "part, joins them by other means, which tell a failure otherwise, and may never see the end."
    ),
    "replaced by plural": (
        "A task is replaced by a chord whose body is a group. Celery never counts it as done."
    ),
    "nested group": (
        "A group in a group that is a header, a body or a last step. Celery flattens it in reverse, or not "
        "at all if the outer one is made from a generator, and in order if that is the whole workflow."
    ),
    "lone group": (
        "A chain of a group alone. Celery's workers start its members without the arguments that the chain "
        "is called with, and its eager mode does not unroll a group of one there."
    ),
    "leaked errbacks": (
        "A chain with errbacks ends in a group or a chord, and a step follows it. Celery calls its "
        "errbacks for that step too, as it does not if the chain ends in a task."
    ),
    "lost links": "A chain with callbacks or errbacks is all there is in another chain: Celery drops them.",
    "unregistered": (
        "A task that no worker knows failed. Celery calls no errbacks then, fails no later step and counts "
        "no part of a chord, which never ends."
    ),
    "eager links": "A task with callbacks is replaced. Celery's eager mode, and only that, calls them twice.",
}


@dataclass(frozen=True)
class Value:
    """A task returned."""

    value: Any


@dataclass(frozen=True)
class Failure:
    """A task failed; *text* is the repr of its exception, with ``?`` for every id."""

    text: str
    # The repr of what made the header of a chord fail, if this is the failure of its body.
    cause: str = field(default="", compare=False)


@dataclass(frozen=True)
class Members:
    """What each member of a group came to."""

    outcomes: tuple[Outcome, ...]


Outcome = Value | Failure | Members


@dataclass
class Expected:
    """What must be seen."""

    outcome: Outcome | None  # None: there was nothing to run
    runs: Counter[str]  # label of a task → how often it runs
    # (label of the errback, label of the task that failed, repr of the exception): "" for a task
    # that never ran, and for an exception that the errback is not told.
    errbacks: Counter[tuple[str, str, str]]
    celery_differs: set[str] = field(default_factory=set)


def expected(node: Node, given: Sequence[Any] = (), unregistered: str = OUR_REFUSAL) -> Expected:
    """What comes of *node* called with *given*; *unregistered* is how an unknown task is refused."""
    interpreter = Interpreter(unregistered)
    outcome = interpreter.run(node, tuple(given))
    # Celery gives the inner group's result for a group whose one member ends in a group.
    if isinstance(node, Group) and isinstance(outcome, Members) and len(outcome.outcomes) == 1:
        (only,) = outcome.outcomes
        outcome = only if isinstance(only, Members) else outcome
    oddities = {name for part in parts(node) for name in oddities_of(part)}
    if any(is_nested(part) for part in parts(node) if part is not node or not isinstance(node, Group)):
        oddities.add("nested group")
    return Expected(outcome, interpreter.runs, interpreter.errbacks, interpreter.celery_differs | oddities)


def oddities_of(node: Node) -> Iterator[str]:
    """The differences of Celery's that come of how *node* is put together, whatever happens to it."""
    if isinstance(node, Chain):
        if len(node.steps) == 1 and isinstance(node.steps[0], Group):
            yield "lone group"
        only = node.steps[0] if len(node.steps) == 1 else None
        if isinstance(only, Chain) and (only.links or only.errbacks):
            yield "lost links"
        inner = (part for step in node.steps[:-1] for part in parts(step) if isinstance(part, Chain))
        if any(chain.links or chain.errbacks for chain in inner):
            yield "leaked errbacks"


def is_nested(node: Node) -> bool:
    """Whether *node* is a group, or the header of a chord, with a group in it."""
    members = node.members if isinstance(node, Group) else node.header if isinstance(node, Chord) else ()
    return any(isinstance(each, Group | Chunks) for each in map(settled, members))


# Collects the results of a group that stands for one task: celery.accumulate.
ACCUMULATE = Task(label="accumulate")


class Interpreter:
    """Runs one workflow."""

    def __init__(self, unregistered: str) -> None:
        self.unregistered = unregistered
        self.runs: Counter[str] = Counter()
        self.errbacks: Counter[tuple[str, str, str]] = Counter()
        self.celery_differs: set[str] = set()
        self.headers = 0  # how many headers of chords we are in

    def run(self, node: Node, given: tuple[Any, ...], is_header: bool = False) -> Outcome | None:
        """Start *node* with *given* before its own arguments; None if there is nothing in it.

        *is_header*: something gets the list of its results.
        """
        node = settled(node)
        node = spread(node)
        match node:
            case Task():
                return self.task(node, given)
            case Map():
                return self.map(node)
            case Chunks() | Group():
                return self.members(members_of(node), given, is_header)
            case Chord():
                return self.chord(node, given, is_header)
            case Chain():
                return self.chain(steps_of(node), given, is_header)

    # -- tasks ------------------------------------------------------------------

    def task(self, node: Task, given: tuple[Any, ...]) -> Outcome:
        args = node.args if node.is_immutable else (*given, *node.args)
        if node is ACCUMULATE or node.label == ACCUMULATE.label:
            return self.succeed(node, args[0])
        if node.raises == UNREGISTERED:
            self.celery_differs.add("unregistered")
            return self.failed(node, self.unregistered, label="")
        self.runs[node.label] += 1 + node.retries
        if node.raises is not None:
            return self.failed(node, raised_text(node.raises))
        if node.replaced_by is not None:
            return self.replaced(node, node.replaced_by)
        return self.succeed(node, combine(node.label, args, node.kwargs))

    def map(self, node: Map) -> Outcome:
        values = []
        for item in node.items:
            self.runs[node.label] += 1
            if isinstance(item, dict):
                return self.failed(node, raised_text(item["raises"]), label="")
            values.append(combine(node.label, [item]))
        return self.succeed(node, values)

    def succeed(self, node: Task | Map, value: Any) -> Outcome:
        for link in node.links:
            self.run(link, (value,))
        return Value(value)

    def failed(self, node: Task | Map, text: str, label: str | None = None) -> Outcome:
        for errback in node.errbacks:
            self.call(errback, node.label if label is None else label, text)
        return Failure(text)

    def call(self, errback: Errback, failed: str, text: str) -> None:
        if errback.form == "inline":
            self.errbacks[errback.label, failed, text] += 1
        elif errback.form == "id":
            self.errbacks[errback.label, failed, ""] += 1
        else:
            self.errbacks[errback.label, "", ""] += 1

    def replaced(self, node: Task, by: Node) -> Outcome:
        if isinstance(by, Chain) and not steps_of(by):
            return self.failed(node, "ImproperlyConfigured('Cannot replace with an empty chain')")
        if is_plural(by):
            *others, last = steps_of(by)
            if not isinstance(last, Group | Chunks) or any(map(is_plural, others)):
                self.celery_differs.add("replaced by plural")
            by = Chain(steps=(by, ACCUMULATE), form="pipe")
        if node.links:
            self.celery_differs.add("eager links")
        for link in node.links:
            by = with_link(by, link)
        for errback in node.errbacks:
            by = with_errback(by, errback)
        outcome = self.run(by, ())
        assert outcome is not None
        return outcome

    # -- groups and chords ----------------------------------------------------------

    def members(self, nodes: Iterable[Node], given: tuple[Any, ...], is_header: bool) -> Members:
        nodes = flattened(nodes)
        if is_header:
            nodes = [self.as_part(each) for each in nodes]
        self.headers += is_header
        found = [self.run(each, given) for each in nodes]
        self.headers -= is_header
        return Members(tuple(each for each in found if each is not None))

    def as_part(self, node: Node) -> Node:
        """*node* with one result, a list where it has those of a group: each part of a chord has one."""
        if not is_plural(node):
            return node
        self.celery_differs.add("plural part")
        return Chain(steps=(node, ACCUMULATE), form="pipe")

    def chord(self, node: Chord, given: tuple[Any, ...], is_header: bool) -> Outcome:
        joined = self.join(self.members(node.header, given, is_header=True))
        if isinstance(joined, Value):
            outcome = self.run(node.body, (joined.value,), is_header)
            assert outcome is not None
            return outcome
        return self.abort([node.body], joined)

    def join(self, header: Members) -> Value | Failure:
        """What a body is called with, or fails with."""
        values = []
        for outcome in header.outcomes:
            assert not isinstance(outcome, Members)
            if isinstance(outcome, Failure):
                text = f"ChordError({f'Dependency ? raised {outcome.text}'!r})"
                return Failure(text, cause=outcome.text)
            values.append(outcome.value)
        return Value(values)

    def abort(self, steps: list[Node], failure: Failure) -> Outcome:
        """Let a chord's body and what follows it fail because of the header; the body calls its errbacks."""
        if self.headers:
            self.celery_differs.add("aborted part")
        first, *rest = steps
        if rest and is_plural(first):  # the header of one more chord
            self.celery_differs.add("aborted chord")
            if getattr(rest[0], "label", "") == ACCUMULATE.label:
                self.abort_body(first, failure)  # whose body only gathers its results
            return self.abort(rest, Failure(failure.text))
        outcome = self.abort_body(first, failure)
        return self.fail(rest[-1], failure) if rest else outcome

    def abort_body(self, body: Node, failure: Failure) -> Outcome:
        own = getattr(body, "errbacks", ())
        body = spread(settled(body))
        match body:
            case Task() | Map():
                return self.failed(body, failure.text, label="")
            case Chunks() | Group():
                # They fail with what the header raised, and any other body with a ChordError.
                failure = Failure(failure.cause or failure.text)
                return Members(tuple(self.abort([each], failure) for each in flattened(members_of(body))))
            case Chord():
                self.celery_differs.add("aborted chord")
                if getattr(body.body, "label", "") == ACCUMULATE.label:
                    self.abort_body(Group(members=body.header), failure)
                return self.abort([body.body], Failure(failure.text))
            case Chain():
                steps = steps_of(body)
                if getattr(steps[0], "errbacks", ()) != own:
                    self.celery_differs.add("first errback")
                return self.abort(steps, failure)

    # -- chains -------------------------------------------------------------------

    def chain(self, steps: list[Node], given: tuple[Any, ...], is_header: bool) -> Outcome | None:
        for index, (step, following) in enumerate(itertools.pairwise(steps)):
            is_body = isinstance(step, Chord) or (index and is_plural(steps[index - 1]))
            if is_plural(step) and is_body and not isinstance(following, Task | Map):
                self.celery_differs.add("plural body")
        outcome: Outcome | None = None
        steps = longer_bodies(steps)
        for index, step in enumerate(steps):
            if isinstance(outcome, Members):
                outcome = self.join(outcome)
                if isinstance(outcome, Failure):
                    return self.abort(steps[index:], outcome)
            if isinstance(outcome, Failure):
                return self.fail(steps[-1], outcome)
            outcome = self.run(
                step,
                given if outcome is None else (outcome.value,),
                is_header=is_plural(step) if index + 1 < len(steps) else is_header,
            )
        return outcome

    def fail(self, node: Node, failure: Failure) -> Outcome:
        """What *node* comes to when it is not started because a step before it failed."""
        match node:
            case Task() | Map():
                return failure
            case Chunks() | Group():
                self.celery_differs.add("pending group")
                return Members(tuple(self.fail(each, failure) for each in flattened(members_of(node))))
            case Chord():
                return self.fail(node.body, failure)
            case Chain():
                return self.fail(steps_of(node)[-1], failure)


# -- the shape of a workflow ---------------------------------------------------------


def is_empty(node: Node) -> bool:
    """Whether there is nothing in *node* to run."""
    match node:
        case Group():
            return all(map(is_empty, node.members))
        case Chain():
            return not steps_of(node)
    return False


def flattened(members: Iterable[Node]) -> list[Node]:
    """The members of a group, with those of groups in it among them; what is empty is left out."""
    found: list[Node] = []
    for each in map(settled, members):
        if isinstance(each, Chunks):
            found += members_of(each)
        elif isinstance(each, Group):
            found += flattened(members_of(spread(each)))
        elif not is_empty(each):
            found.append(each)
    return found


def steps_of(node: Node) -> list[Node]:
    """The steps of a chain, with those of chains in it among them; what is empty is left out.

    A group of one is that one, but in ``group | group`` and ``group | task``, which are chords.
    """
    if not isinstance(node, Chain):
        return [node]
    steps = list(map(piped, node.steps))
    if node.form == "pipe" and len(steps) == 1:
        return steps
    if len(steps) > 1:
        head = steps[0]
        while node.form != "pipe" and isinstance(head, Chain) and len(steps_of(head)) == 1:
            (head,) = steps_of(spread(head))
        is_chord = isinstance(head, Chunks | Group) and (node.form == "pipe" or not is_single(head))
        if is_chord and (is_single(head) or is_single(steps[1])):
            steps[:2] = [Chord(header=members_of(spread(head)), body=steps[1])]
    found: list[Node] = []
    for step in steps:
        if is_single(step):
            (step,) = spread(step).members
        if isinstance(step, Chain):
            found += steps_of(spread(step))
        elif not is_empty(step):
            found.append(step)
    return found


def is_single(node: Node) -> bool:
    """Whether *node* is a group of one."""
    return isinstance(node, Group) and len(node.members) == 1


def piped(node: Node) -> Node:
    """*node*, or its one step if it is put together by ``|`` and there is none."""
    while isinstance(node, Chain) and node.form == "pipe" and len(node.steps) == 1:
        (node,) = spread(node).steps
    return node


def settled(node: Node) -> Node:
    """*node*, or the group that putting it together comes to: ``chain([group])`` is that group."""
    node = piped(node)
    if isinstance(node, Chain) and (node.form == "list" or len(node.steps) > 1):
        steps = steps_of(spread(node))
        if len(steps) == 1 and isinstance(steps[0], Group | Chunks):
            return steps[0]
    return node


def kind_of(node: Node) -> str:
    """What putting *node* together comes to: a "task", "chain", "group" or "chord"."""
    match node:
        case Task() | Map():
            return "task"
        case Chunks() | Group():
            return "group"
        case Chord():
            return "chord"
    steps = [step for step in node.steps if not is_empty(step)]
    if node.form == "pipe":
        return kind_of_all(steps)
    if node.form == "call" and len(node.steps) == 1:
        return "chain"
    while steps:  # a chain that begins with a group is a chord, as it is by ``|``
        head = piped(steps[0])
        if is_single(head):
            steps[0] = head.members[0]
        elif kind_of(head) == "chain" and len(head.steps) == 1:
            steps[0] = head.steps[0]
        else:
            return kind_of_all(steps) if kind_of(head) == "group" else "chain"
    return "chain"


def kind_of_all(steps: list[Node]) -> str:
    """The kind of ``steps[0] | steps[1] | …``."""
    kinds = ["task" if is_single(step) else kind_of(step) for step in steps[1:]]
    kind = kind_of(steps[0]) if steps else "chain"
    for after in kinds:
        if kind == "group" or (kind == "chord" and after in ("task", "chord")):
            kind = "chord"
        else:
            kind = "chain"
    return kind


def longer_bodies(steps: list[Node]) -> list[Node]:
    """*steps*, where what follows a chord whose body is a group is part of its body."""
    found: list[Node] = []
    for step in steps:
        if found and isinstance(found[-1], Chord) and is_plural(found[-1]):
            chord = spread(found[-1])
            found[-1] = replace(chord, body=Chain(steps=(chord.body, step), form="pipe"))
        else:
            found.append(step)
    return found


def is_plural(node: Node) -> bool:
    """Whether the result of *node* is that of a group."""
    match node:
        case Group() | Chunks():
            return True
        case Chord():
            return is_plural(node.body)
        case Chain():
            steps = steps_of(node)
            return bool(steps) and is_plural(steps[-1])
    return False


def members_of(node: Group | Chunks) -> Sequence[Node]:
    """The members of a group; chunks are one of starmaps."""
    if isinstance(node, Group):
        return node.members
    starts = range(0, len(node.items), node.size)
    return [Map(label=node.label, items=node.items[at : at + node.size], is_star=True) for at in starts]


# -- links, where they are looked for in the end ---------------------------------------


def spread(node: Any) -> Any:
    """*node* with its links and errbacks on the tasks in it."""
    if isinstance(node, Task | Map | Chunks):
        return node
    found = bare(node)
    for link in getattr(node, "links", ()):
        found = with_link(found, link)
    for errback in node.errbacks:
        found = with_errback(found, errback)
    return found


def with_link(node: Any, link: Node) -> Any:
    """*node* with a callback for its result."""
    node = spread(node)
    match node:
        case Task() | Map():
            return replace(node, links=(*node.links, link))
        case Chord():
            return replace(node, body=with_link(node.body, link))
        case Chain():
            *others, last = steps_of(node)
            return replace(node, steps=(*others, with_link(last, link)))
    raise TypeError(f"a callback can't be linked to {node}")


def with_errback(node: Any, errback: Errback) -> Any:
    """*node* with an errback: on every step of a chain, every member of a group, and the body of a chord."""
    node = spread(node)
    match node:
        case Task() | Map():
            return node if errback in node.errbacks else replace(node, errbacks=(*node.errbacks, errback))
        case Chunks() | Group():
            return Group(members=tuple(with_errback(each, errback) for each in members_of(node)))
        case Chord():
            header = chords_with_errback(node.header, errback)
            return replace(node, header=header, body=with_errback(node.body, errback))
        case Chain():
            *others, last = steps_of(node)
            found = [header_with_errback(each, errback) for each in others]
            return replace(node, steps=(*found, with_errback(last, errback)))
    return node


def header_with_errback(step: Any, errback: Errback) -> Any:
    """A step that others follow, with an errback; a group is the header of a chord then."""
    if isinstance(step, Chunks):
        return step
    if isinstance(step, Group):
        return replace(step, members=chords_with_errback(step.members, errback))
    if isinstance(step, Chord) and is_plural(step.body):
        header = chords_with_errback(step.header, errback)
        return replace(step, header=header, body=header_with_errback(step.body, errback))
    return with_errback(step, errback)


def chords_with_errback(header: Iterable[Node], errback: Errback) -> tuple[Node, ...]:
    return tuple(with_errback(each, errback) if kind_of(each) == "chord" else each for each in header)


def bare(node: Any) -> Any:
    """*node* without links and errbacks of its own."""
    found = replace(node, errbacks=())
    return replace(found, links=()) if hasattr(node, "links") else found
