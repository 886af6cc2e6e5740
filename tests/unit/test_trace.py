"""The tracer: one task in, one outcome out."""

import asyncio
import json
import logging
import pickle
import time

import pytest

from fastq import FastQ, Task, current_task, signals
from fastq._core.message import Action, Delivery, Message
from fastq._core.trace import Tracer
from fastq.exceptions import Ignore, Reject
from fastq.result import AsyncResult
from fastq.topology import Exchange, Queue


@pytest.fixture
def app():
    app = FastQ("trace", broker="memory://trace", set_as_current=False)
    yield app
    app.close()


def run(app, task, *args, tracer=None, redelivered=0, tag=1, body=None, **headers):
    app.finalize()
    body = json.dumps([args, {}, {}]).encode() if body is None else body
    message = Message(task.name, "id-1", {"task": task.name, "id": "id-1", **headers}, body, queue="celery")
    return (tracer or Tracer(app, "w@host")).run(Delivery(message, tag, "celery", redelivered))


def document(outcome):
    return json.loads(outcome.result)


def test_a_returned_value_is_stored_in_celerys_document(app):
    @app.task
    def add(a, b):
        return a + b

    outcome = run(app, add, 2, 3, group="g", parent_id="p")
    stored = document(outcome)
    assert (outcome.action, outcome.state) == (Action.ACK, "SUCCESS")
    assert list(stored) == [
        "status",
        "result",
        "traceback",
        "children",
        "date_done",
        "group_id",
        "parent_id",
        "task_id",
    ]
    assert (stored["status"], stored["result"], stored["task_id"], stored["group_id"]) == (
        "SUCCESS",
        5,
        "id-1",
        "g",
    )
    assert stored["date_done"].endswith("+00:00")
    assert outcome.runtime > 0


def test_what_a_task_raises_is_its_result(app, caplog):
    @app.task
    def fail():
        raise KeyError("missing")

    outcome = run(app, fail)
    stored = document(outcome)
    assert (outcome.action, stored["status"]) == (Action.ACK, "FAILURE")
    assert stored["result"] == {"exc_type": "KeyError", "exc_message": ["missing"], "exc_module": "builtins"}
    assert "in fail" in stored["traceback"]
    assert "trace.pyx" not in stored["traceback"]
    assert "raised unexpected" in caplog.text


def test_expected_errors_are_logged_in_one_line(app, caplog):
    @app.task(throws=(KeyError,))
    def fail():
        raise KeyError("missing")

    with caplog.at_level(logging.INFO):
        run(app, fail)
    assert "raised expected" in caplog.text
    assert "Traceback" not in caplog.text


def test_ignored_results_are_not_stored(app):
    @app.task(ignore_result=True)
    def quiet():
        return 1

    @app.task(ignore_result=True, store_errors_even_if_ignored=True)
    def loud():
        raise ValueError

    assert run(app, quiet).result is None
    assert document(run(app, loud))["status"] == "FAILURE"
    assert document(run(app, quiet, ignore_result=False))["result"] == 1


def test_a_result_that_cant_be_serialized_fails_the_task(app):
    @app.task
    def odd():
        return object()

    assert document(run(app, odd))["result"]["exc_type"] == "EncodeError"


def test_a_retry_is_a_message_in_the_same_commit(app):
    @app.task(bind=True, max_retries=3)
    def again(self, x):
        raise self.retry(exc=ValueError("no"), countdown=5)

    outcome = run(app, again, 1, retries=1)
    [message] = outcome.follow
    assert (outcome.action, outcome.state) == (Action.ACK, "RETRY")
    assert (message.id, message.headers["retries"], message.queue) == ("id-1", 2, "celery")
    assert message.due is not None
    assert (document(outcome)["status"], document(outcome)["date_done"]) == ("RETRY", None)


def test_a_retry_waits_only_where_a_worker_of_ours_looks(app):
    @app.task(bind=True)
    def again(self, countdown, queue):
        raise self.retry(countdown=countdown, queue=queue)

    def due(countdown, queue):
        return run(app, again, countdown, queue).follow[0].due

    assert due(5, None) is not None
    assert due(0, None) is None  # is due: whoever serves the queue may have it
    assert due(5, "other") is not None
    app.conf.broker_url = "redis://nowhere"
    app._broker = None
    assert due(5, None) is not None
    assert due(5, "other") is None  # perhaps only Celery's workers serve it


