"""Signatures, chains, groups and chords as a program makes them; Celery's canvas says what is right."""

import copy
import json
import pickle

import pytest
from canvas_twins import plain, shown, sides

from fastq import FastQ
from fastq._core.codec import json_dumps, json_loads
from fastq.canvas import (
    Signature,
    chain,
    chord,
    chunks,
    group,
    maybe_signature,
    signature,
    subtask,
    xmap,
    xstarmap,
)
from fastq.canvas.plain import kind_of
from fastq.canvas.steps import chain_of, is_plural, steps_of
from fastq.exceptions import NotRegistered
from fastq.result import GroupResult


@pytest.fixture(scope="module")
def twins():
    return sides("canvas")


@pytest.fixture
def app(request):
    app = FastQ("canvas", broker=f"memory://{request.node.name}", set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def add(app):
    @app.task(name="proj.add")
    def add(a, b, c=0):
        return a + b + c

    return add


@pytest.fixture
def xsum(app):
    @app.task(name="proj.xsum")
    def xsum(numbers):
        return sum(numbers)

    return xsum


# -- one task ---------------------------------------------------------------------


def test_a_signature_is_the_map_that_travels(add):
    sig = add.signature((2,), {"b": 3}, {"queue": "slow"}, countdown=10)
    assert sig == {
        "task": "proj.add",
        "args": (2,),
        "kwargs": {"b": 3},
        "options": {"queue": "slow", "countdown": 10},
        "subtask_type": None,
        "immutable": False,
    }
    assert (sig.task, sig.name, sig.args, sig.options["queue"], sig.type) == (
        "proj.add",
        "proj.add",
        (2,),
        "slow",
        add,
    )
    assert add.s(1, c=2) == add.subtask((1,), {"c": 2})
    assert add.si(1).immutable


def test_a_signature_of_a_name_needs_no_task(app):
    sig = app.signature("elsewhere.task", args=(1,), queue="q")
    assert sig.app is app
    assert sig.options == {"queue": "q"}
    with pytest.raises(NotRegistered, match="elsewhere"):
        _ = sig.type
    assert sig.delay(2).id


def test_signature_makes_one_of_anything(app, add):
    sig = add.s(1)
    assert signature(sig) == sig
    assert signature(sig) is not sig
    assert maybe_signature(sig) is sig
    assert maybe_signature(sig, clone=True) is not sig
    assert maybe_signature(None) is None
    made = maybe_signature(dict(chain(add.s(1), add.s(2))), app=app)
    assert isinstance(made, chain)
    assert subtask(dict(sig), app=app).app is app


def test_further_arguments_go_before_its_own_and_options_over_them(add):
    sig = add.s(2, c=1).set(queue="a", priority=3)
    assert sig.clone((1,), {"c": 5}, queue="b") == add.signature((1, 2), {"c": 5}, queue="b", priority=3)
    assert sig.replace(args=(9,), kwargs={}, options={}) == add.s(9)
    assert sig(40) == 43
    assert sig.set(immutable=True).clone((1,), {"c": 5}) == sig
    assert add.s(2, 2).reprcall(1, c=3) == "proj.add(1, 2, 2, c=3)"


def test_a_signature_that_is_sent_keeps_its_options(app, add):
    result = add.s(2).set(queue="slow").apply_async((1,), countdown=None, task_id="T")
    assert result.id == "T"
    assert result.task_name == "proj.add"
    assert add.s(1, 2).apply_async().id != add.s(1, 2).delay().id


def test_group_id_and_stamps_are_not_changed_by_a_call(add):
    sig = add.s(1, 1).set(group_id="G")
    sig.stamp(customer=7)
    merged = sig.clone(group_id="H", customer=8, stamped_headers=["other"]).options
    assert merged == {"group_id": "G", "customer": 7, "stamped_headers": ["customer"]}


def test_callbacks_and_errbacks_are_lists_of_what_was_linked(add):
    sig, seen = add.s(1, 1), add.si(0, 0)
    assert sig.link(seen) is seen
    sig.link(seen)
    assert sig.options["link"] == [seen]
    assert sig.on_error(seen) is sig
    assert sig.options["link_error"] == [seen]
    seen.link(add.s(5))
    assert sig.flatten_links() == [sig, seen, add.s(5)]


def test_a_copy_has_links_of_its_own(add):
    sig = add.s(1, 1)
    sig.link(add.s(2))
    other = sig.clone()
    other.link(add.s(3))
    other.options["link"][0].set(queue="q")
    assert sig.options["link"] == [add.s(2)]
    assert copy.deepcopy(sig) == sig
    assert copy.deepcopy(sig) is not sig


def test_a_signature_survives_pickle_and_json(add):
    for sig in (add.s(1, b=2), add.s(1) | add.s(2), group(add.s(i) for i in range(2)), add.map([1, 2])):
        assert plain(pickle.loads(pickle.dumps(sig))) == plain(sig)
        assert json_loads(json_dumps(sig)) == json.loads(json.dumps(plain(sig)))


def test_freezing_gives_an_id_once(add):
    sig = add.s(1, 1)
    result = sig.freeze("T", group_id="G", root_id="R", parent_id="P", group_index=2)
    assert result.id == sig.id == "T"
    assert (sig.root_id, sig.parent_id) == ("R", "P")
    assert sig.freeze("other").id == "T"
    assert sig.options["group_index"] == 2
    sig.id = "U"
    assert sig.options["task_id"] == "U"


def test_a_subclass_can_be_registered(add):
    @Signature.register_type("mine")
    class Mine(Signature):
        @classmethod
        def from_dict(cls, d, app=None):
            return cls(d, app=app)

    try:
        assert isinstance(add.s(1).clone(), Signature)
        assert type(maybe_signature({**add.s(1), "subtask_type": "mine"})) is Mine
    finally:
        del Signature.TYPES["mine"]


# -- several ------------------------------------------------------------------------


def test_or_is_for_signatures_alone(add):
    for sig in (add.s(1), add.s(1) | add.s(2), chord([add.s(1)], add.s(2))):
        with pytest.raises(TypeError):
            sig | 1
    with pytest.raises(TypeError, match="is none"):
        chain(add.s(1), 2)


def test_a_chain_of_one_iterable_is_of_what_is_in_there(add):
    assert chain(add.s(i) for i in range(3)).tasks == [add.s(0), add.s(1), add.s(2)]
    assert chain([add.s(1), add.s(2)]) == chain(add.s(1), add.s(2))
    assert isinstance(chain(add.s(1), group(add.s(2), add.s(3)), add.s(4)).tasks[-1], chord)
    assert isinstance(chain(group(add.s(1), add.s(2)), add.s(3)), chord)
    assert chain()() is None


def test_in_place_or_makes_a_chain(add):
    sig = add.s(1)
    sig |= add.s(2)
    assert sig == chain(add.s(1), add.s(2))


def test_a_subclass_of_chain_stays_one(add):
    class Line(chain):
        pass

    assert type(Line(add.s(1), add.s(2))) is Line
    assert type(Line(add.s(1), add.s(2)) | add.s(3)) is Line
    assert type(Line(group(add.s(1), add.s(1)), add.s(3))) is chord


def test_errbacks_of_a_chain_are_not_those_of_what_comes_after_it(add):
    for last in (add.s(2), group(add.s(2), add.s(3)), chord([add.s(2)], add.s(3))):
        before = chain(add.s(1), last)
        before.link_error(add.s("told"))
        longer = before | add.s(4)
        assert "link_error" not in longer.options
        end = longer.tasks[-1]
        while end.get("subtask_type"):
            assert "link_error" not in end.options
            end = end.body if isinstance(end, chord) else end.tasks[-1]
        assert end.args == (4,) and "link_error" not in end.options
        assert longer.tasks[0].options["link_error"] == [add.s("told")]


def test_a_long_chain_is_folded_in_one_pass(add):
    assert len(chain(add.s(i) for i in range(10_000)).tasks) == 10_000


def test_a_generator_is_gone_through_only_when_somebody_asks(add):
    taken = []

    def members():
        for i in range(10):
            taken.append(i)
            yield add.s(i, i)

    sig = group(members())
    assert taken == []
    (sig | add.s(1)).set(queue="q")
    assert len(taken) <= 2
    assert repr(group(members())).endswith("...])")
    assert len(sig) == 10
    assert [each.args for each in sig.tasks] == [(i, i) for i in range(10)]


def test_skew_lets_members_start_one_after_the_other(twins):
    for arguments in ({}, {"start": 2, "step": 3}, {"start": 1, "stop": 3}):
        made = [side.canvas.group(side.s(i) for i in range(5)).skew(**arguments) for side in twins]
        theirs, ours = ([task.options["countdown"] for task in each.tasks] for each in made)
        assert ours == theirs


def test_a_groups_links_are_its_members(add):
    sig = group(add.s(1, 1), add.s(2, 2))
    sig.link(add.s(3))
    assert sig.tasks[0].options["link"] == [add.si(3)]
    assert sig.link_error(add.s(4)) == (add.s(4), add.s(4))
    with pytest.raises(TypeError, match="link"):
        sig.apply_async(link=add.s(5))
    sig.set_immutable(True)
    assert all(task.immutable for task in sig.tasks)


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
@pytest.mark.parametrize("is_for_header", [False, True])
def test_a_chords_errbacks_are_its_bodys_and_maybe_its_headers(is_for_header):
    made = []
    for side in sides("errbacks", task_allow_error_cb_on_chord_header=is_for_header):
        sig = side.canvas.chord([side.s(1), side.canvas.chord([side.s(2)], side.s(3))], side.s(4))
        sig.link(side.s(5))
        sig.link_error(side.tasks["of_id"].s())
        sig.set_immutable(True)
        made.append(plain(sig))
    assert made[0] == made[1]


def test_a_chord_can_be_called_with_another_body(app, add, xsum):
    app.conf.task_always_eager = True
    sig = chord([add.s(1, 1), add.s(2, 2)])
    assert sig(xsum.s()).get() == 6
    assert repr(sig).startswith("<chord without body")


def test_maps_and_chunks(app, add, xsum):
    assert isinstance(xsum.map([[1], [2]]), xmap)
    assert isinstance(add.starmap([(1, 2)]), xstarmap)
    assert isinstance(add.chunks([(1, 2)], 1), chunks)
    assert xsum.map([[1, 2], [3]]).apply().get() == [3, 3]
    assert add.starmap(zip(range(3), range(3), strict=True)).apply().get() == [0, 2, 4]
    parts = add.chunks(zip(range(5), range(5), strict=True), 2)
    assert parts.apply().get() == [[0, 2], [4, 6], [8]]
    app.conf.task_always_eager = True
    assert add.chunks([(1, 1), (2, 2)], 1)().get() == [[2], [4]]
    assert parts.group().skew().tasks[1].options["countdown"] == 2.0


def test_maps_are_shown_as_celery_shows_them(twins):
    makes = (
        lambda task: task.map([1, 2]),
        lambda task: task.starmap([(i, i) for i in range(40)]),
    )
    for make in makes:
        theirs, ours = (repr(make(side.tasks["call"])) for side in twins)
        assert ours == theirs


def test_names_are_shortened_but_where_they_begin_another(twins):
    trees = [
        ("chain", [("task", [1], False), ("task", ["proj.x xproj.y"], True)]),
        ("chord", [("task", [1], False)], ("chain", [("task", [], False), ("task", [2], False)])),
        ("chord", [("chord", [("task", [1], False)], ("task", [2], False))], ("task", [], False)),
    ]
    for tree in trees:
        theirs, ours = (shown(side.build(tree)) for side in twins)
        assert ours == theirs


# -- called -----------------------------------------------------------------------


def test_the_invert_operator_waits_for_the_result(app, add):
    app.conf.task_always_eager = True
    assert ~(add.s(2, 2) | add.s(4)) == 8


def test_eager_workflows_have_results_with_parents(add, xsum):
    result = (add.s(4, 4) | add.s(8)).apply()
    assert (result.get(), result.parent.get()) == (16, 8)
    result = (group(add.s(i, i) for i in range(10)) | xsum.s()).apply()
    assert result.get() == 90
    assert isinstance(group(add.s(1, 1)).apply(), GroupResult)
    assert group().apply().get() == []
    assert chain().apply() is None


def test_in_place_a_task_calls_its_links(app, add):
    seen = []

    @app.task(name="proj.note")
    def note(value):
        seen.append(value)

    @app.task(name="proj.broken")
    def broken():
        raise ValueError("broken")

    @app.task(name="proj.failed")
    def failed(request, exc, traceback):
        seen.append((request.id, repr(exc), "Traceback" in traceback))

    @app.task(name="proj.deaf")
    def deaf(request, exc, traceback):
        raise RuntimeError("an errback that fails changes nothing")

    add.apply((1, 2), link=[note.s(), note.si("again")])
    assert seen == [3, "again"]
    seen.clear()
    result = broken.apply(task_id="T", link=note.s(), link_error=[deaf.s(), note.s(), failed.s()])
    assert result.state == "FAILURE"
    assert seen == [("T", "ValueError('broken')", True), "T"]


def test_in_place_the_stamps_are_in_the_request(app):
    @app.task(bind=True, name="proj.stamps")
    def stamps(self):
        return self.request.stamped_headers, self.request.stamps

    sig = stamps.s()
    sig.stamp(customer=7)
    assert sig.apply().get() == (["customer"], {"customer": 7})


def test_every_app_has_celerys_built_in_tasks(app, twins):
    celery_app = twins[0].app
    celery_app.finalize()
    theirs, ours = (
        {name for name in tasks if name.startswith("celery.")} for tasks in (celery_app.tasks, app.tasks)
    )
    assert ours == theirs
    accumulate = app.tasks["celery.accumulate"]
    assert accumulate.s(1, 2).apply().get() == (1, 2)
    assert accumulate.s([1, 2], index=0).apply().get() == [1, 2]
    with pytest.raises(NotImplementedError):
        app.tasks["celery.chain"]()


def test_the_body_of_a_chord_is_plural_if_it_is_a_group_of_one(add):
    body = group([add.s(1)])
    assert is_plural(chord([], body)) and is_plural(chord([add.s(0)], body))
    assert not is_plural(chain(add.s(0), body))
    [step] = steps_of(chain_of([chord([], body), add.s(2)]))
    assert kind_of(step.sig["kwargs"]["body"]) == "chord"
    assert not is_plural(step.sig)
