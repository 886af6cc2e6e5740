"""What a signature becomes when it is called: messages, and the results that its caller gets."""

import json

import pytest

from fastq import FastQ
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