def test_a_retry_beyond_the_limit_raises_its_cause(app):
    @app.task(bind=True, max_retries=1)
    def again(self):
        raise self.retry(exc=ValueError("no"))

    @app.task(bind=True, max_retries=1)
    def bare(self):
        raise self.retry()

    assert document(run(app, again, retries=1))["result"]["exc_type"] == "ValueError"
    assert document(run(app, bare, retries=1))["result"]["exc_type"] == "MaxRetriesExceededError"


def test_autoretry_follows_the_back_off(app):
    @app.task(
        autoretry_for=(ValueError,), dont_autoretry_for=(UnicodeError,), retry_backoff=2, retry_jitter=False
    )
    def flaky(unicode):
        raise UnicodeError("x") if unicode else ValueError("x")

    outcome = run(app, flaky, False, retries=2)
    assert outcome.state == "RETRY"
    assert outcome.follow[0].headers["retries"] == 3
    assert run(app, flaky, True).state == "FAILURE"


def test_ignore_and_reject_settle_as_they_say(app):
    @app.task
    def choose(what):
        raise {"ignore": Ignore(), "requeue": Reject("later", requeue=True), "drop": Reject("bad")}[what]

    assert (run(app, choose, "ignore").action, run(app, choose, "ignore").result) == (Action.ACK, None)
    assert run(app, choose, "requeue").action == Action.REQUEUE
    buried = run(app, choose, "drop")
    assert (buried.action, document(buried)["result"]["exc_type"]) == (Action.BURY, "Reject")


def test_a_failure_with_acks_on_failure_off_goes_to_the_dead_set(app):
    @app.task(acks_late=True, acks_on_failure_or_timeout=False)
    def fail():
        raise ValueError("x")

    outcome = run(app, fail)
    assert outcome.action == Action.BURY
    assert "ValueError" in outcome.reason


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"[[1],{}]",
        b'{"a":1}',
        b"[1,{},{}]",
        b"[[1],[],{}]",
        b"[[1],{},[]]",
        b"\xff\xfe",
        b"",
        b"[[1],{},{}",
    ],
)
def test_a_body_that_does_not_fit_goes_to_the_dead_set(app, body):
    @app.task
    def add(a):
        return a

    outcome = run(app, add, body=body)
    assert (outcome.action, outcome.state) == (Action.BURY, "FAILURE")
    assert outcome.reason


@pytest.mark.parametrize(
    "content_type", ["application/x-python-serialize", "application/x-nothing", "text/plain"]
)
def test_content_that_is_not_accepted_goes_to_the_dead_set(app, content_type):
    @app.task
    def add(a):
        return a

    app.finalize()
    message = Message(
        add.name,
        "id-1",
        {"task": add.name, "id": "id-1"},
        b"\x80\x04.",
        queue="celery",
        content_type=content_type,
    )
    outcome = Tracer(app, "w@host").run(Delivery(message, 1, "celery"))
    assert (outcome.action, outcome.state) == (Action.BURY, "FAILURE")
    assert content_type in outcome.reason


def test_headers_of_v2_over_a_body_of_v1_run(app):
    @app.task
    def add(a, b=0):
        return a + b

    body = {"task": "other", "id": "other", "args": [2], "kwargs": {"b": 3}}
    assert document(run(app, add, body=json.dumps(body).encode()))["result"] == 5
    part = {**body, "chord": {"task": "x"}, "taskset": "g", "group_index": 2}
    outcome = run(app, add, body=json.dumps(part).encode())
    assert [each[:3] for each in outcome.effects.parts] == [("g", "id-1", 2)]


def test_extended_results_hold_the_call_and_its_stamps(app):
    app.conf.result_extended = True

    @app.task
    def add(a):
        return a

    stored = document(run(app, add, 1, stamped_headers=["tenant"], stamps={"tenant": "acme"}))
    assert (stored["name"], stored["args"], stored["queue"]) == (add.name, [1], "celery")
    assert (stored["stamped_headers"], stored["tenant"]) == (["tenant"], "acme")
    assert "stamped_headers" not in document(run(app, add, 1))


