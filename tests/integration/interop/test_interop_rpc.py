"""Results as messages, `rpc://`: a worker of the one kind sends them, a client of the other gets them."""

from __future__ import annotations

from uuid import uuid4

import pytest
from interop_brokers import ONLY_RABBITMQ
from interop_errors import PaymentRefused
from interop_fleet import PATIENCE, wait_until
from interop_way import Way

pytestmark = ONLY_RABBITMQ

MANY = 100


@pytest.fixture
def rpc(way: Way) -> Way:
    """Each direction between apps with the rpc backend."""
    return way.on("rpc")


def test_results_and_errors(rpc):
    value = {"text": "ä€😀", "numbers": [1, -2, 1.5], "nothing": None}
    assert rpc.send("ident", value, []).get(timeout=PATIENCE) == [value, []]
    refused = rpc.send("fail", "shared")
    with pytest.raises(PaymentRefused) as raised:
        refused.get(timeout=PATIENCE)
    assert raised.value.args == (402, "no funds")
    assert refused.state == "FAILURE"
    assert "in fail" in refused.traceback


def test_many_results_of_which_the_last_is_asked_for_first(rpc):
    results = [rpc.send("add", number, 1) for number in range(MANY)]
    assert [each.get(timeout=PATIENCE) for each in reversed(results)] == list(range(MANY, 0, -1))


def test_states_in_between_are_told(rpc):
    go, seen = f"go:{uuid4()}", []

    def on_message(meta):
        meta = meta if isinstance(meta, dict) else meta.payload
        if meta["task_id"] == result.id:
            seen.append((meta["status"], meta["result"]))
            if meta["status"] == "PROGRESS":
                rpc.fleet.redis(1).rpush(go, "now")

    result = rpc.send("progress", go)
    assert result.get(timeout=PATIENCE, on_message=on_message) == "ok"
    assert [status for status, _ in seen] == ["STARTED", "PROGRESS", "SUCCESS"]
    assert seen[0][1].keys() == {"pid", "hostname"}
    assert seen[1][1] == {"done": 3, "total": 10}


@pytest.mark.parametrize("way", [("fastq", "celery")], indirect=True, ids=["fastq-to-celery"])
def test_a_state_is_seen_without_waiting(rpc):
    """Celery's own clients do not look there once they have waited for anything."""
    go = f"go:{uuid4()}"
    result = rpc.send("progress", go)
    wait_until(lambda: result.state == "PROGRESS", "it runs")
    rpc.fleet.redis(1).rpush(go, "now")
    wait_until(result.ready, "it has ended")
    assert result.result == "ok"


def test_retries_answer_the_first_sender(rpc):
    assert rpc.send("flaky", 2, 0.1).get(timeout=PATIENCE) == [2, [rpc.runner] * 3]


def test_a_client_that_did_not_send_learns_nothing(rpc):
    result = rpc.send("add", 1, 2)
    assert result.get(timeout=PATIENCE) == 3
    other = rpc.read(result.id, rpc.runner)
    assert (other.state, other.result) == ("PENDING", None)
