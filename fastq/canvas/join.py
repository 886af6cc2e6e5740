"""The join of a chord: its body gets the list of what the header returned, or fails as a part of it did."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from fastq import serialization, states
from fastq._core.codec import json_loads
from fastq._core.message import Effects, Message
from fastq._core.request import Context
from fastq.canvas.after import After, chords_of
from fastq.canvas.plain import header_of, kind_of, listed, members_of
from fastq.canvas.steps import ACCUMULATE, Sig, flattened
from fastq.canvas.workflow import NOTHING
from fastq.canvas.writing import with_options
from fastq.exceptions import ChordError, DecodeError

if TYPE_CHECKING:
    from fastq.app.base import FastQ

logger = logging.getLogger("fastq.worker.trace")

FAILURE = "FAILURE"


class Ended(NamedTuple):
    """A part of a chord."""

    task_id: str
    state: str
    result: Any


class Join:
    """Joins the chord *group_id* of *app*, which the run *request* has completed."""

    def __init__(self, app: FastQ, request: Context, group_id: str) -> None:
        self._app = app
        self._request = request
        self._group_id = group_id

    def run(
        self, members: list[bytes] | None, described: bytes | None, gives_up: str | None
    ) -> tuple[list[Message] | None, Effects]:
        """The messages and effects of the join, which have effect only where nobody has joined it before.

        *members* are its parts and *described* tells of its group, if the worker has been told of them;
        else they are read from the backend. With a reason to give it up they are not looked at.
        Raises `OperationalError` when the backend can't be reached.
        """
        after = After(self._app, self._request)
        after.effects.joined = self._group_id
        embed = self._request.embed or {}
        bodies = (body for group, body in chords_of(embed, self._request.group) if group == self._group_id)
        body = next(bodies, None)
        if body is None:
            logger.error(
                "The chord %s has no body that could run: its last part tells of none", self._group_id
            )
            return after.pair()
        try:
            if gives_up:
                raise ChordError(f"Join error: {gives_up}")
            values = self._values(members, described)
        except ChordError as exc:
            logger.error("Chord %r raised: %r", self._group_id, exc)
            self.fail(after, body, exc)
            return after.pair()
        if values is None:
            return after.pair()  # somebody was faster
        try:
            after.send(body, (values,))
        except Exception as exc:
            logger.exception("The body of the chord %s can't be sent", self._group_id)
            after = After(self._app, self._request)
            after.effects.joined = self._group_id
            self.fail(after, body, ChordError(f"Callback error: {exc!r}"))
        return after.pair()

    # -- what the header returned ---------------------------------------------------------

    def _values(self, members: list[bytes] | None, described: bytes | None) -> list[Any] | None:
        """What the body gets; None if the chord has ended. Raises `ChordError` if a part has failed."""
        backend = self._app.backend
        assert backend is not None
        if members is None:
            members = backend.parts(self._group_id, self._app.conf.result_chord_join_timeout)
            if members is None:
                return None
            described = backend.restore_group(self._group_id)
        try:
            parts = self._read(members)
        except Exception as exc:
            raise ChordError(f"Join error: {exc!r}") from exc
        for part in parts:
            if part.state in states.PROPAGATE_STATES:
                cause = _exception(part.result)
                raise ChordError(f"Dependency {part.task_id} raised {cause!r}") from cause
        if described is None:
            return [part.result for part in parts]
        return self._arranged(described, {part.task_id: part.result for part in parts})

    def _read(self, members: list[bytes]) -> list[Ended]:
        found: list[Any] = []
        if self._app.conf.result_serializer == "json":
            with suppress(DecodeError):  # then one by one, to tell what is wrong
                found = json_loads(b"[%b]" % b",".join(members))  # in a tenth of the time
        if len(found) != len(members):
            found = [self._app.load_document(member) for member in members]
        return [Ended(task_id, state, result) for _, task_id, state, result in found]

    def _arranged(self, described: bytes, values: Mapping[str, Any]) -> list[Any]:
        """*values* in lists as the results of the header are, of which some are those of groups."""
        (_, children) = self._app.load_document(described)["result"]
        return [self._arrange(child, values) for child in children or ()]

    def _arrange(self, travelled: Any, values: Mapping[str, Any]) -> Any:
        (task_id, _), children = travelled
        if children is not None:
            return [self._arrange(child, values) for child in children]
        if task_id not in values:
            raise ChordError(f"Join error: nothing is known of {task_id}, which is part of the chord")
        return values[task_id]

    # -- where it failed ------------------------------------------------------------------

    def fail(self, after: After, body: Sig, exc: ChordError) -> None:
        """Tell that *body* will not run, to its errbacks too."""
        # A group fails with what the header raised, as Celery has it, and anything else with a ChordError.
        cause = exc.__cause__ if isinstance(exc.__cause__, Exception) else exc
        error = cause if kind_of(body) == "group" else exc
        after.fail([body], FAILURE, self._app.dump_exception(error), _text(error))
        last = _last_chord(body)
        for member in _members(last):
            self._call_errbacks(after, member, cause if last is body else exc)
        if kind_of(body) != "group":
            self._call_errbacks(after, body, exc)

    def _call_errbacks(self, after: After, sig: Sig, error: BaseException) -> None:
        for failed, errbacks in _errbacks(sig):
            after.call_errbacks(errbacks, self._failed_request(failed), error, _text(error))

    def _failed_request(self, sig: Sig) -> Context:
        """A request for errbacks, of a task that did not run."""
        options = sig.get("options") or NOTHING
        request = Context(self._app.tasks.get(sig.get("task", "")))
        request.called_directly = False
        request.id = options.get("task_id") or ""
        request.args, request.kwargs = sig.get("args"), sig.get("kwargs")
        request.update(
            task=sig.get("task"),
            root_id=self._request.root_id or self._request.id,
            parent_id=self._request.id,
            group=options.get("group_id"),
        )
        return request


def _errbacks(body: Sig) -> Iterable[tuple[Sig, list[Any]]]:
    """Which errbacks are to be called for a *body* that does not run, and for which of its tasks."""
    own = listed((body.get("options") or NOTHING).get("link_error"))
    kind = kind_of(body)
    if kind == "group":
        for member in _members(body):
            yield from _errbacks(member)
    elif kind == "chord":
        inner = body["kwargs"]["body"]
        for sig, errbacks in _errbacks(inner):
            yield sig, _unique([*own, *errbacks])
    elif kind == "chain":
        first, *_, last = [*body["kwargs"]["tasks"]] * 2
        task_id = (body.get("options") or NOTHING).get("task_id")
        of = {**last, "options": {**last["options"], "task_id": task_id}} if task_id else last
        # The chain fails with its first step, which has errbacks of its own beside the chain's.
        yield of, _unique([*own, *(errback for _, errbacks in _errbacks(first) for errback in errbacks)])
    else:
        yield body, own


def _last_chord(body: Sig) -> Sig:
    """The innermost chord of a *body* of chords in chords; *body* itself if it is nothing such."""
    while kind_of(body) == "chord" and kind_of(body["kwargs"]["body"]) == "chord":
        body = body["kwargs"]["body"]
    return body


def _members(body: Sig) -> Iterable[Sig]:
    """The members of the group that *body* is, or that it stands for where its value is wanted as one."""
    if kind_of(body) == "group":
        own = {"link_error": (body.get("options") or NOTHING).get("link_error")}
        return (with_options(member, own) for member in members_of(body))
    is_gathered = kind_of(body) == "chord" and body["kwargs"]["body"]["task"] == ACCUMULATE["task"]
    return flattened(header_of(body)) if is_gathered else ()


def _text(error: BaseException) -> str:
    """The traceback of *error*, which no code of the user's has raised here."""
    return f"{type(error).__module__}.{type(error).__qualname__}: {error}\n"


def _unique(errbacks: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for errback in errbacks:
        if errback not in found:
            found.append(errback)
    return found


def _exception(result: Any) -> BaseException:
    try:
        return serialization.exception_from_map(result)
    except DecodeError:
        return Exception(result)
