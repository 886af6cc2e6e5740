"""Remote control from the client's side: `app.control` and `app.control.inspect()`, as Celery has them.

What is asked goes to every worker that listens, or to those that *destination* names, or whose names
*pattern* matches; replies are waited for where they are wanted (docs/PROTOCOL.md §7).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastq import serialization
from fastq._core.message import Message, new_id
from fastq.exceptions import DuplicateNodenameWarning, FastQError
from fastq.topology import PERSISTENT, Exchange, Queue

if TYPE_CHECKING:
    from fastq.app.base import FastQ

TERM = "SIGTERM"
# Between the parts of the record of a revoked stamp, ``\x1f<name>\x1f<value>``, which is no task's id.
STAMP = "\x1f"

Replies = list[dict[str, Any]]  # one for each worker: its node name and what it says
Callback = Callable[[dict[str, Any]], Any]


class Control:
    """What can be asked of the workers of *app*. Safe over threads.

    Each method takes Celery's *destination* (node names), *pattern* with *matcher* (``glob`` or ``pcre``),
    *reply*, *timeout* (seconds without a reply after which no more are waited for), *limit* (so many replies
    are enough) and *callback* (called with each); with *reply* it returns the replies, else None.
    """

    def __init__(self, app: FastQ) -> None:
        self.app = app

    def inspect(
        self,
        destination: Sequence[str] | str | None = None,
        timeout: float = 1.0,
        callback: Callback | None = None,
        connection: Any = None,
        app: FastQ | None = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> Inspect:
        """What can be read of these workers. *connection* is Celery's, and not needed."""
        return Inspect(app or self.app, destination, timeout, callback, limit, pattern, matcher)

    def broadcast(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        destination: Sequence[str] | str | None = None,
        connection: Any = None,
        reply: bool = False,
        timeout: float | None = 1.0,
        limit: int | None = None,
        callback: Callback | None = None,
        channel: Any = None,
        pattern: str | None = None,
        matcher: str | None = None,
        **extra: Any,
    ) -> Replies | None:
        """Send a *command* by its name; *extra* are more of its arguments.

        Raises `OperationalError` when the broker can't be reached. *connection* and *channel* are
        Celery's, and not needed.
        """
        names = [destination] if isinstance(destination, str) else destination
        body = {
            "method": command,
            "arguments": {**(arguments or {}), **extra},
            "destination": None if names is None else list(names),
            "pattern": pattern,
            "matcher": matcher,
        }
        if not reply:
            self._send(body, timeout)
            return None
        if limit is None and names:
            limit = len(names)
        return self._ask(body, 1.0 if timeout is None else timeout, limit, callback)

    def _send(self, body: dict[str, Any], timeout: float | None) -> None:
        conf = self.app.conf
        exchange = Exchange(f"{conf.control_exchange}.pidbox", "fanout", durable=False)
        content_type, content_encoding, data = serialization.dumps(body, conf.task_serializer)
        message = Message(
            "",
            "",
            {"clock": self.app.clock.forward(), "expires": time.time() + timeout if timeout else 0},
            data,
            queue="",
            exchange=exchange.name,
            routing_key="",
            properties={"delivery_mode": PERSISTENT},
            content_type=content_type,
            content_encoding=content_encoding,
            priority=0,
        )
        self.app.broker.announce(exchange, [message])

    def _ask(
        self, body: dict[str, Any], timeout: float, limit: int | None, callback: Callback | None
    ) -> Replies:
        """Send *body*, and collect what is said to it."""
        conf = self.app.conf
        address, ticket = new_id(), new_id()
        exchange = Exchange(f"reply.{conf.control_exchange}.pidbox", "direct", durable=False)
        queue = Queue(
            f"{address}.{exchange.name}",
            exchange,
            address,
            durable=False,
            auto_delete=True,
            expires=conf.control_queue_expires,
            message_ttl=conf.control_queue_ttl,
        )
        reply_to = {"exchange": exchange.name, "routing_key": address}
        listener = self.app.broker.listen(queue)
        replies: Replies = []
        try:
            listener.hear(0.0)
            self._send({**body, "ticket": ticket, "reply_to": reply_to}, timeout)
            while limit is None or len(replies) < limit:
                heard = listener.hear(timeout)
                if not heard:
                    break
                for message in heard:
                    said = self._read(message, ticket)
                    if said is not None:
                        replies.append(said)
                        if callback is not None:
                            callback(said)
        finally:
            listener.close()
        return replies

    def _read(self, message: Message, ticket: str) -> dict[str, Any] | None:
        """The reply in *message*, if it is one to our *ticket*."""
        clock = message.headers.get("clock")
        if isinstance(clock, int):
            self.app.clock.adjust(clock)
        if message.headers.get("ticket", ticket) != ticket:
            return None
        try:
            said = self.app.load_body(message)
        except FastQError:  # by a serializer that is not accepted here
            return None
        return said if isinstance(said, dict) else None

    # -- tasks ----------------------------------------------------------------------------

    def revoke(
        self,
        task_id: str | Iterable[str],
        destination: Sequence[str] | str | None = None,
        terminate: bool = False,
        signal: str = TERM,
        **options: Any,
    ) -> Replies | None:
        """Let tasks not start any more, by their ids; with *terminate* end those that run.

        That is kept in the broker for ``control_revoke_expires`` seconds: a worker that starts later heeds
        it too. With ``reply=True`` each worker that replies says so that none of them will start there.
        """
        ids = [task_id] if isinstance(task_id, str) else list(task_id)
        arguments: dict[str, Any] = {"task_id": ids, "terminate": terminate, "signal": signal or TERM}
        if destination is None:
            arguments["until"] = self._keep(ids)
        return self.broadcast("revoke", arguments, destination, **options)

    def terminate(
        self,
        task_id: str | Iterable[str],
        destination: Sequence[str] | str | None = None,
        signal: str = TERM,
        **options: Any,
    ) -> Replies | None:
        """End tasks that run, and revoke them, by their ids."""
        return self.revoke(task_id, destination, terminate=True, signal=signal, **options)

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        destination: Sequence[str] | str | None = None,
        terminate: bool = False,
        signal: str = TERM,
        **options: Any,
    ) -> Replies | None:
        """Let tasks with one of these stamps not start any more; with *terminate* end those that run."""
        arguments: dict[str, Any] = {"headers": headers, "terminate": terminate, "signal": signal or TERM}
        if destination is None:
            stamps = [
                (name, each)
                for name, values in headers.items()
                for each in (values if isinstance(values, list | tuple | set) else [values])
            ]
            arguments["until"] = self._keep(f"{STAMP}{name}{STAMP}{value}" for name, value in stamps)
        return self.broadcast("revoke_by_stamped_headers", arguments, destination, **options)

    def _keep(self, records: Iterable[str]) -> float:
        """Have the broker keep that *records* are revoked; returns until when, in unix time."""
        until: float = time.time() + self.app.conf.control_revoke_expires
        self.app.broker.revoke(dict.fromkeys(records, until))
        return until

    def rate_limit(
        self,
        task_name: str,
        rate_limit: str | float,
        destination: Sequence[str] | str | None = None,
        **options: Any,
    ) -> Replies | None:
        """Let a task start so often at most in each worker ("10/s", "100/m", "1/h"); 0: no limit."""
        arguments = {"task_name": task_name, "rate_limit": rate_limit}
        return self.broadcast("rate_limit", arguments, destination, **options)

    def time_limit(
        self,
        task_name: str,
        soft: float | None = None,
        hard: float | None = None,
        destination: Sequence[str] | str | None = None,
        **options: Any,
    ) -> Replies | None:
        """Give the runs of a task that start from now on these time limits, in seconds."""
        arguments = {"task_name": task_name, "hard": hard, "soft": soft}
        return self.broadcast("time_limit", arguments, destination, **options)

    # -- queues ---------------------------------------------------------------------------

    def add_consumer(
        self,
        queue: str,
        exchange: str | None = None,
        exchange_type: str = "direct",
        routing_key: str | None = None,
        options: Mapping[str, Any] | None = None,
        destination: Sequence[str] | str | None = None,
        **more: Any,
    ) -> Replies | None:
        """Let workers consume one more queue."""
        arguments = {
            "queue": queue,
            "exchange": exchange,
            "exchange_type": exchange_type,
            "routing_key": routing_key,
            **(options or {}),
        }
        return self.broadcast("add_consumer", arguments, destination, **more)

    def cancel_consumer(
        self, queue: str, destination: Sequence[str] | str | None = None, **options: Any
    ) -> Replies | None:
        """Let workers consume one queue less."""
        return self.broadcast("cancel_consumer", {"queue": queue}, destination, **options)

    def pause_queue(self, queue: str, **options: Any) -> Replies | None:
        """Let no worker take from *queue* until `resume_queue`, workers that start later included."""
        self.app.broker.pause(queue, True)
        return self.broadcast("pause_queue", {"queue": queue}, **options)

    def resume_queue(self, queue: str, **options: Any) -> Replies | None:
        """Let workers take from *queue* again."""
        self.app.broker.pause(queue, False)
        return self.broadcast("resume_queue", {"queue": queue}, **options)

    def purge(self, connection: Any = None) -> int:
        """Remove what waits in the queues that workers consume; returns how many messages there were."""
        return sum(self.app.read_broker.purge(name) for name in self.app.queue_names())

    discard_all = purge

    # -- workers --------------------------------------------------------------------------

    def ping(
        self, destination: Sequence[str] | str | None = None, timeout: float = 1.0, **options: Any
    ) -> Replies:
        """Ask who is there: ``[{"w1@host": {"ok": "pong"}}, …]``."""
        found = self.broadcast("ping", {}, destination, reply=True, timeout=timeout, **options)
        return found or []

    def enable_events(self, destination: Sequence[str] | str | None = None, **options: Any) -> Replies | None:
        """Let workers send events of their tasks."""
        return self.broadcast("enable_events", {}, destination, **options)

    def disable_events(
        self, destination: Sequence[str] | str | None = None, **options: Any
    ) -> Replies | None:
        """Let workers send no events of their tasks."""
        return self.broadcast("disable_events", {}, destination, **options)

    def heartbeat(self, destination: Sequence[str] | str | None = None, **options: Any) -> Replies | None:
        """Let workers send a heartbeat event at once."""
        return self.broadcast("heartbeat", {}, destination, **options)

    def pool_grow(
        self, n: int = 1, destination: Sequence[str] | str | None = None, **options: Any
    ) -> Replies | None:
        """Let workers run *n* tasks more at once."""
        return self.broadcast("pool_grow", {"n": n}, destination, **options)

    def pool_shrink(
        self, n: int = 1, destination: Sequence[str] | str | None = None, **options: Any
    ) -> Replies | None:
        """Let workers run *n* tasks fewer at once."""
        return self.broadcast("pool_shrink", {"n": n}, destination, **options)

    def pool_restart(
        self,
        modules: Sequence[str] | None = None,
        reload: bool = False,
        reloader: Any = None,
        destination: Sequence[str] | str | None = None,
        **options: Any,
    ) -> Replies | None:
        """Let workers replace the processes of their pools (``worker_pool_restarts``)."""
        arguments = {"modules": modules, "reload": reload, "reloader": reloader}
        return self.broadcast("pool_restart", arguments, destination, **options)

    def autoscale(
        self, max: int, min: int, destination: Sequence[str] | str | None = None, **options: Any
    ) -> Replies | None:
        """Let the pools of workers with ``--autoscale`` grow to *max* and shrink to *min*."""
        return self.broadcast("autoscale", {"max": max, "min": min}, destination, **options)

    def shutdown(self, destination: Sequence[str] | str | None = None, **options: Any) -> Replies | None:
        """Let workers stop, as a TERM does. They do not reply."""
        return self.broadcast("shutdown", {}, destination, **options)

    def election(self, id: str, topic: str, action: Any = None, connection: Any = None) -> None:
        """Have one worker of those with gossip do something."""
        self.broadcast("election", {"id": id, "topic": topic, "action": action})


