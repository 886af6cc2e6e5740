"""What takes effect after a task, in the commit of its outcome: messages, parts of chords, results (D5)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from fastq import serialization
from fastq._core.codec import json_dumps
from fastq._core.message import Effects, Message
from fastq._core.request import Context
from fastq.canvas.errbacks import call_inline, is_called_inline
from fastq.canvas.plain import header_of, kind_of, listed, members_of
from fastq.canvas.steps import Sig, group_of
from fastq.canvas.workflow import NOTHING, compose_workflow

if TYPE_CHECKING:
    from fastq.app.base import FastQ

logger = logging.getLogger("fastq.worker.trace")

SUCCESS = "SUCCESS"


class After:
    """Gathers what the end of one run of *app* brings about. Does no I/O."""

    def __init__(self, app: FastQ, request: Context) -> None:
        """*request* is the run, which becomes the parent of what is sent."""
        self._app = app
        self._request = request
        self._has_warned = False
        self.calls_errbacks = True  # whether those that take what failed are called here
        self.sends_errbacks = True  # whether messages are sent to the others
        self.uncalled = 0  # errbacks that were left for another to call
        self.messages: list[Message] = []
        self.effects = Effects()

    def pair(self) -> tuple[list[Message], Effects]:
        """The messages to send, and what else takes effect."""
        return self.messages, self.effects

    def send(self, sig: Sig, args: Sequence[Any], options: Mapping[str, Any] = NOTHING) -> Any:
        """Have *sig* sent with *args* before its own; returns the result of what starts, or None."""
        workflow = compose_workflow(
            self._app, sig, args, NOTHING, options, self._request, checks_arguments=False
        )
        for block in workflow:
            self.messages += block.messages
            self.effects.chords += block.chords
        return workflow.started

    # -- chords -------------------------------------------------------------------------

    def count(self, group_id: Any, task_id: str, index: Any, state: str, result: Any) -> None:
        """Count the part of a chord that ended in *state*; *result* is as a result document holds it."""
        if not isinstance(group_id, str) or not group_id or not self._counts_parts(group_id):
            return
        position = index if type(index) is int else None
        member = encode_value(self._app, [1, task_id, state, result])
        self.effects.parts.append((group_id, task_id, position, member))

    def _counts_parts(self, group_id: str) -> bool:
        backend = self._app.backend
        if backend is not None and backend.keeps_chords:
            return True
        if not self._has_warned:
            self._has_warned = True
            logger.error(
                "%s is part of the chord %s, whose parts can't be counted: set result_backend to a store "
                "that can, redis:// for example. The body of the chord will not run",
                self._request.id,
                group_id,
            )
        return False

    # -- failures -----------------------------------------------------------------------

    def fail(self, signatures: Iterable[Sig], state: str, result: Any, traceback: str | None) -> None:
        """Tell that *signatures* will not run, in the results of their tasks and to chords they are part of.

        *state* and *result*, as a result document holds it, are those of what failed before them.
        """
        known = {task_id for task_id, _, _ in self.effects.results}
        for sig in tasks_of(signatures):
            options = sig.get("options") or NOTHING
            task_id = options.get("task_id")
            if not isinstance(task_id, str) or task_id in known:
                continue
            known.add(task_id)
            if self._is_kept(sig):
                document = failure_document(self._app, task_id, state, result, traceback, options)
                self.effects.results.append((task_id, state, document))
            if options.get("chord"):
                self.count(options.get("group_id"), task_id, options.get("group_index"), state, result)

    def _is_kept(self, sig: Sig) -> bool:
        if self._app.backend is None:
            return False
        ignores = sig["options"].get("ignore_result")
        if ignores is None:
            task = self._app.tasks.get(sig.get("task", ""))
            ignores = task is not None and task.ignore_result and not task.store_errors_even_if_ignored
        return not ignores

    def call_errbacks(
        self, errbacks: Any, request: Context, exc: BaseException, traceback: str | None
    ) -> None:
        """Call those of *errbacks* here that take what failed, and have messages sent to the others."""
        others = []
        for errback in listed(errbacks):
            try:
                if not is_called_inline(self._app, errback):
                    others.append(errback)
                elif self.calls_errbacks:
                    call_inline(self._app, errback, request, exc, traceback)
                else:
                    self.uncalled += 1
            except Exception:
                name = errback.get("task") if isinstance(errback, Mapping) else errback
                logger.exception("The errback %s of %s raised", name, request.id)
        if others and self.sends_errbacks:
            own, self._request = self._request, request
            try:
                self.send(group_of(others), (request.id,))
            except Exception:
                logger.exception("The errbacks of %s can't be sent", request.id)
            finally:
                self._request = own


def tasks_of(signatures: Iterable[Sig]) -> Iterator[Sig]:
    """The tasks in *signatures*, and in what follows these, whose results tell how they ended.

    Of a chord that is its body: the tasks of its header are not waited for.
    """
    stack: list[Any] = list(reversed(list(signatures)))
    while stack:
        sig = stack.pop()
        if not isinstance(sig, Mapping):
            continue
        kind, kwargs = kind_of(sig), sig.get("kwargs") or NOTHING
        stack += (sig.get("options") or NOTHING).get("chain") or ()
        if kind == "chain":
            stack += reversed(list(kwargs.get("tasks") or ()))
        elif kind == "group":
            stack += reversed(list(members_of(sig)))
        elif kind == "chord":
            stack.append(kwargs.get("body"))
        else:
            yield sig


def chords_of(embed: Mapping[str, Any], group_id: Any) -> Iterator[tuple[Any, Sig]]:
    """The chords of which a message, that is a member of *group_id*, tells: the id of each, and its body."""
    if embed.get("chord"):
        yield group_id, embed["chord"]
    stack = [*(embed.get("chain") or ()), embed.get("chord")]
    while stack:
        sig = stack.pop()
        if not isinstance(sig, Mapping):
            continue
        options, kwargs = sig.get("options") or NOTHING, sig.get("kwargs") or NOTHING
        if options.get("chord"):
            yield options.get("group_id"), options["chord"]
            stack.append(options["chord"])
        stack += options.get("chain") or ()
        kind = kind_of(sig)
        if kind in ("chain", "group"):
            stack += kwargs.get("tasks") or ()
        elif kind == "chord":
            stack += [*header_of(sig), kwargs.get("body")]


def failure_document(
    app: FastQ, task_id: str, state: str, result: Any, traceback: str | None, options: Mapping[str, Any]
) -> bytes:
    """The result document of a task with *options* that did not run (docs/PROTOCOL.md §5.2)."""
    document = {
        "status": state,
        "result": result,
        "traceback": traceback,
        "children": [],
        "date_done": datetime.now(timezone.utc).isoformat(),
    }
    for field in ("group_id", "parent_id"):
        if options.get(field) is not None:
            document[field] = options[field]
    document["task_id"] = task_id
    return app.dump_document(document)


def encode_value(app: FastQ, value: Any) -> bytes:
    """*value* as Celery's workers write parts of chords: in the serializer of results, not compressed."""
    serializer = app.conf.result_serializer
    return json_dumps(value) if serializer == "json" else serialization.dumps(value, serializer)[2]
