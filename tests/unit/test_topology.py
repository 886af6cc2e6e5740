"""Queues, exchanges and bindings as they are declared: kombu's names, defaults and argument tables."""

import kombu
import kombu.common
import pytest
from kombu.transport.base import to_rabbitmq_queue_arguments

from fastq import Broadcast, Exchange, Queue, binding
from fastq.topology import exchange_from, queue_from, worker_direct

# What users write with either library, and what must come out the same.
DECLARATIONS = [
    {"name": "plain"},
    {"name": "limited", "expires": 1.5, "message_ttl": 0.25, "max_length": 10, "max_length_bytes": 4096},
    {"name": "priority", "max_priority": 9, "queue_arguments": {"x-max-priority": 3, "x-queue-mode": "lazy"}},
    {
        "name": "quorum",
        "queue_arguments": {"x-queue-type": "quorum"},
        "consumer_arguments": {"x-priority": 1},
    },
    {"name": "mine", "exclusive": True, "durable": False},
    {"name": "named", "alias": "other", "no_declare": True, "binding_arguments": {"x-match": "any"}},
]
EXCHANGE_FIELDS = ("name", "type", "durable", "auto_delete", "delivery_mode", "no_declare", "passive")
QUEUE_FIELDS = ("name", "durable", "exclusive", "auto_delete", "alias", "no_declare", "routing_key")


def look(queue):
    """All that makes a declaration, of a queue of either library."""
    if isinstance(queue, kombu.Queue):
        limits = ("expires", "message_ttl", "max_length", "max_length_bytes", "max_priority")
        options = {name: getattr(queue, name) for name in limits}
        arguments = to_rabbitmq_queue_arguments(queue.queue_arguments or {}, **options)
        own = [kombu.binding(queue.exchange, queue.routing_key, queue.binding_arguments)]
        bindings = [*(own if queue.exchange and queue.exchange.name else ()), *queue.bindings]
    else:
        arguments, bindings = queue.arguments, queue.all_bindings
    bound = [(look_at_exchange(each.exchange), each.routing_key, each.arguments or {}) for each in bindings]
    fields = {name: getattr(queue, name) or None for name in QUEUE_FIELDS}
    return fields, arguments, sorted(bound, key=repr), queue.consumer_arguments or {}


def look_at_exchange(exchange):
    return [getattr(exchange, name) or None for name in EXCHANGE_FIELDS], exchange.arguments or {}


@pytest.mark.parametrize("options", DECLARATIONS, ids=lambda options: options["name"])
def test_a_queue_is_declared_as_kombu_declares_it(options):
    theirs = kombu.Queue(
        exchange=kombu.Exchange("ex", "topic", delivery_mode=1), routing_key="a.#", **options
    )
    ours = Queue(exchange=Exchange("ex", "topic", delivery_mode=1), routing_key="a.#", **options)
    assert look(ours) == look(theirs)
    assert look(queue_from(theirs)) == look(theirs)


def test_several_bindings_are_listed_as_kombu_makes_them():
    options = {"durable": False, "auto_delete": True, "delivery_mode": "transient", "arguments": {"x": 1}}
    theirs = kombu.Queue(
        "many",
        [
            kombu.binding(kombu.Exchange("one", "topic", **options), "a.*"),
            kombu.binding(kombu.Exchange("two", "headers"), arguments={"x-match": "all", "k": 1}),
        ],
    )
    ours = Queue(
        "many",
        [
            binding(Exchange("one", "topic", **options), "a.*"),
            binding(Exchange("two", "headers"), arguments={"x-match": "all", "k": 1}),
        ],
    )
    assert look(ours) == look(theirs) == look(queue_from(theirs))
    own = Queue("q", Exchange("main"), "key", bindings=[binding("other", "k")])
    assert [(each.exchange.name, each.routing_key) for each in own.all_bindings] == [
        ("main", "key"),
        ("other", "k"),
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"exchange": "ex", "exchange_type": "topic", "binding_key": "a.#"},
        {"exchange": "ex", "routing_key": "k", "durable": False, "auto_delete": True},
        {"exchange": "ex", "durable": False, "exchange_durable": True, "queue_auto_delete": True},
        {"exchange": "ex", "queue_durable": False, "exchange_auto_delete": True, "delivery_mode": 1},
        {"exchange": "ex", "exchange_arguments": {"x": 1}, "expires": 30, "max_priority": 5},
        {"exchange": "ex", "queue_arguments": {"x-queue-type": "quorum"}, "alias": "other"},
    ],
)
def test_the_dict_form_means_what_it_means_to_celery(options):
    theirs = kombu.Queue.from_dict("q", **{"routing_key": "q", **options})
    assert look(queue_from({"name": "q", **options})) == look(theirs)


def test_a_broadcast_queue_is_one_of_its_process_alone():
    ours, theirs = Broadcast("news"), kombu.common.Broadcast("news")
    assert ours.name.startswith("bcast.") and ours.name != Broadcast("news").name
    assert look_at_exchange(ours.exchange) == look_at_exchange(theirs.exchange)
    assert (ours.alias, ours.auto_delete) == (theirs.alias, theirs.auto_delete) == ("news", True)
    assert ours.is_private and queue_from(theirs).is_private
    assert not Queue("q", Exchange("f", "fanout")).is_private
    assert Broadcast("news", queue="own").name == "own"
    assert Broadcast("news", queue="own", unique=True).name.startswith("own.")


def test_a_queue_takes_its_applications_defaults_where_it_has_none():
    default = Exchange("tasks", "topic")
    bare = Queue("q")
    assert bare.all_bindings == []
    full = bare.completed(default, "task.default", 7)
    assert [(each.exchange.name, each.routing_key) for each in full.all_bindings] == [
        ("tasks", "task.default")
    ]
    assert (full.arguments, bare.arguments) == ({"x-max-priority": 7}, {})
    own = Queue("q", Exchange("ex"), "key", queue_arguments={"x-max-priority": 2}, max_priority=3)
    assert look(own.completed(default, "task.default", 7)) == look(own)


def test_the_queue_of_one_worker_is_celerys():
    from celery.utils.nodenames import worker_direct as theirs

    assert look(worker_direct("w@host")) == look(theirs("w@host"))
    mine = Queue("q")
    assert worker_direct(mine) is mine


def test_what_no_broker_could_declare_is_refused():
    with pytest.raises(ValueError, match="'topc'"):
        Exchange("logs", "topc")
    with pytest.raises(ValueError, match="name"):
        Queue("")
    assert Exchange("delayed", "x-delayed-message").type == "x-delayed-message"
    assert exchange_from(None).name == ""
