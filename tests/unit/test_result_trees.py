"""A result among others: the earlier steps of its chain, and what its task has sent. Celery is the oracle."""

from __future__ import annotations

import copy
import io
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from result_twins import Side, Twins, outcome

from fastq import FastQ
from fastq.backends.memory import MemoryBackend
from fastq.exceptions import IncompleteStream, TimeoutError
from fastq.result import waiting
from fastq.result.async_result import RemoteTraceback


@pytest.fixture
def twins() -> Iterator[Twins]:
    both = Twins()
    yield both
    both.close()


@pytest.fixture
def app(twins: Twins) -> FastQ:
    app: FastQ = twins.ours.app
    return app


# ---- the earlier steps ----


def chained(side: Side, *names: str) -> Any:
    """The result of the last of *names*, each of which follows the one before; ``ab+cd`` is a group."""
    result = None
    for name in names:
        if "+" in name:
            result = side.group(name, *name.split("+"), parent=result)
        else:
            result = side.one(name, result)
    return result


CHAINS = [
    ("a", "b"),
    ("a", "f"),
    ("f", "a"),
    ("f", "g", "a"),
    ("g", "f", "a", "b"),
    ("f", "p"),
    ("f", "p", "q"),
    ("a", "r", "q"),
    ("a+b", "c"),
    ("a+f", "c"),
    ("g+f", "c"),
    ("p+f", "q"),
    ("g", "a+f", "c"),
    ("a+b", "g", "c+f", "q"),
]


