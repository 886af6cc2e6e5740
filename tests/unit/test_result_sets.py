"""Results of many tasks as one: members, states, waiting. Celery's classes are the oracle."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from result_twins import Side, Twins

from fastq import FastQ, GroupResult, ResultSet
from fastq._core.message import new_id
from fastq.backends.base import StoredResult
from fastq.backends.memory import MemoryBackend
from fastq.exceptions import ImproperlyConfigured, TimeoutError
from fastq.result import EagerResult, allow_join_result, denied_join_result, result_from_tuple


@pytest.fixture
def twins() -> Iterator[Twins]:
    both = Twins()
    yield both
    both.close()


@pytest.fixture
def app() -> Iterator[FastQ]:
    app = FastQ("sets", broker=f"memory://{new_id()}", set_as_current=False)
    yield app
    app.close()


# ---- members ----


def test_members_come_and_go(twins: Twins) -> None:
    def change(side: Side) -> list[list[str]]:
        results, seen = side.set("a", "b"), []
        for step in (
            lambda: results.add(side.one("c")),
            lambda: results.add(side.one("a")),
            lambda: results.remove("b"),
            lambda: results.discard("b"),
            lambda: results.discard(side.one("a")),
            lambda: results.update([side.one("d"), side.one("c"), side.one("d"), side.one("e")]),
        ):
            step()
            seen.append([each.id for each in results])
        results.clear()
        return [*seen, list(results)]

    assert twins.same(change)[-2:] == [["c", "d", "e"], []]


def test_taking_out_what_is_not_there_is_an_error(twins: Twins) -> None:
    assert twins.same(lambda side: side.set("a").remove("b"))[0] == "KeyError"
    assert twins.same(lambda side: side.set("a").discard("b")) is None


def test_the_list_is_the_callers_own(twins: Twins) -> None:
    def lists(side: Side) -> tuple[bool, int]:
        given = [side.one("a")]
        results = side.result.ResultSet(given, app=side.app)
        results.clear()
        return results.results is given, len(given)

    assert twins.same(lists) == (True, 0)


@pytest.mark.parametrize(
    "look",
    [
        lambda side: (len(side.set("a", "b")), bool(side.set("a")), bool(side.set())),
        lambda side: (side.set("a", "b")[1].id, [each.id for each in side.set("a", "b")[:1]]),
        lambda side: (side.set("a") == side.set("a"), side.set("a") == side.set("b")),
        lambda side: (side.set("a") == ["a"], "a" in side.set("a", "b").results),
        lambda side: (repr(side.set("a", "b")), repr(side.group("g", "a", "b"))),
        lambda side: hash(side.set("a")),
        lambda side: (hash(side.group("g", "a")) == hash("g"), str(side.group("g", "a"))),
        lambda side: (bool(side.group("g")), bool(side.group(None, "a")), bool(side.group(None))),
        lambda side: (side.group("g", "a") == side.group("g", "a"), side.group("g", "a") == "g"),
        lambda side: side.group("g", "a") == side.group("g", "b"),
        lambda side: side.group("g", "a") == side.group("h", "a"),
        lambda side: side.group("g", "a", parent=side.one("p")) == side.group("g", "a"),
        lambda side: side.group("g", "a").children[0].id,
        lambda side: side.group("g", "a", side.group("h", "b")).as_tuple(),
        lambda side: side.group("g", "a", parent=side.one("p", side.one("q"))).as_tuple(),
        lambda side: (side.set("a").supports_native_join is None, side.set().supports_native_join),
        lambda side: (side.app.GroupResult("g", []).app is side.app, side.app.ResultSet([]).app is side.app),
        lambda side: (side.set("a").app is side.app, side.set("a").backend is side.app.backend),
    ],
)
def test_being_a_value(twins: Twins, look: Any) -> None:
    twins.same(look)


def test_a_group_travels_as_a_tuple_and_back(app: FastQ) -> None:
    inner = GroupResult("inner", [app.AsyncResult("c"), app.AsyncResult("d")], app=app)
    parent = app.AsyncResult("b", parent=app.AsyncResult("a"))
    group = GroupResult("g", [app.AsyncResult("x", parent=app.AsyncResult("w")), inner], parent, app)
    back = result_from_tuple(group.as_tuple(), app)
    assert back == group
    assert back.parent.parent.id == "a"
    assert back[0].parent.id == "w"
    assert isinstance(back[1], GroupResult)
    assert back[1].app is app
    assert result_from_tuple(group, app) is group


def test_both_sides_read_what_the_other_says_of_a_group(twins: Twins) -> None:
    def build(side: Side) -> Any:
        return side.group("g", "a", side.group("h", "b"), parent=side.one("p", side.group("q", "r")))

    ours, theirs = (build(side).as_tuple() for side in twins.sides)
    assert ours == theirs
    assert twins.theirs.result.result_from_tuple(ours, twins.theirs.app) == build(twins.theirs)
    assert twins.ours.result.result_from_tuple(theirs, twins.ours.app) == build(twins.ours)


def test_a_line_of_ten_thousand_parents_travels(app: FastQ) -> None:
    result: Any = app.AsyncResult("0")
    for number in range(1, 10_001):
        result = app.AsyncResult(str(number), parent=result)
    group = GroupResult("g", [result] * 3, parent=result, app=app)
    back = result_from_tuple(group.as_tuple(), app)
    assert back[2].as_list() == [str(number) for number in range(10_000, -1, -1)]
    assert back.parent.as_list() == result.as_list()


def test_a_result_among_its_own_parents_does_not_travel(app: FastQ) -> None:
    first = app.AsyncResult("a")
    first.parent = app.AsyncResult("b", parent=first)
    with pytest.raises(ValueError, match="its own parents"):
        first.as_tuple()


def test_copies_and_pickles(app: FastQ) -> None:
    app.set_current()
    group = GroupResult("g", [app.AsyncResult("a")], app.AsyncResult("p"), app)
    for twin in (copy.copy(group), pickle.loads(pickle.dumps(group))):
        assert twin == group
    assert copy.copy(group[0]).app is app
    eager = EagerResult("e", [1], "SUCCESS", name="t", app=app)
    for other in (copy.copy(eager), pickle.loads(pickle.dumps(eager))):
        assert (other.get(), other.state, other.name) == ([1], "SUCCESS", "t")


# ---- states ----

STATES = [
    [],
    ["SUCCESS"],
    ["SUCCESS", "SUCCESS"],
    ["SUCCESS", "FAILURE"],
    ["FAILURE", "PENDING"],
    ["PENDING", "PENDING"],
    ["STARTED", "SUCCESS"],
    ["REVOKED", "SUCCESS"],
    ["RETRY", "SUCCESS"],
    ["HALFWAY"],
]


@pytest.mark.parametrize("states", STATES, ids=" ".join)
@pytest.mark.parametrize("nested", [False, True])
def test_states(twins: Twins, states: list[str], nested: bool) -> None:
    names = []
    for number, state in enumerate(states):
        names.append(f"id-{number}")
        if state in ("FAILURE", "RETRY", "REVOKED"):
            twins.store(names[-1], KeyError(number), state)
        elif state != "PENDING":
            twins.store(names[-1], number, state)

    def look(side: Side) -> Any:
        results = side.set(*names[:1], side.group("g", *names[1:])) if nested else side.set(*names)
        asked = (results.ready(), results.waiting(), results.successful(), results.failed())
        return (*asked, results.completed_count() if not nested else None)

    twins.same(look)
    if nested:  # Celery's has no count for a group in a group
        results = twins.ours.set(*names[:1], twins.ours.group("g", *names[1:]))
        assert results.completed_count() == states.count("SUCCESS")


def test_many_states_are_read_in_blocks_and_no_further_than_needed(
    app: FastQ, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert app.backend is not None
    names = [f"id-{number}" for number in range(2500)]
    app.backend.store([ended(each, 1) for each in names[:-1]])
    asked: list[int] = []
    fetch = app.backend.fetch
    monkeypatch.setattr(app.backend, "fetch", lambda ids: asked.append(len(ids)) or fetch(ids))
    group = GroupResult("g", [app.AsyncResult(each) for each in names], app=app)
    assert not group.ready()
    assert asked == [1000, 1000, 500]
    assert not group.ready()
    assert asked == [1000, 1000, 500, 1]
    late = GroupResult("g", [app.AsyncResult(each) for each in reversed(names)], app=app)
    assert not late.ready()
    assert asked == [1000, 1000, 500, 1, 1000]
    assert late.completed_count() == 2499


@pytest.mark.parametrize("propagate", [True, False])
def test_maybe_throw(twins: Twins, propagate: bool) -> None:
    twins.store("a", 1)
    twins.store("c", KeyError("first"))
    twins.store("d", KeyError("second"))

    def look(side: Side) -> Any:
        seen: list[Any] = []
        raised = None
        try:
            side.set("a", "b", "c", "d").maybe_throw(
                callback=lambda *args: seen.append((args[0], repr(args[1]))), propagate=propagate
            )
        except KeyError as exc:
            raised = exc.args
        return seen, raised

    twins.same(look)


# ---- waiting ----


@pytest.mark.parametrize("names", ["", "a", "cab", "abfc", "ff", "rab"])
@pytest.mark.parametrize("propagate", [True, False])
@pytest.mark.parametrize("with_callback", [True, False])
def test_what_has_ended_is_joined(twins: Twins, names: str, propagate: bool, with_callback: bool) -> None:
    for number, name in enumerate("abc"):
        twins.store(name, number)
    twins.store("f", KeyError("broken"))
    twins.store("r", KeyError("revoked"), "REVOKED")

    def look(side: Side) -> Any:
        seen: list[Any] = []
        callback = (lambda *args: seen.append((args[0], repr(args[1])))) if with_callback else None
        try:
            values = side.group("g", *names).join(timeout=0, propagate=propagate, callback=callback)
        except KeyError as exc:
            return seen, exc.args
        return seen, [repr(each) for each in values]

    twins.same(look)


def test_values_come_in_the_order_of_the_set(app: FastQ) -> None:
    group, store = pending(app, "abc")
    for name in "cab":
        store(ended(name, name.upper()))
    assert group.get() == group.join() == group.join_native() == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("method", "returned", "order"), [("join", [], "ab"), ("join_native", None, "ba"), ("get", None, "ba")]
)
def test_a_callback_is_told_in_order_or_as_they_come(
    app: FastQ, method: str, returned: Any, order: str
) -> None:
    group, store = pending(app, "ab")
    store(ended("b", 2))
    told: list[Any] = []
    group.results[1].then(lambda _: store(ended("a", 1)))
    assert getattr(group, method)(callback=lambda *args: told.append(args)) == returned
    assert told == [(name, "ab".index(name) + 1) for name in order]


def test_a_failure_is_raised_though_others_are_still_to_come(app: FastQ) -> None:
    for method in ("join", "join_native", "get"):
        group, store = pending(app, "abc")
        store(ended("c", {"exc_type": "KeyError", "exc_message": ["c"], "exc_module": "builtins"}, "FAILURE"))
        with pytest.raises(KeyError, match="c"):
            getattr(group, method)()


def test_the_time_is_up(app: FastQ) -> None:
    group, store = pending(app, "abc")
    store(ended("a", 1))
    store(ended("b", None, "STARTED"))
    text = "2 of 3 results did not come within 0 s; .* that of the task b, whose state is STARTED"
    for method in ("join", "join_native", "get"):
        with pytest.raises(TimeoutError, match=text):
            getattr(group, method)(timeout=0)
    with pytest.raises(TimeoutError, match="2 of 3"):
        list(group.iterate(timeout=0))


def test_every_state_is_told_to_on_message(app: FastQ) -> None:
    group, store = pending(app, "ab")
    store(ended("a", 1))
    store(ended("b", [7], "HALFWAY"))
    told: list[Any] = []

    def tell(meta: dict[str, Any]) -> None:
        told.append((meta["task_id"], meta["status"], meta["result"]))
        if meta["status"] == "HALFWAY":
            store(ended("b", 2))

    assert group.join(on_message=tell) == [1, 2]
    assert told == [("a", "SUCCESS", 1), ("b", "HALFWAY", [7]), ("b", "SUCCESS", 2)]


def test_on_interval_is_called_until_all_have_come(app: FastQ) -> None:
    group, store = pending(app, "abc")
    called: list[int] = []

    def beat() -> None:
        store(ended("abc"[len(called)], len(called)))
        called.append(1)

    assert group.join(on_interval=beat, interval=0.001) == [0, 1, 2]
    group, store = pending(app, "abc")
    called.clear()
    assert list(group.iterate(on_interval=beat, interval=0.001)) == [0, 1, 2]


def test_what_on_interval_raises_ends_the_wait(app: FastQ) -> None:
    group, _ = pending(app, "a")
    with pytest.raises(ZeroDivisionError):
        group.join(on_interval=lambda: 1 / 0, interval=0.001)
    assert waiting_in(app) == {}


def test_what_a_callback_raises_ends_the_wait(app: FastQ) -> None:
    group, store = pending(app, "ab")
    store(ended("a", 1))
    with pytest.raises(ZeroDivisionError):
        group.join(callback=lambda *_: 1 / 0)
    assert waiting_in(app) == {}


def test_one_subscription_serves_all(app: FastQ, monkeypatch: pytest.MonkeyPatch) -> None:
    assert app.backend is not None
    names = [f"id-{number}" for number in range(3000)]
    asked: list[int] = []
    wait = app.backend.wait
    monkeypatch.setattr(app.backend, "wait", lambda ids, *rest: asked.append(len(ids)) or wait(ids, *rest))
    monkeypatch.setattr(app.backend, "fetch", lambda ids: pytest.fail("a poll"))
    group, store = pending(app, names)
    feeder = threading.Thread(target=lambda: [store(ended(each, each)) for each in names])
    feeder.start()
    assert group.join() == names
    feeder.join()
    assert asked == [3000]
    assert waiting_in(app) == {}
    assert group.join() == names
    assert asked == [3000]


def test_groups_in_a_group_give_lists(app: FastQ) -> None:
    group, store = pending(app, "ab")
    inner, _ = pending(app, "cd")
    inner.id = "inner"
    innermost = GroupResult("innermost", [app.AsyncResult("e")], app=app)
    inner.add(innermost)
    group.add(inner)
    for name in "ecadb":
        store(ended(name, name))
    assert group.join() == ["a", "b", ["c", "d", ["e"]]]
    told: list[Any] = []
    assert group.join(callback=lambda *args: told.append(args)) == []
    assert told[2] == ("inner", ["c", "d", ["e"]])
    assert [key for key, _ in group.iter_native()] == ["a", "b", "inner"]
    assert list(group.iterate()) == ["a", "b", ["c", "d", ["e"]]]


def test_a_failure_deep_in_a_group_is_raised_at_once(app: FastQ) -> None:
    group, store = pending(app, "ab")
    group.add(GroupResult("inner", [app.AsyncResult("c"), app.AsyncResult("d")], app=app))
    store(ended("d", {"exc_type": "KeyError", "exc_message": ["d"], "exc_module": "builtins"}, "FAILURE"))
    with pytest.raises(KeyError, match="d"):
        group.join()
    for name in "abc":
        store(ended(name, name))
    *values, inner = group.join(propagate=False)
    assert (values, inner[0], type(inner[1])) == (["a", "b"], "c", KeyError)


def test_what_ran_in_place_is_here_already(twins: Twins) -> None:
    twins.store("a", 1)

    def look(side: Side) -> Any:
        group = side.group("g", side.eager("e", 5), "a", side.eager("f", KeyError("x"), "FAILURE"))
        return (group.ready(), group.failed(), group.completed_count(), repr(group.join(propagate=False)))

    assert twins.same(look)[:3] == (True, True, 2)
    assert twins.same(lambda side: side.group("g", "a", side.eager("f", KeyError("x"), "FAILURE")).join())
    assert twins.ours.group("g", twins.ours.eager("e", 5)).get(timeout=0) == [5]


def test_nobody_waits_for_a_result_that_is_ignored(twins: Twins) -> None:
    twins.store("a", 1)

    def look(side: Side) -> Any:
        group = side.group("g", "a", "b")
        group[1].ignored = True
        return group.join()

    assert twins.same(look) == [1, None]


def test_several_results_of_one_task(app: FastQ) -> None:
    one = app.AsyncResult("a")
    group = ResultSet([one, app.AsyncResult("a"), one, GroupResult("g", [one, one], app=app)], app=app)
    app.backend.store([ended("a", 1)])  # type: ignore[union-attr]
    assert group.join() == [1, 1, 1, [1, 1]]
    told: list[Any] = []
    group.join(callback=lambda *args: told.append(args))
    assert told == [("a", 1), ("a", 1), ("a", 1), ("g", [1, 1])]


def test_results_of_several_backends(app: FastQ) -> None:
    other = FastQ("other", broker=f"memory://{new_id()}", set_as_current=False)
    for each, name in ((app, "a"), (other, "b")):
        each.backend.store([ended(name, name)])  # type: ignore[union-attr]
    results = ResultSet([other.AsyncResult("b"), app.AsyncResult("a"), app.AsyncResult("c")])
    with pytest.raises(TimeoutError, match="the task c"):
        results.join(timeout=0)
    assert (results.completed_count(), results.app) == (2, other)
    app.backend.store([ended("c", "c")])  # type: ignore[union-attr]
    assert results.join() == ["b", "a", "c"]
    other.close()


def test_a_backend_of_its_own_goes_before_the_apps(app: FastQ) -> None:
    other = FastQ("other", broker=f"memory://{new_id()}", set_as_current=False)
    other.backend.store([ended("a", 1)])  # type: ignore[union-attr]
    result = app.AsyncResult("a", backend=other.backend)
    assert result.get(timeout=0) == 1
    other.close()


def test_iterating_yields_what_is_stored_as_it_comes(app: FastQ) -> None:
    group, store = pending(app, "ab")
    group.results[0].ignored = False
    arriving = group.iter_native()
    store(ended("b", 2))
    name, meta = next(arriving)
    assert (name, meta["status"], meta["result"]) == ("b", "SUCCESS", 2)
    store(ended("a", 1))
    assert [(name, meta["result"]) for name, meta in arriving] == [("a", 1)]
    values = pending(app, "ba")[0].iterate()
    assert sorted(values) == [1, 2]


def test_children_are_results_in_what_iterating_yields(app: FastQ) -> None:
    group, store = pending(app, "a")
    child = ((("b", None), None),)
    document = {"status": "SUCCESS", "result": 1, "traceback": None, "children": child, "task_id": "a"}
    store(StoredResult("a", "SUCCESS", app.dump_document(document)))
    ((_, meta),) = group.iter_native()
    assert meta["children"] == [app.AsyncResult("b")]


def test_no_backend_is_an_error_that_says_what_to_set() -> None:
    app = FastQ("none", broker="memory://none", backend="disabled://", set_as_current=False)
    with pytest.raises(ImproperlyConfigured, match="result_backend"):
        GroupResult("g", [app.AsyncResult("a")], app=app).join()
    with pytest.raises(ImproperlyConfigured, match="result_backend"):
        GroupResult("g", [], app=app).save()
    app.close()


# ---- in a task ----


def test_waiting_in_a_task_is_refused(app: FastQ) -> None:
    group, store = pending(app, "a")
    store(ended("a", 1))

    @app.task
    def waits(method: str) -> Any:
        return getattr(group, method)()

    for method in ("get", "join", "join_native"):
        with pytest.raises(RuntimeError, match="within a task"):
            waits(method)
    with pytest.raises(RuntimeError, match="within a task"):
        list(waits("iterate"))

    @app.task
    def may_wait() -> Any:
        with allow_join_result():
            assert group.get() == [1]
            with denied_join_result(), pytest.raises(RuntimeError, match="within a task"):
                group.get()
        return group.get(disable_sync_subtasks=False)

    assert may_wait() == [1]
    with denied_join_result(), pytest.raises(RuntimeError, match="within a task"):
        group.get()
    assert group.get() == [1]


def test_a_task_may_have_what_it_ran_in_place(app: FastQ) -> None:
    @app.task
    def waits() -> Any:
        return ResultSet([EagerResult("e", 5, "SUCCESS", app=app)]).get()

    assert waits() == [5]


# ---- then ----


def test_then_tells_once_all_have_come(app: FastQ) -> None:
    group, store = pending(app, "ab")
    told: list[Any] = []
    assert group.then(told.append) is group
    store(ended("a", 1))
    assert (group.ready(), told) == (False, [])
    store(ended("b", 2))
    assert (group.ready(), told) == (True, [group])
    group.then(told.append)
    assert (group.join(), told) == ([1, 2], [group, group])
    assert ResultSet([], app=app).then(told.append) in told[2:]


def test_then_gives_the_first_failure_to_on_error(app: FastQ) -> None:
    failure = {"exc_type": "KeyError", "exc_message": ["b"], "exc_module": "builtins"}
    group, store = pending(app, "abc")
    told: list[Any] = []
    errors: list[Any] = []
    group.then(told.append, on_error=errors.append)
    group.then(told.append)
    for document in (ended("c", failure, "FAILURE"), ended("b", failure, "FAILURE"), ended("a", 1)):
        store(document)
    assert group.failed()
    assert group.ready()
    assert (told, [each.args for each in errors]) == ([group], [("b",)])


# ---- forgetting, saving ----


def test_forgetting_takes_the_earlier_steps_too(app: FastQ) -> None:
    assert app.backend is not None
    app.backend.store([ended(each, each) for each in "abcdefg"])
    header = GroupResult("h", [app.AsyncResult("b"), app.AsyncResult("c")], app.AsyncResult("a"), app)
    body = app.AsyncResult("d", parent=header)
    group = GroupResult("g", [body, GroupResult("i", [app.AsyncResult("e")], app=app)], app=app)
    group.add(EagerResult("f", 1, "SUCCESS", app=app))
    assert group.join() == ["d", ["e"], 1]
    group.forget()
    assert app.backend.fetch(list("abcde")) == [None] * 5
    assert None not in app.backend.fetch(["f", "g"])
    assert [each.state for each in group.results[:1]] == ["PENDING"]
    assert group.results[2].get() == 1


def test_a_group_is_saved_and_restored(app: FastQ) -> None:
    group, store = pending(app, "ab")
    group.add(GroupResult("i", [app.AsyncResult("c")], app=app))
    group.parent = app.AsyncResult("p")
    assert group.save() is group
    restored = GroupResult.restore(group.id, app=app)
    assert restored == group
    assert app.GroupResult.restore(group.id) == group
    for name in "abc":
        store(ended(name, name))
    assert restored is not None
    assert restored.join() == ["a", "b", ["c"]]
    restored.delete()
    assert app.GroupResult.restore(group.id) is None
    assert group.join() == ["a", "b", ["c"]]


def test_a_backend_may_be_named_for_a_group(app: FastQ) -> None:
    other = FastQ("other", broker=f"memory://{new_id()}", set_as_current=False)
    group, _ = pending(app, "a")
    group.save(backend=other.backend)
    assert app.GroupResult.restore(group.id) is None
    assert GroupResult.restore(group.id, backend=other.backend, app=app) == group
    group.delete(backend=other.backend)
    assert app.GroupResult.restore(group.id, backend=other.backend) is None
    other.close()


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_a_saved_group_is_written_as_results_are(app: FastQ, serializer: str) -> None:
    app.conf.update(
        result_serializer=serializer, accept_content=[serializer, "json"], result_compression="gzip"
    )
    group, _ = pending(app, "a")
    group.save()
    assert app.GroupResult.restore(group.id) == group


def test_a_group_without_an_id_is_not_saved(app: FastQ) -> None:
    with pytest.raises(ValueError, match="no id"):
        GroupResult(None, [app.AsyncResult("a")], app=app).save()


def test_a_backend_that_sends_replies_keeps_no_groups() -> None:
    pytest.importorskip("fastq._core.amqp")
    app = FastQ("replies", broker="amqp://localhost:1", backend="rpc://", set_as_current=False)
    with pytest.raises(ImproperlyConfigured, match="can't keep the results of a group: set result_backend"):
        GroupResult("g", [app.AsyncResult("a")], app=app).save()
    for call in (app.GroupResult.restore, lambda name: GroupResult(name, [], app=app).delete()):
        with pytest.raises(ImproperlyConfigured, match="result_backend"):
            call("g")
    app.close()


# ---- helpers ----


def ended(task_id: str, result: Any, state: str = "SUCCESS") -> StoredResult:
    """The document of a task in *state*."""
    document = {"status": state, "result": result, "traceback": None, "children": [], "task_id": task_id}
    return StoredResult(task_id, state, json.dumps(document).encode())


def pending(app: FastQ, names: Iterable[str]) -> tuple[GroupResult[Any], Callable[[StoredResult], None]]:
    """A group of the tasks *names*, and what stores a result."""
    backend = app.backend
    assert backend is not None
    group: GroupResult[Any] = GroupResult(new_id(), [app.AsyncResult(each) for each in names], app=app)
    return group, lambda result: backend.store([result])


def waiting_in(app: FastQ) -> dict[str, Any]:
    """Who waits in the app's memory backend, by task id."""
    assert isinstance(app.backend, MemoryBackend)
    return app.backend._store.waiting
