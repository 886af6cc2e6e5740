"""What follows a task: callbacks, the next step of its chain, its part of a chord, errbacks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import pytest
from reference.fixtures import fixture

from fastq import FastQ
from fastq._core.message import JOB_DONE, Action, Delivery, Message, Outcome
from fastq._core.request import Context
from fastq._core.trace import Tracer
from fastq.canvas import chain, chord, group
from fastq.exceptions import Ignore, ImproperlyConfigured, Reject
from fastq.worker.followups import Followups

CALLS: list[Any] = []


@pytest.fixture
def app() -> Iterator[FastQ]:
    app = FastQ("flow", broker="memory://follow", set_as_current=False)

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(name="fail")
    def fail(*args: Any) -> None:
        raise ValueError("boom", 42)

    @app.task(name="told")
    def told(request: Any, exc: Any, traceback: Any) -> None:
        CALLS.append((request.id, exc, traceback))

    @app.task(name="told_id")
    def told_id(task_id: str) -> None:
        raise AssertionError("it is sent, not called")

    @app.task(name="raises")
    def raises(request: Any, exc: Any, traceback: Any) -> None:
        raise KeyError("the errback")

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


def run(app: FastQ, task: str, *args: Any, embed: dict[str, Any] | None = None, **headers: Any) -> Outcome:
    body = json.dumps([args, {}, embed]).encode()
    message = Message(task, "id-1", {"task": task, "id": "id-1", **headers}, body, queue="celery")
    return Tracer(app, "w@host").run(Delivery(message, 1, "celery"))


def sent(outcome: Outcome) -> list[tuple[str, list[Any], dict[str, Any] | None]]:
    """The task, arguments and embed of each message that follows."""
    found = []
    for message in outcome.follow or ():
        args, kwargs, embed = json.loads(message.body)
        assert kwargs == {}
        found.append((message.task, args, embed or None))
    return found


def stored(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """The further results of an outcome, by the task's id."""
    assert outcome.effects is not None
    found = {task_id: json.loads(document) for task_id, _, document in outcome.effects.results}
    assert {task_id: state for task_id, state, _ in outcome.effects.results} == {
        task_id: document["status"] for task_id, document in found.items()
    }
    return found


def parts(outcome: Outcome) -> list[Any]:
    assert outcome.effects is not None
    return [(group, name, index, json.loads(member)) for group, name, index, member in outcome.effects.parts]


# ---- success ----


def test_a_task_alone_has_no_effects(app: FastQ) -> None:
    for embed in (
        None,
        {},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
        {"chain": []},
    ):
        outcome = run(app, "add", 1, 2, embed=embed)
        assert (outcome.follow, outcome.effects, outcome.state) == (None, None, "SUCCESS")


def test_the_next_step_gets_the_result_and_the_rest(app: FastQ) -> None:
    steps = [sig("c", task_id="3"), sig("b", 7, task_id="2")]
    outcome = run(app, "add", 1, 2, embed={"chain": steps}, root_id="root")
    [message] = outcome.follow or []
    assert sent(outcome) == [("b", [3, 7], {"chain": [sig("c", task_id="3")]})]
    assert (message.id, message.headers["root_id"], message.headers["parent_id"]) == ("2", "root", "id-1")
    assert outcome.result is not None
    assert json.loads(outcome.result)["children"] == [[["2", None], None]]


def test_the_last_step_has_nothing_after_it(app: FastQ) -> None:
    assert sent(run(app, "add", 1, 2, embed={"chain": [sig("b", task_id="2")]})) == [("b", [3], None)]


def test_an_immutable_step_does_not_get_the_result(app: FastQ) -> None:
    assert sent(run(app, "add", 1, 2, embed={"chain": [sig("b", 9, immutable=True)]})) == [("b", [9], None)]


def test_one_callback_is_sent_as_it_is(app: FastQ) -> None:
    outcome = run(app, "add", 1, 2, embed={"callbacks": [sig("b", 7)]})
    [message] = outcome.follow or []
    assert sent(outcome) == [("b", [3, 7], None)]
    assert message.headers.get("group") is None


def test_several_callbacks_are_sent_as_a_group(app: FastQ) -> None:
    outcome = run(app, "add", 1, 2, embed={"callbacks": [sig("b"), sig("c", immutable=True)]})
    assert sent(outcome) == [("b", [3], None), ("c", [], None)]
    groups = [(message.headers["group"], message.headers["group_index"]) for message in outcome.follow or ()]
    assert groups == [(groups[0][0], 0), (groups[0][0], 1)]
    assert outcome.result is not None
    [[[group_id, parent], members]] = json.loads(outcome.result)["children"]
    assert (group_id, parent, len(members)) == (groups[0][0], None, 2)


