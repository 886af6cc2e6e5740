"""Workflows whose steps are run by Celery's worker and by ours in turn, sent by either client."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from interop_fleet import KINDS, PATIENCE, wait_until
from servers import RedisServer
from workflows.building import build
from workflows.description import Chain, Chord, Errback, Group, Map, Node, Task, labelled, parts
from workflows.errors import UNREGISTERED
from workflows.journal import JournalReader
from workflows.stage import Client, kill_group, settings_of, start_worker
from workflows.strategies import GIVEN, workflows

# Either worker may run what no queue is given for: what gathers the results of a group, for example.
COMMON = "flows-common"
OTHER = {"celery": "fastq", "fastq": "celery"}
ONLY_EAGER = {"eager links"}  # differences of Celery's eager mode alone

# Errbacks of chords are called as they are in Celery 5.7 unless one sets it otherwise; it says so each time.
pytestmark = pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header")


@dataclass
class Mixed:
    """One worker and one client of each kind on a broker."""

    clients: dict[str, Client]
    reader: JournalReader
    logs: list[Path]

    def run(self, sender: str, node: Node, given: list[Any], queues: dict[str, str]) -> None:
        """Let *sender* run *node*; raise `AssertionError` unless it comes to what it must."""
        wrong = self.clients[sender].judge(node, given, PATIENCE, queues)
        logs = "".join(f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in self.logs)
        assert wrong is None, f"{wrong}\n{node}\ngiven {given} on {queues}\n{logs}"


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def mixed(
    request: pytest.FixtureRequest, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mixed]:
    folder = tmp_path_factory.mktemp("mixed")
    url = store = redis_server.url.replace("/0", "/3")
    if request.param == "rabbitmq":
        server = request.getfixturevalue("rabbitmq_server")
        server.control("add_vhost", "mixed")
        server.control("set_permissions", "-p", "mixed", "guest", ".*", ".*", ".*")
        url = server.url("mixed")
    journal = folder / "journal"
    reader = JournalReader(journal)
    known = {kind: settings_of(kind, url, store) | {"task_default_queue": COMMON} for kind in KINDS}
    workers = [
        start_worker(
            kind, known[kind], folder / f"{kind}.log", journal, "prefork", "2", "-Q", f"{kind},{COMMON}"
        )
        for kind in KINDS
    ]
    clients = {kind: Client(kind, known[kind], reader, journal) for kind in KINDS}
    try:
        yield Mixed(clients, reader, [folder / f"{kind}.log" for kind in KINDS])
    finally:
        for worker in workers:
            kill_group(worker)
        for client in clients.values():
            client.close()
        reader.close()


def labels_of(node: Node) -> list[str]:
    """The labels in *node*."""
    return [part.label for part in parts(node) if hasattr(part, "label")]


def in_turn(node: Node, first: str) -> dict[str, str]:
    """A queue for each label, of the one kind and of the other in turn."""
    return {label: (first, OTHER[first])[index % 2] for index, label in enumerate(labels_of(node))}


INLINE, BY_ID = Errback(form="inline"), Errback(form="id")
EXAMPLES: dict[str, Node] = {
    "chain": Chain(steps=(Task(args=(1,)), Task(args=(2,)), Task(is_immutable=True), Task())),
    "long chain": Chain(steps=tuple(Task() for _ in range(12))),
    "group": Group(members=tuple(Task(args=(number,)) for number in range(5))),
    "chord": Chord(header=tuple(Task(args=(number,)) for number in range(5)), body=Task()),
    "chord of maps": Chord(header=(Map(items=(1, 2)), Map(items=(3,), is_star=True)), body=Task()),
    "chord in a chain": Chain(steps=(Task(), Group(members=(Task(), Task())), Task(), Task())),
    "chains in a header": Chord(
        header=(Chain(steps=(Task(), Task())), Chain(steps=(Task(), Task(), Task()))), body=Task()
    ),
    "chord in a header": Chord(
        header=(Chord(header=(Task(), Task()), body=Task()), Task()), body=Chain(steps=(Task(), Task()))
    ),
    "chord in a body": Chord(header=(Task(), Task()), body=Chord(header=(Task(), Task()), body=Task())),
    "group in a body": Chord(header=(Task(), Task()), body=Group(members=(Task(), Task()))),
    "links": Chain(steps=(Task(links=(Task(), Chain(steps=(Task(), Task())))), Task(links=(Task(),)))),
    "error in a chain": Chain(steps=(Task(), Task(raises="own"), Task(), Task()), errbacks=(INLINE, BY_ID)),
    "error in a header": Chord(
        header=(Task(), Task(raises="quoted", errbacks=(BY_ID,)), Task()),
        body=Task(errbacks=(INLINE, BY_ID)),
    ),
    "error at the end of a chain in a header": Chord(
        header=(Chain(steps=(Task(raises="builtin"), Task(), Task())), Task()), body=Task(errbacks=(INLINE,))
    ),
    "error in a body": Chord(header=(Task(), Task()), body=Task(raises="bare"), errbacks=(BY_ID,)),
    "error before a chord": Chain(
        steps=(Task(raises="own"), Chord(header=(Task(), Task()), body=Task()), Task()), errbacks=(BY_ID,)
    ),
    "retries": Chain(
        steps=(Task(retries=2), Group(members=(Task(retries=1), Task(retries=3))), Task(retries=1))
    ),
    "retries used up": Chain(steps=(Task(), Task(retries=2, raises="exhausted"), Task()), errbacks=(INLINE,)),
    "replaced by a task": Chain(steps=(Task(), Task(replaced_by=Task()), Task())),
    "replaced by a chain": Chord(
        header=(Task(replaced_by=Chain(steps=(Task(), Task()))), Task(retries=1)), body=Task()
    ),
    "replaced by a group": Chain(steps=(Task(replaced_by=Group(members=(Task(), Task(), Task()))), Task())),
    "replaced by a chord": Chord(
        header=(Task(replaced_by=Chord(header=(Task(), Task()), body=Task())), Task()), body=Task()
    ),
    "replaced by what fails": Chain(
        steps=(Task(replaced_by=Chain(steps=(Task(raises="own"), Task())), errbacks=(BY_ID,)), Task())
    ),
}


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("sender", KINDS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_steps_in_turn(mixed: Mixed, name: str, sender: str, first: str) -> None:
    node = labelled(EXAMPLES[name])
    mixed.run(sender, node, ["given"], in_turn(node, first))


@pytest.mark.long
@pytest.mark.timeout(600)
@settings(
    max_examples=25,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(node=workflows(), given=GIVEN, sender=st.sampled_from(KINDS), drawn=st.randoms(use_true_random=False))
def test_random_workflows(mixed: Mixed, node: Node, given: list[Any], sender: str, drawn: Any) -> None:
    """Of those that Celery alone comes to the end of."""
    if mixed.clients[sender].expected(node, given).celery_differs - ONLY_EAGER:
        return
    assert not any(getattr(part, "raises", None) == UNREGISTERED for part in parts(node))
    mixed.run(sender, node, given, {label: drawn.choice(KINDS) for label in labels_of(node)})


def visitor_of(kind: str) -> Any:
    """A visitor of *kind* that stamps every task."""
    if kind == "celery":
        from celery.canvas import StampingVisitor
    else:
        from fastq.canvas import StampingVisitor

    class Tenant(StampingVisitor):  # type: ignore[misc, valid-type]
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"tenant": "acme"}

    return Tenant()


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("sender", KINDS)
def test_stamps_reach_every_step(mixed: Mixed, sender: str, first: str) -> None:
    steps = (
        Task(),
        Group(members=(Task(), Chain(steps=(Task(), Task())))),
        Task(links=(Task(),)),
        Task(retries=1),
    )
    node = labelled(Chain(steps=steps))
    client = mixed.clients[sender]
    token = client.new_token()
    signature = build(client.api, node, token, in_turn(node, first))
    # Without a visitor Celery does not stamp the body of a chord.
    signature.stamp(visitor_of(sender))
    signature.apply_async().get(timeout=PATIENCE)
    runs = client.expected(node).runs
    wait_until(lambda: mixed.reader.notes(token).runs == runs, "all have run")
    lines = [line for line in mixed.reader.notes(token).lines if line["kind"] == "start"]
    assert {line["label"]: line["stamps"] for line in lines} == {key: {"tenant": "acme"} for key in runs}