class Inspect:
    """What can be read of workers. Each method returns what they say by node name, or None if nobody does.

    With a *destination* that is one name it returns what that worker says.
    """

    def __init__(
        self,
        app: FastQ,
        destination: Sequence[str] | str | None = None,
        timeout: float = 1.0,
        callback: Callback | None = None,
        limit: int | None = None,
        pattern: str | None = None,
        matcher: str | None = None,
    ) -> None:
        self.app = app
        self.destination = destination
        self.timeout = timeout
        self.callback = callback
        self.limit = limit
        self.pattern = pattern
        self.matcher = matcher

    def ask(self, command: str, **arguments: Any) -> Any:
        """What the workers say to any *command*."""
        replies = self.app.control.broadcast(
            command,
            arguments,
            self.destination,
            reply=True,
            timeout=self.timeout,
            limit=self.limit,
            callback=self.callback,
            pattern=self.pattern,
            matcher=self.matcher,
        )
        by_node = by_name(replies or [])
        if isinstance(self.destination, str):
            return by_node.get(self.destination)
        return by_node or None

    def ping(self, destination: Sequence[str] | str | None = None) -> Any:
        """Who is there."""
        if destination:
            self.destination = destination
        return self.ask("ping")

    def clock(self) -> Any:
        """The values of the logical clocks."""
        return self.ask("clock")

    def hello(self, from_node: str, revoked: Iterable[str] | None = None) -> Any:
        """Greet, as a worker that starts does."""
        return self.ask("hello", from_node=from_node, revoked=list(revoked or ()))

    def conf(self, with_defaults: bool = False) -> Any:
        """The settings, secrets masked."""
        return self.ask("conf", with_defaults=with_defaults)

    def stats(self) -> Any:
        """Counts, pool, broker, and what the process has used."""
        return self.ask("stats")

    def active(self, safe: bool | None = None) -> Any:
        """The tasks that run; *safe*: their arguments as text."""
        return self.ask("active", safe=safe)

    def reserved(self) -> Any:
        """The tasks that are held and do not run."""
        return self.ask("reserved")

    def scheduled(self, safe: bool | None = None) -> Any:
        """The tasks that wait for their time."""
        return self.ask("scheduled")

    def revoked(self) -> Any:
        """The ids of revoked tasks."""
        return self.ask("revoked")

    def registered(self, *taskinfoitems: str) -> Any:
        """The tasks that are known, with these of their attributes."""
        return self.ask("registered", taskinfoitems=taskinfoitems)

    registered_tasks = registered

    def active_queues(self) -> Any:
        """The queues that are consumed."""
        return self.ask("active_queues")

    def query_task(self, *ids: str | Sequence[str]) -> Any:
        """Where these tasks are, by id: ``{"w1@host": {id: [state, …]}}``."""
        wanted = list(ids[0]) if len(ids) == 1 and isinstance(ids[0], list | tuple) else list(ids)
        return self.ask("query_task", ids=wanted)

    def report(self) -> Any:
        """Versions, platform and settings as text."""
        return self.ask("report")

    def memsample(self) -> Any:
        """The resident memory now."""
        return self.ask("memsample")

    def memdump(self, samples: int = 10) -> Any:
        """The last samples of the resident memory."""
        return self.ask("memdump", samples=samples)

    def objgraph(self, type: str = "Request", n: int = 200, max_depth: int = 10) -> Any:
        """Draw what keeps objects alive, to a file there."""
        return self.ask("objgraph", num=n, max_depth=max_depth, type=type)


def by_name(replies: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Replies by node name; warns of names that several workers have."""
    found: dict[str, Any] = {}
    for reply in replies:
        for node, said in reply.items():
            if node in found:
                warnings.warn(
                    f"several workers are called {node}: give each a name of its own (-n)",
                    DuplicateNodenameWarning,
                    stacklevel=3,
                )
            found[node] = said
    return found