def test_arguments_that_the_result_cant_hold_fail_the_task(app):
    app.conf.update(result_extended=True, accept_content=["pickle"])

    @app.task
    def ignore(a):
        return 1

    app.finalize()
    body = pickle.dumps([[{1, 2}], {}, {}])
    headers = {"task": ignore.name, "id": "id-1"}
    kind = "application/x-python-serialize"
    message = Message(ignore.name, "id-1", headers, body, queue="celery", content_type=kind)
    stored = document(Tracer(app, "w@host").run(Delivery(message, 1, "celery")))
    assert (stored["status"], stored["result"]["exc_type"]) == ("FAILURE", "EncodeError")


def test_canvas_in_a_message_is_kept_in_the_dead_set_not_dropped(app):
    @app.task
    def add(a):
        return a

    outcome = run(app, add, body=json.dumps([[1], {}, {"chain": [{"task": "x"}]}]).encode())
    assert outcome.action == Action.BURY
    assert "chain" in outcome.reason


def test_the_request_has_celerys_fields(app):
    seen = {}

    @app.task(bind=True)
    def look(self, x):
        request = self.request
        seen.update(
            id=request.id, args=request.args, retries=request.retries, direct=request.called_directly,
            host=request.hostname, eta=request.eta, custom=request.mine, headers=request.headers,
            task=current_task.name, info=request.delivery_info, group=request.group, eager=request.is_eager,
            limits=(request.time_limit, request.soft_time_limit),
        )  # fmt: skip

    run(app, look, 7, retries=2, mine="yes", root_id="r", timelimit=[9, None])
    assert seen == {
        "id": "id-1", "args": [7], "retries": 2, "direct": False, "host": "w@host", "eta": None,
        "custom": "yes", "headers": {"mine": "yes"}, "task": look.name, "group": None, "eager": False,
        "limits": (9, None),
        "info": {"exchange": "", "routing_key": "celery", "priority": None, "redelivered": False},
    }  # fmt: skip
    assert look.request.called_directly
    with pytest.raises(AttributeError, match="nothing"):
        _ = look.request.nothing


def test_handlers_are_called_in_order_and_their_faults_change_nothing(app):
    calls = []

    class Noted(Task):
        def before_start(self, task_id, args, kwargs):
            calls.append("before_start")

        def on_success(self, retval, task_id, args, kwargs):
            calls.append(("on_success", retval))

        def on_failure(self, exc, task_id, args, kwargs, einfo):
            calls.append(("on_failure", type(exc), "ValueError" in str(einfo)))
            raise RuntimeError("a fault of the handler")

        def after_return(self, status, retval, task_id, args, kwargs, einfo):
            calls.append(("after_return", status))

    @app.task(base=Noted)
    def maybe(fail):
        if fail:
            raise ValueError
        return 1

    assert run(app, maybe, False).state == "SUCCESS"
    assert run(app, maybe, True).state == "FAILURE"
    assert calls == [
        "before_start", ("on_success", 1), ("after_return", "SUCCESS"),
        "before_start", ("on_failure", ValueError, True), ("after_return", "FAILURE"),
    ]  # fmt: skip


@pytest.mark.parametrize("handler", ["on_success", "after_return"])
def test_a_handler_that_raises_changes_no_outcome_but_eager_callers_see_it(app, handler, caplog):
    def fault(task, *args):
        raise RuntimeError("a fault of the handler")

    task = app.task(name="done", **{handler: fault})(lambda: 1)
    outcome = run(app, task)
    assert (outcome.action, outcome.state, document(outcome)["result"]) == (Action.ACK, "SUCCESS", 1)
    assert "fault raised" in caplog.text and "RuntimeError: a fault of the handler" in caplog.text
    with pytest.raises(RuntimeError, match="a fault"):
        task.apply()


def test_on_success_may_reject_or_retry(app):
    def reject(task, *args):
        raise Reject("not like this", requeue=False)

    def retry(task, *args):
        raise task.retry(countdown=1)

    rejecting = app.task(name="rejecting", on_success=reject)(lambda: 1)
    outcome = run(app, rejecting)
    assert (outcome.action, outcome.reason) == (Action.BURY, "the task rejected it: not like this")
    retrying = app.task(name="retrying", on_success=retry)(lambda: 1)
    outcome = run(app, retrying)
    assert outcome.state == "SUCCESS"
    assert [message.headers["retries"] for message in outcome.follow] == [1]