@pytest.mark.parametrize("names", CHAINS, ids=" ".join)
@pytest.mark.parametrize("propagate", [True, False])
@pytest.mark.parametrize("follow_parents", [True, False])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("watched", [1000, 0])
def test_get_raises_what_an_earlier_step_raised(
    twins: Twins,
    names: tuple[str, ...],
    propagate: bool,
    follow_parents: bool,
    known: bool,
    watched: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastq.result.async_result.WATCHED", watched)
    for name in "abc":
        twins.store(name, name)
    for name in "fg":
        twins.store(name, KeyError(name))
    twins.store("r", IndexError("r"), "REVOKED")

    def look(side: Side) -> Any:
        result = chained(side, *names)
        if known:
            result.ready()
        try:
            return repr(result.get(timeout=0, propagate=propagate, follow_parents=follow_parents))
        except Exception as exc:
            return type(exc).__name__, "" if isinstance(exc, OSError) else exc.args[:1]

    if watched == 0 and names[-1] in "abc" and propagate and follow_parents:
        # What has succeeded is given without a look at thousands of steps before it.
        assert look(twins.ours) == repr(names[-1])
    elif watched == 0 and names[-1] not in "abcfgr" and propagate and follow_parents:
        # These are looked at after a while.
        assert look(twins.ours)[0] == "TimeoutError"
    else:
        theirs = look(twins.theirs)
        ours = look(twins.ours)
        assert ours[0] == "TimeoutError" == theirs[0] if theirs[0] == "TimeoutError" else ours == theirs


def test_the_first_step_to_fail_is_seen_while_one_waits(twins: Twins) -> None:
    result = chained(twins.ours, "a", "b+c", "d")
    waits = Waiting(result.get)
    twins.store("b", 1)
    twins.store("c", KeyError("c"))
    with pytest.raises(KeyError, match="c"):
        waits.outcome()
    assert waiting_in(twins.ours.app) == {}


def test_the_result_alone_ends_the_wait(twins: Twins) -> None:
    result = chained(twins.ours, "a", "b+c", "d")
    waits = Waiting(result.get)
    twins.store("a", 1)
    twins.store("d", 2)
    assert waits.outcome() == 2
    assert waiting_in(twins.ours.app) == {}


@pytest.mark.parametrize("with_interval", [True, False])
def test_steps_too_many_to_be_watched_are_looked_at_now_and_then(
    twins: Twins, monkeypatch: pytest.MonkeyPatch, with_interval: bool
) -> None:
    monkeypatch.setattr("fastq.result.async_result.WATCHED", 2)
    monkeypatch.setattr(waiting, "LOOK_AT_KIN", 0.001)
    beats: list[int] = []
    options: dict[str, Any] = {"on_interval": lambda: beats.append(1), "interval": 0.001}
    result = chained(twins.ours, "a+b", "c+d", "e")
    waits = Waiting(lambda: result.get(**(options if with_interval else {})))
    twins.store("a", 1)
    twins.store("d", KeyError("d"))
    with pytest.raises(KeyError, match="d"):
        waits.outcome()
    assert with_interval or not beats


def test_looks_at_many_steps_take_a_twentieth_of_the_time(
    twins: Twins, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(waiting, "time", FakeTime(clock))
    asked: list[list[str]] = []
    backend = twins.ours.app.backend
    fetch = backend.fetch

    def slow_fetch(task_ids: list[str]) -> Any:
        asked.append(task_ids)
        clock[0] += 3.0
        return fetch(task_ids)

    monkeypatch.setattr(backend, "fetch", slow_fetch)
    twins.store("a", 1)
    kin = waiting.Kin([twins.ours.one(each) for each in "ab"])
    for now, looks in ((9.9, 0), (10.0, 1), (12.9, 1), (72.9, 1), (73.0, 2), (76.0, 2), (136.0, 3)):
        clock[0] = max(now, clock[0])
        kin.look_when_due()
        assert len(asked) == looks, now
    assert asked == [["a", "b"], ["b"], ["b"]]


def test_the_time_is_up_for_one(app: FastQ) -> None:
    with pytest.raises(TimeoutError, match="the task a has no result after 0 s; its state is PENDING"):
        app.AsyncResult("a").get(timeout=0)
    with pytest.raises(TimeoutError, match="the task b"):
        app.AsyncResult("b", parent=app.AsyncResult("a")).get(timeout=0)


def test_a_callback_is_not_told_of_what_is_raised(twins: Twins) -> None:
    twins.store("a", 1)
    twins.store("f", KeyError("f"))

    def look(side: Side, propagate: bool) -> Any:
        told: list[Any] = []
        for name in "af":
            try:
                side.one(name).get(
                    propagate=propagate, callback=lambda *args: told.append((args[0], repr(args[1])))
                )
            except KeyError:
                told.append("raised")
        return told

    assert twins.same(lambda side: look(side, True)) == [("a", "1"), "raised"]
    twins.same(lambda side: look(side, False))


def test_what_is_no_exception_is_raised_as_one(twins: Twins) -> None:
    twins.same(lambda side: side.eager("e", "text", "FAILURE").get())


def test_the_traceback_of_the_worker_is_the_cause(twins: Twins, app: FastQ) -> None:
    app.conf.task_remote_tracebacks = True
    twins.store("f", KeyError("f"))
    document = app.load_document(app.backend.fetch(["f"])[0])  # type: ignore[union-attr,arg-type]
    twins.ours.store_document("f", "FAILURE", app.dump_document(document | {"traceback": "line 7"}))
    with pytest.raises(KeyError) as caught:
        app.AsyncResult("f").get()
    assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert "line 7" in str(caught.value.__cause__)


def test_forgetting_takes_the_earlier_steps_too(twins: Twins) -> None:
    for name in "abcd":
        twins.store(name, name)

    def look(side: Side) -> list[str]:
        result = chained(side, "a", "b+c", "d")
        result.forget()
        return [side.one(name).state for name in "bcd"]

    assert twins.same(look) == ["PENDING"] * 3
    assert twins.ours.one("a").state == "PENDING"


def test_ids_of_a_chain(twins: Twins) -> None:
    assert twins.same(lambda side: chained(side, "a", "b", "c").as_list()) == ["c", "b", "a"]
    assert chained(twins.ours, "a", "b+c", "d").as_list() == ["d", "b+c", "a"]
    result = chained(twins.ours, "a", "b")
    twin = copy.copy(result)
    assert (twin, twin.parent, twin.app) == (result, result.parent, result.app)


def test_a_chain_of_thousands_is_waited_for_and_forgotten(twins: Twins, app: FastQ) -> None:
    names = [f"id-{number}" for number in range(5000)]
    result = chained(twins.ours, *names)
    twins.store(names[-1], 5)
    assert result.get(timeout=10) == 5
    twins.store(names[-2], 4)
    result.forget()
    assert app.backend.fetch(names[-2:]) == [None, None]  # type: ignore[union-attr]


# ---- then ----


def test_then_tells_when_the_end_is_read(twins: Twins) -> None:
    told: list[Any] = []
    errors: list[Any] = []
    result, failed = twins.ours.one("a"), twins.ours.one("f")
    assert result.then(told.append) is result
    failed.then(told.append, on_error=errors.append)
    failed.then(told.append)
    twins.store("a", 1)
    twins.store("f", KeyError("f"))
    assert (told, errors) == ([], [])
    assert (result.get(), told) == (1, [result])
    assert failed.ready()
    assert (told, errors[0].args) == ([result, failed], ("f",))
    result.then(told.append)
    assert (result.get(), told) == (1, [result, failed, result])


# ---- what a task has sent ----


def tree(twins: Twins, **ends: str) -> None:
    """Store a tree of tasks: a sends b and the group g of c and d; c sends e; d sends the group h of f."""

    def form(task_id: str) -> Any:
        return [[task_id, None], None]

    children = {
        "a": [form("b"), [["g", None], [form("c"), form("d")]]],
        "c": [form("e")],
        "d": [[["h", None], [form("f")]]],
    }
    for name in "abcdef":
        if name not in ends:
            twins.store(name, name.upper(), children=children.get(name, []))
        elif ends[name] != "PENDING":
            twins.store(name, None, ends[name])


def ids(pairs: Any) -> list[Any]:
    """Ids in place of results."""
    return [(None if parent is None else parent.id, result.id) for parent, result in pairs]


def test_what_a_task_has_sent_is_found_level_by_level(twins: Twins) -> None:
    tree(twins)
    seen = twins.same(lambda side: ids(side.one("a").iterdeps()))
    assert seen == [
        (None, "a"), ("a", "b"), ("a", "g"), ("g", "c"), ("g", "d"), ("c", "e"), ("d", "h"), ("h", "f"),
    ]  # fmt: skip


def test_children_are_results(twins: Twins) -> None:
    tree(twins, b="PENDING")

    def look(side: Side) -> Any:
        result = side.one("a")
        kinds = [type(each).__name__ for each in result.children]
        is_kept = result.children[0] is result.children[0]
        return kinds, is_kept, side.one("b").children, side.one("f").children

    assert twins.same(look) == (["AsyncResult", "GroupResult"], True, None, [])


@pytest.mark.parametrize("state", ["PENDING", "STARTED"])
@pytest.mark.parametrize("name", ["a", "b", "c", "f"])
def test_what_has_not_ended_ends_the_walk(twins: Twins, name: str, state: str) -> None:
    tree(twins, **{name: state})

    def look(side: Side, intermediate: bool) -> Any:
        seen: list[Any] = []
        try:
            for pair in side.one("a").iterdeps(intermediate):
                seen.append(pair)
        except Exception as exc:
            return ids(seen), type(exc).__name__
        return ids(seen)

    assert twins.same(lambda side: look(side, False))[1] == "IncompleteStream"
    twins.same(lambda side: look(side, True))


def test_a_walk_that_ends_says_where(twins: Twins) -> None:
    tree(twins, c="STARTED")
    with pytest.raises(IncompleteStream, match="g has not ended"):
        list(twins.ours.one("a").iterdeps())


def test_collect_yields_the_values(twins: Twins) -> None:
    tree(twins)

    def look(side: Side) -> Any:
        # Celery's cache backend would wait for a group in a group without end.
        return [(each.id, value) for each, value in side.one("c").collect(timeout=1)]

    assert twins.same(look) == [("c", "C"), ("e", "E")]
    ours = twins.ours.one("a")
    assert [value for _, value in ours.collect()] == ["A", "B", ["C", "D"], "C", "D", "E", ["F"], "F"]
    assert [value for each, value in ours.collect() if not each.children] == ["B", "E", "F"]
    assert (twins.same(lambda side: side.one("c").get_leaf()), ours.get_leaf()) == ("E", "F")


def test_collect_waits_for_what_runs(twins: Twins) -> None:
    collected = Waiting(lambda: [value for _, value in twins.ours.one("a").collect()])
    tree(twins)
    assert collected.outcome()[-1] == "F"


def test_a_walk_reads_all_children_at_once(twins: Twins, app: FastQ, monkeypatch: pytest.MonkeyPatch) -> None:
    assert app.backend is not None
    names = [f"id-{number}" for number in range(900)]
    twins.store("a", 1, children=[[[each, None], None] for each in names])
    for each in names:
        twins.store(each, each)
    asked: list[int] = []
    fetch = app.backend.fetch
    monkeypatch.setattr(app.backend, "fetch", lambda ids: asked.append(len(ids)) or fetch(ids))
    assert [each.id for _, each in app.AsyncResult("a").iterdeps()] == ["a", *names]
    assert asked == [1, 900]


def test_a_graph_of_what_a_task_has_sent(twins: Twins) -> None:
    tree(twins)

    def edges(side: Side) -> Any:
        graph = side.one("a").graph
        return [(each.id, [other.id for other in others]) for each, others in graph.items()]

    assert twins.same(edges)[0] == ("a", ["b", "g"])


def test_a_graph_of_what_has_not_ended(twins: Twins) -> None:
    tree(twins, f="PENDING")
    assert twins.same(lambda side: len(side.one("a").build_graph(intermediate=True))) == 7
    assert twins.same(lambda side: outcome(lambda _: side.one("a").graph, side)[0]) == "IncompleteStream"


def test_a_graph_is_drawn(twins: Twins) -> None:
    tree(twins)

    def drawn(side: Side) -> list[str]:
        out = io.StringIO()
        side.one("a").graph.to_dot(out)
        # The looks differ, the lines do not.
        return [re.sub(r" \[.*\]", "", line).strip() for line in out.getvalue().split("\n")]

    assert '"a" -> "b"' in twins.same(drawn)


# ---- helpers ----


class Waiting:
    """A call that waits, in a thread of its own."""

    def __init__(self, call: Any) -> None:
        self._ended: list[Any] = []
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Any) -> None:
        try:
            self._ended.append((call(), None))
        except Exception as exc:
            self._ended.append((None, exc))

    def outcome(self) -> Any:
        """What it returns, or raises here."""
        self._thread.join(10.0)
        value, error = self._ended[0]
        if error is not None:
            raise error
        return value


class FakeTime:
    """A clock that a test sets."""

    def __init__(self, now: list[float]) -> None:
        self._now = now

    def monotonic(self) -> float:
        return self._now[0]


def waiting_in(app: FastQ) -> dict[str, Any]:
    """Who waits in the app's memory backend, by task id."""
    assert isinstance(app.backend, MemoryBackend)
    return app.backend._store.waiting
