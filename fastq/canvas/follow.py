"""What follows a task: callbacks and the next step of its chain, its part of a chord, errbacks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastq import serialization
from fastq._core.message import (
    JOB_AGAIN,
    JOB_DONE,
    JOIN_JOB,
    Delivery,
    Effects,
    Message,
    Outcome,
    message_from_tuple,
    upgrade_v1,
)
from fastq._core.request import Context, pop_request, push_request
from fastq.canvas.after import SUCCESS, After
from fastq.canvas.join import Join
from fastq.canvas.plain import kind_of, listed
from fastq.canvas.steps import Sig, group_of
from fastq.exceptions import ContentDisallowed, DecodeError, OperationalError

if TYPE_CHECKING:
    from fastq.app.base import FastQ

logger = logging.getLogger("fastq.worker.trace")

FAILURE, REVOKED = "FAILURE", "REVOKED"


class Follower:
    """Sees to what follows the tasks of *app*, and does the jobs of a worker's pool."""

    def __init__(self, app: FastQ) -> None:
        self._app = app

    # -- after a run --------------------------------------------------------------------

    def counts_parts(self) -> bool:
        """Whether parts of chords can be counted; the tracer then does so itself for those it can."""
        return self._app.backend is not None and self._app.backend.keeps_chords

    def succeeded(self, request: Context, value: Any) -> tuple[list[Message], Effects]:
        """The messages and effects that follow a run that returned *value*, as its document holds it.

        Lists what is sent among the children of the run, as its task says.
        """
        after = After(self._app, request)
        embed = request.embed or {}
        started = [after.send(sig, (value,)) for sig in _callbacks(embed.get("callbacks"))]
        if embed.get("chain"):
            *rest, step = embed["chain"]
            started.append(after.send(step, (value,), {"chain": rest}))
        task = request.task_object
        if task is None or task.trail:
            request.children += [result.as_tuple() for result in started if result is not None]
        if embed.get("chord"):
            after.count(request.group, str(request.id), request.group_index, SUCCESS, value)
        return after.pair()

    def failed(
        self, request: Context, exc: BaseException, traceback: str | None, state: str
    ) -> tuple[list[Message], Effects]:
        """The same for a run that ended in *state*, FAILURE or REVOKED, with *exc*; calls its errbacks."""
        after = After(self._app, request)
        self._fail(after, request, exc, traceback, state)
        return after.pair()

    def _fail(
        self, after: After, request: Context, exc: BaseException, traceback: str | None, state: str
    ) -> None:
        embed = request.embed or {}
        described = self._app.dump_exception(exc)
        if embed.get("chord"):
            after.count(request.group, str(request.id), request.group_index, state, described)
        if embed.get("chain"):
            after.fail(reversed(embed["chain"]), state, described, traceback)
        if embed.get("errbacks") and state != REVOKED:
            after.call_errbacks(embed["errbacks"], request, exc, traceback)

    # -- where a task did not run ---------------------------------------------------------

    def may_name_followers(self, message: Message) -> bool:
        """Whether *message* may carry signatures; without decoding it, so True may be wrong."""
        is_plain = message.content_type == "application/json" and message.header("compression") is None
        return not is_plain or b'"task"' in message.body

    def describe(self, exc: BaseException) -> dict[str, Any]:
        """*exc* as plain values, for `Outcome.failure`."""
        return serialization.exception_to_map(exc)

    def run_job(self, delivery: Delivery) -> Outcome:
        """Do a job of `fastq.worker.followups`. Raises nothing."""
        assert delivery.message is not None
        headers = delivery.message.headers
        outcome = Outcome(delivery, state=JOB_DONE)
        try:
            message = message_from_tuple(headers["of"])
            if delivery.message.task == JOIN_JOB:
                outcome.follow, outcome.effects = self._join(message, headers)
            elif not headers.get("gives_up"):
                outcome.follow, outcome.effects = self._follow(message, headers)
        except OperationalError as exc:
            return Outcome(delivery, state=JOB_AGAIN, reason=str(exc))
        except Exception:
            logger.exception("What follows %s can't be worked out", headers["about"])
            # A chord must end all the same: who waits for its part would wait for ever.
            outcome.follow, outcome.effects = None, Effects(joined=headers.get("group"))
        return outcome

    def buried(self, message: Message, exc: BaseException) -> After:
        """What follows the task of *message*, which no worker runs any more. Calls nothing of the user's."""
        request = Context(self._app.tasks.get(message.task), message)
        after = After(self._app, request)
        after.calls_errbacks = False
        self._end(after, request, exc, FAILURE)
        return after

    def _follow(
        self, message: Message, headers: Mapping[str, Any]
    ) -> tuple[list[Message] | None, Effects | None]:
        """What follows the task of *message*, which was not run to its end here."""
        request, state = Context(self._app.tasks.get(message.task), message), headers["state"]
        after = After(self._app, request)
        push_request(request)  # errbacks may send tasks
        try:
            if state == SUCCESS:
                return self._succeeded_before(request)
            exc = serialization.exception_from_map(headers["failure"])
            if headers.get("calls_alone"):
                after.sends_errbacks = False
                request.embed = self._call(message)[2]
                after.call_errbacks(request.embed.get("errbacks"), request, exc, None)
                return None, None
            self._end(after, request, exc, state)
            return after.pair()
        finally:
            pop_request()

    def _end(self, after: After, request: Context, exc: BaseException, state: str) -> None:
        """See to what follows the run *request*, which ended in *state* before its message was decoded."""
        assert request.message is not None
        try:
            request.args, request.kwargs, request.embed = self._call(request.message)
        except (DecodeError, ContentDisallowed):
            # It may be a part of a chord, which its headers tell; the rest nobody can read.
            if self.counts_parts() and request.group:
                described = self._app.dump_exception(exc)
                after.count(request.group, request.id, request.group_index, state, described)
        else:
            self._fail(after, request, exc, None, state)

    def _succeeded_before(self, request: Context) -> tuple[list[Message] | None, Effects | None]:
        """What follows a run that returned before; its value is stored."""
        assert self._app.backend is not None and request.message is not None
        request.args, request.kwargs, request.embed = self._call(request.message)
        [document] = self._app.backend.fetch([request.id])
        if document is None or not request.embed:
            return None, None
        return self.succeeded(request, self._app.load_result(document)["result"])

    def _join(self, message: Message, headers: Mapping[str, Any]) -> tuple[list[Message] | None, Effects]:
        """The body of the chord that the task of *message* has completed, or what follows its failure."""
        request = Context(self._app.tasks.get(message.task), message)
        request.args, request.kwargs, request.embed = self._call(message)
        join = Join(self._app, request, headers["group"])
        push_request(request)
        try:
            return join.run(headers.get("members"), headers.get("described"), headers.get("gives_up"))
        finally:
            pop_request()

    def _call(self, message: Message) -> tuple[Any, Any, dict[str, Any]]:
        """The arguments of *message*, and what follows it."""
        body = self._app.load_body(message)
        if isinstance(body, dict):
            body = upgrade_v1(message, body)
        if not isinstance(body, list | tuple) or len(body) != 3:
            raise DecodeError(f"the body of {message.task}[{message.id}] is not [args, kwargs, embed]")
        args, kwargs, embed = body
        if embed is not None and not isinstance(embed, dict):
            raise DecodeError(f"the third part of the body is a {type(embed).__name__}, not a map")
        return args, kwargs, embed or {}


def _callbacks(callbacks: Any) -> list[Sig]:
    """*callbacks* as they are sent: several tasks as one group, and each group by itself."""
    given = listed(callbacks)
    if len(given) < 2:
        return given
    groups = [sig for sig in given if kind_of(sig) == "group"]
    others = [sig for sig in given if kind_of(sig) != "group"]
    return [*groups, group_of(others)] if others else groups
