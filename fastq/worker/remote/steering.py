"""Commands that change something (docs/PROTOCOL.md §7.3)."""

from __future__ import annotations

import logging
import signal as signals
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from fastq import signals as app_signals
from fastq._core.message import Delivery
from fastq._core.request import Context
from fastq.exceptions import ImproperlyConfigured, PoolRefused
from fastq.topology import Exchange, Queue
from fastq.worker.rates import RateLimit, parse_rate
from fastq.worker.remote.node import Node
from fastq.worker.remote.registry import NO_REPLY, Pending, control_command
from fastq.worker.revocations import stamp_record

logger = logging.getLogger("fastq.worker")

TERMINATED = "terminated"


# -- what runs and what shall not ---------------------------------------------------------


@control_command(variadic="task_id", signature="[id1 [id2 [... [idN]]]]")
def revoke(
    node: Node,
    task_id: str | Iterable[str],
    terminate: bool = False,
    signal: str | None = None,
    until: float | None = None,
    **kwargs: Any,
) -> Any:
    """Let tasks not start any more, by their ids; with `terminate` end those that run.

    The reply comes when no task of them will start here. *until*, a unix time, says that the sender
    has kept it in the broker so long.
    """
    ids = [task_id] if isinstance(task_id, str) else list(task_id)
    order = node.revocations.add(ids, until, keep_in=None if until is not None else node.broker)
    if terminate:
        return _terminate(node, set(ids), signal)
    for each in ids:
        logger.info("Task %s was revoked", each)
    return Pending(order, lambda _: {"ok": f"tasks {set(ids)} flagged as revoked"})


@control_command(variadic="task_id", args=[("signal", str)], signature="<signal> [id1 [id2 [... [idN]]]]")
def terminate(node: Node, signal: str, task_id: str | Iterable[str], **kwargs: Any) -> Any:
    """End tasks that run, and revoke them, by their ids."""
    return revoke(node, task_id, terminate=True, signal=signal, **kwargs)


@control_command(variadic="headers", signature="[key1=value1 [key2=value2 [... [keyN=valueN]]]]")
def revoke_by_stamped_headers(
    node: Node,
    headers: Any,
    terminate: bool = False,
    signal: str | None = None,
    until: float | None = None,
    **kwargs: Any,
) -> Any:
    """Let tasks with these stamps not start any more; with `terminate` end those that run."""
    wanted = stamps_of(headers)
    records = [stamp_record(name, value) for name, values in wanted.items() for value in values]
    order = node.revocations.add(records, until, keep_in=None if until is not None else node.broker)
    if not terminate:
        shown = {name: sorted(values) for name, values in wanted.items()}
        said = {"ok": f"headers {shown} flagged as revoked, but not terminated"}
        return Pending(order, lambda _: said)
    number = _signal(signal)

    def end() -> dict[str, str]:
        ended = _end(node, lambda delivery: node.gate.is_revoked(delivery), number)
        shown = defaultdict(set, {name: set(values) for name, values in wanted.items()})
        return {"ok": f"headers {shown} revoked"} if ended else {"ok": "headers unknown"}

    return Pending(node.loop.order(end), lambda reply: reply)


def stamps_of(headers: Any) -> dict[str, list[str]]:
    """Stamps by name, from a map or from texts ``name=value``."""
    found: dict[str, list[str]] = {}
    if isinstance(headers, dict):
        for name, value in headers.items():
            values = value if isinstance(value, list | tuple | set) else [value]
            found.setdefault(name, []).extend(map(str, values))
        return found
    for each in [headers] if isinstance(headers, str) else headers:
        name, _, value = each.partition("=")
        found.setdefault(name, []).append(value)
    return found


def _terminate(node: Node, ids: set[str], signal: str | None) -> Pending:
    number = _signal(signal)

    def end() -> dict[str, str]:
        node.loop.drop_revoked()
        ended = _end(
            node, lambda delivery: delivery.message is not None and delivery.message.id in ids, number
        )
        return {"ok": f"terminate: {', '.join(ended)}"} if ended else {"ok": "terminate: tasks unknown"}

    return Pending(node.loop.order(end), lambda reply: reply)


