"""What our canvas sends says to Celery's workers what Celery's own, as it was captured, says to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import celery.canvas
import pytest
from canvas_twins import alike, plain
from reference.fixtures import PROTOCOL_DATA, fixture

from fastq import FastQ
from fastq.canvas import Signature, StampingVisitor, chain, chord, chunks, group, xmap, xstarmap
from fastq.canvas.parents import eldest
from fastq.canvas.workflow import compose_workflow


@pytest.fixture
def app(request: pytest.FixtureRequest) -> Iterator[FastQ]:
    app = FastQ("fixtures", broker=f"memory://{request.node.name}", set_as_current=False)
    yield app
    app.close()


class Tenant(StampingVisitor):
    def on_signature(self, sig: Signature[Any], **headers: Any) -> dict[str, Any]:
        return {"mtask_id": "stamp-1", "tenant": ["a", "b"], "stamped_headers": ["mtask_id", "tenant"]}


def stamped(sig: Any, *args: Any, **stamps: Any) -> Any:
    sig.stamp(*args, **stamps)
    return sig


def linked(sig: Any, *links: Any) -> Any:
    for link in links:
        sig.link(link)
    return sig


class Tasks:
    """The tasks of the program that the fixtures were captured from, known by name alone."""

    def __init__(self, app: FastQ) -> None:
        self.app = app

    def __getattr__(self, name: str) -> Callable[..., Signature[Any]]:
        def s(*args: Any, immutable: bool = False) -> Signature[Any]:
            return self.app.signature(f"proj.{name}", args, immutable=immutable)

        return s


WORKFLOWS: dict[str, Callable[[Any], Any]] = {
    "canvas-chain": lambda t: chain(t.add(1, 2), t.mul(3), t.ident()),
    "canvas-chain-immutable": lambda t: chain(t.add(1, 2), t.mul(3, 3, immutable=True)),
    "canvas-chain-in-chord-header": lambda t: chord([t.add(1, 1) | t.mul(2), t.add(2, 2)], t.xsum()),
    "canvas-chain-link-error": lambda t: chain(t.add(1, 2), t.mul(3)).on_error(t.on_error_old()),
    "canvas-chord": lambda t: chord([t.add(1, 1), t.add(2, 2)], t.xsum()),
    "canvas-chord-in-chord-body": lambda t: chord(
        [t.add(1, 1), t.add(2, 2)], chain(t.xsum(), group(t.add(1), t.add(2)), t.xsum())
    ),
    "canvas-chord-link-error": lambda t: chord(
        [t.add(1, 1), t.add(2, 2)], t.xsum().on_error(t.on_error_old())
    ),
    "canvas-chunks": lambda t: chunks(t.add(), zip(range(4), range(4), strict=True), 2, app=t.app),
    "canvas-group": lambda t: group(each for each in (t.add(1, 1), t.add(2, 2), t.mul(3, 3))),
    "canvas-group-saved": lambda t: group(t.add(1, 1), t.add(2, 2)),
    "canvas-group-then-task": lambda t: chain(group(t.add(1, 1), t.add(2, 2)), t.xsum()),
    "canvas-link-chain": lambda t: linked(t.add(1, 2), chain(t.mul(2), t.mul(3))),
    "canvas-link-multiple": lambda t: (
        linked(t.add(1, 2), t.mul(2), t.ident("x", immutable=True))
        .on_error(t.on_error_old())
        .on_error(t.on_error_new())
    ),
    "canvas-map": lambda t: xmap(t.xsum(), [[1, 2], [3]], app=t.app),
    "canvas-starmap": lambda t: xstarmap(t.add(), [(1, 2), (3, 4)], app=t.app),
    "canvas-nested-group-in-chord-header": lambda t: chord(
        [t.add(2, 2), group(t.add(1, 1), t.add(3, 3))], t.ident()
    ),
    "canvas-task-then-chord": lambda t: chain(t.add(1, 1), group(t.add(2), t.add(3)), t.xsum()),
    "canvas-task-then-group": lambda t: chain(t.add(1, 1), group(t.add(2), t.add(3))),
    "stamped-chain": lambda t: stamped(chain(t.add(1, 2), t.mul(3)), Tenant()),
    "stamped-task": lambda t: stamped(t.add(1, 2), Tenant()),
    "stamped-task-header": lambda t: stamped(t.add(1, 2), foo="bar"),
}


def read(sig: Any) -> Any:
    """What a Celery worker makes of the map *sig*, without what it does not look at there.

    A place in a group says nothing of a task whose body names no chord, nor of a chord's header
    before that is started.
    """
    if isinstance(sig, list):
        return [read(each) for each in sig]
    found = plain(celery.canvas.maybe_signature(json.loads(json.dumps(sig))))
    options = {name: value for name, value in found["options"].items() if value is not None}
    if "chord" not in options:
        options.pop("group_id", None)
        options.pop("group_index", None)
    if "stamped_headers" in options:
        options["stamped_headers"] = sorted(options["stamped_headers"])
    for name in ("chord", "chain", "link", "link_error"):
        if name in options:
            options[name] = read(options[name])
    kwargs = {
        name: read(value) if name in ("tasks", "header", "body") else value
        for name, value in found["kwargs"].items()
    }
    return {**found, "options": options, "kwargs": kwargs}


# What a worker looks at. The others are for people, or have their default where they are left out.
HEADERS = ("task", "id", "group", "group_index", "root_id", "parent_id", "stamped_headers", "stamps")


def message(headers: dict[str, Any], body: Any) -> dict[str, Any]:
    """What a message says, as a Celery worker reads it."""
    args, kwargs, embed = body
    said = {name: headers.get(name) or None for name in HEADERS if name != "group_index"}
    said["stamped_headers"] = sorted(said["stamped_headers"] or [])
    follows = {name: read(sig) for name, sig in embed.items() if sig}
    return {**said, "group_index": headers.get("group_index"), "call": [args, kwargs], **follows}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workers_read_the_same(app: FastQ, name: str) -> None:
    captured = fixture(name)
    workflow = compose_workflow(app, WORKFLOWS[name](Tasks(app)))
    blocks = list(workflow)
    ours = [message(each.headers, json.loads(each.body)) for block in blocks for each in block.messages]
    sizes = {
        f"celery-taskset-meta-{group_id}.s": str(size) for block in blocks for group_id, size in block.chords
    }
    theirs = [
        message(each["envelope"]["headers"], each["body_decoded"])
        for each in captured["messages_in_send_order"]
    ]
    stored = {key: each["value"] for key, each in captured["backend_keys"].items() if key.endswith(".s")}
    result = workflow.result.as_tuple()
    if name == "canvas-chord-in-chord-body":
        # Celery makes the header the parent of the last step, and forgets the steps between the two.
        result = ((workflow.result.id, eldest(workflow.result).as_tuple()), None)
    assert alike(ours, sizes, result) == alike(theirs, stored, captured["client_result_as_tuple"])


def test_every_fixture_of_a_client_is_looked_at() -> None:
    names = {path.stem for path in PROTOCOL_DATA.glob("canvas-*.json")} | {
        path.stem for path in PROTOCOL_DATA.glob("stamped-*.json")
    }
    # Our backends count the parts of chords, so this is sent by Celery's clients alone.
    assert names - set(WORKFLOWS) == {"canvas-chord-fallback-unlock"}
