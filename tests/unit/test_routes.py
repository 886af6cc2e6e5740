"""Where messages go: task_routes, task_queues and the options of the call."""

import re

import pytest

from fastq import Broadcast, Exchange, FastQ, Queue, binding
from fastq.exceptions import ImproperlyConfigured, QueueNotFound


@pytest.fixture
def app():
    app = FastQ("routes", broker="memory://routes", set_as_current=False)
    yield app
    app.close()


def queues(app, name="proj.add", **options):
    return app.router.route(name, options).queues


def test_the_default_queue_takes_what_nobody_routes(app):
    assert queues(app) == ["celery"]
    app.conf.task_default_queue = "main"
    assert queues(app) == ["main"]


@pytest.mark.parametrize(
    ("routes", "queue"),
    [
        ({"proj.add": "exact"}, "exact"),
        ({"proj.*": {"queue": "glob"}}, "glob"),
        ({re.compile(r"proj\.(add|mul)"): {"queue": "regex"}}, "regex"),
        ({"proj.*": "glob", "proj.add": "exact"}, "exact"),
        ([("proj.*", "pairs")], "pairs"),
        (lambda name, args, kwargs, options, task=None, **kw: {"queue": "function"}, "function"),
        ([{"other": "no"}, {"proj.add": "second"}], "second"),
        ({"other.*": "no"}, "celery"),
    ],
)
def test_task_routes_takes_all_of_celerys_forms(app, routes, queue):
    app.conf.task_routes = routes
    assert queues(app) == [queue]


def test_a_router_object_is_asked(app):
    app.conf.task_routes = [Router()]
    assert queues(app) == ["object"]


class Router:
    def route_for_task(self, task, args=None, kwargs=None):
        return {"queue": "object"} if task == "proj.add" else None


def test_the_calls_own_queue_goes_before_the_route(app):
    app.conf.task_routes = {"proj.add": {"queue": "routed", "priority": 3}}
    assert queues(app, queue="mine") == ["mine"]
    assert app.router.route("proj.add", {}).options == {"priority": 3}
    assert app.router.route("proj.add", {"priority": 9}).options["priority"] == 9


def test_a_queue_that_is_not_declared_is_made_or_refused(app):
    app.conf.task_queues = [Queue("feeds")]
    assert queues(app, queue="feed") == ["feed"]
    app.conf.task_create_missing_queues = False
    with pytest.raises(QueueNotFound, match="feeds"):
        queues(app, queue="feed")


def test_exchanges_reach_the_queues_that_are_bound_to_them(app):
    topic = Exchange("logs", "topic")
    app.conf.task_queues = [
        Queue("all", topic, "log.#"),
        Queue("errors", topic, "log.error"),
        Queue("celery"),
    ]
    assert sorted(queues(app, exchange="logs", routing_key="log.error")) == ["all", "errors"]
    assert queues(app, exchange="logs", routing_key="log.info") == ["all"]
    with pytest.raises(QueueNotFound, match="logs"):
        queues(app, exchange="logs", routing_key="other")


def test_a_worker_consumes_the_declared_queues(app):
    app.conf.task_queues = {"a": {}, "b": {"routing_key": "bb"}}
    assert app.queue_names() == ["a", "b"]


def test_what_is_no_route_is_refused(app):
    app.conf.task_routes = [7]
    with pytest.raises(ImproperlyConfigured, match="7"):
        queues(app)


def address(app, name="proj.add", **options):
    route = app.router.route(name, options)
    return route.queues, route.exchange, route.routing_key


# -- the meaning of Celery's settings and options: each case holds for real Celery too ---------------------

TOPIC = {
    "task_default_queue": "default",
    "task_default_exchange": "tasks",
    "task_default_exchange_type": "topic",
    "task_default_routing_key": "task.default",
}
TWO_QUEUES = [Queue("default", routing_key="task.#"), Queue("feeds", routing_key="feed.#")]

