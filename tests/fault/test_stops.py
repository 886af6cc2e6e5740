"""Workers that stop cleanly under load: nothing is lost, and nothing runs twice."""

from __future__ import annotations

import random
import time

import pytest
from stage import Stage, forms


@pytest.mark.parametrize("stops", forms(3, 50))
def test_clean_stops(stage: Stage, stops: int) -> None:
    rng = random.Random(3)
    with stage.load():
        for _ in range(stops):
            worker = stage.start_worker().wait_until_ready()
            time.sleep(rng.uniform(0.0, 0.3))
            assert worker.stop() == 0, stage.logs()
            # All was given back before it left, so there is no lease to wait for.
            assert sum(info.claimed for info in stage.queues()) == 0, stage.logs()
        worker = stage.start_worker().wait_until_ready()
    verdict = stage.verdict()
    assert verdict.is_good and not verdict.excused and not verdict.dead, f"{verdict}\n{stage.logs()}"
    assert verdict.runs == verdict.published > 20 * stops
    assert stage.missing_results() == set()
    assert worker.stop() == 0
    assert "Traceback" not in stage.logs()


@pytest.mark.parametrize("stops", forms(2, 30))
def test_two_workers_of_which_one_comes_and_goes(stage: Stage, stops: int) -> None:
    rng = random.Random(4)
    stays = stage.start_worker("stays").wait_until_ready()
    with stage.load(400):
        for _ in range(stops):
            goes = stage.start_worker().wait_until_ready()
            time.sleep(rng.uniform(0.0, 0.3))
            assert goes.stop() == 0, stage.logs()
    verdict = stage.verdict()
    assert verdict.is_good and not verdict.excused and not verdict.dead, f"{verdict}\n{stage.logs()}"
    assert verdict.runs == verdict.published
    assert stage.missing_results() == set()
    assert stays.stop() == 0
    assert "Traceback" not in stage.logs()
