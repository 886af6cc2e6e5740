"""Write down what follows: signatures as plain maps with ids, and the results that they will have."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fastq._core.message import new_id
from fastq.canvas.parents import eldest, link_parents
from fastq.canvas.plain import kind_of, listed, members_of, plain, value_id
from fastq.canvas.steps import (
    ACCUMULATE,
    Sig,
    Step,
    chain_of,
    chord_of,
    flattened,
    group_of,
    header_members,
    is_plural,
    joined,
    starmaps,
    steps_of,
)
from fastq.result import AsyncResult, GroupResult

if TYPE_CHECKING:
    from fastq.app.base import FastQ

# Options of a signature that are not for its message, but say where it stands in a workflow.
PLACES = frozenset({"task_id", "link", "link_error", "chain", "chord", "group_id", "group_index"})


class Place(NamedTuple):
    """Where the value of a part of a workflow goes."""

    rest: tuple[Sig, ...] = ()  # the steps after it, reversed, written down
    chord: Sig | None = None  # the body of the chord to whose header it belongs, written down
    group_id: str | None = None
    group_index: int | None = None
    links: tuple[Any, ...] = ()  # callbacks from around it, beside its own
    errbacks: tuple[Any, ...] = ()
    task_id: str | None = None  # the id of the value


NOWHERE = Place()


def place_of(options: Mapping[str, Any]) -> Place:
    """Where *options*, whose ``chain`` and ``chord`` are written down, say that a value goes.

    Callbacks and errbacks are left out.
    """
    if PLACES.isdisjoint(options):
        return NOWHERE
    get = options.get
    return Place(
        tuple(get("chain") or ()),
        get("chord"),
        get("group_id"),
        get("group_index"),
        (),
        (),
        get("task_id"),
    )


def placed(place: Place, options: Mapping[str, Any]) -> Place:
    """*place*, with what the signature there says in its own *options* where *place* says nothing."""
    if PLACES.isdisjoint(options):
        return place
    get = options.get
    rest, chord, group_id, group_index, links, errbacks, task_id = place
    if not rest and get("chain"):
        rest = tuple(plain(get("chain")))
    if chord is None and group_id is None:
        chord, group_id, group_index = get("chord"), get("group_id"), get("group_index")
        chord = chord and plain(chord)
    if get("link"):
        links = (*listed(get("link")), *links)
    if get("link_error"):
        errbacks = (*listed(get("link_error")), *errbacks)
    return Place(rest, chord, group_id, group_index, links, errbacks, task_id or get("task_id"))


def message_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of the *options* of a signature is for its message."""
    return {name: value for name, value in options.items() if value is not None and name not in PLACES}


def unique(signatures: Iterable[Any]) -> list[Any]:
    """*signatures* as plain maps, each once."""
    found: list[Any] = []
    for each in map(plain, signatures):
        if each not in found:
            found.append(each)
    return found


def spread(group: Sig) -> Iterator[Sig]:
    """The members of *group*, with its own options on each of them."""
    options = {
        name: value for name, value in group["options"].items() if name not in ("task_id", "chain", "chord")
    }
    members = flattened(members_of(group))
    return (with_options(member, options) for member in members) if options else members


def with_options(sig: Sig, options: Mapping[str, Any]) -> Sig:
    """*sig* with *options* over its own; callbacks and errbacks beside its own."""
    own = sig["options"]
    merged = {**own, **{name: value for name, value in options.items() if value is not None}}
    for name in ("link", "link_error"):
        if name in options and (both := [*listed(own.get(name)), *listed(options[name])]):
            merged[name] = both
    return {**sig, "options": merged}


def with_arguments(sig: Sig, args: Sequence[Any]) -> Sig:
    """*sig* with *args* before its own arguments, unless it is immutable."""
    return {**sig, "args": (*args, *sig["args"])} if args and not sig["immutable"] else sig


