"""Processes killed under load: nothing is lost, and only what was running may run twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from judge import Fault
from stage import HERE, PATIENCE, Stage, forms

from fastq.exceptions import WorkerLostError


@pytest.mark.parametrize("kills", forms(8, 100))
@pytest.mark.parametrize("pool", ["prefork"])
def test_children_that_are_killed(stage: Stage, kills: int) -> None:
    rng = random.Random(1)
    worker = stage.start_worker().wait_until_ready()
    killed: set[int] = set()
    with stage.load():
        for _ in range(kills):
            time.sleep(rng.uniform(0.05, 0.25))
            alive = {each.pid for each in stage.events() if each.kind == "child"} - killed
            child = rng.choice(sorted(alive))
            began = time.monotonic()
            os.kill(child, signal.SIGKILL)
            stage.faults.append(Fault(began, time.monotonic(), child))
            killed.add(child)
            born = 2 + len(killed)
            stage.wait_for(
                lambda events, born=born: sum(each.kind == "child" for each in events) >= born, "a new child"
            )
            # A dead child is replaced within a second; some more for a busy machine.
            assert time.monotonic() - began < 3.0
    verdict = stage.verdict()
    assert verdict.is_good, f"{verdict}\n{stage.logs()}"
    assert stage.missing_results() == set()
    assert worker.stop() == 0


@pytest.mark.parametrize("kills", forms(3, 50))
def test_workers_that_are_killed(stage: Stage, kills: int) -> None:
    rng = random.Random(2)
    with stage.load():
        for _ in range(kills):
            worker = stage.start_worker().wait_until_ready()
            time.sleep(rng.uniform(0.0, 0.3))
            worker.kill()
        worker = stage.start_worker().wait_until_ready()
    verdict = stage.verdict()
    assert verdict.is_good, f"{verdict}\n{stage.logs()}"
    assert verdict.runs > 20 * kills
    assert stage.missing_results() == set()
    assert worker.stop() == 0


@pytest.mark.parametrize("kills", forms(4, 50))
@pytest.mark.parametrize("pool", ["prefork"])
def test_publishers_that_are_killed(stage: Stage, kills: int) -> None:
    """What was confirmed is there; of the batch that was on its way, no more than was sent."""
    rng = random.Random(8)
    worker = stage.start_worker().wait_until_ready()
    for _ in range(kills):
        batches = len(stage.ids("sent"))
        with subprocess.Popen(
            [sys.executable, HERE / "publisher.py", stage.url, stage.journal.path], env=stage.environment
        ) as publisher:
            try:
                stage.wait_for(lambda _, least=batches: len(stage.ids("sent")) > least, "a confirmed batch")
                time.sleep(rng.uniform(0.0, 0.05))
            finally:
                publisher.kill()
    verdict = stage.verdict()
    assert verdict.is_good and not verdict.dead and not verdict.excused, f"{verdict}\n{stage.logs()}"
    assert stage.ids("try") - stage.ids("sent")
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", ["solo"])
def test_a_task_that_kills_each_of_its_workers_dies_itself(stage: Stage, pool: str) -> None:
    (task_id,) = stage.publish([("die", ())])
    for _ in range(1 + stage.app.conf.task_max_redeliveries):
        assert stage.start_worker().process.wait(PATIENCE) == -signal.SIGKILL, stage.logs()
    worker = stage.start_worker().wait_until_ready()
    result = stage.app.AsyncResult(task_id)
    with pytest.raises(WorkerLostError, match="died 4 times"):
        result.get(timeout=PATIENCE)
    verdict = stage.verdict()
    assert verdict.is_good and verdict.dead == {task_id} and verdict.runs == 4, f"{verdict}\n{stage.logs()}"
    assert worker.stop() == 0
