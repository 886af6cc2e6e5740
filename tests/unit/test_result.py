"""Results as clients read them, from documents as workers of both kinds write them."""

import json

import pytest

from fastq import FastQ
from fastq.backends.base import StoredResult
from fastq.exceptions import DecodeError


@pytest.fixture
def app(request):
    app = FastQ("results", broker=f"memory://{request.node.name}", set_as_current=False)
    yield app
    app.close()


def store(app, state, result, **fields):
    document = {
        "status": state,
        "result": result,
        "traceback": None,
        "children": [],
        **fields,
        "task_id": "id-1",
    }
    app.backend.store([StoredResult("id-1", state, json.dumps(document).encode())])
    return app.AsyncResult("id-1")


def test_a_retry_of_celerys_without_a_cause(app):
    result = store(app, "RETRY", None)
    assert (result.state, result.info) == ("RETRY", None)


def test_nobody_waits_for_a_result_that_is_not_stored(app):
    @app.task(ignore_result=True)
    def silent(x):
        return x

    @app.task
    def told(x):
        return x

    unstored = [
        silent.delay(1),
        told.apply_async((1,), ignore_result=True),
        app.send_task(silent.name, (1,)),
        app.send_task("elsewhere", ignore_result=True),
        *silent.apply_many([(1,), (2,)]),
    ]
    assert [result.get() for result in unstored] == [None] * 6
    stored = [
        told.delay(1),
        silent.apply_async((1,), ignore_result=False),
        *told.apply_many([(1,)]),
        *silent.apply_many([(1,)], ignore_result=False),
    ]
    for result in stored:
        with pytest.raises(TimeoutError):
            result.get(timeout=0)


def test_a_failure_without_an_exception_is_refused(app):
    with pytest.raises(DecodeError, match="None"):
        store(app, "FAILURE", None).info  # noqa: B018


def test_a_state_of_the_tasks_own_names_its_family(app):
    @app.task(bind=True)
    def step(self):
        self.update_state(state="HALFWAY", meta=[1])
        return json.loads(app.backend.fetch([self.request.id])[0])

    step.push_request(id="id-2", group="g", parent_id="p")
    try:
        document = step.run()
    finally:
        step.pop_request()
    assert list(document) == [
        "status", "result", "traceback", "children", "date_done", "group_id", "parent_id", "task_id",
    ]  # fmt: skip
    assert (document["status"], document["date_done"], document["group_id"]) == ("HALFWAY", None, "g")


def test_an_exception_is_described_in_what_the_results_are_written_in(app):
    pytest.importorskip("yaml")
    assert app.dump_exception(KeyError(b"\xff"))["exc_message"] == [b"\xff"]
    app.conf.result_serializer = "yaml"
    assert app.dump_exception(KeyError(object))["exc_message"] == ["<class 'object'>"]