def steps_at(chain: Sig, place: Place) -> tuple[list[tuple[Sig, Place]], tuple[Sig, ...]]:
    """The steps of *chain*, each with where its value goes besides the next one; and what comes after all."""
    options = chain["options"]
    place = placed(place, options)
    steps = steps_of({**chain, "options": {}})
    rest = place.rest
    while rest and steps and is_plural(steps[-1].sig):
        *others, after = rest
        steps[-1], rest = joined(steps[-1], Step(after)), tuple(others)
    found = []
    for index, step in enumerate(steps):
        sig = step.sig
        if index == 0 and (step.args or options):
            sig = with_options(with_arguments(sig, step.args), message_options(options))
        errbacks = (*step.errbacks, *place.errbacks)
        if index < len(steps) - 1:
            around = Place(links=step.links, errbacks=errbacks) if step.links or errbacks else NOWHERE
            found.append((sig, around))
        elif place is NOWHERE and not step.links and not errbacks:
            found.append((sig, NOWHERE))
        else:
            end = place._replace(rest=(), links=(*step.links, *place.links), errbacks=errbacks)
            found.append((sig, end))
    return found, rest


def as_one(group: Sig, place: Place) -> tuple[Sig, Place] | None:
    """The chord that stands for *group* there, if what comes after it needs its value as one.

    The frozen group of a Celery client that is in a header is not: its members are counted apart.
    """
    if place.rest:
        *rest, body = place.rest
        return chord_of(spread(group), body), place._replace(rest=tuple(rest))
    if place.chord is not None and group["options"].get("chord") is None:
        # Errbacks are the members', as they are of a group that is nobody's part.
        members = spread(with_options(group, {"link_error": place.errbacks}))
        return chord_of(members, ACCUMULATE), place._replace(errbacks=())
    return None


