"""What the memory broker and backend promise beyond the contract."""

from __future__ import annotations

import os
import sys

import pytest

from fastq._core.message import Message, new_id
from fastq.backends.base import BackendOptions, StoredResult
from fastq.backends.memory import MemoryBackend
from fastq.brokers.base import BrokerOptions
from fastq.brokers.memory import MemoryBroker
from fastq.brokers.priority import priority_step
from fastq.exceptions import OperationalError
from fastq.wakeup import Waker

PUBLISH_CALLS = 5  # Python-level calls that one publish may take (issue: `delay` has 30)


def message() -> Message:
    task_id = new_id()
    return Message("tasks.noop", task_id, {"task": "tasks.noop", "id": task_id}, b"[[], {}, {}]", queue="q")


def test_a_publish_takes_few_calls_even_when_a_consumer_waits() -> None:
    broker = MemoryBroker(f"memory://{new_id()}", BrokerOptions())
    calls: list[str] = []
    sent = [message()]

    class WakerInTheMiddle(Waker):
        """Publishes when the consumer clears it: then the consumer stands among those who wait."""

        def clear(self) -> None:
            sys.setprofile(
                lambda frame, event, _: calls.append(frame.f_code.co_name) if event == "call" else None
            )
            broker.publish(sent)
            sys.setprofile(None)
            super().clear()

    middle = WakerInTheMiddle()
    middle.set()
    consumer = broker.consumer(["q"], "w@here", middle)
    assert len(consumer.turn((), 1, 1.0)) == 1
    assert len(calls) <= PUBLISH_CALLS, calls
    middle.close()


def test_a_forked_child_may_not_publish_into_its_copy() -> None:
    broker = MemoryBroker(f"memory://{new_id()}", BrokerOptions())
    pid = os.fork()
    if pid == 0:
        try:
            broker.publish([message()])
        except OperationalError as exc:
            os._exit(0 if "out of reach" in str(exc) else 2)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_brokers_of_other_names_hold_other_queues() -> None:
    one, other = (MemoryBroker(f"memory://{new_id()}", BrokerOptions()) for _ in range(2))
    one.publish([message()])
    assert [info.ready for info in one.queues()] == [1]
    assert other.queues() == []


def test_a_backend_of_another_name_shares_no_store() -> None:
    broker = MemoryBroker("memory://one", BrokerOptions())
    assert MemoryBackend("memory://one", BackendOptions()).shares_store_with(broker)
    assert MemoryBackend("memory://one/", BackendOptions()).shares_store_with(broker)
    assert not MemoryBackend("memory://", BackendOptions()).shares_store_with(broker)


def test_storing_removes_what_has_expired() -> None:
    name = new_id()
    passing = MemoryBackend(f"memory://{name}", BackendOptions(expires=0.0))
    passing.store([StoredResult(new_id(), "FAILURE", b"") for _ in range(3)])
    passing.save_group("g", b"")
    backend = MemoryBackend(f"memory://{name}", BackendOptions())
    backend.store([StoredResult("kept", "SUCCESS", b"") for _ in range(2)])
    assert backend.cleanup() == 0
    assert backend.fetch(["kept"]) == [b""]


@pytest.mark.parametrize(
    ("priority", "step"),
    [(None, 0), (-4, 0), (0, 0), (2, 0), (3, 3), (5, 3), (6, 6), (8, 6), (9, 9), (255, 9)],
)
def test_priorities_fall_into_four_steps(priority: int | None, step: int) -> None:
    assert priority_step(priority) == step
