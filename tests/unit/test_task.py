"""Tasks as a program defines and calls them."""

import functools
import json
import sys
from datetime import datetime, timedelta, timezone

import pytest
from celery.utils.saferepr import saferepr

from fastq import FastQ, Task, chord, current_app, shared_task, signals
from fastq.app.argument_check import argument_check, is_coroutine_function
from fastq.app.sending import retry_of
from fastq.brokers.retry_policy import RetryPolicy
from fastq.exceptions import (
    EncodeError,
    ImproperlyConfigured,
    MaxRetriesExceededError,
    NotRegistered,
)
from fastq.result import EagerResult
from fastq.topology import Exchange, Queue


@pytest.fixture
def app(request):
    app = FastQ("calls", broker=f"memory://{request.node.name}", set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def sent(app, monkeypatch):
    """The messages that the app published, in order."""
    messages = []
    publish = app.publish
    monkeypatch.setattr(app, "publish", lambda batch, *rest: (messages.extend(batch), publish(batch, *rest)))
    return messages


def test_a_task_is_called_as_the_function_it_is(app):
    @app.task
    def add(a, b=2):
        """Add."""
        return a + b

    assert add(1) == 3
    assert (add.name, add.__doc__, add.__name__) == (f"{__name__}.add", "Add.", "add")
    assert app.tasks[add.name] is add
    with pytest.raises(NotRegistered):
        app.tasks["nothing"]


def test_bound_tasks_get_themselves(app):
    @app.task(bind=True, name="me", max_retries=7)
    def me(self, x):
        return self.name, self.max_retries, x

    assert me(1) == ("me", 7, 1)


def test_arguments_are_checked_where_the_task_is_called(app, sent):
    @app.task
    def add(a, b, *, c=1):
        return a

    @app.task(typing=False)
    def anything(a):
        return a

    for args, kwargs in [((1,), {}), ((1, 2, 3), {}), ((1, 2), {"d": 1})]:
        with pytest.raises(TypeError, match="add"):
            add.apply_async(args, kwargs)
    add.delay(1, 2, c=3)
    anything.delay(1, 2, 3)
    assert len(sent) == 2


@pytest.mark.parametrize(
    "signature",
    ["a, /, b", "*args", "a, *args, k", "a, *, k=1", "a, b=2, **kw", "*, k", "", "a, b=[], /, *c, d, **e"],
)
def test_the_check_agrees_with_python(app, signature):
    namespace = {}
    exec(f"def f({signature}): pass", namespace)
    task = app.task(name="f")(namespace["f"])
    task.prepare()
    for args in [(), (1,), (1, 2), (1, 2, 3)]:
        for kwargs in [{}, {"k": 1}, {"b": 1}, {"d": 2}, {"a": 1}]:
            outcomes = []
            for called in (namespace["f"], task.check_arguments):
                try:
                    called(*args, **kwargs)
                    outcomes.append(None)
                except TypeError as exc:
                    outcomes.append(str(exc))
            assert outcomes[0] == outcomes[1]


def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Shop:
    def buy(self, what, /, *, count=1):
        """A method."""

    @logged
    def sell(self, what):
        """A decorated method."""

    async def close(self):
        """An asynchronous one."""

    def __call__(self, what):
        """What makes the shop itself a task's function."""


@pytest.mark.parametrize(
    ("function", "fits"),
    [
        (Shop().buy, lambda call: call("tea", count=2)),
        (Shop().sell, lambda call: call("tea")),
        (Shop(), lambda call: call("tea")),
        (functools.partial(Shop().buy, "tea"), lambda call: call(count=2)),
        (logged(Shop().sell), lambda call: call("tea")),
    ],
)
def test_every_kind_of_callable_is_checked(function, fits):
    check = argument_check(function, "t")
    fits(check)
    with pytest.raises(TypeError):
        check("tea", "milk")
    with pytest.raises(TypeError):
        check(colour="red")


def test_coroutine_functions_are_known_through_their_wrappers():
    close = Shop().close
    for function in (close, logged(close), functools.partial(close), logged(logged(Shop.close))):
        assert is_coroutine_function(function)
    assert not any(map(is_coroutine_function, (Shop().buy, Shop(), len, logged(Shop.buy))))


def test_an_option_that_is_misspelt_names_the_right_one(app):
    @app.task
    def add():
        pass

    with pytest.raises(TypeError, match="countdown"):
        add.apply_async(countdwon=3)


def test_options_become_headers_and_properties(app, sent):
    @app.task
    def add(a):
        return a

    eta = datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    add.apply_async(
        (1,), eta=eta, expires=60, priority=3, shadow="sum", time_limit=9, soft_time_limit=8,
        headers={"mine": 1}, task_id="own", queue="other", ignore_result=True, argsrepr="***",
        group_id="g", group_index=2,
    )  # fmt: skip
    [message] = sent
    headers = message.headers
    assert (message.id, message.queue, message.priority) == ("own", "other", 3)
    assert headers["eta"] == "2029-12-31T22:00:00+00:00"
    assert message.due == eta.timestamp()  # the memory broker keeps a schedule for every client
    assert headers["timelimit"] == [9, 8]
    assert (headers["shadow"], headers["mine"], headers["ignore_result"]) == ("sum", 1, True)
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("***", "{}")
    assert (headers["group"], headers["group_index"]) == ("g", 2)
    assert 59_000 < int(message.properties["expiration"]) <= 60_000


def test_what_a_plain_call_sends_is_lean(app, sent):
    @app.task
    def add(a):
        return a

    result = add.delay(1)
    [message] = sent
    assert set(message.headers) == {"lang", "task", "id", "root_id", "argsrepr", "kwargsrepr", "origin"}
    assert message.body == b"[[1],{},{}]"
    assert message.id == result.id == message.properties["delivery_tag"]


def test_options_of_the_task_hold_unless_the_call_says_otherwise(app, sent):
    @app.task(queue="slow", priority=5, serializer="json", compression="gzip")
    def add(a):
        return a

    add.delay(1)
    add.apply_async((1,), queue="fast", priority=0)
    assert [(message.queue, message.priority) for message in sent] == [("slow", 5), ("fast", 0)]
    assert sent[0].headers["compression"] == "application/x-gzip"


def test_apply_many_sends_every_form_of_arguments(app, sent):
    @app.task
    def add(a, b=0):
        return a + b

    results = add.apply_many([(1, 2), [3], {"a": 4}, ((5,), {"b": 6})], queue="bulk")
    assert [message.body for message in sent] == [
        b"[[1,2],{},{}]", b"[[3],{},{}]", b'[[],{"a":4},{}]', b'[[5],{"b":6},{}]',
    ]  # fmt: skip
    assert {message.queue for message in sent} == {"bulk"}
    assert [result.id for result in results] == [message.id for message in sent]
    with pytest.raises(TypeError, match="apply_many"):
        add.apply_many([7])


def test_send_many_takes_tasks_and_names(app, sent):
    @app.task
    def add(a):
        return a

    app.send_many([(add, (1,)), ("elsewhere.mul", (2, 3), {}, {"queue": "q"})])
    assert [(message.task, message.queue) for message in sent] == [
        (add.name, "celery"),
        ("elsewhere.mul", "q"),
    ]


@pytest.mark.parametrize("levels", [0, 1, 2, 3, 5])
def test_arguments_are_shown_as_deep_as_the_setting_says(app, sent, levels):
    app.conf.task_repr_maxlevels = levels
    listed, mapped = [[[[[[1]]]]]], {"a": {"b": {"c": {"d": {"e": 1}}}}}
    task = app.task(name="deep")(lambda *args, **kwargs: None)
    task.delay(listed, x=mapped)
    sent.append(app.composer.compose_in_place(task, (listed,), {"x": mapped}, {}))
    sent += retry_of(app, sent[0], retries=1, eta=app.now(), args=(listed,))
    shown = [saferepr((listed,), maxlevels=levels), saferepr({"x": mapped}, maxlevels=levels)]
    assert [[each.headers["argsrepr"], each.headers["kwargsrepr"]] for each in sent] == [shown] * 3


def test_a_pipeline_sends_all_at_its_end_or_nothing(app):
    @app.task
    def add(a):
        return a

    def ready():
        return sum(queue.ready for queue in app.broker.queues(["celery"]))

    with app.pipeline():
        add.delay(1)
        add.delay(2)
        assert ready() == 0
    assert ready() == 2
    with pytest.raises(ValueError), app.pipeline():
        add.delay(3)
        raise ValueError
    assert ready() == 2


def test_eager_mode_runs_at_once(app):
    app.conf.task_always_eager = True

    @app.task(bind=True, max_retries=2)
    def twice(self, fail):
        if fail == "always" or (fail and self.request.retries < 2):
            raise self.retry(countdown=100)
        return self.request.retries, self.request.is_eager

    result = twice.delay(True)
    assert isinstance(result, EagerResult)
    assert result.get() == (2, True)
    with pytest.raises(MaxRetriesExceededError):
        twice.delay("always").get()
    app.conf.task_eager_propagates = True
    with pytest.raises(MaxRetriesExceededError):
        twice.delay("always")


def test_retry_outside_of_a_run_raises_the_cause(app):
    @app.task(bind=True)
    def again(self):
        raise self.retry(exc=KeyError("x"))

    with pytest.raises(KeyError):
        again()


def test_class_based_tasks_are_registered(app):
    class Add(Task):
        name = "class.add"
        default_retry_delay = 1

        def run(self, a, b):
            return a + b

    add = app.register_task(Add())
    assert add(1, 2) == add.apply((1, 2)).get() == 3
    assert app.tasks["class.add"] is add


def test_annotations_change_options(app):
    app.conf.task_annotations = {"*": {"rate_limit": "5/s"}, "annotated": {"max_retries": 11}}

    @app.task(name="annotated")
    def annotated():
        pass

    annotated.prepare()
    assert (annotated.rate_limit, annotated.max_retries) == ("5/s", 11)


def test_tasks_of_the_main_module_are_named_after_the_app_or_the_file(app, monkeypatch):
    assert app.gen_task_name("add", "__main__") == "calls.add"
    nameless = FastQ(broker="memory://calls", set_as_current=False)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/home/me/jobs.py", raising=False)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None, raising=False)
    assert nameless.gen_task_name("add", "__main__") == "jobs.add"
    nameless.close()


def test_a_shared_task_belongs_to_every_app():
    @shared_task(name="shared.one")
    def one():
        return 1

    app = FastQ("later", broker="memory://later")
    assert app.tasks["shared.one"]() == one() == 1
    assert current_app.main == "later"
    with pytest.raises(TypeError, match="already"):
        shared_task(one)
    app.close()


def test_publish_signals_may_change_headers(app, sent):
    @app.task
    def add(a):
        return a

    def mark(sender, headers, body, **named):
        headers["marked"] = (sender, body[0])

    signals.before_task_publish.connect(mark)
    try:
        add.delay(1)
    finally:
        signals.before_task_publish.disconnect(mark)
    assert sent[0].headers["marked"] == (add.name, (1,))


def test_a_task_that_sends_another_lists_it_as_child(app, sent):
    @app.task
    def child():
        pass

    @app.task(bind=True)
    def parent(self):
        child.delay()
        return len(self.request.children)

    assert parent.apply().get() == 1
    assert sent[0].headers["parent_id"] == sent[0].headers["root_id"]


def test_pydantic_models_travel_as_plain_data(app, sent):
    pydantic = pytest.importorskip("pydantic")

    class Point(pydantic.BaseModel):
        x: int
        y: int

    def move(point: Point, by: int) -> Point:
        return Point(x=point.x + by, y=point.y)

    move.__annotations__ = {"point": Point, "by": int, "return": Point}
    task = app.task(pydantic=True, name="move")(move)
    task.delay(Point(x=1, y=2), 3)
    assert sent[0].body == b'[[{"x":1,"y":2},3],{},{}]'
    assert task.apply(({"x": 1, "y": 2}, 3)).get() == {"x": 4, "y": 2}


def test_copies_for_several_queues_have_delivery_tags_of_their_own(app, sent):
    topic = Exchange("logs", "topic")
    app.conf.task_queues = [Queue("all", topic, "log.#"), Queue("errors", topic, "log.error")]
    app.send_task("note", exchange="logs", routing_key="log.error")
    tags = [json.loads(message.envelope())["properties"]["delivery_tag"] for message in sent]
    assert sorted(message.queue for message in sent) == ["all", "errors"]
    assert len(set(tags)) == 2
    assert len({message.id for message in sent}) == 1


def test_arguments_that_can_not_be_sent_are_found_by_eager_mode_alone(app):
    @app.task
    def show(value):
        return type(value).__name__

    assert show.apply((object(),)).get() == "object"
    app.conf.task_always_eager = True
    assert show.delay((1, 2)).get() == "list"
    with pytest.raises(EncodeError):
        show.delay(object())


def test_an_eager_retry_has_its_new_arguments(app):
    @app.task(bind=True)
    def again(self, a, b=0):
        if a == 1:
            raise self.retry(args=(2,), kwargs={"b": 3})
        return a, b, self.request.delivery_info["is_eager"]

    assert again.apply((1,)).get() == (2, 3, True)


def test_a_state_needs_a_run_to_belong_to(app):
    @app.task
    def idle():
        pass

    with pytest.raises(ValueError, match="task_id"):
        idle.update_state(state="WAITING")


def test_a_retry_knows_its_options(app):
    @app.task(bind=True)
    def again(self):
        raise self.retry(countdwon=1)

    with pytest.raises(TypeError, match="countdown"):
        again.apply(throw=True)


def test_functions_given_as_options_become_methods(app, sent):
    def shadow_name(task, args, kwargs, options):
        return f"{task.name} of {args[0]}"

    @app.task(name="own", shadow_name=shadow_name)
    def own(a):
        pass

    own.delay(1)
    own.apply_async((1,), shadow="given")
    assert [message.headers["shadow"] for message in sent] == ["own of 1", "given"]


def test_a_soft_limit_above_the_hard_one_is_refused_where_it_is_declared(app):
    @app.task(soft_time_limit=9, time_limit=3)
    def limited():
        pass

    with pytest.raises(ValueError, match="soft_time_limit=9"):
        app.finalize()


def test_times_may_be_text(app, sent):
    @app.task
    def later():
        pass

    later.apply_async(eta="2030-01-01T00:00:00Z", expires="2031-01-01T00:00:00+01:00")
    [message] = sent
    assert message.headers["eta"] == "2030-01-01T00:00:00+00:00"
    assert message.headers["expires"] == "2030-12-31T23:00:00+00:00"


def test_a_child_inherits_its_parents_priority_where_that_is_set(app, sent):
    @app.task
    def child():
        pass

    @app.task
    def parent():
        child.delay()
        child.apply_async(priority=3)

    app.conf.task_inherit_parent_priority = True
    parent.apply(priority=7)
    assert [message.priority for message in sent] == [7, 3]


def test_settings_of_publishing_hold(app, sent, monkeypatch):
    @app.task
    def plain():
        pass

    retries = []
    publish = app.broker.publish
    monkeypatch.setattr(
        app.broker,
        "publish",
        lambda batch, deadline, policy: (
            retries.append((deadline, policy)),
            publish(batch, deadline, policy),
        ),
    )
    plain.delay()
    app.conf.update(task_default_delivery_mode="transient", task_publish_retry=False)
    plain.delay()
    plain.apply_async(retry=True)
    assert [message.properties.get("delivery_mode") for message in sent] == [None, 1, 1]
    app.conf.update(task_publish_retry=True, task_publish_retry_policy={"max_retries": 7})
    plain.apply_many([(), ()])
    plain.apply_async(retry_policy={"interval_start": 2, "timeout": 9, "retry_errors": (OSError,)})
    app.conf.task_publish_retry_policy = None
    plain.apply_async(retry_policy={"interval_start": 2})
    once = RetryPolicy(max_retries=0)
    assert retries == [
        (None, None),
        (None, once),
        (None, None),
        (None, RetryPolicy(max_retries=7)),
        (9, RetryPolicy(max_retries=7, interval_start=2, timeout=9)),
        (None, RetryPolicy(max_retries=3, interval_start=2, interval_step=0.2, interval_max=1)),
    ]
    with pytest.raises(ImproperlyConfigured, match="did you mean 'max_retries'"):
        plain.apply_async(retry_policy={"max_retry": 2})


def test_a_task_may_have_the_result_of_another_that_it_ran_in_place(app):
    @app.task
    def inner():
        return 5

    @app.task
    def applying():
        return inner.apply().get()

    @app.task
    def sending():
        return inner.delay().get()

    assert applying.apply().get() == 5
    app.conf.task_always_eager = True
    with pytest.raises(RuntimeError, match="within a task"):  # in a worker it would wait
        sending.delay().get()


def test_a_run_lists_what_it_sends_among_its_children(app, sent):
    @app.task(name="child")
    def child():
        pass

    @app.task(bind=True, name="parent")
    def parent(self, **options):
        child.apply_async(**options)
        (child.si() | child.si()).apply_async(**options)
        return self.request.children

    @app.task(bind=True, name="quiet", trail=False)
    def quiet(self):
        child.delay()
        chord([child.si()], child.si()).delay()
        return self.request.children

    listed = parent.apply().get()
    assert [task_id for (task_id, _), _ in listed] == [message.id for message in sent]
    assert parent.apply(kwargs={"add_to_parent": False}).get() == []
    assert quiet.apply().get() == []