class Writer:
    """Writes down the signatures of one workflow of *app*."""

    def __init__(self, app: FastQ, *, checks_options: bool) -> None:
        self._app = app
        self._checks_options = checks_options
        self._reply_to: str | None = None
        self._knows_reply_to = False
        self._has_checked = False

    def write(self, sig: Sig, place: Place = NOWHERE) -> tuple[dict[str, Any], Any]:
        """*sig* as it travels, and the result of its value."""
        if self._checks_options and sig["options"]:
            self._app.composer.check_options(sig["options"])
        kind = kind_of(sig)
        if kind == "chain":
            return self._chain(sig, place)
        if kind == "chord":
            return self._chord(sig, place)
        if kind == "chunks":
            return self._group(starmaps(sig), place)
        return self._group(sig, place) if kind == "group" else self._task(sig, place)

    def _task(self, sig: Sig, place: Place) -> tuple[dict[str, Any], AsyncResult[Any]]:
        options = self._options(sig["options"], placed(place, sig["options"]))
        task_id = options.setdefault("task_id", new_id())
        kwargs = sig["kwargs"]
        if kind_of(sig) is not None:  # a map
            kwargs = {"task": plain(kwargs["task"]), "it": list(kwargs["it"])}
        written = {
            "task": sig["task"],
            "args": list(sig["args"]),
            "kwargs": dict(kwargs),
            "options": options,
            "subtask_type": sig["subtask_type"],
            "immutable": sig["immutable"],
        }
        return written, AsyncResult(task_id, app=self._app, task_name=sig["task"])

    def _options(self, own: Mapping[str, Any], place: Place) -> dict[str, Any]:
        """The options that say what *own* options say of the message, and that the value goes to *place*."""
        if not own and place is NOWHERE and self.reply_to() is None:
            return {}
        options: dict[str, Any] = {name: plain(value) for name, value in message_options(own).items()}
        said = {
            "task_id": place.task_id,
            "link": unique(place.links),
            "link_error": unique(place.errbacks),
            "chain": list(place.rest),
            "chord": place.chord,
            "group_id": place.group_id,
            "reply_to": options.get("reply_to") or self.reply_to(),
        }
        options.update((name, value) for name, value in said.items() if value)
        if place.group_index is not None:
            options["group_index"] = place.group_index
        return options

    def reply_to(self) -> str | None:
        """Where the results of this workflow are waited for, if they travel as messages."""
        if not self._knows_reply_to:
            self._reply_to, self._knows_reply_to = self._app.reply_queue(), True
        return self._reply_to

    def _chain(self, sig: Sig, place: Place) -> tuple[dict[str, Any], Any]:
        steps, rest = steps_at(sig, place)
        if not steps:
            raise ValueError(f"there is nothing to run in {sig!r}, on which something else depends")
        if len(steps) == 1:
            ((only, at),) = steps
            return self.write(only, at._replace(rest=rest))
        parts = [self.write(step, at) for step, at in steps]
        result = link_parents([result for _, result in parts])
        # Where a Celery worker looks for what to call when the header fails whose body this is.
        whole = Place(rest, task_id=result.id, errbacks=placed(place, sig["options"]).errbacks)
        return chain_of([written for written, _ in parts], **self._options({}, whole)), result

    def _group(self, sig: Sig, place: Place) -> tuple[dict[str, Any], Any]:
        own = sig["options"]
        place = placed(place, own)
        chord = as_one(sig, place)
        if chord is not None:
            return self._chord(*chord)
        group_id = place.task_id or new_id()
        parts = [self.write(member, Place(errbacks=place.errbacks)) for member in flattened(members_of(sig))]
        options = self._options(own, place._replace(errbacks=(), task_id=group_id))
        results = [result for _, result in parts]
        return group_of([written for written, _ in parts], **options), GroupResult(
            group_id, results, app=self._app
        )

    def _chord(self, sig: Sig, place: Place) -> tuple[dict[str, Any], Any]:
        own = sig["options"]
        group_id = own.get("task_id") or new_id()
        errbacks = self.header_errbacks(place.errbacks)
        header = [self.write(member, Place(errbacks=errbacks(member))) for member in header_members(sig)]
        body, result = self.body(sig, place)
        eldest(result).parent = GroupResult(group_id, [result for _, result in header], app=self._app)
        options = self._options(own, Place(task_id=group_id))
        written = chord_of([member for member, _ in header], body, **options)
        written["args"] = list(sig["args"])
        written["kwargs"]["kwargs"] = dict(sig["kwargs"].get("kwargs") or {})
        return written, result

    def header_errbacks(self, errbacks: tuple[Any, ...]) -> Callable[[Sig], tuple[Any, ...]]:
        """Which of the *errbacks* that are linked to a chord each task of its header gets.

        Those that are chords always get all; with ``task_allow_error_cb_on_chord_header`` every task does.
        """
        if not errbacks:
            return lambda member: ()
        for_all: tuple[Any, ...] = ()
        if self._app.conf.task_allow_error_cb_on_chord_header:
            for_all = tuple({**plain(each), "immutable": True} for each in errbacks)
        return lambda member: (*for_all, *errbacks) if kind_of(member) == "chord" else for_all

    def body(self, chord: Sig, place: Place) -> tuple[dict[str, Any], Any]:
        """The body of a chord with all that the chord's own options say of it, and its result."""
        if not self._has_checked:
            self._app.check_chords()
            self._has_checked = True
        own, body = chord["options"], chord["kwargs"].get("body")
        if body is None:
            raise ValueError(f"the chord {chord!r} has no body")
        delays = ("countdown", "eta")  # they are for the header
        over = {name: value for name, value in message_options(own).items() if name not in delays}
        # An id that was given to a chord is its header's if the body has one already, else that of both.
        task_id = own.get("task_id") if value_id(body) is None else None
        place = placed(place, {**own, "task_id": task_id})
        return self.write(with_options(body, over) if over else body, place)
