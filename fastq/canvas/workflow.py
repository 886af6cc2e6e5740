"""Turn a signature into messages: the only place where workflows do so (docs/DESIGN.md D5).

What starts now becomes messages; what follows travels in their bodies, as the plain maps that
Celery's workers read too (docs/PROTOCOL.md §8). Nothing here does any I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fastq._core.codec import json_dumps
from fastq._core.message import new_id
from fastq._core.request import Context
from fastq.canvas.parents import eldest, link_parents
from fastq.canvas.plain import kind_of, members_of, plain
from fastq.canvas.rest import block_steps, split
from fastq.canvas.steps import Sig, flattened, header_members, starmaps
from fastq.canvas.writing import (
    Place,
    Writer,
    as_one,
    message_options,
    place_of,
    placed,
    steps_at,
    unique,
    with_options,
)
from fastq.result import AsyncResult, GroupResult

if TYPE_CHECKING:
    from fastq._core.message import Message
    from fastq._core.template import Template
    from fastq.app.base import FastQ

NOTHING: dict[str, Any] = {}
# Messages that are composed before they go out: enough to make one write cheap, few enough to keep
# memory flat when a group comes from a generator that is endless.
BLOCK = 1000
# Options of a call that say how it is sent, and not what.
FAMILY = frozenset({"root_id", "parent_id"})
SENDING = frozenset({"add_to_parent", "retry", "retry_policy", "producer", "connection", "publisher"})


class Block(NamedTuple):
    """Messages of a workflow that go out together, and what must be known before they do."""

    messages: list[Message]
    # (group id, size) of every chord the last of whose header is in this block: to be written to
    # the backend before the messages are published, or in the same commit.
    chords: list[tuple[str, int]]
    # (chain id, blocks of steps) of every long chain that starts in this block: for `Backend.save_chain`,
    # before the messages are published.
    chains: list[tuple[str, list[bytes]]]


class Workflow:
    """What a signature becomes: blocks of messages, and the results that its caller gets.

    Iterating gives the `Block` s, composed as they are taken, once. A group may come from a
    generator, so *result* and *started* are whole only when the last block has been taken.
    """

    __slots__ = ("_blocks", "result", "started")

    def __init__(self, blocks: Iterator[Block], result: Any, started: Any) -> None:
        self._blocks = blocks
        # AsyncResult or GroupResult of the signature's value, with its parents; None if nothing is sent.
        self.result = result
        # The result to list among the children of the run that sends this; None if nothing is sent. Of a
        # chain that is its first step's, of a chord its header's, as Celery has it.
        self.started = started

    def __iter__(self) -> Iterator[Block]:
        return self._blocks


def compose_workflow(
    app: FastQ,
    signature: Mapping[str, Any],
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] = NOTHING,
    options: Mapping[str, Any] = NOTHING,
    request: Context | None = None,
    *,
    checks_arguments: bool = True,
    splits_chains: bool = False,
) -> Workflow:
    """What *signature*, a `Signature` or a plain map of one, becomes when it is called.

    *args* go before the arguments of what starts first, and *kwargs* over them, unless that is
    immutable: ``(value,)`` for a callback and for the next step of a chain, ``(values,)`` for the
    body of a chord. *options* go before the signature's own; those of canvas are

      ``task_id``                       id of the signature's value: of a chain's last step, of a chord's body
      ``chain``                         what follows it, reversed, with ids: ``embed["chain"][:-1]`` of a step
      ``chord, group_id, group_index``  the chord's body to whose header it belongs, and its place there
      ``link, link_error``              callbacks and errbacks beside its own
      ``replaced_task_nesting``         for what replaces a task

    *request* is the run that sends it, and becomes its parent; its root is what the run's root is. None:
    it is sent from outside of any run. A priority is inherited where ``task_inherit_parent_priority`` says
    so and nothing else gives one. With *checks_arguments* a task that is registered here is asked whether
    the arguments fit, and a call that does not fit raises `TypeError`; a worker that sends what follows
    leaves that to the worker that runs it. With *splits_chains* the rest of a long chain is given to be
    kept in the backend (`fastq.canvas.rest`).

    Every id is given here, and those that *signature* has already are kept. Raises
    `NotImplementedError` when there is a chord in it and the backend can't count its parts.
    """
    starter = _Starter(app, request, checks_arguments, splits_chains)
    place = place_of(options)
    call: dict[str, Any] = {}
    if options:
        links = {name: options[name] for name in ("link", "link_error") if options.get(name)}
        if links:
            signature = with_options(signature, links)
        call = {name: value for name, value in message_options(options).items() if name not in SENDING}
    begun = starter.start(signature, args, kwargs, call, place)
    if begun is None:
        return Workflow(iter(()), None, None)
    return Workflow(starter.blocks(), *begun)


class _Frame:
    """A group or the header of a chord, the members of which are being started."""

    __slots__ = (
        "_embed_json",
        "args",
        "body",
        "embed",
        "errbacks",
        "kwargs",
        "members",
        "options",
        "place",
        "results",
        "size",
        "templates",
    )

    def __init__(
        self,
        members: Iterator[Sig],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        place: Place,
        results: list[Any],
        body: Sig | None = None,
        errbacks: Callable[[Sig], tuple[Any, ...]] | None = None,
    ) -> None:
        self.members = members
        self.args = args
        self.kwargs = kwargs
        self.options = options
        self.place = place  # of every member, but for its index
        self.results = results  # theirs, as they are started
        self.size = 0
        self.body = body  # of the chord, written down
        self.errbacks = errbacks  # those that a member gets from around it
        self.embed = _embed(place)
        self._embed_json: bytes | None = None
        # By a task's name: what checks a call and what makes its messages, for tasks without options of
        # their own; None where that depends on more.
        self.templates: dict[str, tuple[Any, Template] | None] = {}

    def embed_for(self, template: Template) -> dict[str, Any] | bytes | None:
        """What follows every member, as *template* takes it: written once if it can be."""
        if self.embed is None or not template.is_json:
            return self.embed
        if self._embed_json is None:
            self._embed_json = json_dumps(self.embed)
        return self._embed_json


class _Starter:
    """Starts one workflow: composes what goes out now, and has written down what follows."""

    def __init__(
        self, app: FastQ, request: Context | None, checks_arguments: bool, splits_chains: bool
    ) -> None:
        self._app = app
        self._request = request
        self._checks_arguments = checks_arguments
        self._splits_chains = splits_chains
        self._writer = Writer(app, checks_options=checks_arguments)
        self._messages: list[Message] = []
        self._chords: list[tuple[str, int]] = []
        self._chains: list[tuple[str, list[bytes]]] = []
        self._frames: list[_Frame] = []

    def blocks(self) -> Iterator[Block]:
        """What has been composed, and what the members of the groups and headers that are open come to."""
        return (
            self._start_members()
            if self._frames
            else iter((Block(self._messages, self._chords, self._chains),))
        )

    def _start_members(self) -> Iterator[Block]:
        while self._frames:
            frame = self._frames[-1]
            for member in frame.members:
                if not self._start_alike(frame, member):
                    self._start_member(frame, member)
                # The last message is kept: it may turn out to be the last of a header, and the size of
                # the chord must be known before that goes out.
                if len(self._messages) > BLOCK:
                    last = self._messages.pop()
                    yield Block(self._messages, self._chords, self._chains)
                    self._messages, self._chords, self._chains = [last], [], []
                if self._frames[-1] is not frame:  # one of the member's own
                    break
            else:
                self._frames.pop()
                self._close(frame)
        if self._messages:
            yield Block(self._messages, self._chords, self._chains)

    def _start_member(self, frame: _Frame, sig: Sig) -> None:
        place = frame.place
        if place.group_id is not None:
            place = place._replace(group_index=frame.size)
        if frame.errbacks is not None and (errbacks := frame.errbacks(sig)):
            place = place._replace(errbacks=errbacks)
        begun = self.start(sig, frame.args, frame.kwargs, frame.options, place)
        if begun is not None:
            frame.size += 1
            frame.results.append(begun[0])

    def _start_alike(self, frame: _Frame, sig: Sig) -> bool:
        """Start a member as the others of the same task, if it has nothing of its own but arguments."""
        if sig["options"] or sig.get("subtask_type") is not None or frame.place.group_id is None:
            return False
        name = sig["task"]
        try:
            known = frame.templates[name]
        except KeyError:
            known = frame.templates[name] = self._template(frame, sig)
        if known is None or (frame.errbacks is not None and frame.errbacks(sig)):
            return False
        check, template = known
        args, kwargs = sig["args"], sig["kwargs"]
        if (frame.args or frame.kwargs) and not sig["immutable"]:
            args, kwargs = (*frame.args, *args), {**kwargs, **frame.kwargs}
        if check is not None:
            check(*args, **kwargs)
        place = frame.place
        messages = template.messages(
            args, kwargs, self._request, None, None, frame.embed_for(template), place.group_id, frame.size
        )
        self._messages += messages
        frame.size += 1
        frame.results.append(AsyncResult(messages[0].id, app=self._app, task_name=name))
        return True

    def _template(self, frame: _Frame, sig: Sig) -> tuple[Any, Template] | None:
        name = sig["task"]
        task = self._app.tasks.get(name)
        options = frame.options
        if kind_of(sig) is not None or (self._request is not None and not FAMILY.isdisjoint(options)):
            return None
        check = None
        if task is not None:
            task.prepare()
            if _sends_by_itself(task):
                return None
            check = task.check_arguments if self._checks_arguments else None
            options = {**task.message_options, **options} if task.message_options else options
        template = self._app.composer.steady_template(name, task, options)
        return None if template is None else (check, template)

    def _close(self, frame: _Frame) -> None:
        """See to the body of a chord, all of whose header has been started."""
        if frame.body is None:
            return
        if frame.size:
            assert frame.place.group_id is not None
            self._chords.append((frame.place.group_id, frame.size))
        else:
            self.start(frame.body, ([],), NOTHING, NOTHING, Place())

    def start(
        self,
        sig: Sig,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        place: Place,
    ) -> tuple[Any, Any] | None:
        """Start *sig*: (the result of its value, that of what is started). None if there is nothing to run.

        *options* go before those of its messages. The members of a group or a header are started by `blocks`.
        """
        if self._checks_arguments and sig["options"]:
            self._app.composer.check_options(sig["options"])
        kind = kind_of(sig)
        if kind == "chain":
            return self._chain(sig, args, kwargs, options, place)
        if kind == "chord":
            return self._chord(sig, args, kwargs, options, place)
        if kind == "chunks":
            sig, kind = starmaps(sig), "group"
        if kind == "group":
            return self._group(sig, args, kwargs, options, place)
        result = self._task(sig, args, kwargs, options, place)
        return result, result

    def _chain(
        self,
        sig: Sig,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        place: Place,
    ) -> tuple[Any, Any] | None:
        if sig["immutable"]:
            args, kwargs = (), NOTHING
        steps, rest = steps_at(sig, place)
        if not steps:
            return None
        (first, first_place), *others = steps
        parts = [self._writer.write(step, at) for step, at in others]
        rest = (*rest, *(written for written, _ in reversed(parts)))
        if self._splits_chains and len(rest) > 1:
            rest = self._kept(rest)
        begun = self.start(first, args, kwargs, options, first_place._replace(rest=rest))
        assert begun is not None
        return link_parents([begun[0], *(result for _, result in parts)]), begun[1]

    def _kept(self, rest: tuple[Sig, ...]) -> tuple[Sig, ...]:
        """What of *rest* travels, now that the backend is to keep the others of it."""
        size = block_steps(self._app)
        parted = split(rest, size) if size else None
        if parted is None:
            return rest
        rest, chain_id, blocks = parted
        self._chains.append((chain_id, blocks))
        return rest

    def _group(
        self,
        sig: Sig,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        place: Place,
    ) -> tuple[Any, Any]:
        own = sig["options"]
        place = placed(place, own)
        chord = as_one(sig, place)
        if chord is not None:
            return self._chord(chord[0], args, kwargs, options, chord[1])
        group_id = place.task_id or new_id()
        is_counted_apart = place.chord is not None
        at = Place(
            group_id=None if is_counted_apart else group_id, links=place.links, errbacks=place.errbacks
        )
        result: GroupResult[Any] = GroupResult(group_id, [], app=self._app)
        options = {**message_options(own), **options}
        members = flattened(members_of(sig))
        self._frames.append(_Frame(members, args, kwargs, options, at, result.results))
        return result, result

    def _chord(
        self,
        sig: Sig,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        place: Place,
    ) -> tuple[Any, Any]:
        own = sig["options"]
        group_id = own.get("task_id") or new_id()
        body, result = self._writer.body(with_options(sig, options) if options else sig, place)
        header: GroupResult[Any] = GroupResult(group_id, [], app=self._app)
        eldest(result).parent = header
        if not sig["immutable"]:
            args = (*args, *sig["args"])
        kwargs = {**(sig["kwargs"].get("kwargs") or NOTHING), **kwargs}
        options = {**message_options(own), **options}
        at = Place(chord=body, group_id=group_id)
        errbacks = self._writer.header_errbacks(place.errbacks) if place.errbacks else None
        members = header_members(sig)
        self._frames.append(_Frame(members, args, kwargs, options, at, header.results, body, errbacks))
        return result, header

    def _task(
        self,
        sig: Sig,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        place: Place,
    ) -> AsyncResult[Any]:
        app, own, name = self._app, sig["options"], sig["task"]
        if own:
            place = placed(place, own)
            options = {**message_options(own), **options}
            if self._request is not None:  # its family is that of the run
                options = {option: value for option, value in options.items() if option not in FAMILY}
        if sig["immutable"]:
            args, kwargs = sig["args"], sig["kwargs"]
        else:
            args = (*args, *sig["args"])
            kwargs = {**sig["kwargs"], **kwargs}
        if kind_of(sig) is not None:  # a map
            kwargs = {"task": plain(kwargs["task"]), "it": list(kwargs["it"])}
            options = {"route_name": kwargs["task"]["task"], **options}
        task = app.tasks.get(name)
        if task is not None:
            task.prepare()
            if _sends_by_itself(task):
                return self._sent_by_itself(task, args, kwargs, options, place)
            if self._checks_arguments and task.check_arguments is not None:
                task.check_arguments(*args, **kwargs)
            if task.message_options:
                options = {**task.message_options, **options}
        messages = app.composer.compose(
            name,
            task,
            args,
            kwargs,
            options,
            self._request,
            embed=_embed(place),
            task_id=place.task_id,
            group_id=place.group_id,
            group_index=place.group_index,
        )
        self._messages += messages
        return AsyncResult(messages[0].id, app=app, task_name=name)

    def _sent_by_itself(
        self,
        task: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
        place: Place,
    ) -> AsyncResult[Any]:
        """Let a task whose class has an `apply_async` of its own say what is sent."""
        said = {
            "task_id": place.task_id,
            "group_id": place.group_id,
            "group_index": place.group_index,
            "link": list(place.links),
            "link_error": list(place.errbacks),
            "chain": list(place.rest),
            "chord": place.chord,
        }
        options = {**options, **{name: value for name, value in said.items() if value or value == 0}}
        if self._request is not None:
            options |= {"parent_id": self._request.id, "root_id": self._request.root_id or self._request.id}
        with self._app.collecting() as collected:
            result: AsyncResult[Any] = task.apply_async(args, kwargs, add_to_parent=False, **options)
        self._messages += collected.messages
        self._chords += collected.chords
        return result


def _sends_by_itself(task: Any) -> bool:
    """Whether the class of *task* has an `apply_async` of its own: it adds headers, as a rule."""
    return type(task).apply_async is not task.base_class.apply_async


def _embed(place: Place) -> dict[str, Any] | None:
    """What a task's body holds of what follows it (§1.4)."""
    embed: dict[str, Any] = {}
    if place.links:
        embed["callbacks"] = unique(place.links)
    if place.errbacks:
        embed["errbacks"] = unique(place.errbacks)
    if place.rest:
        embed["chain"] = list(place.rest)
    if place.chord is not None:
        embed["chord"] = place.chord
    return embed or None
