"""The same workflow in Celery's canvas and in ours, and how to compare the two."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import celery
import celery.canvas

import fastq.canvas
from fastq import FastQ

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Side:
    """One of the two: its app, its canvas, and its tasks by name."""

    def __init__(self, app: Any, canvas: Any, **task_options: Any) -> None:
        self.app = app
        self.canvas = canvas
        self.tasks: dict[str, Any] = {}
        # What tasks were called with, in order.
        self.calls: list[tuple[Any, ...]] = []
        for function in tasks_of(self.calls):
            self.tasks[function.__name__] = app.task(
                function, name=f"proj.{function.__name__}", **task_options
            )

    def s(self, *args: Any, immutable: bool = False, **kwargs: Any) -> Any:
        return self.tasks["call"].signature(args, kwargs, immutable=immutable)

    def build(self, tree: Any) -> Any:
        """The signature of *tree*: ("task", args, immutable), (kind, parts) or ("chord", header, body)."""
        kind, *parts = tree
        if kind == "task":
            return self.s(*parts[0], immutable=parts[1])
        if kind == "|":
            return self.build(parts[0]) | self.build(parts[1])
        if kind == "chord":
            return self.canvas.chord([self.build(each) for each in parts[0]], self.build(parts[1]))
        built = [self.build(each) for each in parts[0]]
        form, _, of = kind.partition(" of ")
        make = getattr(self.canvas, form)
        return make(*built) if not of else make(built) if of == "list" else make(each for each in built)


def tasks_of(calls: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The functions of one side's tasks, which add to *calls*."""

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(("call", plain(args), kwargs))
        if "fail" in args:
            raise ValueError("fail")
        return list(args)

    def of_id(task_id: str) -> None:
        calls.append(("of_id", bool(UUID.fullmatch(task_id))))

    def of_failure(request: Any, exc: Exception, traceback: str) -> None:
        calls.append(("of_failure", bool(request.id), repr(exc), traceback.splitlines()[-1]))

    return call, of_id, of_failure


def sides(name: str, **settings: Any) -> tuple[Side, Side]:
    """(Celery's, ours), each with an app of its own."""
    theirs = celery.Celery(name, broker="memory://", backend="cache+memory://", set_as_current=False)
    ours = FastQ(name, broker=f"memory://{name}", set_as_current=False)
    for app in (theirs, ours):
        app.conf.update(settings)
    # Celery would share the tasks with every other app of the process.
    return Side(theirs, celery.canvas, shared=False), Side(ours, fastq.canvas)


def plain(value: Any) -> Any:
    """*value* as JSON would give it back, without what Celery writes and nobody reads."""
    if isinstance(value, Mapping):
        return {
            key: plain(item)
            for key, item in sorted(dict(value.items()).items())
            if key != "reply_to" and not (key in ("root_id", "parent_id") and item is None)
        }
    if isinstance(value, list | tuple | fastq.canvas.lazy.Lazy):
        return [plain(item) for item in value]
    return value


def alike(*values: Any) -> str:
    """*values* as text, with ids numbered as they come: the same for what differs in ids alone."""
    ids: dict[str, str] = {}
    text = json.dumps(plain(values), sort_keys=True)
    return UUID.sub(lambda found: ids.setdefault(found[0], f"id-{len(ids)}"), text)


def shown(sig: Any) -> str:
    """The repr of *sig*, whether its tasks are in a list, in a tuple or lazy."""
    text = repr(sig)
    while "<_regen: " in text:
        text = re.sub(r"<_regen: (\[[^<]*?\])>", r"\1", text)
    text = re.sub(r"@0x[0-9a-f]+", "", text)
    return text.replace("((", "([").replace("))", "])").replace(",)", "]")
