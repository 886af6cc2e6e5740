"""Signatures of Celery's or of fastq's, made from the description of a workflow."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from workflows.description import Chain, Chord, Chunks, Errback, Group, Map, Node, Task, to_map
from workflows.errors import UNKNOWN_TASK, UNREGISTERED

ERRBACK_TASKS = {"inline": "flow.on_error", "id": "flow.on_failed_id", "immutable": "flow.alarm"}


@dataclass(frozen=True)
class Api:
    """What workflows are put together with."""

    app: Any
    chain: Any
    group: Any
    chord: Any


def celery_api(app: Any) -> Api:
    """Celery's, for *app*."""
    import celery

    return Api(app, celery.chain, celery.group, celery.chord)


def fastq_api(app: Any) -> Api:
    """Ours, for *app*."""
    from fastq import canvas

    return Api(app, canvas.chain, canvas.group, canvas.chord)


def build(api: Api, node: Node, token: str, queues: Mapping[str, str] | None = None) -> Any:
    """The signature of *node*; its tasks note *token* in the journal. *queues* tells the queue of a label."""
    return _Builder(api, token, queues).build(node)


def start(
    api: Api, node: Node, token: str, given: Sequence[Any] = (), queues: Mapping[str, str] | None = None
) -> Any:
    """Send *node* with the arguments *given*; its result."""
    builder = _Builder(api, token, queues)
    if isinstance(node, Chunks) and not queues:
        return builder.chunks(node).apply_async()
    return builder.build(node).apply_async(args=tuple(given))


class _Builder:
    def __init__(self, api: Api, token: str, queues: Mapping[str, str] | None) -> None:
        self.api = api
        self.token = token
        self.queues = queues

    def build(self, node: Node) -> Any:
        match node:
            case Task():
                return self.linked(self.task(node), node)
            case Map():
                return self.linked(self.map(node), node)
            case Chunks():
                return self.routed(self.chunks(node).group(), node)
            case Chain():
                return self.linked(self.chain(node), node)
            case Group():
                return self.linked(self.group(node), node)
            case Chord():
                return self.linked(self.chord(node), node)

    def at(self, node: Task | Map | Chunks | Errback) -> str:
        return f"{self.token}/{node.label}"

    def linked(self, signature: Any, node: Any) -> Any:
        for link in getattr(node, "links", ()):
            signature.link(self.build(link))
        for errback in node.errbacks:
            signature.link_error(self.errback(errback))
        return signature

    def routed(self, signature: Any, node: Any) -> Any:
        if self.queues:
            members = signature.tasks if isinstance(node, Chunks) else [signature]
            for each in members:
                each.set(queue=self.queues[node.label])
        return signature

    def task(self, node: Task) -> Any:
        if node.raises == UNREGISTERED:
            known = self.api.app.signature(UNKNOWN_TASK, args=node.args, immutable=node.is_immutable)
            return self.routed(known, node)
        kwargs = {"at": self.at(node), **node.kwargs}
        if node.retries:
            kwargs["retries"] = node.retries
        if node.raises is not None:
            kwargs["raises"] = node.raises
        if node.replaced_by is not None:
            kwargs["replaced_by"] = to_map(node.replaced_by)
            if self.queues:
                kwargs["queues"] = dict(self.queues)
        step = self.api.app.tasks["flow.step"]
        return self.routed((step.si if node.is_immutable else step.s)(*node.args, **kwargs), node)

    def map(self, node: Map) -> Any:
        return self.routed(self.pick(node, "starmap" if node.is_star else "map")(self.items(node)), node)

    def chunks(self, node: Chunks) -> Any:
        return self.pick(node, "chunks")(self.items(node), node.size)

    def pick(self, node: Map | Chunks, how: str) -> Any:
        name = "flow.pick" if how == "map" else "flow.pick_star"
        return getattr(self.api.app.tasks[name], how)

    def items(self, node: Map | Chunks) -> list[list[Any]]:
        return [[self.at(node), item] for item in node.items]

    def errback(self, node: Errback) -> Any:
        task = self.api.app.tasks[ERRBACK_TASKS[node.form]]
        signature = (task.si if node.form == "immutable" else task.s)(at=self.at(node))
        return self.routed(signature, node)

    def chain(self, node: Chain) -> Any:
        steps = [self.build(each) for each in node.steps]
        if node.form == "pipe" and steps:
            return reduce(operator.or_, steps)
        return self.api.chain(steps) if node.form == "list" else self.api.chain(*steps)

    def group(self, node: Group) -> Any:
        if node.is_lazy:
            return self.api.group((self.build(each) for each in node.members), app=self.api.app)
        return self.api.group([self.build(each) for each in node.members], app=self.api.app)

    def chord(self, node: Chord) -> Any:
        header = [self.build(each) for each in node.header]
        return self.api.chord(header, self.build(node.body), app=self.api.app)