def test_callbacks_go_before_the_next_step(app: FastQ) -> None:
    outcome = run(app, "add", 1, 2, embed={"callbacks": [sig("b")], "chain": [sig("c")]})
    assert [task for task, _, _ in sent(outcome)] == ["b", "c"]


def test_a_chord_that_is_the_next_step_begins_in_the_commit(app: FastQ) -> None:
    header = group([app.signature("a", args=(1,)), app.signature("a", args=(2,))])
    started = json.loads(
        json.dumps(chain(app.signature("x"), chord(header, app.signature("body"))).tasks[-1])
    )
    outcome = run(app, "add", 1, 2, embed={"chain": [started]})
    assert [(task, args) for task, args, _ in sent(outcome)] == [("a", [3, 1]), ("a", [3, 2])]
    assert outcome.effects is not None
    [(group_id, size)] = outcome.effects.chords
    assert size == 2
    assert {message.headers["group"] for message in outcome.follow or ()} == {group_id}


def test_a_part_of_a_chord_is_told_as_celery_writes_it(app: FastQ) -> None:
    outcome = run(app, "add", 1, 1, embed={"chord": sig("body")}, group="g", group_index=3)
    assert parts(outcome) == [("g", "id-1", 3, [1, "id-1", "SUCCESS", 2])]
    assert outcome.follow is None or outcome.follow == []


@pytest.mark.parametrize(
    "value", [None, 'ä"]', [1, {"a": [True]}], datetime(2026, 1, 2, tzinfo=timezone.utc)]
)
def test_the_tracer_counts_a_plain_part_as_the_follower_does(app: FastQ, value: Any) -> None:
    app.task(name="give")(lambda: value)
    headers = {"group": "g", "group_index": 3, "parent_id": "p"}
    outcome = run(app, "give", embed={"chord": sig("body"), "errbacks": [sig("told")]}, **headers)
    assert outcome.effects is not None and outcome.result is not None
    message = outcome.delivery.message
    assert message is not None
    request = Context(app.tasks["give"], message, embed={"chord": sig("body")})
    assert outcome.effects.to_tuple() == app.follower.succeeded(request, value)[1].to_tuple()
    document = app.load_result(outcome.result)
    assert list(document)[4:] == ["date_done", "group_id", "parent_id", "task_id"]
    assert (document["result"], document["group_id"], document["parent_id"]) == (value, "g", "p")


def test_a_part_is_counted_where_its_request_says(app: FastQ) -> None:
    @app.task(name="moves", bind=True)
    def moves(self: Any) -> None:
        self.request.group = "other"

    outcome = run(app, "moves", embed={"chord": sig("body")}, group="g", group_index=0)
    assert parts(outcome) == [("other", "id-1", 0, [1, "id-1", "SUCCESS", None])]


def test_a_part_counts_though_its_result_is_ignored(app: FastQ) -> None:
    outcome = run(
        app, "add", 1, 1, embed={"chord": sig("body")}, group="g", group_index=0, ignore_result=True
    )
    assert outcome.result is None
    assert [part[3][3] for part in parts(outcome)] == [2]


@pytest.mark.parametrize("index", [None, "one", True, [0]])
def test_a_part_whose_index_is_none_comes_last(app: FastQ, index: Any) -> None:
    outcome = run(app, "add", 1, 1, embed={"chord": sig("body")}, group="g", group_index=index)
    assert parts(outcome)[0][2] is None


def test_parts_are_written_in_the_serializer_of_results(app: FastQ) -> None:
    app.conf.update(result_serializer="pickle", result_compression="gzip", result_accept_content=["pickle"])
    outcome = run(app, "add", 1, 1, embed={"chord": sig("body")}, group="g", group_index=0)
    assert outcome.effects is not None
    [(_, _, _, member)] = outcome.effects.parts
    assert app.load_document(member) == [1, "id-1", "SUCCESS", 2]


def test_a_chord_that_nobody_can_count_is_an_error_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    app = FastQ("flow", broker="memory://follow", backend="disabled://", set_as_current=False)
    app.task(name="add")(lambda x, y: x + y)
    app.finalize()
    outcome = run(app, "add", 1, 1, embed={"chord": sig("body")}, group="g")
    assert outcome.state == "SUCCESS" and parts(outcome) == []
    assert "set result_backend" in caplog.text
    app.close()


