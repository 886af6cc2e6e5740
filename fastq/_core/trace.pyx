"""Run one task: bind, call, catch, and say what became of it.

A `Tracer` turns a `Delivery` into an `Outcome`. What is to be stored, published and
settled stands in the outcome and takes effect in one commit (D5); the tracer itself
does no I/O.
"""

import logging
import time
import traceback as traceback_module
from asyncio import CancelledError

cimport cython
from libc.stdio cimport snprintf
from posix.time cimport CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime, clockid_t, timespec

from fastq import signals, states
from fastq._core.codec import json_dumps, json_loads
from fastq._core.message import JOBS, upgrade_v1
from fastq._core.message cimport (
    ACK, BURY, REDELIVER, REQUEUE, Delivery, Effects, Message, Outcome, effects_of_part,
)
from fastq._core.preview cimport preview
from fastq._core.request cimport Context, enter, leave
from fastq.exceptions import (
    ContentDisallowed, DecodeError, EncodeError, Ignore, Reject, Retry, TaskRevokedError, TimeLimitExceeded,
    WorkerLostError,
)

logger = logging.getLogger("fastq.worker.trace")

# Results that are stored as they are; anything else may be a result object.
cdef frozenset PLAIN_TYPES = frozenset({type(None), bool, int, float, str, list, dict, tuple})

# Looked up once: a task that nobody listens to passes these four times.
cdef object task_prerun = signals.task_prerun
cdef object task_postrun = signals.task_postrun
cdef object task_success = signals.task_success

cdef enum:
    INFO = 20  # logging.INFO


cdef inline double _read_clock(clockid_t clock) noexcept:
    """Seconds; a clock that exists can be read, so there is nothing to fail."""
    cdef timespec now
    clock_gettime(clock, &now)
    return now.tv_sec + now.tv_nsec * 1e-9


# ---------------------------------------------------------------------------
# What the tracer knows of a task
# ---------------------------------------------------------------------------

@cython.final
cdef class Plan:
    """What one task's options mean for each of its runs, looked up once."""

    cdef object task                  # the Task
    cdef object call                  # what is called with args and kwargs
    cdef readonly bint is_job         # no task, but one of `JOBS`
    cdef readonly bint is_async       # an `async def`
    cdef readonly bint acks_late
    cdef readonly bint ignores_result
    cdef readonly bint stores_errors  # even if results are ignored
    cdef readonly bint tracks_start
    cdef bint has_before_start
    cdef bint has_on_success
    cdef bint has_after_return
    cdef readonly object time_limit
    cdef readonly object soft_time_limit

    def __init__(self, task):
        task.prepare()  # it may have been defined when the app was in use already
        kind = type(task)
        base = task.base_class
        self.task = task
        self.call = task if kind.__call__ is not base.__call__ else task.run
        self.is_async = task.is_async
        self.acks_late = task.acks_late
        self.ignores_result = task.ignore_result
        self.stores_errors = task.store_errors_even_if_ignored
        self.tracks_start = task.track_started
        self.has_before_start = _is_own(task.before_start, base.before_start)
        self.has_on_success = _is_own(task.on_success, base.on_success)
        self.has_after_return = _is_own(task.after_return, base.after_return)
        self.time_limit = task.time_limit
        self.soft_time_limit = task.soft_time_limit


cdef Plan _plan_of_job():
    cdef Plan plan = Plan.__new__(Plan)
    plan.is_job = True
    plan.acks_late = True
    return plan


cdef bint _is_own(handler, inherited) except -1:
    """Whether *handler*, of a task's class or its own, is another than the one that does nothing."""
    return getattr(handler, "__func__", handler) is not inherited


@cython.final
@cython.freelist(64)
cdef class Run:
    """One run under way, between its start and its outcome."""

    cdef Delivery delivery
    cdef Context context
    cdef Plan plan
    cdef object soft_limit
    cdef object token       # gives the request before this one back
    cdef double started     # monotonic seconds
    cdef object value       # what was returned or raised
    cdef str traceback


# ---------------------------------------------------------------------------
# Result documents (docs/PROTOCOL.md §5.2)
# ---------------------------------------------------------------------------

