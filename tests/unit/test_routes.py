"""Where messages go: task_routes, task_queues and the options of the call."""

import re

import pytest

from fastq import Exchange, FastQ, Queue
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
    assert queues(app, exchange="logs", routing_key="log.error") == ["all", "errors"]
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