def test_a_callback_that_can_not_be_written_fails_the_task(app: FastQ) -> None:
    @app.task(name="odd")
    def odd() -> object:
        return object()

    outcome = run(app, "odd", embed={"callbacks": [sig("b")]}, ignore_result=True)
    assert (outcome.state, outcome.action) == ("FAILURE", Action.ACK)
    assert not outcome.follow


def test_a_handler_that_rejects_a_success_sends_nothing(app: FastQ) -> None:
    def on_success(*args: Any) -> None:
        raise Reject("no", requeue=True)

    app.tasks["add"].on_success = on_success
    outcome = run(app, "add", 1, 2, embed={"callbacks": [sig("b")], "chord": sig("body")}, group="g")
    assert outcome.action == Action.REQUEUE
    assert not outcome.follow and outcome.effects is None


# ---- failure ----


def test_a_failure_is_told_to_all_later_steps(app: FastQ) -> None:
    captured = fixture("worker-sent-error-in-chain")["pushes_in_order"][0]["body_decoded"][2]
    later = captured["chain"][0]["options"]["task_id"]
    body = sig("sum", task_id="body", chord=sig("outer"), group_id="outer-group", group_index=4)
    started = {
        "task": "celery.chord",
        "args": [],
        "kwargs": {"kwargs": {}, "header": [sig("a", task_id="h")], "body": body},
        "options": {"task_id": "g"},
        "subtask_type": "chord",
        "immutable": False,
    }
    outcome = run(app, "fail", embed={**captured, "chain": [started, *captured["chain"]]})
    found = stored(outcome)
    assert list(found) == [later, "body"]
    for task_id, document in found.items():
        assert document["task_id"] == task_id
        assert document["result"]["exc_type"] == "ValueError"
        assert "in fail" in document["traceback"]
    assert found["body"]["group_id"] == "outer-group"
    assert parts(outcome) == [
        ("outer-group", "body", 4, [1, "body", "FAILURE", found["body"]["result"]]),
    ]
    assert not outcome.follow


def test_a_failed_part_is_told_as_celery_writes_it(app: FastQ) -> None:
    captured = fixture("chord-redis-header-failure")["group_keys_after_first_part"]
    [part] = [
        json.loads(text)
        for key, entry in captured.items()
        if key.endswith(".j")
        for text, _ in entry["value"]
        if "FAILURE" in text
    ]
    outcome = run(app, "fail", embed={"chord": sig("body")}, group="g", group_index=1)
    assert parts(outcome) == [("g", "id-1", 1, [1, "id-1", *part[2:]])]


def test_followers_that_ignore_results_have_none(app: FastQ) -> None:
    chain = [sig("x", task_id="1", ignore_result=True), sig("x", task_id="2")]
    assert list(stored(run(app, "fail", embed={"chain": chain}))) == ["2"]


def test_an_errback_that_takes_what_failed_is_called_here(app: FastQ) -> None:
    outcome = run(app, "fail", 1, embed={"errbacks": [sig("told")]})
    [(task_id, exc, traceback)] = CALLS
    assert (task_id, repr(exc)) == ("id-1", "ValueError('boom', 42)")
    assert "in fail" in traceback
    assert not outcome.follow


def test_any_other_errback_is_sent_with_the_id(app: FastQ) -> None:
    captured = fixture("worker-sent-errback")["pushes_in_order"][1]
    outcome = run(
        app, "fail", embed={"errbacks": [sig("told_id"), sig("unknown", 5), sig("fixed", immutable=True)]}
    )
    assert sent(outcome) == [("told_id", ["id-1"], None), ("unknown", ["id-1", 5], None), ("fixed", [], None)]
    assert captured["body_decoded"][0] == [captured["envelope"]["headers"]["parent_id"]]
    for message in outcome.follow or ():
        headers = message.headers
        assert headers["parent_id"] == headers["root_id"] == "id-1"
        assert headers["group"] not in (None, "id-1")


def test_an_errback_that_raises_stops_no_other(app: FastQ, caplog: pytest.LogCaptureFixture) -> None:
    outcome = run(app, "fail", embed={"errbacks": [sig("raises"), sig("told"), sig("told_id"), 5]})
    assert len(CALLS) == 1
    assert [task for task, _, _ in sent(outcome)] == ["told_id"]
    assert "the errback" in caplog.text