cdef bytes _document(object encoder, Context context, str state, result, traceback, dict extended):
    """The result document of *context*'s task, its fields in Celery's order."""
    cdef dict document = {
        "status": state,
        "result": result,
        "traceback": traceback,
        "children": context.children,
        "date_done": _utc_now().decode("ascii") if state in states.READY_STATES else None,
    }
    if context.message is not None:
        for field, header in (("group_id", "group"), ("parent_id", "parent_id")):
            value = context.message.header(header)
            if value is not None:
                document[field] = value
    if extended is not None:
        document.update(extended)
    document["task_id"] = context.id
    return json_dumps(document) if encoder is None else encoder(document)


cdef bint _names_followers(dict embed) except -1:
    """Whether the third part of a body says that anything follows its task (§1.4)."""
    if not embed:
        return False
    for part in ("chain", "chord", "callbacks", "errbacks"):
        if embed.get(part):
            return True
    return False


cdef bytes _success_json(Context context, bytes value):
    """What `_document` writes for a plain success, in a third of the time: most documents are one."""
    cdef bytes group_id = _field_json(b',"group_id":', context.message.header("group"))
    cdef bytes parent_id = _field_json(b',"parent_id":', context.message.header("parent_id"))
    return b"".join((
        b'{"status":"SUCCESS","result":', value, b',"traceback":null,"children":[],"date_done":"',
        _utc_now(), b'"', group_id, parent_id, b',"task_id":', json_dumps(context.id), b"}",
    ))


cdef inline bytes _field_json(bytes name, value):
    return b"" if value is None else name + <bytes> json_dumps(value)


cdef bint _is_plain_part(Context context) except -1:
    """Whether a run is a part of a chord, and nothing else follows its success."""
    cdef dict embed = context.embed
    if not embed.get("chord") or embed.get("chain") or embed.get("callbacks"):
        return False
    group_id = context.message.header("group")
    # What was set by hand on a request counts.
    return type(group_id) is str and group_id != "" and not vars(context)


cdef Effects _part(Context context, bytes value):
    """What `Follower.succeeded` finds for a plain part, in a fifth of the time."""
    index = context.message.all_headers().get("group_index")
    member = b"".join((b"[1,", json_dumps(context.id), b',"SUCCESS",', value, b"]"))
    part = context.message.header("group"), context.id, index if type(index) is int else None, member
    return effects_of_part(part)


cdef bytes _last_second_text = b""
cdef long long _last_second = -1


cdef bytes _utc_now():
    """The time as `datetime.isoformat` writes it, in UTC."""
    # The date changes once a second, and formatting it costs more than a no-op task does.
    global _last_second, _last_second_text
    cdef double now = _read_clock(CLOCK_REALTIME)
    cdef long long second = <long long> now
    cdef int micros = <int> ((now - second) * 1e6)
    cdef char text[48]
    if second != _last_second:
        _last_second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode("ascii")
        _last_second = second
    snprintf(text, sizeof(text), "%s.%06d+00:00", <const char *> _last_second_text, micros)
    return text


# ---------------------------------------------------------------------------
# The tracer
# ---------------------------------------------------------------------------

