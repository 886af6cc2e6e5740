"""The tasks of the workflows, the same for a Celery app and a fastq app."""

from __future__ import annotations

import os
import random
import time
from functools import partial
from typing import Any

from workflows.building import Api, build
from workflows.description import from_map
from workflows.errors import EXHAUSTED, RAISED, still_away
from workflows.journal import Journal
from workflows.values import combine

# A task takes up to so many seconds, so that a kill finds it running.
NAP = float(os.environ.get("WORKFLOWS_NAP", "0"))


def define(api: Api, journal: Journal) -> None:
    """Define the tasks on the app of *api*; they write to *journal*."""
    # Celery would give them to every other app of this process too.
    task = partial(api.app.task, shared=False)
    _define_step(api, task, journal)
    _define_errbacks(task, journal)

    @task(name="flow.pick")
    def pick(item: Any) -> list[Any]:
        return _pick(journal, *item)

    @task(name="flow.pick_star")
    def pick_star(at: str, item: Any) -> list[Any]:
        return _pick(journal, at, item)


def _pick(journal: Journal, at: str, item: Any) -> list[Any]:
    journal.note(at, "start", id="")
    if isinstance(item, dict):
        raise RAISED[item["raises"]]()
    return combine(at.partition("/")[2], [item])


def _define_step(api: Api, task: Any, journal: Journal) -> None:
    @task(name="flow.step", bind=True, max_retries=None)
    def step(
        self: Any,
        *args: Any,
        at: str,
        retries: int = 0,
        raises: str | None = None,
        replaced_by: dict[str, Any] | None = None,
        queues: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> list[Any]:
        request = self.request
        known = {
            "id": request.id,
            "retries": request.retries,
            "pid": os.getpid(),
            "args": list(args),
            "stamps": getattr(request, "stamps", None) or {},
            "redelivered": bool((request.delivery_info or {}).get("redelivered")),
        }
        journal.note(at, "start", at=time.monotonic(), **known)
        if NAP:
            time.sleep(random.uniform(0, NAP))
        journal.note(at, "end", at=time.monotonic(), **known)
        if raises == EXHAUSTED:
            raise self.retry(countdown=0, max_retries=retries, exc=still_away())
        if request.retries < retries:
            raise self.retry(countdown=0, max_retries=retries)
        if raises is not None:
            raise RAISED[raises]()
        token, _, label = at.partition("/")
        if replaced_by is not None:
            return self.replace(build(api, from_map(replaced_by), token, queues))  # type: ignore[no-any-return]
        return combine(label, args, kwargs)


def _define_errbacks(task: Any, journal: Journal) -> None:
    @task(name="flow.on_error")
    def on_error(request: Any, exc: BaseException, traceback: Any, at: str) -> None:
        journal.note(at, "errback", error=repr(exc), id=request.id, pid=os.getpid())

    @task(name="flow.on_failed_id")
    def on_failed_id(failed_id: str, at: str) -> None:
        journal.note(at, "errback", error="", id=failed_id, pid=os.getpid())

    @task(name="flow.alarm")
    def alarm(at: str) -> None:
        journal.note(at, "errback", error="", id="", pid=os.getpid())
