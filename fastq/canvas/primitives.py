"""Chains, groups and chords: signatures of several tasks, which know each other through ``|``."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

from fastq._core.message import new_id
from fastq.canvas.lazy import Lazy, is_single, reusable
from fastq.canvas.parents import eldest, link_parents
from fastq.canvas.plain import header_of, listed
from fastq.canvas.signature import Signature, kwargs_item, maybe_signature, signature
from fastq.canvas.stamping import stamps_for
from fastq.result import EagerResult, GroupResult, allow_join_result
from fastq.states import IGNORED, REJECTED

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.canvas.stamping import StampingVisitor


class Workflow(Signature[Any]):
    """What chains, groups and chords have in common: they are sent as a whole."""

    __slots__ = ()

    def parts(self) -> Iterator[Any]:
        """The signatures in it, in order."""
        raise NotImplementedError

    @property
    def app(self) -> FastQ:
        """The app that sends it: its own, else that of the first signature in it that has one."""
        return bound_app(self) or super().app

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send it; *args* go before the arguments of what starts first, *options* over its own."""
        app = self.app
        if app.conf.task_always_eager:
            with allow_join_result():
                return self.apply(args, kwargs, **options)
        return app.send_workflow(self, args or (), kwargs or {}, options)


def bound_app(sig: Any) -> FastQ | None:
    """The app that *sig*, or the first of the signatures in it, is bound to."""
    while isinstance(sig, Signature) and sig._app is None:
        sig = next(sig.parts(), None) if isinstance(sig, Workflow) else None
    return sig._app if isinstance(sig, Signature) else None