def test_on_success_gets_what_the_task_returned(app):
    seen = []
    task = app.task(name="sends", on_success=lambda task, value, *args: seen.append(value))(
        lambda: AsyncResult("i", app=app)
    )
    assert document(run(app, task))["result"] == [["i", None], None]
    assert isinstance(seen[0], AsyncResult)


def test_before_start_that_raises_fails_the_task(app):
    class Refusing(Task):
        def before_start(self, task_id, args, kwargs):
            raise PermissionError("no")

    @app.task(base=Refusing)
    def never():
        raise AssertionError("it ran")

    assert document(run(app, never))["result"]["exc_type"] == "PermissionError"


def test_signals_surround_the_run(app):
    seen = []

    @app.task
    def add(a):
        return a

    def note(sender, signal, **named):
        seen.append((signal.name, sender.name))

    watched = (signals.task_prerun, signals.task_success, signals.task_postrun)
    for signal in watched:
        signal.connect(note)
    try:
        run(app, add, 1)
    finally:
        for signal in watched:
            signal.disconnect(note)
    assert [name for name, _ in seen] == ["task_prerun", "task_success", "task_postrun"]


def test_an_async_task_runs_to_its_end(app):
    @app.task
    async def double(x):
        import asyncio

        await asyncio.sleep(0)
        return 2 * x

    assert document(run(app, double, 4))["result"] == 8
    app.close()


def test_soft_limits_are_armed_around_the_call_only(app):
    @app.task(soft_time_limit=3)
    def add(a):
        steps.append("run")

    steps = []
    tracer = Tracer(app, "w@host", soft_time_limit=9)
    tracer.arm = lambda seconds: steps.append(("arm", seconds))
    tracer.disarm = lambda: steps.append("disarm")
    run(app, add, 1, tracer=tracer)
    run(app, add, 1, tracer=tracer, timelimit=[None, 1])
    assert steps == [("arm", 3), "run", "disarm", ("arm", 1), "run", "disarm"]


def lose(app, task, *, redelivered=0, tag=1, **headers):
    app.finalize()
    headers = {"task": task.name, "id": "id-1", **headers}
    message = Message(task.name, "id-1", headers, b"[[],{},{}]", queue="celery")
    return Tracer(app, "w@host", max_redeliveries=3).lost(
        Delivery(message, tag, "celery", redelivered), "signal 9"
    )


def test_a_task_whose_process_died_runs_again_three_times(app):
    @app.task
    def plain():
        pass

    @app.task(reject_on_worker_lost=False)
    def once():
        pass

    assert [lose(app, plain, redelivered=n).action for n in range(3)] == [Action.REDELIVER] * 3
    last = lose(app, plain, redelivered=3)
    assert last.action == Action.BURY
    assert "4 times" in last.reason
    assert document(lose(app, once))["result"]["exc_type"] == "WorkerLostError"
    assert document(lose(app, plain, tag=None))["result"]["exc_type"] == "WorkerLostError"


@pytest.mark.parametrize("tag", [1, None])
def test_a_task_whose_process_died_is_retried_if_it_asks_for_that(app, tag):
    app.conf.task_retry_on_worker_lost = True

    @app.task(max_retries=1, default_retry_delay=60, reject_on_worker_lost=True)
    def again():
        pass

    before = time.time()
    first = lose(app, again, tag=tag)
    assert (first.action, first.state) == (Action.ACK, "RETRY")
    assert document(first)["result"]["exc_type"] == "WorkerLostError"
    [message] = first.follow
    assert (message.id, message.headers["retries"]) == ("id-1", 1)
    assert 59 < message.due - before < 70
    last = lose(app, again, tag=tag, retries=1)
    assert (last.action, last.state, last.follow) == (Action.ACK, "FAILURE", None)