@cython.final
cdef class Tracer:
    """Runs deliveries of *app*'s tasks for the node *hostname*.

    *time_limit* and *soft_time_limit* (seconds) hold for tasks that set none. A pool that
    keeps soft limits sets `arm`, called with the limit just before the user's function,
    and `disarm`, called right after it; between them `SoftTimeLimitExceeded` may be raised
    in the function. `run_coroutine` runs an ``async def`` task to its end in this thread. With `shows`
    outcomes have what events tell of them.
    """

    cdef public object arm
    cdef public object disarm
    cdef public object run_coroutine
    cdef public bint shows
    cdef readonly object app
    cdef readonly str hostname
    cdef object time_limit
    cdef object soft_time_limit
    cdef unsigned int max_redeliveries
    cdef object tasks
    cdef dict plans
    cdef object follower     # what follows tasks; only messages with signatures in them come to it
    cdef object loads        # (message) -> the decoded body, for all that is not plain JSON
    cdef object encoder      # (document) -> bytes; None: JSON
    cdef bint extended
    cdef object counts_parts  # whether the results' store counts those of chords; None: not asked yet
    cdef bint logs_success   # read before each batch: to ask the logger takes longer than a no-op task

    def __init__(
        self, app, str hostname, *, time_limit=None, soft_time_limit=None, unsigned int max_redeliveries=3
    ):
        self.app = app
        self.hostname = hostname
        self.time_limit = time_limit
        self.soft_time_limit = soft_time_limit
        self.max_redeliveries = max_redeliveries
        self.tasks = app.tasks
        self.plans = {}
        self.follower = app.follower
        self.loads = app.load_body
        self.encoder = app.result_encoder()
        self.extended = app.conf.result_extended
        self.run_coroutine = app.run_coroutine

    def forget_plans(self):
        """Look up the options of every task again: they were changed."""
        self.plans.clear()

    cdef Plan _plan(self, str name):
        plan = self.plans.get(name)
        if plan is None:
            plan = self.plans[name] = _plan_of_job() if name in JOBS else Plan(self.tasks[name])
        return <Plan> plan

    # -- running ------------------------------------------------------------

    def run(self, Delivery delivery):
        """Run the task of *delivery* here, and return its outcome.

        An exception of the task is an outcome, and so is a CancelledError; what else is no
        `Exception` (SystemExit) passes.
        """
        self.logs_success = logger.isEnabledFor(INFO)
        return self._run(delivery)

    def run_many(self, deliveries, list outcomes, stop=None):
        """Run *deliveries* in order and append each outcome as it comes; returns how many ran.

        Ends early when *stop*, with a method ``is_set``, says so.
        """
        cdef Py_ssize_t ran = 0
        self.logs_success = logger.isEnabledFor(INFO)
        for delivery in deliveries:
            if stop is not None and stop.is_set():
                break
            outcomes.append(self._run(delivery))
            ran += 1
        return ran

    cdef Outcome _run(self, Delivery delivery):
        cdef Run run = Run.__new__(Run)
        cdef Outcome refused = self._begin(run, delivery)
        if refused is not None:
            return refused
        return self._complete(run)

    cdef Outcome _complete(self, Run run):
        try:
            try:
                self._announce(run)
                value = self._call(run)
            except (Exception, CancelledError) as exc:
                return self._caught(run, exc)
            return self._succeeded(run, value)
        except Exception as exc:
            if run.context.is_eager:
                raise
            return self._broken(run, exc)
        finally:
            leave(run.token)

    def apply(self, Delivery delivery, task, args, dict kwargs):
        """Run *task* in place, as eager mode does: (outcome, what it returned or raised, traceback).

        Raises what a handler of the task raises.
        """
        cdef Run run = Run.__new__(Run)
        run.plan = Plan(task)
        self._enter(run, delivery, args, kwargs, None)
        run.context.is_eager = True
        return self._complete(run), run.value, run.traceback

    async def run_async(self, Delivery delivery, is_abandoned):
        """As `run`, awaiting the task if it is an ``async def``.

        A CancelledError passes if *is_abandoned*, called without arguments, says that the
        pool has cancelled the task; else the task has raised it.
        """
        cdef Run run = Run.__new__(Run)
        cdef Outcome refused = self._begin(run, delivery)
        if refused is not None:
            return refused
        self.logs_success = logger.isEnabledFor(INFO)
        try:
            try:
                self._announce(run)
                value = run.plan.call(*run.context.args, **run.context.kwargs)
                if run.plan.is_async:
                    value = await value
            except (Exception, CancelledError) as exc:
                if isinstance(exc, CancelledError) and is_abandoned():
                    raise
                return self._caught(run, exc)
            return self._succeeded(run, value)
        except Exception as exc:
            return self._broken(run, exc)
        finally:
            leave(run.token)

    cdef _call(self, Run run):
        cdef Context context = run.context
        cdef bint is_armed = run.soft_limit is not None and self.arm is not None
        if is_armed:
            self.arm(run.soft_limit)
        try:
            value = run.plan.call(*context.args, **context.kwargs)
            if run.plan.is_async:
                value = self.run_coroutine(value)
        finally:
            if is_armed:
                self.disarm()
        return value

    cdef Outcome _begin(self, Run run, Delivery delivery):
        """Make ready to call; or the outcome of a message that can't be run, or of a job."""
        cdef Message message = delivery.message
        try:
            run.plan = self._plan(message.task)
            if run.plan.is_job:
                return self.follower.run_job(delivery)
            args, kwargs, embed = self._body(message)
        except (DecodeError, ContentDisallowed) as exc:
            return self.refused(delivery, exc)
        self._enter(run, delivery, args, kwargs, embed)
        return None

    cdef _enter(self, Run run, Delivery delivery, args, dict kwargs, dict embed):
        """Make the request of this run the current one."""
        cdef Message message = delivery.message
        cdef Context context = Context.__new__(Context)
        context.task_object = run.plan.task
        context.message = message
        context.id = message.id
        context.args = args
        context.kwargs = kwargs
        context.embed = embed
        context.hostname = self.hostname
        context.retries = message.header("retries") or 0
        context.ignore_result = message.header("ignore_result")
        if context.ignore_result is None:
            context.ignore_result = run.plan.ignores_result
        context.redelivered = delivery.redelivered
        context.children = []
        run.delivery = delivery
        run.context = context
        run.soft_limit = None if self.arm is None else self.limits(delivery)[1]
        run.token = enter(context)
        run.started = _read_clock(CLOCK_MONOTONIC)

    cdef _announce(self, Run run):
        cdef Context context = run.context
        task = run.plan.task
        if task_prerun.receivers:
            task_prerun.send(
                sender=task, task_id=context.id, task=task, args=context.args, kwargs=context.kwargs
            )
        if run.plan.tracks_start and not context.ignore_result:
            task.store_started(context)
        if run.plan.has_before_start:
            task.before_start(context.id, context.args, context.kwargs)

    cdef tuple _body(self, Message message):
        """(args, kwargs, embed) of a v2 body (§1.4)."""
        if message.content_type == "application/json" and message.header("compression") is None:
            body = json_loads(message.body)
        else:
            body = self.loads(message)
        if type(body) is dict and "task" in body:
            body = upgrade_v1(message, body)  # headers of v2 over a body of v1 (§1.5)
        if type(body) not in (list, tuple) or len(body) != 3:
            raise DecodeError(f"the body of {message.task}[{message.id}] is not [args, kwargs, embed]")
        args, kwargs, embed = body
        if type(args) not in (list, tuple):
            raise DecodeError(f"the positional arguments are a {type(args).__name__}, not a list")
        if type(kwargs) is not dict:
            raise DecodeError(f"the keyword arguments are a {type(kwargs).__name__}, not a map")
        if embed is not None and type(embed) is not dict:
            raise DecodeError(f"the third part of the body is a {type(embed).__name__}, not a map")
        if embed is not None and not _names_followers(<dict> embed):
            embed = None
        return args, kwargs, embed

    # -- outcomes -----------------------------------------------------------

    cdef Outcome _outcome(self, Run run, int action, str state):
        cdef Outcome outcome = Outcome.__new__(Outcome)
        outcome.delivery = run.delivery
        outcome.action = action
        outcome.state = state
        outcome.follow = run.context.follow
        outcome.effects = run.context.effects
        outcome.runtime = _read_clock(CLOCK_MONOTONIC) - run.started
        return outcome

    cdef Outcome _succeeded(self, Run run, value):
        cdef Context context = run.context
        cdef Outcome outcome
        cdef bytes json = None
        cdef bint is_plain = self.encoder is None and not self.extended
        task = run.plan.task
        after = None
        run.value = stored = value
        outcome = self._outcome(run, ACK, "SUCCESS")
        try:
            if type(value) not in PLAIN_TYPES:
                stored = self.app.dump_result(value)
            if context.embed is not None:
                if is_plain and _is_plain_part(context) and self._counts_parts():
                    json = json_dumps(stored)
                    after = None, _part(context, json)
                else:
                    after = self.follower.succeeded(context, stored)
            if not context.ignore_result:
                if is_plain and not context.children:
                    outcome.result = _success_json(context, json_dumps(stored) if json is None else json)
                else:
                    more = self._extended(run)
                    outcome.result = _document(self.encoder, context, "SUCCESS", stored, None, more)
        except EncodeError as exc:
            return self._failed(run, exc)
        if run.plan.has_on_success:
            try:
                task.on_success(value, context.id, context.args, context.kwargs)
            except Reject as exc:
                return self._rejected(run, exc)
            except Exception as exc:
                _handler_raised(run, task.on_success, exc)
        if task_success.receivers:
            task_success.send(sender=task, result=value)
        if after is not None:
            context.commit_with(after[0], after[1])
        self._finish(run, outcome, value, None)
        if self.logs_success:
            logger.info("Task %s[%s] succeeded in %.6fs: %s", task.name, context.id, outcome.runtime,
                        task.result_repr(value))
        return outcome

    cdef bint _counts_parts(self) except -1:
        if self.counts_parts is None:
            self.counts_parts = self.follower.counts_parts()
        return self.counts_parts

    cdef Outcome _caught(self, Run run, exc):
        """The outcome of a run that *exc* has ended before it returned; it may be tried again."""
        task = run.plan.task
        if task.autoretry_for and not isinstance(exc, (Ignore, Reject, Retry)):
            exc = task.autoretry(exc)
        return self._failed(run, exc)

    cdef Outcome _failed(self, Run run, exc):
        """The outcome of a task that raised *exc*; the semi-predicates of Celery among them."""
        cdef Outcome outcome
        run.value = exc
        if isinstance(exc, Ignore):
            outcome = self._outcome(run, ACK, "IGNORED")
            self._finish(run, outcome, exc, None)
            return outcome
        if isinstance(exc, Reject):
            return self._rejected(run, exc)
        if isinstance(exc, Retry):
            return self._retried(run, exc)
        return self._raised(run, exc)

    cdef Outcome _raised(self, Run run, exc):
        cdef Context context = run.context
        cdef Outcome outcome = self._outcome(run, ACK, "FAILURE")
        task = run.plan.task
        details = _Details(exc)
        run.traceback = details.traceback
        if not context.ignore_result or run.plan.stores_errors:
            outcome.result = self._failure_document(run, "FAILURE", exc, details.traceback)
        self._fail_followers(run, exc)
        if signals.task_failure.receivers:
            signals.task_failure.send(sender=task, task_id=context.id, exception=exc, args=context.args,
                                      kwargs=context.kwargs, traceback=exc.__traceback__, einfo=details)
        _guarded(run, task.on_failure, (exc, context.id, context.args, context.kwargs, details))
        self._finish(run, outcome, exc, details)
        if isinstance(exc, task.throws_types):
            logger.info("Task %s[%s] raised expected: %s", task.name, context.id, preview(exc))
        else:
            logger.error(
                "Task %s[%s] raised unexpected: %s\n%s",
                task.name,
                context.id,
                preview(exc),
                details.traceback,
            )
        if run.plan.acks_late and not task.acks_on(exc):
            outcome.action = BURY
            raised = preview(exc)
            outcome.reason = f"the task raised {raised}, and acks_on_failure is off\n{details.traceback}"
        return outcome

    cdef Outcome _retried(self, Run run, exc):
        cdef Context context = run.context
        cdef Outcome outcome = self._outcome(run, ACK, "RETRY")
        task = run.plan.task
        details = _Details(exc)
        run.traceback = details.traceback
        if not context.ignore_result:
            outcome.result = self._failure_document(run, "RETRY", _cause(exc), details.traceback)
        if signals.task_retry.receivers:
            signals.task_retry.send(sender=task, request=context, reason=exc, einfo=details)
        _guarded(run, task.on_retry, (exc, context.id, context.args, context.kwargs, details))
        self._finish(run, outcome, exc, details)
        logger.info("Task %s[%s] retry: %s", task.name, context.id, exc)
        return outcome

    cdef Outcome _rejected(self, Run run, exc):
        cdef Outcome outcome = self._outcome(run, REQUEUE if exc.requeue else BURY, "REJECTED")
        if not exc.requeue:
            outcome.reason = f"the task rejected it: {_text(exc.reason)}"
            if not run.context.ignore_result:
                outcome.result = self._failure_document(run, "FAILURE", exc, None)
            self._fail_followers(run, exc)
        self._finish(run, outcome, exc, None)
        return outcome

    cdef Outcome _broken(self, Run run, exc):
        """The outcome of a task for which this tracer, or an object of the task's, failed with *exc*."""
        task, context = run.plan.task, run.context
        details = _Details(exc)
        run.value, run.traceback = exc, details.traceback
        logger.error(
            "Task %s[%s] could not be brought to an end: %s\n%s",
            task.name,
            context.id,
            preview(exc),
            details.traceback,
        )
        if signals.task_internal_error.receivers:
            signals.task_internal_error.send(
                sender=task, task_id=context.id, args=context.args, kwargs=context.kwargs, request=context,
                exception=exc, traceback=exc.__traceback__, einfo=details)
        self._fail_followers(run, exc)
        cdef Outcome outcome = self._outcome(run, BURY, "FAILURE")
        outcome.reason = f"what became of the task can't be told: {preview(exc)}\n{details.traceback}"
        outcome.shown = (preview(exc), details.traceback)
        if not context.ignore_result or run.plan.stores_errors:
            outcome.result = self._failure_document(run, "FAILURE", exc, details.traceback)
        return outcome

    cdef _fail_followers(self, Run run, exc):
        """See to what was to follow a task that failed with *exc*."""
        if run.context.embed is None:
            return
        try:
            after = self.follower.failed(run.context, exc, run.traceback, "FAILURE")
        except Exception:
            logger.exception("What follows %s[%s] can't be told of its failure", run.plan.task.name,
                             run.context.id)
            return
        run.context.commit_with(after[0], after[1])

    cdef bytes _failure_document(self, Run run, str state, exc, traceback):
        return self._error_document(run.context, state, exc, traceback, self._extended(run))

    cdef bytes _error_document(self, Context context, str state, exc, traceback, dict extended):
        """A result document that holds *exc*, with as much around it as can be written."""
        try:
            return _document(self.encoder, context, state, self.app.dump_exception(exc), traceback, extended)
        except Exception:  # an exception of the user's, or arguments that came by another serializer
            pass
        described = {"exc_type": type(exc).__qualname__, "exc_module": type(exc).__module__,
                     "exc_message": [preview(exc)]}
        cdef Context bare = Context.__new__(Context)
        bare.id = context.id
        bare.children = []
        return _document(self.encoder, bare, state, described, traceback, None)

    cdef dict _extended(self, Run run):
        return run.plan.task.extended_result(run.context) if self.extended else None

    cdef _finish(self, Run run, Outcome outcome, value, details):
        cdef Context context = run.context
        task, state = run.plan.task, outcome.state
        if self.shows:
            text = preview(value if details is None else _cause(value), task.resultrepr_maxsize)
            outcome.shown = (text, run.traceback)
        if run.plan.has_after_return:
            arguments = (state, value, context.id, context.args, context.kwargs, details)
            _guarded(run, task.after_return, arguments)
        if task_postrun.receivers:
            task_postrun.send(
                sender=task,
                task_id=context.id,
                task=task,
                args=context.args,
                kwargs=context.kwargs,
                retval=value,
                state=state,
            )
        # A handler may have called retry().
        outcome.follow = context.follow
        outcome.effects = context.effects

    # -- what happens to a delivery without its function having a say -----------

    def is_async(self, Delivery delivery) -> bool:
        """Whether the task of *delivery* is an ``async def``."""
        return self._plan(delivery.message.task).is_async

    def acks_late(self, Delivery delivery) -> bool:
        """Whether *delivery* is settled after its task has ended, not before it starts."""
        return self._plan(delivery.message.task).acks_late

    def may_be_followed(self, Delivery delivery) -> bool:
        """Whether *delivery* may name tasks to follow; without decoding it, so True may be wrong."""
        return self.follower.may_name_followers(delivery.message)

    def limits(self, Delivery delivery) -> tuple:
        """The hard and soft limit in seconds, or None: the header's, else the task's, else the worker's."""
        cdef Plan plan = self._plan(delivery.message.task)
        hard = soft = None
        header = delivery.message.header("timelimit")
        if type(header) is list and len(<list> header) == 2:
            hard, soft = header
            if type(hard) not in (int, float):
                hard = None
            if type(soft) not in (int, float):
                soft = None
        if hard is None:
            hard = self.time_limit if plan.time_limit is None else plan.time_limit
        if soft is None:
            soft = self.soft_time_limit if plan.soft_time_limit is None else plan.soft_time_limit
        return hard, soft

    def refused(self, Delivery delivery, exc):
        """The outcome of a message that can't be run for the reason *exc*: it goes to the dead set (D15)."""
        cdef Outcome outcome = self._without_run(delivery, "FAILURE", exc)
        outcome.action = BURY
        outcome.reason = str(exc)
        return outcome

    def revoked(self, Delivery delivery, str why="revoked"):
        """The outcome of a message that was revoked or has expired."""
        cdef Outcome outcome = self._without_run(delivery, "REVOKED", TaskRevokedError(why))
        outcome.reason = why
        return outcome

    def timed_out(self, Delivery delivery, seconds):
        """The outcome of a task that was ended at its hard limit of *seconds*."""
        message = delivery.message
        logger.error("Hard time limit (%ss) exceeded for %s[%s]", seconds, message.task, message.id)
        cdef Outcome outcome = self._without_run(delivery, "FAILURE", TimeLimitExceeded(seconds))
        outcome.runtime = seconds
        task = self.tasks.get(message.task)
        if task is not None and task.acks_late and not task.acks_on(TimeLimitExceeded(seconds)):
            outcome.action = BURY
            outcome.reason = f"the task exceeded its time limit of {seconds} s, and acks_on_timeout is off"
        return outcome

    def lost(self, Delivery delivery, str cause, *, bint is_own_exit=False):
        """The outcome of a task whose process died while it ran (D2).

        With ``retry_on_worker_lost`` it is retried, or has failed when its max_retries are used up. Else
        it runs again, unless its message was settled before it ran or the task says
        ``reject_on_worker_lost=False``: then it failed. After max_redeliveries deaths the
        message goes to the dead set. A task that exits by itself (*is_own_exit*) would do so
        again: it failed, unless it says ``reject_on_worker_lost=True``.
        """
        cdef Outcome outcome
        task = self.tasks.get(delivery.message.task)
        exc = WorkerLostError(cause)
        if task is not None:
            task.prepare()
            if task.retry_on_worker_lost:
                again = task.retry_lost(delivery.message)
                outcome = self._without_run(delivery, "FAILURE" if again is None else "RETRY", exc)
                outcome.follow = again
                return outcome
        reject = None if task is None else task.reject_on_worker_lost
        if delivery.tag is None or reject is False or (is_own_exit and reject is None):
            return self._without_run(delivery, "FAILURE", exc)
        if delivery.redelivered >= self.max_redeliveries:
            outcome = self._without_run(delivery, "FAILURE", exc)
            outcome.action = BURY
            outcome.reason = f"its process died {delivery.redelivered + 1} times, the last time so: {cause}"
            return outcome
        return Outcome(delivery, REDELIVER)

    def died(self, Delivery delivery, str cause):
        """The outcome of a task whose message goes to the dead set because its workers died."""
        return self._without_run(delivery, "FAILURE", WorkerLostError(cause))

    def interrupted(self, Delivery delivery):
        """The outcome of a task abandoned when its worker was forced to stop: another one runs it again."""
        if delivery.tag is None:
            lost = WorkerLostError("the worker was stopped while it ran")
            return self._without_run(delivery, "FAILURE", lost)
        return Outcome(delivery, REQUEUE)

    cdef Outcome _without_run(self, Delivery delivery, str state, exc):
        """An outcome that stores *exc* as the result of a task whose function did not return."""
        cdef Outcome outcome = Outcome(delivery, ACK, state=state)
        cdef Context context
        if delivery.message.task in JOBS:
            return outcome  # that of a job which was not done
        outcome.shown = (preview(exc), None)
        if state != "RETRY" and self.follower.may_name_followers(delivery.message):
            outcome.failure = self.follower.describe(exc)
        task = self.tasks.get(delivery.message.task)
        ignores = delivery.message.header("ignore_result")
        if ignores is None:
            ignores = task is not None and task.ignore_result
        if delivery.message.id and (not ignores or (task is not None and task.store_errors_even_if_ignored)):
            context = Context(task, delivery.message)
            outcome.result = self._error_document(context, state, exc, None, None)
        if state == "FAILURE" and signals.task_failure.receivers:
            signals.task_failure.send(sender=task, task_id=delivery.message.id, exception=exc, args=None,
                                      kwargs=None, traceback=None, einfo=None)
        return outcome


cdef _cause(exc):
    """Why a task failed or is to be tried again."""
    return exc.exc if isinstance(exc, Retry) and exc.exc is not None else exc


cdef _guarded(Run run, method, tuple arguments):
    """Call a handler of the user's."""
    try:
        method(*arguments)
    except Exception as exc:
        _handler_raised(run, method, exc)


cdef _handler_raised(Run run, method, exc):
    """A handler of the user's raised *exc*: it is logged and changes no outcome; an eager caller gets it."""
    if run.context.is_eager:
        raise exc
    logger.exception("%s raised", getattr(method, "__qualname__", method))


cdef str _text(value):
    """*value* as text, whatever its class makes of that."""
    try:
        return str(value)
    except Exception:
        return preview(value)


class _Details:
    """What handlers get as *einfo*: the exception and its traceback, from the user's first frame on."""

    def __init__(self, exc):
        self.exception = exc
        self.type = type(exc)
        self.tb = exc.__traceback__
        frame = exc.__traceback__
        while frame is not None and frame.tb_frame.f_code.co_filename.endswith("trace.pyx"):
            frame = frame.tb_next
        self.traceback = "".join(traceback_module.format_exception(type(exc), exc, frame))

    def __str__(self):
        return self.traceback