def _end(node: Node, is_meant: Any, number: int) -> list[str]:
    """End what runs and is meant, in the loop's thread; returns the ids."""
    ended = []
    for delivery, _ in node.pool.running():
        if delivery.message is not None and is_meant(delivery):
            node.pool.terminate(delivery, TERMINATED)
            _tell(node, delivery, number)
            ended.append(delivery.message.id)
    return ended


def _tell(node: Node, delivery: Delivery, number: int) -> None:
    message = delivery.message
    assert message is not None
    logger.warning("Terminating %s (%s)", message.id, signals.Signals(number).name)
    if app_signals.task_revoked.receivers:
        app_signals.task_revoked.send(
            sender=node.app.tasks.get(message.task),
            request=Context(None, message),
            terminated=True,
            signum=number,
            expired=False,
        )


def _signal(name: str | int | None) -> int:
    """The number of a signal by any of its names. Raises ValueError."""
    if name is None:
        return signals.SIGTERM
    if isinstance(name, int) or str(name).isdigit():
        return signals.Signals(int(name))
    upper = str(name).upper()
    found = getattr(signals, upper if upper.startswith("SIG") else f"SIG{upper}", None)
    if not isinstance(found, signals.Signals):
        raise ValueError(f"no signal is named {name!r}")
    return found


# -- limits ---------------------------------------------------------------------------------


@control_command(
    args=[("task_name", str), ("rate_limit", str)],
    signature="<task_name> <rate_limit (e.g., 5/s | 5/m | 5/h)>",
)
def rate_limit(node: Node, task_name: str, rate_limit: str | float, **kwargs: Any) -> dict[str, str]:
    """Let a task start so often at most; 0: no limit."""
    try:
        rate = parse_rate(rate_limit)
    except ImproperlyConfigured as exc:
        return {"error": f"Invalid rate limit string: {exc}"}
    task = node.app.tasks.get(task_name)
    if task is None:
        logger.error("Rate limit attempt for unknown task %s", task_name)
        return {"error": "unknown task"}
    if node.app.conf.worker_disable_rate_limits:
        return {"error": "rate limits disabled"}
    task.rate_limit = rate_limit or None
    if rate <= 0:
        node.gate.rates.pop(task_name, None)
        logger.info("Rate limits disabled for tasks of type %s", task_name)
        return {"ok": "rate limit disabled successfully"}
    node.gate.rates[task_name] = RateLimit(rate)
    logger.info("New rate limit for tasks of type %s: %s.", task_name, rate_limit)
    return {"ok": "new rate limit set successfully"}


@control_command(
    args=[("task_name", str), ("soft", float), ("hard", float)],
    signature="<task_name> <soft_secs> [hard_secs]",
)
def time_limit(
    node: Node,
    task_name: str,
    hard: float | None = None,
    soft: float | None = None,
    **kwargs: Any,
) -> Any:
    """Give the runs of a task that start from now on other time limits, in seconds."""
    if task_name not in node.app.tasks:
        logger.error("Change time limit attempt for unknown task %s", task_name)
        return {"error": "unknown task"}
    hard = None if hard is None else float(hard)
    soft = None if soft is None else float(soft)
    order = node.loop.order(lambda: node.pool.set_limits(task_name, hard, soft))
    logger.info("New time limits for tasks of type %s: soft=%s hard=%s", task_name, soft, hard)
    return Pending(order, lambda _: {"ok": "time limits set successfully"})


# -- the pool ---------------------------------------------------------------------------------


@control_command(args=[("n", int)], signature="[N=1]")
def pool_grow(node: Node, n: int = 1, **kwargs: Any) -> Any:
    """Run more tasks at once."""
    return _resize(node, int(n), "grow")


@control_command(args=[("n", int)], signature="[N=1]")
def pool_shrink(node: Node, n: int = 1, **kwargs: Any) -> Any:
    """Run fewer tasks at once; what runs is left to end."""
    return _resize(node, -int(n), "shrink")


def _resize(node: Node, by: int, how: str) -> Any:
    if node.worker.autoscaler is not None:
        return {"error": f"pool_{how} is not supported with autoscale. Adjust autoscale range instead."}
    order = node.loop.order(lambda: node.worker.resize(max(1, node.pool.options.concurrency + by)))
    return Pending(order, lambda _: {"ok": f"pool will {how}"})


