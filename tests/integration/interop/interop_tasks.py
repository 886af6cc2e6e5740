"""The tasks of the project `proj`, the same for a Celery app and a fastq app."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from interop_errors import PaymentRefused

# "celery" or "fastq" in a worker; empty in a client, where nothing runs.
KIND = os.environ.get("INTEROP_KIND", "")


@cache
def notes() -> Any:
    """Where tasks note what they did, beside the broker's own database."""
    from redis import Redis  # comes with the peer, which may be missing

    return Redis.from_url(os.environ["INTEROP_NOTES_URL"], decode_responses=True)


def define(app: Any, *, ignore: type[Exception], reject: type[Exception]) -> None:
    """Define the tasks on *app*; *ignore* and *reject* are its exceptions of those names."""
    # Celery would give them to every other app of this process too.
    task = partial(app.task, shared=False)
    _define_calls(app, task)
    _define_outcomes(task, ignore, reject)
    _define_retries(task)


def _define_calls(app: Any, task: Callable[..., Any]) -> None:
    @task(name="proj.add")
    def add(x: Any, y: Any) -> Any:
        return x + y

    @task(name="proj.ident")
    def ident(*args: Any) -> list[Any]:
        return list(args)

    @task(name="proj.echo")
    def echo(*args: Any, **kwargs: Any) -> list[Any]:
        return [list(args), kwargs]

    @task(name="proj.who")
    def who(*args: Any) -> str:
        return KIND

    @task(name="proj.note")
    def note(key: str, value: str) -> str:
        notes().rpush(key, value)
        return KIND

    @task(name="proj.nap")
    def nap(seconds: float) -> str:
        time.sleep(seconds)
        return KIND

    @task(name="proj.request", bind=True)
    def request(self: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        known = self.request
        return {
            "args": list(known.args),
            "kwargs": known.kwargs,
            **{name: getattr(known, name) for name in REQUEST_FIELDS},
            "timelimit": known.timelimit or [None, None],
            "tenant": known.headers.get("tenant") if known.headers else None,
            "address": [known.delivery_info["exchange"], known.delivery_info["routing_key"]],
            "priority": known.delivery_info["priority"] or 0,
            "redelivered": bool(known.delivery_info["redelivered"]),
        }

    @task(name="proj.parent", bind=True)
    def parent(self: Any, x: int) -> str:
        queue = self.request.delivery_info["routing_key"]
        child: str = app.tasks["proj.add"].apply_async((x, 1), queue=queue).id
        return child

    @task(name="proj.lineage", bind=True)
    def lineage(self: Any, depth: int) -> None:
        notes().rpush(f"lineage:{self.request.root_id}", self.request.parent_id or "")
        if depth:
            queue = self.request.delivery_info["routing_key"]
            app.send_task("proj.lineage", (depth - 1,), queue=queue)


REQUEST_FIELDS = (
    "id",
    "task",
    "lang",
    "shadow",
    "eta",
    "expires",
    "group",
    "group_index",
    "retries",
    "root_id",
    "parent_id",
    "time_limit",
    "soft_time_limit",
    "argsrepr",
    "kwargsrepr",
    "ignore_result",
    "correlation_id",
    "is_eager",
    "called_directly",
    "callbacks",
    "errbacks",
    "chain",
    "chord",
    "replaced_task_nesting",
)


def _define_outcomes(task: Callable[..., Any], ignore: type[Exception], reject: type[Exception]) -> None:
    @task(name="proj.fail")
    def fail(kind: str) -> None:
        if kind == "builtin":
            raise ValueError("boom", 42)
        if kind == "shared":
            raise PaymentRefused(402, "no funds")
        if kind == "unwritable":
            raise KeyError(object)
        from interop_hidden import Hidden  # not atop: clients import this module too

        raise Hidden("secret", [1, 2])

    @task(name="proj.progress", bind=True)
    def progress(self: Any, go: str) -> str:
        self.update_state(state="PROGRESS", meta={"done": 3, "total": 10})
        notes().blpop([go], timeout=30)
        return "ok"

    @task(name="proj.quiet", ignore_result=True)
    def quiet(key: str) -> int:
        notes().rpush(key, KIND)
        return 1

    @task(name="proj.ignored")
    def ignored(key: str) -> None:
        notes().rpush(key, KIND)
        raise ignore()

    @task(name="proj.rejected", acks_late=True)
    def rejected() -> None:
        raise reject("no", requeue=False)


def _define_retries(task: Callable[..., Any]) -> None:
    @task(name="proj.flaky", bind=True, max_retries=10)
    def flaky(self: Any, until: int, countdown: float = 0, path: tuple[str, ...] = ()) -> list[Any]:
        path = (*path, KIND)
        if self.request.retries < until:
            raise self.retry(args=(until, countdown, path), countdown=countdown, exc=KeyError("again"))
        return [self.request.retries, path]

    @task(name="proj.hand_over", bind=True)
    def hand_over(self: Any, queue: str, countdown: float) -> list[Any]:
        if not self.request.retries:
            raise self.retry(queue=queue, countdown=countdown)
        return [KIND, self.request.retries]

    @task(name="proj.stubborn", bind=True, max_retries=2, default_retry_delay=0.1)
    def stubborn(self: Any, with_cause: bool) -> None:
        raise self.retry(exc=PaymentRefused(402, "still no funds") if with_cause else None)

    @task(
        name="proj.auto", bind=True, autoretry_for=(ConnectionError,), max_retries=3, default_retry_delay=0.1
    )
    def auto(self: Any, until: int) -> int:
        if self.request.retries < until:
            raise ConnectionError("away")
        retries: int = self.request.retries
        return retries
