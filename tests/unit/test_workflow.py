"""What a signature becomes when it is called: messages, and the results that its caller gets."""

import json

import pytest

from fastq import FastQ, Task, chain, chord, group
from fastq._core.message import Delivery
from fastq._core.request import Context
from fastq.canvas.workflow import compose_workflow


@pytest.fixture
def app(request):
    app = FastQ("workflows", broker=f"memory://{request.node.name}", set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def add(app):
    @app.task(name="add")
    def add(a, b, c=0):
        return a + b + c

    return add


def task_map(task, *args, immutable=False, **options):
    """A signature as a message holds it."""
    return {
        "task": task,
        "args": list(args),
        "kwargs": {},
        "options": options,
        "subtask_type": None,
        "immutable": immutable,
    }


def group_map(tasks, **options):
    return {**task_map("celery.group", **options), "kwargs": {"tasks": tasks}, "subtask_type": "group"}


def only(workflow):
    """The one message of *workflow*."""
    (block,) = workflow
    (message,) = block.messages
    assert block.chords == []
    return message


def body(message):
    return json.loads(message.body)


def test_the_result_goes_before_the_arguments_of_what_follows(app, add):
    workflow = compose_workflow(app, task_map("add", 2, task_id="T"), (40,), {"c": 1})
    message = only(workflow)
    assert (message.task, message.id) == ("add", "T")
    assert body(message) == [[40, 2], {"c": 1}, {}]
    assert workflow.result.id == workflow.started.id == "T"


def test_an_immutable_signature_takes_no_arguments(app, add):
    message = only(compose_workflow(app, task_map("add", 1, 2, immutable=True), (40,), {"c": 1}))
    assert body(message) == [[1, 2], {}, {}]


def test_what_follows_travels_in_the_body(app):
    rest, chord, link = [task_map("last", task_id="L")], task_map("sum", task_id="S"), task_map("seen")
    options = {"chain": rest, "chord": chord, "group_id": "G", "group_index": 3, "link": [link]}
    message = only(compose_workflow(app, task_map("any", link=[task_map("own")]), options=options))
    assert body(message)[2] == {
        "callbacks": [task_map("own"), link],
        "chain": rest,
        "chord": chord,
    }
    assert (message.headers["group"], message.headers["group_index"]) == ("G", 3)


def test_a_run_is_the_parent_of_what_it_sends(app):
    sent = only(compose_workflow(app, task_map("first")))
    assert sent.headers["root_id"] == sent.id
    assert "parent_id" not in sent.headers
    context = Context(None, Delivery(sent, "tag", "celery").message)
    followed = only(compose_workflow(app, task_map("second"), request=context))
    assert followed.headers["root_id"] == followed.headers["parent_id"] == sent.id


def test_a_call_that_does_not_fit_is_found_by_who_makes_it(app, add):
    with pytest.raises(TypeError):
        compose_workflow(app, task_map("add", 1))
    assert body(only(compose_workflow(app, task_map("add", 1), checks_arguments=False)))[0] == [1]


# -- several tasks ------------------------------------------------------------------


def blocks(app, sig, *args, **kwargs):
    workflow = compose_workflow(app, sig, *args, **kwargs)
    return [(block.messages, block.chords) for block in workflow], workflow


def test_a_group_goes_out_in_blocks_as_its_generator_gives_it(app, add):
    given = []

    def members():
        for i in range(2500):
            given.append(i)
            yield add.s(i, i)

    workflow = compose_workflow(app, group(members()))
    sizes, seen = [], []
    for block in workflow:
        sizes.append(len(block.messages))
        seen.append(len(given))
    assert sizes == [1000, 1000, 500]
    assert seen == [1001, 2001, 2500]
    assert len(workflow.result) == 2500
    assert workflow.started is workflow.result


def test_the_size_of_a_chord_is_known_before_the_last_of_its_header_goes_out(app, add):
    chord_sig = group(add.s(i, i) for i in range(2000)) | add.s(1)
    found, workflow = blocks(app, chord_sig)
    (header,) = {message.headers["group"] for messages, _ in found for message in messages}
    assert [(len(messages), chords) for messages, chords in found] == [(1000, []), (1000, [(header, 2000)])]
    assert workflow.started.id == workflow.result.parent.id == header
    assert [message.headers["group_index"] for messages, _ in found for message in messages] == [*range(2000)]


def test_chords_in_a_header_are_counted_one_by_one(app, add):
    inner = chord([add.s(1, 1), add.s(2, 2)], add.s(3))
    found, workflow = blocks(app, chord([add.s(0, 0), inner, add.s(4, 4)], add.s(5)))
    ((messages, chords),) = found
    assert [size for _, size in chords] == [2, 3]
    inner_id, outer_id = (group_id for group_id, _ in chords)
    assert [message.headers["group"] for message in messages] == [outer_id, inner_id, inner_id, outer_id]
    inner_body = body(messages[1])[2]["chord"]
    assert (inner_body["options"]["group_id"], inner_body["options"]["group_index"]) == (outer_id, 1)
    assert inner_body["options"]["chord"]["options"]["task_id"] == workflow.result.id


def test_a_body_with_an_empty_header_goes_out_at_once(app, add):
    ((messages, chords),), workflow = blocks(app, chord([], add.s(5)))
    assert chords == []
    assert [(message.id, body(message)[0]) for message in messages] == [(workflow.result.id, [[], 5])]
    assert list(workflow.result.parent) == []


def test_what_is_empty_is_left_out(app, add):
    assert blocks(app, chain())[0] == []
    assert blocks(app, group())[0] == []
    assert blocks(app, group())[1].result.results == []
    assert blocks(app, chain())[1].result is None
    found, workflow = blocks(app, group(chain(), add.s(1, 1), group()))
    assert len(found[0][0]) == len(workflow.result) == 1
    with pytest.raises(ValueError, match="nothing to run"):
        blocks(app, chord([add.s(1, 1)], chain()))
    with pytest.raises(ValueError, match="no body"):
        blocks(app, chord([add.s(1, 1)]))


def test_a_group_that_must_be_one_part_is_accumulated(app, add):
    ((messages, chords),), _ = blocks(app, chord([add.s(1, 1) | group(add.s(2), add.s(3))], add.s(4)))
    assert [size for _, size in chords] == [1]
    (inner,) = body(messages[0])[2]["chain"]
    accumulate = inner["kwargs"]["body"]
    assert (accumulate["task"], accumulate["kwargs"]) == ("celery.accumulate", {"index": 0})
    assert accumulate["options"]["group_id"] == chords[0][0]


def test_a_group_of_a_celery_client_is_counted_as_it_was_frozen(app):
    frozen = group_map(
        [
            task_map("a", task_id="A", group_id="G", group_index=0, chord=task_map("sum")),
            task_map("b", task_id="B", group_id="G", group_index=1, chord=task_map("sum")),
        ],
        task_id="inner",
        chord=task_map("sum"),
        group_id="G",
    )
    ((messages, chords),), _ = blocks(app, frozen, (7,))
    assert chords == []
    assert [(each.id, each.headers["group"], each.headers["group_index"]) for each in messages] == [
        ("A", "G", 0),
        ("B", "G", 1),
    ]
    assert [body(each) for each in messages] == [[[7], {}, {"chord": task_map("sum")}]] * 2


def test_a_group_that_replaces_a_part_is_accumulated_under_its_id(app, add):
    options = {"task_id": "T", "chord": task_map("sum"), "group_id": "G", "group_index": 4}
    ((messages, chords),), workflow = blocks(app, group(add.s(1, 1), add.s(2, 2)), options=options)
    assert workflow.result.id == "T"
    assert chords == [(messages[0].headers["group"], 2)]
    accumulate = body(messages[0])[2]["chord"]
    assert accumulate["options"] == options


def test_the_rest_of_a_chain_gets_the_results_of_a_group_that_came_in_its_place(app, add):
    rest = [task_map("last", task_id="L"), task_map("next", task_id="N")]
    ((messages, chords),), workflow = blocks(app, group(add.s(1, 1), add.s(2, 2)), options={"chain": rest})
    assert [size for _, size in chords] == [2]
    found = body(messages[0])[2]["chord"]
    assert (found["options"]["task_id"], found["options"]["chain"]) == ("N", rest[:1])
    assert workflow.result.id == "N"


def test_ids_that_are_there_are_kept(app, add):
    sig = chain(add.s(1, 1), group(add.s(2), add.s(3)), add.s(4))
    result = sig.freeze()
    _, workflow = blocks(app, sig)
    assert workflow.result.as_tuple() == result.as_tuple()
    sig = chord([add.s(1, 1) | add.s(2), add.s(3, 3)], add.s(4))
    result = sig.freeze("T")
    _, workflow = blocks(app, sig)
    assert workflow.result.id == "T"
    assert workflow.result.as_tuple() == result.as_tuple()


def test_an_id_that_a_chord_was_given_is_its_values(app, add):
    _, workflow = blocks(app, chord([add.s(1, 1)], add.s(4)).set(task_id="T"))
    assert workflow.result.id == workflow.result.parent.id == "T"
    _, workflow = blocks(app, chord([add.s(1, 1)], chain(add.s(4), add.s(5))), options={"task_id": "T"})
    assert workflow.result.id == "T"
    assert workflow.result.parent.parent.id != "T"


def test_options_of_a_call_are_for_what_starts(app, add):
    sig = chain(add.s(1, 1).set(queue="own"), add.s(2))
    (((first,), _),), workflow = blocks(app, sig, options={"queue": "fast", "task_id": "last"})
    assert first.queue == "fast"
    assert "queue" not in body(first)[2]["chain"][0]["options"]
    assert workflow.result.id == "last"
    ((messages, _),), _ = blocks(app, group(add.s(1, 1), add.s(2, 2).set(queue="own")).set(queue="fast"))
    assert [message.queue for message in messages] == ["fast", "fast"]
    ((messages, _),), _ = blocks(app, chord([add.s(1, 1)], add.s(2)), options={"queue": "f", "countdown": 9})
    assert (messages[0].queue, "eta" in messages[0].headers) == ("f", True)
    assert body(messages[0])[2]["chord"]["options"].keys() == {"queue", "task_id"}


def test_links_are_where_they_will_be_looked_for(app, add):
    link, error = add.s("link"), add.s("error")
    sig = chain(add.s(1, 1), add.s(2), chord([add.s(3), chord([add.s(4)], add.s(5))], add.s(6)))
    sig.link(link)
    sig.on_error(error)
    (((first,), _),), _ = blocks(app, sig)
    embed = body(first)[2]
    errors = [json.loads(json.dumps(error))]
    assert embed["errbacks"] == errors
    outer, second = embed["chain"]
    assert second["options"]["link_error"] == errors
    assert outer["kwargs"]["body"]["options"]["link_error"] == errors
    assert outer["kwargs"]["body"]["options"]["link"] == [json.loads(json.dumps(link))]
    plain_part, inner = outer["kwargs"]["header"]
    assert "link_error" not in plain_part["options"]
    assert inner["kwargs"]["body"]["options"]["link_error"] == errors
    app.conf.task_allow_error_cb_on_chord_header = True
    (((first,), _),), _ = blocks(app, sig)
    plain_part, _ = body(first)[2]["chain"][0]["kwargs"]["header"]
    assert plain_part["options"]["link_error"] == [{**errors[0], "immutable": True}]


def test_a_map_goes_where_its_task_goes(app, add):
    app.conf.task_routes = {"add": "adders"}
    ((messages, _),), _ = blocks(app, add.chunks([(1, 2), (3, 4), (5, 6)], 2))
    assert [(each.task, each.queue) for each in messages] == [("celery.starmap", "adders")] * 2
    assert [body(each)[1]["it"] for each in messages] == [[[1, 2], [3, 4]], [[5, 6]]]
    result = add.starmap([(1, 2)]).apply_async()
    assert result.task_name == "celery.starmap"


def test_a_group_of_chunks_is_flattened_and_accumulated(app, add):
    ((messages, chords),), _ = blocks(app, chain(add.chunks([(1, 2), (3, 4)], 1).group(), add.s(0)))
    assert [size for _, size in chords] == [2]
    ((messages, _),), _ = blocks(app, group(add.s(1, 1), add.chunks([(1, 2), (3, 4)], 1)))
    assert [message.headers["group_index"] for message in messages] == [0, 1, 2]


def test_a_long_chain_and_a_deep_nest_break_nothing(app, add):
    found, workflow = blocks(app, chain(add.s(i, i) for i in range(10_000)))
    assert len(body(found[0][0][0])[2]["chain"]) == 9_999
    result = workflow.result
    for _ in range(9_999):
        result = result.parent
    assert result.parent is None
    sig = add.s(0, 0)
    for _ in range(50):
        sig = chord([sig, add.s(1, 1)], add.s(2))
    found, workflow = blocks(app, sig)
    assert len(found[0][1]) == 50
    sig = add.s(0)
    for _ in range(50):
        sig = chain(add.s(1), chord([sig, add.s(1)], add.s(2)))
    found, workflow = blocks(app, sig, (0,))
    assert len(found[0][0]) == 1


def test_the_messages_of_a_workflow_grow_with_its_size(app, add):
    def size(workflow):
        return sum(len(message.body) for block in workflow for message in block.messages)

    def nested(depth):
        sig = add.s(0, 0)
        for _ in range(depth):
            sig = chain(add.s(1, 1), group(sig, add.s(1)), add.s(2))
        return size(compose_workflow(app, sig))

    one_more = nested(11) - nested(10)
    assert abs(nested(21) - nested(20) - one_more) <= one_more // 10


def test_a_chord_needs_a_backend_that_counts(add, app):
    nowhere = FastQ("nowhere", broker="memory://nowhere", backend="disabled://", set_as_current=False)
    for sig in (chord([add.s(1, 1)], add.s(2)), chain(add.s(1, 1), chord([add.s(1)], add.s(2)))):
        with pytest.raises(NotImplementedError, match="result_backend"):
            compose_workflow(nowhere, sig)
    nowhere.close()


def test_a_task_with_an_apply_async_of_its_own_says_what_is_sent(app):
    class Tenant(Task):
        def apply_async(self, args=None, kwargs=None, **options):
            headers = {**(options.pop("headers", None) or {}), "tenant": "t"}
            return super().apply_async(args, kwargs, headers=headers, **options)

    task = app.task(name="tenant", base=Tenant)(lambda *args: args)
    plain = app.task(name="plain")(lambda *args: args)
    ((messages, chords),), workflow = blocks(
        app, chord([task.s(1), plain.s(2), task.s(3) | plain.s()], plain.s())
    )
    assert [message.headers.get("tenant") for message in messages] == ["t", None, "t"]
    assert [message.headers.get("group_index") for message in messages] == [0, 1, None]
    assert body(messages[0])[2]["chord"]["options"]["task_id"] == workflow.result.id
    assert [size for _, size in chords] == [3]


def test_a_misspelt_option_is_found_wherever_it_stands(app, add):
    wrong = add.s(1, 1).set(countdwon=3)
    for sig in (
        chain(wrong, add.s(2)),
        chain(add.s(1, 1), wrong),
        group(wrong, add.s(2, 2)),
        group(add.s(1, 1), add.s(2, 2)).set(countdwon=3),
        chord([add.s(1, 1)], wrong),
        chord([add.s(1, 1), chain(add.s(2, 2), wrong)], add.s(1)),
    ):
        with pytest.raises(TypeError, match="countdown"):
            blocks(app, sig)
        with pytest.raises(TypeError, match="countdown"):
            sig.apply_async()
    stamped = chain(add.s(1, 1), add.s(2))
    stamped.stamp(customer=7)
    ((messages, _),), _ = blocks(app, stamped)
    assert messages[0].headers["stamps"] == {"customer": 7}
    with pytest.raises(TypeError, match="queue"):
        group(add.s(1, 1), add.s(2, 2)).apply_async(qeue="q")