def test_a_rejected_task_has_failed_unless_it_comes_again(app: FastQ) -> None:
    @app.task(name="reject")
    def reject(requeue: bool) -> None:
        raise Reject("bad", requeue=requeue)

    embed = {"chord": sig("body"), "errbacks": [sig("told_id")], "chain": [sig("x", task_id="2")]}
    outcome = run(app, "reject", False, embed=embed, group="g")
    assert (outcome.action, len(parts(outcome)), list(stored(outcome))) == (Action.BURY, 1, ["2"])
    assert [task for task, _, _ in sent(outcome)] == ["told_id"]
    outcome = run(app, "reject", True, embed=embed, group="g")
    assert (outcome.action, outcome.effects) == (Action.REQUEUE, None)


def test_an_ignored_or_retried_task_counts_no_part(app: FastQ) -> None:
    @app.task(name="ignore")
    def ignore() -> None:
        raise Ignore

    @app.task(name="retry", bind=True)
    def retry(self: Any) -> None:
        raise self.retry(countdown=5)

    embed = {"chord": sig("body"), "chain": [sig("x", task_id="2")], "callbacks": [sig("b")]}
    outcome = run(app, "ignore", embed=embed, group="g")
    assert (outcome.follow, outcome.effects) == (None, None)
    outcome = run(app, "retry", embed=embed, group="g", group_index=1)
    [message] = outcome.follow or []
    assert outcome.effects is None
    assert (message.task, message.headers["group"], message.headers["retries"]) == ("retry", "g", 1)
    assert json.loads(message.body)[2] == embed


# ---- without a run ----


def end_without_run(app: FastQ, end: str, embed: dict[str, Any] | None, **headers: Any) -> Outcome:
    """The outcome of a task that ended so, as a worker settles it."""
    body = json.dumps([[], {}, embed]).encode()
    message = Message("add", "id-1", {"task": "add", "id": "id-1", **headers}, body, queue="celery")
    tracer = Tracer(app, "w@host")
    delivery = Delivery(message, 1, "celery", 3)
    outcomes: dict[str, Any] = {
        "revoked": lambda: tracer.revoked(delivery),
        "refused": lambda: tracer.refused(delivery, KeyError("unknown")),
        "timed_out": lambda: tracer.timed_out(delivery, 1.5),
        "lost": lambda: tracer.lost(delivery, "it was killed"),
    }
    followups = Followups(0.0)
    outcome = outcomes[end]()
    ready = followups.screen([outcome], 0.0)
    jobs = followups.due(0.0)
    if jobs:
        assert ready == []
        given = [tracer.run(job) for job in jobs]
        assert [each.state for each in given] == [JOB_DONE]
        ready = followups.screen(given, 0.0)
    assert ready == [outcome] and not followups
    return outcome


@pytest.mark.parametrize("end", ["revoked", "refused", "timed_out", "lost"])
def test_what_ends_without_a_run_is_told_to_what_follows(app: FastQ, end: str) -> None:
    embed = {
        "chord": sig("body"),
        "chain": [sig("x", task_id="2")],
        "errbacks": [sig("told"), sig("told_id")],
        "callbacks": [sig("b")],
    }
    outcome = end_without_run(app, end, embed, group="g", group_index=2)
    state = "REVOKED" if end == "revoked" else "FAILURE"
    assert [part[:3] for part in parts(outcome)] == [("g", "id-1", 2)]
    assert parts(outcome)[0][3][2] == state
    assert [(name, document["status"]) for name, document in stored(outcome).items()] == [("2", state)]
    called = [] if end == "revoked" else ["told_id"]
    assert [task for task, _, _ in sent(outcome)] == called
    assert [task_id for task_id, _, _ in CALLS] == ["id-1"] * len(called)


@pytest.mark.parametrize("embed", [None, {}])
def test_a_task_alone_that_ends_without_a_run_needs_no_job(app: FastQ, embed: dict[str, Any] | None) -> None:
    assert end_without_run(app, "lost", embed).effects is None


def test_a_part_that_can_not_be_read_counts_as_failed(app: FastQ) -> None:
    message = Message("add", "id-1", {"task": "add", "id": "id-1", "group": "g"}, b"{task", queue="celery")
    message.content_type = "application/x-yaml"
    tracer = Tracer(app, "w@host")
    outcome = tracer.run(Delivery(message, 1, "celery"))
    assert outcome.action == Action.BURY
    followups = Followups(0.0)
    followups.screen([outcome], 0.0)
    followups.screen([tracer.run(job) for job in followups.due(0.0)], 0.0)
    assert [part[:3] for part in parts(outcome)] == [("g", "id-1", None)]