def test_a_task_whose_message_dies_has_failed(app):
    @app.task(ignore_result=True)
    def quiet():
        pass

    @app.task
    def plain():
        pass

    app.finalize()

    def died(task, **headers):
        message = Message(task.name, "id-1", headers, b"[[],{},{}]", queue="celery")
        return Tracer(app, "w@host").died(Delivery(message, None, "celery", 4), "its worker died 4 times")

    failure = document(died(plain))
    assert (failure["status"], failure["result"]["exc_type"]) == ("FAILURE", "WorkerLostError")
    assert failure["result"]["exc_message"] == ["its worker died 4 times"]
    assert died(quiet).result is None
    assert died(plain, ignore_result=True).result is None


def test_run_many_stops_between_tasks_when_told(app):
    class Stop:
        left = 2

        def is_set(self):
            self.left -= 1
            return self.left < 0

    @app.task
    def add():
        pass

    app.finalize()
    message = Message(add.name, "id-1", {"task": add.name, "id": "id-1"}, b"[[],{},{}]", queue="celery")
    outcomes = []
    ran = Tracer(app, "w@host").run_many([Delivery(message, n, "celery") for n in range(5)], outcomes, Stop())
    assert ran == len(outcomes) == 2


class Unreadable(Exception):
    @property
    def args(self):
        raise RuntimeError("no args")

    def __repr__(self):
        raise RuntimeError("no repr")


def test_an_exception_that_can_not_be_read_fails_the_task_as_any_other(app, caplog):
    @app.task
    def fail():
        raise Unreadable

    outcome = run(app, fail)
    assert (outcome.action, outcome.state) == (Action.ACK, "FAILURE")
    assert document(outcome)["result"]["exc_type"] == "Unreadable"
    assert "its repr raised RuntimeError" in caplog.text


def test_children_that_can_not_be_written_fail_the_task(app):
    @app.task(bind=True)
    def parent(self):
        self.request.children.append(object())

    stored = document(run(app, parent))
    assert (stored["status"], stored["result"]["exc_type"]) == ("FAILURE", "EncodeError")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_cancelled_error_fails_the_task(app, is_async):
    def cancelled():
        raise asyncio.CancelledError

    async def cancelled_async():
        raise asyncio.CancelledError

    task = app.task(cancelled_async if is_async else cancelled)
    assert document(run(app, task))["result"]["exc_type"] == "CancelledError"


def test_what_the_tracer_itself_trips_over_goes_to_the_dead_set_and_is_told(app):
    seen = []

    def note(sender, request, exception, **named):
        seen.append((sender.name, request.id, exception))

    @app.task(throws="KeyError")  # no class
    def fail():
        raise KeyError

    signals.task_internal_error.connect(note)
    try:
        outcome = run(app, fail)
    finally:
        signals.task_internal_error.disconnect(note)
    assert (outcome.action, outcome.state) == (Action.BURY, "FAILURE")
    assert "TypeError" in outcome.reason
    [(name, task_id, exc)] = seen
    assert (name, task_id, type(exc)) == (fail.name, "id-1", TypeError)


def test_a_reason_whose_str_raises_rejects_all_the_same(app):
    @app.task
    def reject():
        raise Reject(Unreadable())

    assert run(app, reject).action == Action.BURY


def test_a_result_that_can_not_be_written_is_no_reason_to_run_again(app):
    @app.task(autoretry_for=(Exception,))
    def odd():
        return object()

    assert run(app, odd).state == "FAILURE"


def test_back_off_stays_below_its_bound_whatever_the_count_of_retries(app):
    @app.task(autoretry_for=(KeyError,), retry_backoff=True, retry_jitter=False, max_retries=None)
    def flaky():
        raise KeyError

    assert run(app, flaky, retries=10**30).state == "RETRY"


def test_a_task_that_is_defined_late_has_its_options(app):
    app.finalize()

    @app.task
    def late():
        return 1

    message = Message(late.name, "id-1", {}, b"[[],{},{}]", queue="celery")
    tracer = Tracer(app, "w@host")
    delivery = Delivery(message, 1, "celery")
    assert tracer.acks_late(delivery)
    assert document(tracer.run(delivery))["status"] == "SUCCESS"


