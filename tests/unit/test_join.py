"""The join of a chord, as a job of a worker's pool."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from reference.fixtures import fixture

from fastq import FastQ
from fastq._core.message import JOB_AGAIN, JOB_DONE, Delivery, Message, Outcome, new_id
from fastq._core.trace import Tracer
from fastq.backends.base import CompleteChord, Part
from fastq.backends.memory import MemoryBackend
from fastq.canvas.steps import ACCUMULATE, chord_of
from fastq.exceptions import ChordError, OperationalError
from fastq.worker.followups import MOST_CRASHES, Followups

CALLS: list[Any] = []


@pytest.fixture
def app() -> Iterator[FastQ]:
    app = FastQ("flow", broker=f"memory://{new_id()}", set_as_current=False)
    app.task(name="told")(lambda request, exc, traceback: CALLS.append((request.id, exc)))
    app.task(name="told_id")(lambda task_id: None)
    app.finalize()
    CALLS.clear()
    yield app
    app.close()


def sig(task: str, *args: Any, immutable: bool = False, **options: Any) -> dict[str, Any]:
    return {
        "task": task,
        "args": list(args),
        "kwargs": {},
        "options": options,
        "subtask_type": None,
        "immutable": immutable,
    }


def group_sig(*tasks: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {**sig("celery.group", **options), "kwargs": {"tasks": list(tasks)}, "subtask_type": "group"}


def chain_sig(*tasks: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {**sig("celery.chain", **options), "kwargs": {"tasks": list(tasks)}, "subtask_type": "chain"}


def last_part(embed: dict[str, Any], **headers: Any) -> Delivery:
    headers = {"task": "part", "id": "last", "group": "g", "root_id": "root", **headers}
    return Delivery(Message("part", "last", headers, json.dumps([[], {}, embed]).encode(), queue="q"), 1, "q")


def ended(task_id: str, value: Any, state: str = "SUCCESS") -> bytes:
    return json.dumps([1, task_id, state, value]).encode()


def failed(task_id: str, *args: Any) -> bytes:
    return ended(
        task_id, {"exc_type": "ValueError", "exc_message": args, "exc_module": "builtins"}, "FAILURE"
    )


def join(
    app: FastQ, embed: dict[str, Any], members: list[bytes] | None, described: Any = None, **headers: Any
) -> Outcome:
    """What the job gives that joins the chord "g"; without *members* it reads the backend."""
    followups = Followups(0.0)
    document = None if described is None else json.dumps({"result": described}).encode()
    complete = CompleteChord("g", "last:0", members=members, described=document)
    waiting = Outcome(last_part(embed, **headers))
    assert followups.complete([(waiting, complete)], 0.0) == 1
    [job] = followups.due(0.0)
    outcome = Tracer(app, "w@host").run(job)
    assert outcome.delivery is job and job.tag is None
    return outcome


def sent(outcome: Outcome) -> list[tuple[str, str, list[Any]]]:
    return [(each.task, each.id, json.loads(each.body)[0]) for each in outcome.follow or ()]


def stored(outcome: Outcome) -> dict[str, dict[str, Any]]:
    assert outcome.effects is not None
    return {task_id: json.loads(document) for task_id, _, document in outcome.effects.results}


# ---- success ----


def test_the_body_gets_the_list_of_what_the_header_returned(app: FastQ) -> None:
    outcome = join(app, {"chord": sig("sum", 7, task_id="b")}, [ended("x", 1), ended("y", [2])])
    assert (outcome.state, sent(outcome)) == (JOB_DONE, [("sum", "b", [[1, [2]], 7])])
    assert outcome.effects is not None and outcome.effects.joined == "g"
    [message] = outcome.follow or []
    assert (message.headers["parent_id"], message.headers["root_id"]) == ("last", "root")


def test_the_body_is_sent_as_celery_sends_it(app: FastQ) -> None:
    *_, part, body = fixture("worker-sent-chord-body")["pushes_in_order"]
    embed, wanted = part["body_decoded"][2], body["envelope"]["headers"]
    headers = part["envelope"]["headers"]
    delivery = last_part(embed, **{**headers, "task": "part", "id": "last"})
    followups = Followups(0.0)
    complete = CompleteChord(headers["group"], "last:1", members=[ended("x", 2), ended("y", 4)])
    followups.complete([(Outcome(delivery), complete)], 0.0)
    [job] = followups.due(0.0)
    [message] = Tracer(app, "w@host").run(job).follow or []
    assert (message.task, message.id) == (wanted["task"], wanted["id"])
    assert json.loads(message.body)[:2] == body["body_decoded"][:2]
    assert message.headers["root_id"] == wanted["root_id"]


def test_an_immutable_body_gets_nothing(app: FastQ) -> None:
    outcome = join(app, {"chord": sig("note", 7, immutable=True)}, [ended("x", 1)])
    assert [args for _, _, args in sent(outcome)] == [[7]]


def test_a_body_may_be_a_chain_or_a_group(app: FastQ) -> None:
    outcome = join(app, {"chord": chain_sig(sig("a", task_id="1"), sig("b", task_id="2"))}, [ended("x", 1)])
    assert sent(outcome) == [("a", "1", [[1]])]
    outcome = join(app, {"chord": group_sig(sig("a", task_id="1"), sig("b", task_id="2"))}, [ended("x", 1)])
    assert sent(outcome) == [("a", "1", [[1]]), ("b", "2", [[1]])]


def test_parts_that_were_not_told_are_read(app: FastQ) -> None:
    backend = app.backend
    assert backend is not None
    backend.begin_chords([("g", 2)])
    backend.count_parts([Part("g", "y", 1, ended("y", 2)), Part("g", "x", 0, ended("x", 1))])
    assert sent(join(app, {"chord": sig("sum", task_id="b")}, None)) == [("sum", "b", [[1, 2]])]


def test_a_chord_that_has_ended_meanwhile_is_left_alone(app: FastQ) -> None:
    outcome = join(app, {"chord": sig("sum", task_id="b")}, None)
    assert (outcome.state, sent(outcome), stored(outcome)) == (JOB_DONE, [], {})


def test_groups_in_the_header_are_lists(app: FastQ) -> None:
    described = [
        ["g", None],
        [[["x", None], None], [["h", None], [[["y", None], None], [["z", None], None]]]],
    ]
    members = [ended("z", 3), ended("x", 1), ended("y", 2)]
    outcome = join(app, {"chord": sig("sum", task_id="b")}, members, described)
    assert sent(outcome) == [("sum", "b", [[1, [2, 3]]])]


def test_the_body_is_found_where_the_last_part_tells_of_it(app: FastQ) -> None:
    """The last step of a chain in the header never ran: its part was told by the task that failed."""
    last = sig("x", task_id="2", chord=sig("sum", task_id="b"), group_id="g", group_index=0)
    for embed in (
        {"chain": [last]},
        {"chain": [last, sig("w", task_id="1")], "chord": sig("other", task_id="o")},
        {"chord": sig("inner", task_id="i", chord=sig("sum", task_id="b"), group_id="g")},
        {"chord": chain_sig(sig("a"), last)},
        {"chain": [{**sig("celery.chord"), "kwargs": {"header": [], "body": last}, "subtask_type": "chord"}]},
    ):
        outcome = join(app, embed, [ended("x", 1)], group="another")
        assert sent(outcome) == [("sum", "b", [[1]])], embed


# ---- failure ----


def test_a_failed_part_fails_the_body(app: FastQ) -> None:
    captured = fixture("chord-redis-header-failure")["all_backend_keys_after_completion"]
    [wanted] = [
        json.loads(entry["value"])
        for entry in captured.values()
        if "ChordError" in str(entry["value"]) and entry["type"] == "string"
    ]
    cause = "4c19dc30-29e2-4129-a904-54420dc757bb"
    body = sig("sum", task_id="b", link_error=[sig("told"), sig("told_id")], chain=[sig("next", task_id="n")])
    outcome = join(app, {"chord": body}, [ended("x", 1), failed(cause, "boom", 42), failed("z", "later")])
    found = stored(outcome)
    assert list(found) == ["b", "n"]
    assert found["b"]["result"] == found["n"]["result"] == wanted["result"]
    assert found["b"]["status"] == "FAILURE"
    assert sent(outcome) == [("told_id", sent(outcome)[0][1], ["b"])]
    assert outcome.follow is not None and outcome.follow[0].headers["parent_id"] == "b"
    [(task_id, exc)] = CALLS
    assert task_id == "b" and str(exc).startswith(f"Dependency {cause} raised ValueError('boom', 42)")
    assert outcome.effects is not None and outcome.effects.joined == "g"


def test_a_revoked_part_fails_the_body(app: FastQ) -> None:
    revoked = {"exc_type": "TaskRevokedError", "exc_message": ["revoked"], "exc_module": "celery.exceptions"}
    outcome = join(app, {"chord": sig("sum", task_id="b")}, [ended("x", revoked, "REVOKED")])
    assert "TaskRevokedError('revoked')" in stored(outcome)["b"]["result"]["exc_message"][0]


def test_a_failed_body_that_is_a_part_itself_is_told_to_its_chord(app: FastQ) -> None:
    body = sig("sum", task_id="b", chord=sig("outer", task_id="o"), group_id="h", group_index=3)
    outcome = join(app, {"chord": body}, [failed("x", "boom")])
    assert outcome.effects is not None
    [(group_id, task_id, index, member)] = outcome.effects.parts
    assert (group_id, task_id, index) == ("h", "b", 3)
    assert json.loads(member)[2] == "FAILURE"


def test_each_task_of_a_group_that_was_the_body_fails_with_the_cause(app: FastQ) -> None:
    body = group_sig(
        sig("a", task_id="1", link_error=[sig("told")]), sig("b", task_id="2"), link_error=[sig("told_id")]
    )
    outcome = join(app, {"chord": body}, [failed("x", "boom")])
    assert {name: each["result"]["exc_type"] for name, each in stored(outcome).items()} == {
        "1": "ValueError",
        "2": "ValueError",
    }
    assert [(task_id, repr(exc)) for task_id, exc in CALLS] == [("1", "ValueError('boom')")]
    assert [args for _, _, args in sent(outcome)] == [["1"], ["2"]]


def test_the_group_that_a_chord_in_the_body_comes_to_has_its_errbacks_called(app: FastQ) -> None:
    member = sig("b", task_id="b", link_error=[sig("told")])
    gathered = chord_of([member], {**ACCUMULATE, "options": {"task_id": "all"}})
    outcome = join(app, {"chord": chord_of([sig("a", task_id="a")], gathered)}, [failed("x", "boom")])
    assert outcome.state == JOB_DONE
    assert [(task_id, type(exc)) for task_id, exc in CALLS] == [("b", ChordError)]


def test_every_step_of_a_chain_that_was_the_body_fails(app: FastQ) -> None:
    steps = [sig("a", task_id="1", link_error=[sig("told")]), sig("b", task_id="2", link_error=[sig("told")])]
    for own in ({}, {"link_error": [sig("told")]}):
        CALLS.clear()
        outcome = join(app, {"chord": chain_sig(*steps, task_id="2", **own)}, [failed("x", "boom")])
        assert list(stored(outcome)) == ["1", "2"]
        assert [task_id for task_id, _ in CALLS] == ["2"]


def test_a_body_that_can_not_be_sent_fails(app: FastQ, caplog: pytest.LogCaptureFixture) -> None:
    app.conf.task_create_missing_queues = False
    outcome = join(app, {"chord": sig("sum", task_id="b", queue="nowhere")}, [ended("x", 1)])
    assert outcome.follow == []
    assert stored(outcome)["b"]["result"]["exc_message"][0].startswith("Callback error: ")


@pytest.mark.parametrize("member", [b"", b"{", b"[1]", b"[1,2,3]"])
def test_a_part_that_can_not_be_read_fails_the_body(app: FastQ, member: bytes) -> None:
    outcome = join(app, {"chord": sig("sum", task_id="b")}, [member])
    assert stored(outcome)["b"]["result"]["exc_message"][0].startswith("Join error: ")


def test_a_result_that_is_missing_fails_the_body(app: FastQ) -> None:
    described = [["g", None], [[["x", None], None], [["y", None], None]]]
    outcome = join(app, {"chord": sig("sum", task_id="b")}, [ended("x", 1)], described)
    assert "nothing is known of y" in stored(outcome)["b"]["result"]["exc_message"][0]


def test_a_chord_without_a_body_ends(app: FastQ, caplog: pytest.LogCaptureFixture) -> None:
    outcome = join(app, {"chain": [sig("x", task_id="1")]}, [ended("x", 1)])
    assert (outcome.state, outcome.follow) == (JOB_DONE, [])
    assert outcome.effects is not None and outcome.effects.joined == "g"
    assert "has no body" in caplog.text


def test_a_last_part_that_can_not_be_read_ends_its_chord(
    app: FastQ, caplog: pytest.LogCaptureFixture
) -> None:
    followups = Followups(0.0)
    delivery = last_part({})
    assert delivery.message is not None
    delivery.message.body = b"nothing"
    followups.complete([(Outcome(delivery), CompleteChord("g", "last:0", members=[]))], 0.0)
    outcome = Tracer(app, "w@host").run(followups.due(0.0)[0])
    assert outcome.state == JOB_DONE and outcome.effects is not None and outcome.effects.joined == "g"


# ---- attempts ----


def test_a_backend_that_is_away_is_asked_again(app: FastQ, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*args: Any) -> Any:
        raise OperationalError("the store is away")

    monkeypatch.setattr(MemoryBackend, "parts", away)
    outcome = join(app, {"chord": sig("sum", task_id="b")}, None)
    assert (outcome.state, outcome.reason) == (JOB_AGAIN, "the store is away")


def test_a_join_that_kills_its_process_each_time_fails_the_body(app: FastQ) -> None:
    followups, tracer = Followups(0.0), Tracer(app, "w@host")
    waiting = Outcome(last_part({"chord": sig("sum", task_id="b")}))
    followups.complete([(waiting, CompleteChord("g", "last:0", members=[ended("x", 1)]))], 0.0)
    for _ in range(MOST_CRASHES):
        [job] = followups.due(0.0)
        assert followups.screen([tracer.lost(job, "it ran out of memory")], 0.0) == []
    [job] = followups.due(0.0)
    [given, last] = followups.screen([tracer.run(job)], 0.0)
    assert last is waiting
    assert stored(given)["b"]["result"]["exc_message"][0].startswith("Join error: its process died")