ADDRESSES = [
    ({}, {}, ("", "celery")),
    ({}, {"queue": "mail"}, ("", "mail")),
    ({}, {"queue": "mail", "routing_key": "x"}, ("", "mail")),
    ({}, {"routing_key": "x"}, ("", "celery")),
    ({}, {"exchange": "ex", "routing_key": "x"}, ("ex", "x")),
    ({}, {"queue": "mail", "exchange": "ex", "routing_key": "x"}, ("ex", "x")),
    ({}, {"queue": "mail", "exchange": "ex"}, ("", "mail")),
    ({"task_queues": TWO_QUEUES, **TOPIC}, {}, ("tasks", "task.#")),
    ({"task_queues": TWO_QUEUES, **TOPIC}, {"queue": "feeds"}, ("tasks", "feed.#")),
    ({"task_queues": TWO_QUEUES, **TOPIC}, {"routing_key": "feed.x"}, ("tasks", "feed.x")),
    ({"task_queues": TWO_QUEUES, **TOPIC}, {"queue": "feeds", "routing_key": "feed.x"}, ("tasks", "feed.x")),
    (
        {
            "task_queues": TWO_QUEUES,
            "task_routes": {"*": {"queue": "feeds", "routing_key": "feed.i"}},
            **TOPIC,
        },
        {},
        ("tasks", "feed.i"),
    ),
    ({"task_routes": {"*": {"exchange": "media", "routing_key": "a.b"}}}, {}, ("media", "a.b")),
    ({"task_create_missing_queue_exchange_type": "topic"}, {"queue": "made"}, ("made", "made")),
    ({"task_default_exchange_type": "topic"}, {}, ("celery", "celery")),
]


@pytest.mark.parametrize(("settings", "options", "expected"), ADDRESSES)
def test_a_message_is_published_where_celery_publishes_it(routing_app, settings, options, expected):
    routing_app.conf.update(settings)
    route = routing_app.router.route("proj.add", options)
    assert (route.exchange, route.routing_key) == expected
    assert celery_address(settings, options) == expected


@pytest.fixture
def routing_app(app):
    """An app whose broker routes by itself."""
    app.broker.routes = True
    return app


def celery_address(settings, options):
    """The exchange and key to which real Celery would publish."""
    import celery
    import kombu

    sent = []

    class Producer:
        def publish(self, body, exchange, routing_key, **kwargs):
            sent.append((getattr(exchange, "name", exchange), routing_key))

    peer = celery.Celery("peer", set_as_current=False)
    queues = [
        kombu.Queue(queue.name, routing_key=queue.routing_key) for queue in settings.get("task_queues", ())
    ]
    peer.conf.update({**settings, "task_queues": queues or None, "broker_url": "memory://"})
    routed = peer.amqp.router.route(dict(options), "proj.add")
    message = peer.amqp.create_task_message("id", "proj.add")
    peer.amqp.send_task_message(Producer(), "proj.add", message, **routed)
    return sent[0]


def test_a_broker_that_routes_gets_one_message_for_each_call(routing_app):
    topic = Exchange("logs", "topic")
    routing_app.conf.task_queues = [
        Queue("all", topic, "log.#"),
        Queue("errors", topic, "log.error"),
        Broadcast("news"),
    ]
    assert address(routing_app, exchange="logs", routing_key="log.error") == ([""], "logs", "log.error")
    assert address(routing_app, exchange=topic, routing_key="x") == ([""], "logs", "x")
    assert address(routing_app, queue="all") == (["all"], "logs", "log.#")
    assert address(routing_app, queue="news") == ([""], "news", "celery")
    assert address(routing_app, exchange="elsewhere") == ([""], "elsewhere", "")


def test_a_copy_goes_to_each_queue_that_a_topic_exchange_reaches(app):
    app.conf.update({"task_queues": [*TWO_QUEUES, Queue("audit", routing_key="#")], **TOPIC})
    assert sorted(queues(app)) == ["audit", "default"]
    assert sorted(queues(app, queue="feeds", routing_key="feed.import")) == ["audit", "feeds"]
    assert not app.router.route("proj.add", {}).is_lasting


