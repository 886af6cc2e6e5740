"""Outcomes: what a worker of the one kind stores, a client of the other reads as its own would."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from uuid import uuid4

import pytest
from interop_errors import PaymentRefused
from interop_fleet import KINDS, PATIENCE, wait_until
from interop_way import Way

RESULT_VARIANTS = ["plain", "wide", "msgpack", "yaml"]


def raised(result) -> BaseException:
    """What `get` raises."""
    with pytest.raises(BaseException) as caught:
        result.get(timeout=PATIENCE)
    return caught.value


@pytest.mark.parametrize("variant", RESULT_VARIANTS)
def test_results_in_every_form(way, variant):
    value = {"text": "ä€😀", "numbers": [1, -2, 1.5], "nothing": None, "flag": True}
    there = way.on(variant)
    assert there.get("ident", value, []) == [value, []]


def test_results_with_tagged_types(way):
    values = [dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc), Decimal("1.10"), uuid4(), b"\xff\x00"]
    assert way.get("ident", *values) == values


@pytest.mark.parametrize("variant", RESULT_VARIANTS)
@pytest.mark.parametrize(
    ("kind", "cls", "args"),
    [("builtin", ValueError, ("boom", 42)), ("shared", PaymentRefused, (402, "no funds"))],
)
def test_an_exception_comes_back_as_its_class(way, variant, kind, cls, args):
    there = way.on(variant)
    result = there.send("fail", kind)
    for error in (raised(result), raised(there.read(result.id, way.runner))):
        assert type(error) is cls
        assert error.args == args
    read = there.read(result.id, way.sender)
    assert (read.state, type(read.info), type(read.result)) == ("FAILURE", cls, cls)
    assert read.failed() and read.ready() and not read.successful()
    assert "in fail" in read.traceback
    assert cls.__name__ in read.traceback.splitlines()[-1]


def test_an_exception_whose_class_is_not_here_keeps_its_name_and_arguments(way):
    result = way.send("fail", "hidden")
    for kind in KINDS:
        error = raised(way.read(result.id, kind))
        assert type(error).__name__ == "Hidden"
        assert error.args == ("secret", [1, 2])


def test_an_argument_that_cant_be_written_comes_back_as_its_repr(way):
    error = raised(way.send("fail", "unwritable"))
    assert (type(error), error.args) == (KeyError, ("<class 'object'>",))


def test_custom_states_are_seen_while_the_task_runs(way):
    go = f"go:{uuid4()}"
    seen = []

    def on_message(meta):
        if meta["task_id"] != result.id:
            return  # Celery's client tells of every task that it waits for
        seen.append(meta["status"])
        if meta["status"] == "PROGRESS":
            assert meta["result"] == {"done": 3, "total": 10}
            for kind in KINDS:
                read = way.read(meta["task_id"], kind)
                assert (read.state, read.info) == ("PROGRESS", {"done": 3, "total": 10})
                assert not read.ready()
            way.fleet.redis(1).rpush(go, "now")

    result = way.send("progress", go)
    assert result.get(timeout=PATIENCE, on_message=on_message) == "ok"
    assert list(dict.fromkeys(seen)) == ["PROGRESS", "SUCCESS"]


def test_a_client_that_did_not_send_waits_too(way):
    go = f"go:{uuid4()}"
    result = way.send("progress", go)
    other = way.read(result.id, way.runner)
    wait_until(lambda: other.state == "PROGRESS", "it runs")
    way.fleet.redis(1).rpush(go, "now")
    assert other.get(timeout=PATIENCE) == "ok"


@pytest.mark.parametrize("countdown", [0, 0.1])
def test_retries_are_counted(way, countdown):
    # With no countdown a child of Celery's may write RETRY over the SUCCESS of another child,
    # so what is stored in the end is not to be relied on then; that there was a SUCCESS is.
    get = way.get if countdown else lambda *call: way.send(*call).get(timeout=PATIENCE)
    assert get("flaky", 3, countdown) == [3, [way.runner] * 4]


def test_automatic_retries(way):
    assert way.get("auto", 2) == 2
    error = raised(way.send("auto", 100))
    assert (type(error), error.args) == (ConnectionError, ("away",))


def test_retries_that_are_used_up(way):
    error = raised(way.send("stubborn", True))
    assert (type(error), error.args) == (PaymentRefused, (402, "still no funds"))
    error = raised(way.send("stubborn", False))
    assert type(error).__name__ == "MaxRetriesExceededError"
    assert "proj.stubborn" in str(error)


@pytest.mark.parametrize("countdown", [0, 0.3])
def test_a_retry_is_run_by_a_worker_of_the_other_kind(way, countdown):
    other = way.fleet.serve(way.sender)
    assert way.send("hand_over", other, countdown).get(timeout=PATIENCE) == [way.sender, 1]


def test_ignored_and_rejected(way):
    key = f"ignored:{uuid4()}"
    ignored = way.send("ignored", key)
    wait_until(lambda: way.fleet.redis(1).llen(key), "it ran")
    rejected = way.send("rejected")
    for kind in KINDS:
        read = way.read(rejected.id, kind)
        wait_until(read.ready, "it was rejected")
        assert (read.state, type(read.info).__name__) == ("FAILURE", "Reject")
        assert way.read(ignored.id, kind).state == "PENDING"
    if way.runner == "fastq":
        assert "rejected" in way.fleet.buried(way.queue, rejected.id).reason


def test_time_limits_in_the_message_are_kept(way):
    soft = way.send("nap", 20, soft_time_limit=0.5, time_limit=15)
    hard = way.send("nap", 20, time_limit=1)
    assert type(raised(soft)).__name__ == "SoftTimeLimitExceeded"
    error = raised(hard)
    assert (type(error).__name__, error.args) == ("TimeLimitExceeded", (1,))


@pytest.mark.parametrize("variant", ["extended", "wide"])
def test_extended_results(way, variant):
    there = way.on(variant)
    result = there.send("add", 2, kwargs={"y": 3})
    assert result.get(timeout=PATIENCE) == 5
    for kind in KINDS:
        read = there.read(result.id, kind)
        assert (read.name, list(read.args), read.kwargs) == ("proj.add", [2], {"y": 3})
        assert (read.retries, read.queue) == (0, there.queue)
        assert read.worker.startswith(way.runner) and read.worker.endswith("@host")
        done = read.date_done
        assert abs((dt.datetime.now(dt.timezone.utc) - aware(done)).total_seconds()) < PATIENCE


def aware(moment: dt.datetime) -> dt.datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)


def test_how_long_results_are_kept_and_under_which_keys(way):
    there, redis = way.on("wide"), way.fleet.redis()
    result, failed, plain = there.send("add", 1, 2), there.send("fail", "builtin"), way.send("add", 1, 2)
    for sent in (result, failed, plain):
        sent.get(timeout=PATIENCE, propagate=False)
    assert 50 < redis.ttl(f"myapp_celery-task-meta-{result.id}") <= 60
    assert 590 < redis.ttl(f"myapp_celery-task-meta-{failed.id}") <= 600
    assert 86000 < redis.ttl(f"celery-task-meta-{plain.id}") <= 86400


def test_a_result_is_forgotten_for_both(way):
    result = way.send("add", 1, 2)
    result.get(timeout=PATIENCE)
    way.read(result.id, way.runner).forget()
    assert way.read(result.id, way.sender).state == "PENDING"


def test_a_task_of_an_unknown_name(way: Way):
    result = way.client.send_task("proj.nobody", (1,), queue=way.queue)
    for kind in KINDS:
        read = way.read(result.id, kind)
        wait_until(read.ready, "it was refused")
        error = raised(read)
        assert type(error).__name__ == "NotRegistered"
        assert "proj.nobody" in str(error)
    if way.runner == "fastq":
        assert "proj.nobody" in way.fleet.buried(way.queue, result.id).reason