@control_command
def pool_restart(
    node: Node, modules: Any = None, reload: bool = False, reloader: Any = None, **kwargs: Any
) -> Any:
    """Replace the processes of the pool when what they run has ended."""
    if not node.app.conf.worker_pool_restarts:
        raise ValueError("Pool restarts not enabled")
    if modules or reload:
        raise PoolRefused("new code needs a new worker: send it HUP, or start it with --reload")
    return Pending(node.loop.order(node.pool.restart), lambda _: {"ok": "reload started"})


@control_command(args=[("max", int), ("min", int)], signature="[max [min]]")
def autoscale(node: Node, max: int | None = None, min: int | None = None, **kwargs: Any) -> dict[str, str]:
    """Let the pool grow to `max` and shrink to `min`."""
    autoscaler = node.worker.autoscaler
    if autoscaler is None:
        raise ValueError("Autoscale not enabled")
    most, least = autoscaler.update(max, min)
    return {"ok": f"autoscale now max={most} min={least}"}


# -- queues -------------------------------------------------------------------------------------


@control_command(
    args=[("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)],
    signature="<queue> [exchange [type [routing_key]]]",
)
def add_consumer(
    node: Node,
    queue: str,
    exchange: str | None = None,
    exchange_type: str | None = None,
    routing_key: str | None = None,
    **options: Any,
) -> Any:
    """Consume one more queue."""
    declared = node.app.router.declaration(queue)
    if exchange or routing_key:
        place = Exchange(exchange or queue, exchange_type or "direct")
        declared = node.app.router.add(Queue(queue, place, routing_key or queue))
    if declared.name in node.worker.queue_names:
        return {"ok": f"already consuming from {queue!r}"}
    order = node.loop.order(lambda: node.worker.consume([*node.worker.queue_names, declared.name]))
    return Pending(order, lambda _: {"ok": f"add consumer {queue}"})


@control_command(args=[("queue", str)], signature="<queue>")
def cancel_consumer(node: Node, queue: str, **kwargs: Any) -> Any:
    """Consume one queue less; what is held of it and has not started goes back."""
    name = node.app.router.declaration(queue).name
    left = [each for each in node.worker.queue_names if each != name]
    order = node.loop.order(lambda: node.worker.consume(left))
    return Pending(order, lambda _: {"ok": f"no longer consuming from {queue}"})


@control_command(args=[("queue", str)], signature="<queue>")
def pause_queue(node: Node, queue: str, **kwargs: Any) -> Any:
    """Take nothing from a queue until it is resumed (`fastq queues pause` keeps that in the broker)."""
    order = node.loop.order(lambda: node.worker.pause(queue, True))
    return Pending(order, lambda _: {"ok": f"{queue} is paused"})


@control_command(args=[("queue", str)], signature="<queue>")
def resume_queue(node: Node, queue: str, **kwargs: Any) -> Any:
    """Take from a paused queue again."""
    order = node.loop.order(lambda: node.worker.pause(queue, False))
    return Pending(order, lambda _: {"ok": f"{queue} is resumed"})


# -- events, life -----------------------------------------------------------------------------------


@control_command
def enable_events(node: Node, **kwargs: Any) -> dict[str, str]:
    """Send events of tasks."""
    return {"ok": f"task events {'enabled' if node.events.enable() else 'already enabled'}"}


@control_command
def disable_events(node: Node, **kwargs: Any) -> dict[str, str]:
    """Send no events of tasks."""
    return {"ok": f"task events {'disabled' if node.events.disable() else 'already disabled'}"}


@control_command
def heartbeat(node: Node, **kwargs: Any) -> None:
    """Send one heartbeat event now."""
    node.events.heartbeat()


@control_command(visible=False)
def election(node: Node, id: str, topic: str, action: Any = None, **kwargs: Any) -> None:
    """Take part in an election; answered, and held by workers with gossip alone."""


@control_command
def shutdown(node: Node, msg: str = "Got shutdown from remote", **kwargs: Any) -> Any:
    """Stop, as a TERM does: what runs may end."""
    logger.warning(msg)
    node.worker.shut_down()
    return NO_REPLY