def test_fanout_and_headers_exchanges_reach_what_is_bound_to_them(app):
    fanout, headers = Exchange("all", "fanout"), Exchange("tags", "headers")
    app.conf.task_queues = [
        Queue(
            "one",
            [binding(fanout), binding(headers, arguments={"x-match": "all", "kind": "mail", "eu": True})],
        ),
        Queue(
            "two", [binding(fanout, "ignored"), binding(headers, arguments={"x-match": "any", "task": "a.b"})]
        ),
    ]
    assert queues(app, exchange="all", routing_key="any") == ["one", "two"]
    assert queues(app, exchange="tags", headers={"kind": "mail", "eu": True}) == ["one"]
    assert queues(app, "a.b", exchange="tags") == ["two"]
    with pytest.raises(QueueNotFound, match="tags"):
        queues(app, exchange="tags", headers={"kind": "mail"})


def test_an_exchange_of_a_plugins_type_is_for_rabbitmq_alone(app):
    app.conf.task_queues = [Queue("q", Exchange("later", "x-delayed-message"), "k")]
    with pytest.raises(ImproperlyConfigured, match="x-delayed-message"):
        queues(app, exchange="later", routing_key="k")


def test_queues_are_declared_as_the_settings_say(app):
    declared = app.router.declaration
    assert bound(declared("celery")) == [("celery", "direct", "celery")]
    assert bound(declared("other")) == [("other", "direct", "other")]
    assert declared("other").arguments == {}
    app.conf.update(
        task_default_queue_type="quorum",
        task_create_missing_queue_type="quorum",
        task_create_missing_queue_exchange_type="topic",
        task_queue_max_priority=7,
        task_default_exchange="ex",
        task_default_routing_key="key",
    )
    assert bound(declared("celery")) == [("ex", "direct", "key")]
    assert bound(declared("other")) == [("other", "topic", "other")]
    assert declared("celery").arguments == {"x-queue-type": "quorum", "x-max-priority": 7}
    assert declared("other").arguments == {"x-queue-type": "quorum", "x-max-priority": 7}
    app.conf.update(task_queues=[Queue("celery", alias="main")], task_create_missing_queues=False)
    assert declared("main").arguments == {"x-max-priority": 7}
    assert declared("elsewhere").name == "elsewhere"  # it holds messages, wherever they came from
    assert queues(app, queue="main") == ["celery"]


def bound(queue):
    return [(each.exchange.name, each.exchange.type, each.routing_key) for each in queue.all_bindings]


def test_a_queue_that_is_given_as_an_object_is_declared_as_it_is(app):
    mine = Queue("mine", Exchange("ex", "topic"), "a.*", max_priority=4)
    assert address(app, queue=mine, routing_key="a.b") == (["mine"], "ex", "a.b")
    app.conf.task_default_priority = 1  # any change: what was given stays known
    assert app.router.declaration("mine").arguments == {"x-max-priority": 4}


def test_the_delivery_mode_of_an_exchange_holds_for_calls_that_name_none(app):
    app.conf.task_queues = [Queue("fast", Exchange("fast", delivery_mode="transient"))]
    assert app.router.route("proj.add", {"queue": "fast"}).options["delivery_mode"] == 1
    assert app.router.route("proj.add", {"queue": "fast", "delivery_mode": 2}).options["delivery_mode"] == 2
    assert (
        app.router.route("proj.add", {"exchange": "fast", "routing_key": "celery"}).options["delivery_mode"]
        == 1
    )


def test_a_call_that_names_an_address_takes_none_of_the_routes(app):
    app.conf.task_routes = {"*": {"exchange": "ex", "routing_key": "key", "priority": 3}}
    route = app.router.route("proj.add", {"queue": "mine"})
    assert (route.queues, route.exchange, route.options) == (["mine"], "", {"priority": 3})