def test_no_message_can_pass_for_a_job(app: FastQ) -> None:
    assert "fastq.join" not in app.tasks and "fastq.follow" not in app.tasks


# ---- replace and add_to_chord ----


def test_a_replacement_takes_the_place_of_the_task(app: FastQ) -> None:
    captured = fixture("worker-sent-replace")["pushes_in_order"][-1]["envelope"]["headers"]

    @app.task(name="replaced", bind=True)
    def replaced(self: Any, x: int) -> Any:
        return self.replace(app.signature("other", args=(x,)))

    embed = {
        "chord": sig("body"),
        "chain": [sig("x", task_id="2")],
        "errbacks": [sig("told_id")],
        "callbacks": [sig("b")],
    }
    outcome = run(app, "replaced", 5, embed=embed, group="g", group_index=4, root_id="root")
    [message] = outcome.follow or []
    assert (outcome.state, outcome.action, outcome.result) == ("IGNORED", Action.ACK, None)
    assert sent(outcome) == [("other", [5], embed)]
    headers = message.headers
    assert (headers["id"], headers["parent_id"], headers["root_id"]) == ("id-1", "id-1", "root")
    assert (headers["group"], headers["group_index"]) == ("g", 4)
    assert headers["replaced_task_nesting"] == captured["replaced_task_nesting"] == 1
    assert outcome.effects is None or outcome.effects.parts == []


def test_a_group_replaces_a_task_as_the_header_of_a_chord(app: FastQ) -> None:
    @app.task(name="replaced", bind=True)
    def replaced(self: Any) -> Any:
        return self.replace(group(app.signature("other", args=(x,)) for x in range(3)))

    outcome = run(app, "replaced", embed={"chain": [sig("next", task_id="2")]})
    assert [(task, args) for task, args, _ in sent(outcome)] == [
        ("other", [0]),
        ("other", [1]),
        ("other", [2]),
    ]
    assert outcome.effects is not None
    assert [size for _, size in outcome.effects.chords] == [3]
    bodies = [embed["chord"] for _, _, embed in sent(outcome) if embed]
    for body in bodies:
        assert (body["task"], body["kwargs"], body["options"]["task_id"]) == (
            "celery.accumulate",
            {"index": 0},
            "id-1",
        )
        assert [step["task"] for step in body["options"]["chain"]] == ["next"]


def test_nothing_can_not_replace_a_task(app: FastQ) -> None:
    @app.task(name="replaced", bind=True)
    def replaced(self: Any) -> Any:
        return self.replace(chain())

    @app.task(name="replaced_by_part", bind=True)
    def replaced_by_part(self: Any) -> Any:
        return self.replace(app.signature("other", chord=sig("body")))

    for task in ("replaced", "replaced_by_part"):
        outcome = run(app, task)
        assert outcome.result is not None
        assert json.loads(outcome.result)["result"]["exc_type"] == ImproperlyConfigured.__name__


def test_a_task_may_add_to_its_chord(app: FastQ) -> None:
    @app.task(name="grow", bind=True)
    def grow(self: Any) -> Any:
        return [self.add_to_chord(app.signature("other", args=(x,))).id for x in range(2)]

    outcome = run(app, "grow", embed={"chord": sig("body")}, group="g", group_index=1)
    assert [(task, args, embed) for task, args, embed in sent(outcome)] == [
        ("other", [0], {"chord": sig("body")}),
        ("other", [1], {"chord": sig("body")}),
    ]
    assert [message.headers["group"] for message in outcome.follow or ()] == ["g", "g"]
    assert outcome.effects is not None
    assert outcome.effects.extended == [("g", 1, "id-1:0"), ("g", 1, "id-1:1")]
    [part] = parts(outcome)
    assert part[3][3] == [message.id for message in outcome.follow or ()]


def test_only_a_part_of_a_chord_may_add_to_it(app: FastQ) -> None:
    @app.task(name="grow", bind=True)
    def grow(self: Any) -> Any:
        self.add_to_chord(app.signature("other"))

    outcome = run(app, "grow")
    assert outcome.result is not None
    assert json.loads(outcome.result)["result"]["exc_type"] == "ValueError"