def test_only_the_pool_can_cancel_a_task_without_an_outcome(app):
    @app.task
    async def cancelled():
        raise asyncio.CancelledError

    app.finalize()
    message = Message(cancelled.name, "id-1", {}, b"[[],{},{}]", queue="celery")
    run_async = Tracer(app, "w@host").run_async
    delivery = Delivery(message, 1, "celery")
    assert asyncio.run(run_async(delivery, lambda: False)).state == "FAILURE"
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(run_async(delivery, lambda: True))


def test_of_several_retries_of_one_run_the_last_counts(app):
    @app.task(bind=True)
    def again(self):
        try:
            raise self.retry(countdown=1)
        except Exception as exc:
            raise self.retry(exc=exc, args=(2,)) from None

    [message] = run(app, again).follow
    assert json.loads(message.body)[0] == [2]


def test_a_retry_that_can_not_be_written_fails_in_the_task(app):
    @app.task(bind=True)
    def again(self):
        raise self.retry(headers={"x": object()})

    outcome = run(app, again)
    assert (outcome.follow, document(outcome)["result"]["exc_type"]) == (None, "EncodeError")


def test_a_limit_of_retries_given_in_one_run_does_not_hold_in_another(app):
    @app.task(bind=True, autoretry_for=(KeyError,), max_retries=1)
    def again(self, more):
        if more:
            self.retry(max_retries=9, throw=False)
        raise KeyError

    assert run(app, again, True, retries=5).state == "RETRY"
    assert run(app, again, False, retries=5).state == "FAILURE"


def test_a_retry_of_a_class_of_exceptions_raises_one(app):
    @app.task(bind=True)
    def again(self):
        raise self.retry(exc=KeyError)

    assert document(run(app, again))["result"]["exc_type"] == "KeyError"


def test_handlers_given_as_options_are_called(app):
    seen = []

    def on_success(task, retval, task_id, args, kwargs):
        seen.append((task.name, retval))

    @app.task(name="own", on_success=on_success)
    def own():
        return 1

    run(app, own)
    assert seen == [("own", 1)]


def test_a_retry_goes_where_it_is_told_or_fails_in_the_task(app):
    @app.task(bind=True)
    def again(self, priority):
        raise self.retry(queue=Queue("other"), priority=priority)

    [message] = run(app, again, 3).follow
    assert (message.queue, message.priority) == ("other", 3)
    assert document(run(app, again, "high"))["result"]["exc_type"] == "TypeError"


def test_a_retry_is_written_by_the_serializer_and_compression_it_asks_for(app):
    @app.task(bind=True)
    def again(self, text, **options):
        raise self.retry(**options)

    def retried(**options):
        [message] = run(app, again, "long " * 50, body=json.dumps([["x"], options, {}]).encode()).follow
        app.conf.accept_content = ["json", "yaml"]
        assert app.load_body(message)[0] == ["x"]
        return message

    same = retried()
    assert same.content_type == "application/json" and "compression" not in same.headers
    assert retried(serializer="yaml").content_type == "application/x-yaml"
    packed = retried(compression="gzip")
    assert packed.headers["compression"] == "application/x-gzip"
    assert packed.body[:2] == b"\x1f\x8b" or packed.body[:1] == b"\x78"
    assert document(run(app, again, body=b'[["x"],{"serializer":"none"},{}]'))["status"] == "FAILURE"


def test_a_retry_goes_to_the_exchange_it_asks_for(app):
    app.conf.task_queues = [
        Queue("a", exchange=Exchange("news", "topic"), routing_key="news.#"),
        Queue("b", exchange=Exchange("news", "topic"), routing_key="*.sport"),
    ]

    @app.task(bind=True)
    def again(self, **options):
        self.retry(countdown=1, throw=False, **options)
        raise self.retry(**options)

    def addresses(**options):
        follow = run(app, again, body=json.dumps([[], options, {}]).encode()).follow
        return [(message.queue, message.exchange, message.routing_key) for message in follow]

    both = [("a", "news", "news.sport"), ("b", "news", "news.sport")]
    assert addresses(exchange="news", routing_key="news.sport") == both
    assert addresses(queue="b") == [("b", "news", "*.sport")]
    assert addresses() == [("celery", "", "celery")]
    lost = run(app, again, body=b'[[],{"exchange":"news","routing_key":"x.y"},{}]')
    assert document(lost)["result"]["exc_type"] == "QueueNotFound"