@Signature.register_type()
class chain(Workflow):
    """Tasks one after the other: each gets the result of the one before it.

    ``chain(a, b, c)`` is ``a | b | c``, and so may be a chord, a group or a single task; given
    one iterable, it is of what is in there. The result of the whole is that of its last task,
    with those before it as parents.
    """

    __slots__ = ()

    tasks = kwargs_item("tasks", "Its steps.")

    def __new__(cls, *tasks: Any, **options: Any) -> Any:
        if options or not tasks or (len(tasks) == 1 and isinstance(tasks[0], Mapping)):
            return super().__new__(cls)
        folded = _folded(tasks[0] if len(tasks) == 1 else tasks)
        return cls(folded.tasks, app=folded._app) if type(folded) is chain and cls is not chain else folded

    def __init__(
        self,
        *tasks: Any,
        args: Sequence[Any] = (),
        immutable: bool = False,
        app: FastQ | None = None,
        **options: Any,
    ) -> None:
        if "task" in self:  # it was folded
            return
        steps = tasks[0] if len(tasks) == 1 and not isinstance(tasks[0], Mapping) else tasks
        steps = steps if isinstance(steps, list | tuple) else list(steps)
        super().__init__(
            "celery.chain",
            args,
            {"tasks": steps},
            options,
            subtask_type="chain",
            immutable=immutable,
            app=app,
        )

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: FastQ | None = None) -> chain:
        """The chain that a map stands for."""
        steps = [maybe_signature(task, app=app) for task in d["kwargs"]["tasks"]]
        made: chain = cls(steps, app=app, args=d["args"], immutable=d["immutable"], **d["options"])
        return made

    def parts(self) -> Iterator[Any]:
        return iter(self.tasks)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Send it; None if there is nothing in it."""
        return self.apply_async(args, kwargs) if self.tasks else None

    def apply(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run its steps here, one after the other; None if there is nothing in it."""
        options = {**self.options, **options}
        links = listed(options.pop("link", None))
        steps = [step.clone() for step in self.tasks if not is_empty_group(step)]
        steps = steps or [step.clone() for step in self.tasks[-1:]]
        for link in links:  # of a chord, the body has them
            last = steps[-1].body if isinstance(steps[-1], chord) else steps[-1]
            last.extend_list_option("link", link)
        result = None
        for step in steps:
            given = (args, kwargs) if result is None else ((result.get(),), None)
            before, result = result, step.apply(*given, **options)
            result.parent = before
            if isinstance(result, EagerResult) and result.state in (IGNORED, REJECTED):
                break
        return result

    def clone(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> chain:
        """A copy, of its steps too."""
        copy: Any = super().clone(args, kwargs, **options)
        copy.tasks = [maybe_signature(task, app=self._app, clone=True) for task in copy.tasks]
        return copy  # type: ignore[no-any-return]

    def unchain_tasks(self) -> list[Any]:
        """Copies of its steps, with its own callbacks on the last of them and its own errbacks on all."""
        steps = [maybe_signature(task).clone() for task in self.tasks]
        for link in listed(self.options.get("link")):
            steps[-1].link(link)
        for errback in listed(self.options.get("link_error")):
            for step in steps:
                step.link_error(errback)
        return steps

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Mapping[str, Any] | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give its steps ids, the last one *_id*, and return the result of the last."""
        *others, last = self._steps_to_freeze()
        results = [step.freeze(root_id=root_id) for step in others]
        results.append(last.freeze(_id, group_id, chord, root_id, None, group_index))
        self.id = results[-1].id
        return link_parents(results)

    _freeze = freeze

    def _steps_to_freeze(self) -> list[Any]:
        """Its steps and those of chains in it; a group with a step after it is made a chord."""
        pending, steps = deque(self.tasks), list[Any]()
        while pending:
            step = maybe_signature(pending.popleft(), app=self._app)
            if isinstance(step, chain):
                pending.extendleft(reversed(step.tasks))
                continue
            if isinstance(step, group):
                step = step.unrolled()
                if is_empty_group(step) and (steps or pending):
                    continue
            if steps and isinstance(steps[-1], group):
                step = chord(steps.pop(), step, app=self._app)
            steps.append(step)
        return steps

    def stamp(
        self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any
    ) -> None:
        """Stamp its steps, its callbacks and its errbacks."""
        said = None if visitor is None else visitor.on_chain_start(self, **headers) or {}
        headers = stamps_for(said, headers, append_stamps, self.options)
        self.stamp_links(visitor, **headers)
        for task in self.tasks:
            task.stamp(visitor, append_stamps, **headers)
        if visitor is not None:
            visitor.on_chain_end(self, **headers)

    def __or__(self, other: Any) -> Any:
        """It with one more step: after a group that makes a chord, after a chord a longer body."""
        if not isinstance(other, Signature):
            return NotImplemented
        if is_empty_group(other):
            return self
        if isinstance(other, chain):
            return reduce(or_, other.unchain_tasks(), self)
        if isinstance(other, group):
            other = other.unrolled()
            if not isinstance(other, group):
                return self | other
            steps = self.unchain_tasks()
            if not steps:
                return other
            if isinstance(steps[-1], chord):
                steps[-1].body = steps[-1].body | other
            else:
                steps.append(other)
            return type(self)(steps, app=self._app)
        # What is linked to it is for its own steps, and not for what comes after them.
        steps = self.unchain_tasks()
        if steps and isinstance(steps[-1], group):
            other, is_longer = chord(steps.pop(), other, app=self._app), True
        else:
            is_longer = not isinstance(other, chord)
        if is_longer and steps and isinstance(steps[-1], chord):
            steps[-1].body = steps[-1].body | other
        else:
            steps.append(other)
        return type(self)(steps, app=self._app, args=self.args, immutable=self.immutable)

    def __repr__(self) -> str:
        if not self.tasks:
            return f"<{type(self).__name__}@{id(self):#x}: empty>"
        return _shortened(self.tasks[0]["task"], " | ".join(map(repr, self.tasks)))


def _folded(tasks: Iterable[Any]) -> Any:
    """What ``tasks[0] | tasks[1] | …`` is, after an empty chain, without a copy of all for every step."""
    steps: list[Any] = []
    pending = deque(tasks)
    while pending:
        step = maybe_signature(pending.popleft())
        if not isinstance(step, Signature):
            raise TypeError(f"a chain is of signatures, and {step!r} is none")
        if isinstance(step, chain):
            pending.extendleft(reversed(step.unchain_tasks()))
            continue
        if is_empty_group(step):
            continue
        if isinstance(step, group):
            step = step.unrolled()
            if isinstance(step, chain):
                pending.appendleft(step)
                continue
            if isinstance(step, group) and not steps:
                # A group is no chain, whatever comes after it: see group.__or__.
                return reduce(or_, pending, step)
        last = steps[-1] if steps else None
        # As in every `|`, what stands on the left is copied, and the last one is not.
        if isinstance(last, group) and not isinstance(step, group):
            steps[-1] = chord(last, step)
        elif isinstance(last, chord) and not isinstance(step, chord):
            steps[-1].body = last.body | step
        else:
            steps.append(step.clone() if pending else step)
    return chain([*steps], app=None)


@Signature.register_type()
class group(Workflow):
    """Tasks that run side by side.

    ``group(a, b)`` or, given one iterable, of what is in there: a generator is gone through
    only when the group is sent, and not before. Options are for all of them. The result is a
    `GroupResult`.
    """

    __slots__ = ()

    tasks = kwargs_item("tasks", "Its members.")

    def __init__(
        self,
        *tasks: Any,
        args: Sequence[Any] = (),
        immutable: bool = False,
        app: FastQ | None = None,
        **options: Any,
    ) -> None:
        members: Any = tasks
        if len(tasks) == 1:
            only = tasks[0]
            if isinstance(only, group):
                only = only.tasks
            members = [signature(only, app=app)] if isinstance(only, Mapping) else reusable(only)
        super().__init__(
            "celery.group",
            args,
            {"tasks": members},
            options,
            subtask_type="group",
            immutable=immutable,
            app=app,
        )

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: FastQ | None = None) -> group:
        """The group that a map stands for; its members become signatures."""
        tasks = d["kwargs"]["tasks"]
        if isinstance(tasks, Lazy):
            tasks = Lazy(maybe_signature(task, app=app) for task in tasks)
        else:
            tasks = type(tasks)(maybe_signature(task, app=app) for task in tasks)
        return cls(tasks, app=app, args=d["args"], immutable=d["immutable"], **d["options"])

    def parts(self) -> Iterator[Any]:
        return iter(self.tasks)

    def unrolled(self) -> Any:
        """Its only member if there is one alone, else itself."""
        return self.tasks[0] if is_single(self.tasks) else self

    def __call__(self, *partial_args: Any, **options: Any) -> Any:
        """Send it; further arguments go before those of every member."""
        return self.apply_async(partial_args, **options)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send it; *args*, *kwargs* and *options* are for every member."""
        for option in ("link", "link_error"):
            if options.get(option) is not None:
                raise TypeError(f"a group takes no {option}: make it a chord, or link to its members")
        return super().apply_async(args, kwargs, **options)

    def apply(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run its members here, one after the other."""
        options = {**self.options, **options}
        group_id = options.pop("task_id", None) or new_id()
        options["group_id"] = group_id
        members = (maybe_signature(member, app=self._app, clone=True) for member in self.flattened())
        results = [member.apply(args, kwargs, **options) for member in members]
        return GroupResult(group_id, results, app=self.app)

    def flattened(self) -> Iterator[Any]:
        """Its members, with those of groups in it in their place, and without chains of nothing."""
        for member in self.tasks:
            member = maybe_signature(member, app=self._app)
            if isinstance(member, group):
                yield from member.flattened()
            elif not (isinstance(member, chain) and not member.tasks):
                yield member

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Mapping[str, Any] | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give its members ids, and return their results."""
        options = self.options
        own_id = options.setdefault("task_id", _id or new_id())
        for name, value in (("group_id", group_id), ("chord", chord or None), ("group_index", group_index)):
            if value is not None:
                options[name] = value
        root_id = options.setdefault("root_id", root_id)
        parent_id = options.setdefault("parent_id", parent_id)
        members = [member.clone() for member in self.flattened()]
        results = [
            member.freeze(None, group_id, chord, root_id, parent_id, index)
            for index, member in enumerate(members)
        ]
        if isinstance(self.tasks, list):
            self.tasks[:] = members
        else:
            self.tasks = members
        return GroupResult(own_id, results, app=self.app)

    _freeze = freeze

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> group:
        """Let its members start one after the other: *start* seconds from now, *step* later, up to *stop*."""
        countdown = start
        for member in self.tasks:
            member.set(countdown=countdown)
            if not stop or countdown + step <= stop:
                countdown += step
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Say whether its members take further arguments."""
        for member in self.tasks:
            member.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """Run *callback* when the first member returns; without its result, as it is not that of all."""
        return self.tasks[0].link(maybe_signature(callback, clone=True).set(immutable=True))

    def link_error(self, errback: Any) -> Any:
        """Call *errback* when a member fails, for each that does; returns what each was given."""
        return tuple(member.link_error(maybe_signature(errback, clone=True)) for member in self.tasks)

    def stamp(
        self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any
    ) -> None:
        """Stamp its members, callbacks and errbacks; those from a generator when it gives them."""
        said = None if visitor is None else visitor.on_group_start(self, **headers) or {}
        headers = stamps_for(said, headers, append_stamps, self.options)
        self.stamp_links(visitor, append_stamps, **headers)
        self.tasks = _stamped(self.tasks, self._app, visitor, append_stamps, headers)
        if visitor is not None:
            visitor.on_group_end(self, **headers)

    def __or__(self, other: Any) -> Any:
        """A chord: *other* gets the list of the results."""
        is_nothing = is_empty_group(other) and not isinstance(other.tasks, Lazy)
        return self if is_nothing else chord(self, other, app=self._app)

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        if not self.tasks:
            return "group(<empty>)"
        return _shortened(self.tasks[0]["task"], f"group({self.tasks!r})")


def is_empty_group(value: Any) -> bool:
    """Whether *value* is a group of nothing."""
    return isinstance(value, group) and not value.tasks


def _stamped(
    tasks: Any,
    app: FastQ | None,
    visitor: StampingVisitor | None,
    append_stamps: bool,
    headers: dict[str, Any],
) -> Any:
    """*tasks* as signatures with stamps: the same list, if it is one."""

    def stamp(task: Any) -> Any:
        task = maybe_signature(task, app=app)
        task.stamp(visitor, append_stamps, **headers)
        return task

    if isinstance(tasks, Lazy):
        tasks.map(stamp)
        return tasks
    stamped = [stamp(task) for task in tasks]
    if isinstance(tasks, list):
        tasks[:] = stamped
        return tasks
    return stamped


@Signature.register_type()
class chord(Workflow):
    """A header of tasks that run side by side, and a body that gets the list of their results.

    The body runs once, when the last of the header has returned. If one of them fails, so does
    the body, without being run. The result is that of the body, with the header's as its parent.
    """

    __slots__ = ()

    tasks = kwargs_item("header", "Its header: a group, or the list of its members.")
    body = kwargs_item("body", "What gets the results.")

    def __init__(
        self,
        header: Any,
        body: Any = None,
        task: str = "celery.chord",
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        app: FastQ | None = None,
        **options: Any,
    ) -> None:
        parts = {"header": _header(header, app), "body": maybe_signature(body, app=app)}
        super().__init__(task, args, {**(kwargs or {"kwargs": {}}), **parts}, app=app, **options)
        self.subtask_type = "chord"

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: FastQ | None = None) -> chord:
        """The chord that a map stands for."""
        more = {key: value for key, value in d["kwargs"].items() if key not in ("header", "body")}
        return cls(d["kwargs"].get("header"), d["kwargs"].get("body"), app=app, **{**d, "kwargs": more})

    def parts(self) -> Iterator[Any]:
        yield from header_of(self)
        yield self.body

    def header_group(self) -> group:
        """Its header as a group, which it is from now on."""
        if not isinstance(self.tasks, group):
            self.tasks = group(self.tasks, app=self._app)
        return self.tasks

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Send it, with another *body* if one is given."""
        return self.apply_async((), {"body": body} if body else {}, **options)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send it; *args* and *kwargs* are for the header, but for a ``body`` in place of its own."""
        kwargs = dict(kwargs or {})
        body = kwargs.pop("body", None)
        sig = self
        if body is not None:
            sig = chord(self.tasks, body, app=self._app, args=self.args, **self.options)
        app = sig.app
        if app.conf.task_always_eager:
            given = {name: value for name, value in options.items() if name not in ("link", "link_error")}
            body = sig.body.clone(**given)
            for option in ("link", "link_error"):
                body = _with_links(
                    body, option, (*listed(sig.options.get(option)), *listed(options.get(option)))
                )
            with allow_join_result():
                return sig.apply(args, kwargs, body=body)
        return app.send_workflow(sig, args or (), kwargs, options)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        propagate: bool = True,
        body: Any = None,
        **options: Any,
    ) -> Any:
        """Run the header here, then the body; what the header raises is raised, unless *propagate* is off."""
        body = self.body if body is None else body
        header = group(self.tasks, app=self.app)
        return body.apply((header.apply(args, kwargs).get(propagate=propagate),))

    def clone(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> chord:
        """A copy, of its header and body too."""
        copy: Any = super().clone(args, kwargs, **options)
        copy.body = maybe_signature(copy.body, clone=True)
        return copy  # type: ignore[no-any-return]

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Mapping[str, Any] | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give header and body ids, the body's *_id*, and return the body's result."""
        header = self.header_group().freeze(None, None, self.body, root_id, parent_id)
        self.id = header.id
        if self.body is None:
            return None
        result = self.body.freeze(_id, group_id, chord, root_id, None, group_index)
        eldest(result).parent = header
        return result

    _freeze = freeze

    def link(self, callback: Any) -> Any:
        """Run *callback* with the result of the body; returns *callback*."""
        self.body.link(callback)
        return callback

    def link_error(self, errback: Any) -> Any:
        """Call *errback* when the chord fails; returns it.

        The body has it, and with ``task_allow_error_cb_on_chord_header`` every task of the header too,
        so that it is called for each that fails.
        """
        errback = maybe_signature(errback)
        is_for_header = self.app.conf.task_allow_error_cb_on_chord_header
        for task in header_of(self):
            if is_for_header:
                task.link_error(errback.clone(immutable=True))
            if isinstance(task, chord):
                task.link_error(errback)
        self.body.link_error(errback)
        return errback

    def set_immutable(self, immutable: bool) -> None:
        """Say whether the tasks of its header take further arguments."""
        for task in header_of(self):
            task.set_immutable(immutable)

    def stamp(
        self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any
    ) -> None:
        """Stamp its header, its body, its callbacks and its errbacks."""
        tasks = header_of(self)
        said = None if visitor is None else visitor.on_chord_header_start(self, **headers) or {}
        headers = stamps_for(said, headers, append_stamps, self.options)
        self.stamp_links(visitor, append_stamps, **headers)
        _stamped(tasks, self._app, visitor, append_stamps, headers)
        if visitor is None:
            return
        visitor.on_chord_header_end(self, **headers)
        if self.body is not None:
            headers = stamps_for(
                visitor.on_chord_body(self, **headers) or {}, headers, append_stamps, self.options
            )
            self.body.stamp(visitor, append_stamps, **headers)

    def __or__(self, other: Any) -> Any:
        """It with *other* after its body."""
        if isinstance(other, group) and other.unrolled() is not other:
            other = other.unrolled()
        elif isinstance(other, group | chain) or not isinstance(other, Signature):
            return super().__or__(other)
        copy = self.clone()
        copy.body = copy.body | other
        return copy

    def __repr__(self) -> str:
        body = self.body
        if not body or (isinstance(body, chain) and not body.tasks):
            return f"<chord without body: {self.tasks!r}>"
        if isinstance(body, chain):
            first, *others = body.tasks
            rest = chain(others, app=self._app)
            return _shortened(first["task"], f"%({first.reprcall(self.tasks)} | {rest!r})")
        return "%" + _shortened(body["task"], body.reprcall(self.tasks))


def _header(header: Any, app: FastQ | None) -> Any:
    """The tasks of a header: of a group, a chain or a list, or one alone."""
    if isinstance(header, dict):
        header = signature(header, app=app) if not isinstance(header, Signature) else header
        return header.tasks if isinstance(header, group | chain) else [header]
    if isinstance(header, list | tuple):
        return [signature(task, app=app) for task in header]
    return Lazy(maybe_signature(task, app=app) for task in header)


def _with_links(sig: Any, option: str, links: Iterable[Any]) -> Any:
    """A copy of *sig* with callbacks or errbacks linked to it, and to none of what it shares with others."""
    for link in links:
        sig = _clone_with_members(sig)
        sig.link(link) if option == "link" else sig.link_error(link)
    return sig


def _clone_with_members(sig: Any) -> Any:
    sig = maybe_signature(sig, clone=True)
    if isinstance(sig, group):
        sig.tasks = [_clone_with_members(task) for task in sig.tasks]
    elif isinstance(sig, chord):
        sig.body = _clone_with_members(sig.body)
    return sig


def _shortened(task: str, text: str) -> str:
    """*text* with the module of *task* left out of every name but the first."""
    module, dot, _ = str(task).rpartition(".")
    head, found, rest = text.partition(module + dot)
    return head + found + (re.sub(rf"(?<![\w.-]){re.escape(module + dot)}", "", rest) if dot else rest)
