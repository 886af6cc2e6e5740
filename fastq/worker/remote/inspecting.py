"""Commands that only tell something (docs/PROTOCOL.md §7.3)."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote, urlsplit

from fastq._core.message import Delivery
from fastq.app.stores import broker_url
from fastq.brokers.failover import split_urls
from fastq.topology import Queue
from fastq.version import __version__
from fastq.worker.remote.node import Node
from fastq.worker.remote.registry import inspect_command

# Delayed messages that are shown: the broker may keep millions.
MOST_SCHEDULED = 1000
# The priority that Celery's timer gives what waits in it, and shows.
TIMER_PRIORITY = 6
BUILTIN = ("celery.", "fastq.")
TASK_ATTRIBUTES = ("exchange", "routing_key", "rate_limit")


def as_bool(text: str) -> bool:
    """What the command line says of a switch."""
    return text.strip().lower() in ("1", "true", "yes", "on")


@inspect_command(default_timeout=0.2)
def ping(node: Node, **kwargs: Any) -> dict[str, str]:
    """Ask who is there."""
    return {"ok": "pong"}


@inspect_command
def clock(node: Node, **kwargs: Any) -> dict[str, int]:
    """The value of the logical clock."""
    return {"clock": node.app.clock.value}


@inspect_command(alias="dump_conf", args=[("with_defaults", as_bool)], signature="[include_defaults=False]")
def conf(node: Node, with_defaults: bool = False, **kwargs: Any) -> dict[str, Any]:
    """The settings, with secrets masked."""
    return {name: plain(value) for name, value in node.app.conf.table(with_defaults=with_defaults).items()}


@inspect_command(alias="dump_tasks", variadic="taskinfoitems", signature="[attr1 [attr2 [... [attrN]]]]")
def registered(
    node: Node, taskinfoitems: Iterable[str] | None = None, builtins: bool = False, **kwargs: Any
) -> list[str]:
    """The tasks that it knows, with those of their attributes that are asked for and set."""
    attributes = tuple(taskinfoitems or TASK_ATTRIBUTES)
    names = sorted(name for name in node.app.tasks if builtins or not name.startswith(BUILTIN))
    return [_described(node.app.tasks[name], name, attributes) for name in names]


def _described(task: Any, name: str, attributes: Iterable[str]) -> str:
    values = [(each, getattr(task, each, None)) for each in attributes]
    shown = " ".join(f"{each}={value}" for each, value in values if value is not None)
    return f"{name} [{shown}]" if shown else name


@inspect_command(alias="dump_active", args=[("safe", as_bool)], signature="[safe=False]")
def active(node: Node, safe: bool | None = False, **kwargs: Any) -> list[dict[str, Any]]:
    """The tasks that run."""
    return [plain(node.info(delivery, since, safe=bool(safe))) for delivery, since in node.active()]


@inspect_command(alias="dump_reserved")
def reserved(node: Node, **kwargs: Any) -> list[dict[str, Any]]:
    """The tasks that it holds and that do not run yet."""
    return [plain(node.info(delivery)) for delivery in node.reserved()]


@inspect_command(alias="dump_schedule")
def scheduled(node: Node, **kwargs: Any) -> list[dict[str, Any]]:
    """The tasks of its queues that wait for their time, which lie in the broker: each worker shows them."""
    return [
        {
            "eta": datetime.fromtimestamp(due, timezone.utc).isoformat(),
            "priority": TIMER_PRIORITY,
            "request": plain(node.info(delivery)),
        }
        for due, delivery in _delayed(node)
    ]


def _delayed(node: Node) -> list[tuple[float, Delivery]]:
    found = node.broker.delayed(node.worker.queue_names, MOST_SCHEDULED)
    return [(due, Delivery(message, None, message.queue)) for due, message in found]


@inspect_command(alias="dump_revoked")
def revoked(node: Node, **kwargs: Any) -> list[str]:
    """The ids of the tasks that were revoked."""
    return list(node.gate.revoked)


@inspect_command(variadic="ids", signature="[id1 [id2 [... [idN]]]]")
def query_task(node: Node, ids: str | Iterable[str], **kwargs: Any) -> dict[str, list[Any]]:
    """Where tasks are, and what they are, by their ids; those that are unknown here are left out."""
    wanted = {ids} if isinstance(ids, str) else set(ids)
    found: dict[str, list[Any]] = {}
    for delivery, since in node.active():
        _note(found, wanted, "active", delivery, node, since)
    for delivery in node.reserved():
        _note(found, wanted, "reserved", delivery, node)
    if len(found) < len(wanted):
        for _, delivery in _delayed(node):
            _note(found, wanted, "scheduled", delivery, node)
    return found


def _note(
    found: dict[str, list[Any]],
    wanted: set[str],
    state: str,
    delivery: Delivery,
    node: Node,
    since: float | None = None,
) -> None:
    message = delivery.message
    if message is not None and message.id in wanted and message.id not in found:
        found[message.id] = [state, plain(node.info(delivery, since))]


@inspect_command
def stats(node: Node, **kwargs: Any) -> dict[str, Any]:
    """Counts, the pool, the broker and what the process has used."""
    found: dict[str, Any] = {
        "total": dict(node.gate.counts),
        "pid": node.pid,
        "clock": str(node.app.clock.value),
        "uptime": round(node.uptime()),
        "pool": node.pool.info(),
        "broker": _broker(node),
        "prefetch_count": node.window.limit,
        "rusage": _usage(),
    }
    autoscaler = node.worker.autoscaler
    if autoscaler is not None:
        found["autoscaler"] = autoscaler.info()
    return found


def _broker(node: Node) -> dict[str, Any]:
    """The broker as Celery shows it, which Flower reads."""
    conf = node.app.conf
    first, *others = split_urls(broker_url(conf, conf.broker_read_url))
    url = urlsplit(first)
    name = url.scheme.partition("+")[0]
    return {
        "hostname": url.hostname,
        "userid": None if url.username is None else unquote(url.username),
        "virtual_host": unquote(url.path[1:]) or ("0" if name.startswith("redis") else "/"),
        "port": url.port or {"redis": 6379, "rediss": 6379, "amqp": 5672, "amqps": 5671}.get(name),
        "insist": False,
        "ssl": bool(conf.broker_use_ssl) or name in ("rediss", "amqps"),
        "transport": name,
        "connect_timeout": conf.broker_connection_timeout,
        "transport_options": plain(conf.table(with_defaults=True)["broker_transport_options"]),
        "login_method": conf.broker_login_method,
        "uri_prefix": None,
        "heartbeat": float(conf.broker_heartbeat or 0),
        "failover_strategy": plain(conf.broker_failover_strategy) or "round-robin",
        "alternates": [plain(urlsplit(each).hostname) for each in others],
        "credential_provider": None,
    }


def _usage() -> dict[str, Any]:
    import resource  # not on Windows

    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {name[3:]: getattr(usage, name) for name in dir(usage) if name.startswith("ru_")}


@inspect_command
def active_queues(node: Node, **kwargs: Any) -> list[dict[str, Any]]:
    """The queues that it consumes."""
    return [_queue(node.app.router.declaration(name)) for name in node.worker.queue_names]


def _queue(queue: Queue) -> dict[str, Any]:
    exchange = queue.exchange
    return {
        "name": queue.name,
        "exchange": {
            "name": exchange.name,
            "type": exchange.type,
            "arguments": plain(exchange.arguments) or None,
            "durable": exchange.durable,
            "passive": exchange.passive,
            "auto_delete": exchange.auto_delete,
            "delivery_mode": exchange.delivery_mode,
            "no_declare": exchange.no_declare,
        },
        "routing_key": queue.routing_key,
        "queue_arguments": plain(queue.queue_arguments) or None,
        "binding_arguments": plain(queue.binding_arguments) or None,
        "consumer_arguments": plain(queue.consumer_arguments) or None,
        "durable": queue.durable,
        "exclusive": queue.exclusive,
        "auto_delete": queue.auto_delete,
        "no_ack": False,
        "alias": queue.alias,
        "bindings": [repr(each) for each in queue.bindings],
        "no_declare": queue.no_declare or None,
        "expires": queue.expires,
        "message_ttl": queue.message_ttl,
        "max_length": queue.max_length,
        "max_length_bytes": queue.max_length_bytes,
        "max_priority": queue.max_priority,
    }


@inspect_command
def report(node: Node, **kwargs: Any) -> dict[str, str]:
    """Versions, platform and settings, to paste into a bug report."""
    conf = node.app.conf
    lines = [
        "",
        f"software -> fastq:{__version__} py:{platform.python_version()}",
        f"platform -> system:{platform.system()} arch:{', '.join(platform.architecture())}",
        f"            kernel version:{platform.release()} imp:{platform.python_implementation()}",
        f"settings -> transport:{_broker(node)['transport']} "
        f"results:{None if node.app.backend is None else node.app.backend.description()}",
        "",
        conf.humanize(with_defaults=False),
        "",
    ]
    return {"ok": "\n".join(lines)}


@inspect_command(args=[("from_node", str)], signature="<from_node>", visible=False)
def hello(
    node: Node, from_node: str, revoked: Iterable[str] | None = None, **kwargs: Any
) -> dict[str, Any] | None:
    """Greet a worker that has just started: tell it what was revoked, and hear the same from it."""
    if from_node == node.hostname:
        return None
    if revoked:
        node.revocations.add(revoked)
    return {"revoked": list(node.gate.revoked), "clock": node.app.clock.forward()}


@inspect_command
def memsample(node: Node, **kwargs: Any) -> str:
    """The resident memory now, kept for `memdump`."""
    node.samples.append(node.memory())
    return node.samples[-1]


@inspect_command(args=[("samples", int)], signature="[n_samples=10]")
def memdump(node: Node, samples: int = 10, **kwargs: Any) -> str:
    """The last samples of the resident memory, and how much it is now."""
    taken = node.samples[-int(samples) :]
    lines = ["- rss (sample):", *(f"-    > {sample}," for sample in taken), f"- rss (end): {node.memory()}."]
    return "\n".join(lines) + "\n"


@inspect_command(
    args=[("object_type", str), ("num", int), ("max_depth", int)],
    signature="[object_type=Request] [num=200 [max_depth=10]]",
    default_timeout=60.0,
)
def objgraph(
    node: Node, num: int = 200, max_depth: int = 10, type: str = "Context", **kwargs: Any
) -> dict[str, str]:
    """Draw what keeps objects of a type alive, to a file on the worker's machine."""
    try:
        import objgraph as library
    except ImportError:
        raise ImportError("Requires the objgraph library") from None
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="fastq-objgraph-", suffix=".png", delete=False) as file:
        objects = library.by_type(kwargs.get("object_type") or type)[:num]
        library.show_backrefs(
            objects, max_depth=max_depth, highlight=lambda each: each in objects, filename=file.name
        )
    return {"filename": file.name}


def plain(value: Any) -> Any:
    """*value* as JSON has it; what JSON has no form for is shown by its `repr`."""
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return repr(value)
