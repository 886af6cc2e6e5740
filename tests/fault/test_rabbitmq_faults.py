"""What only RabbitMQ does to its clients: queues deleted, alarms, deliveries that it takes back."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest
from judge import Fault
from servers import RabbitServer
from stage import PATIENCE, POOLS, Stage, flush, forms

from fastq.brokers.rabbitmq.connector import Connector
from fastq.brokers.rabbitmq.endpoint import parse_endpoint

# A deleted queue takes with it what it holds: what waits when the load has most ahead, sent by then.
SENT_BEFORE = 2.0


@pytest.fixture
def stage(make_stage: Callable[..., Stage], rabbitmq_server: RabbitServer, pool: str) -> Stage:
    flush(rabbitmq_server.url())
    return make_stage(rabbitmq_server.url(), pool)


def delete_queue(stage: Stage, name: str) -> None:
    """Delete the queue *name* with all that it holds."""
    connection = Connector(parse_endpoint(stage.url, {})).connect(PATIENCE)
    connection.call(connection.open_channel(PATIENCE), "queue.delete", PATIENCE, queue=name)
    connection.close()


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("deletions", forms(3, 50))
def test_a_queue_deleted_under_its_consumer(stage: Stage, deletions: int) -> None:
    rng = random.Random(9)
    worker = stage.start_worker().wait_until_ready()
    with stage.load(50) as load:
        for _ in range(deletions):
            time.sleep(rng.uniform(0.1, 0.5))
            began = time.monotonic()
            delete_queue(stage, "celery")
            ended = len(stage.ids("end"))
            load.most_waiting = 50 + len(stage.ids("sent")) - ended  # else it waits for what is gone
            stage.wait_for(lambda _, most=ended + 60: len(stage.ids("end")) > most, "tasks after that")
            stage.faults.append(Fault(began, time.monotonic(), loses_after=began - SENT_BEFORE))
    verdict = stage.verdict()
    assert verdict.is_good and not verdict.dead, f"{verdict}\n{stage.logs()}"
    assert verdict.runs + len(verdict.forgotten) == verdict.published
    assert "it was deleted" in stage.logs()
    assert worker.stop() == 0
    assert "Traceback" not in stage.logs()


@pytest.mark.parametrize("pool", ["prefork", "gevent"])
@pytest.mark.parametrize("alarms", forms(1, 20))
def test_a_memory_alarm_raised_and_cleared_under_load(
    stage: Stage, rabbitmq_server: RabbitServer, alarms: int
) -> None:
    worker = stage.start_worker().wait_until_ready()
    with stage.load():
        for _ in range(alarms):
            try:
                rabbitmq_server.control("set_vm_memory_high_watermark", "0.00001")
                stage.wait_for(lambda _: stage.ids("sent") == stage.ids("end"), "the end of what was sent")
                blocked = len(stage.ids("sent"))
                time.sleep(0.5)
                assert len(stage.ids("sent")) == blocked  # nothing is taken
            finally:
                rabbitmq_server.control("set_vm_memory_high_watermark", "0.4")
            stage.wait_for(lambda _, most=blocked: len(stage.ids("end")) > most, "tasks after the alarm")
    verdict = stage.verdict()
    assert verdict.is_good and not verdict.dead and not verdict.excused, f"{verdict}\n{stage.logs()}"
    assert verdict.runs == verdict.published
    assert stage.missing_results() == set()
    assert worker.stop() == 0
    assert "Traceback" not in stage.logs()
