"""Three beats and one schedule: killed, stopped, and with their clocks set; judged by the ids of the runs."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from beat_stage import ENTRIES, LEASE, BeatStage, judge_runs
from beat_stage import EVERY as RUN_EVERY
from stage import flush

from fastq.beat.state import State, run_id

# Seconds between two troubles of the leader, as the long form has them for five minutes.
EVERY = 3.0
SHORT, LONG = 4, 100

pytestmark = pytest.mark.timeout(1200)


def times(short: int, long: int) -> Any:
    """How often something is done, in the short form and the long one."""
    return pytest.mark.parametrize("times", [short, pytest.param(long, marks=pytest.mark.long)])


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'beats.sqlite3'}"
    server = request.getfixturevalue(f"{request.param}_server")
    found: str = server.url() if request.param == "rabbitmq" else server.url
    flush(found)
    return found


@pytest.fixture
def stage(tmp_path: Path, url: str) -> Iterator[BeatStage]:
    made = BeatStage(tmp_path, url)
    for _ in range(3):
        made.start_beat()
    made.wait_for_leader()
    made.wait_for_runs(20)
    yield made
    made.close()


both = pytest.mark.parametrize("url", ["redis", "sqlite"], indirect=True)


def test_the_judge_finds_what_is_wrong() -> None:
    due = 1_777_896_000.25
    states = {f"entry {n}": State(11, due, "sent", runs=10) for n in range(ENTRIES)}
    right = [
        (run_id("beats", f"entry {n}", number, due - (11 - number) * RUN_EVERY), n, float(number))
        for number in range(2, 12)
        for n in range(ENTRIES)
    ]
    assert judge_runs(right, states).is_good
    assert judge_runs(right, states, was_set=True).is_good
    for was_set in (False, True):
        assert judge_runs(right[1:], states, was_set=was_set).missing
        assert judge_runs([*right, right[5]], states, was_set=was_set).doubled
    assert judge_runs([*right, ("strange", 1, 5.0)], states).unexplained
    assert judge_runs([*right[:20], *((each, n, at + 6) for each, n, at in right[20:])], states).late


@both
@times(SHORT, LONG)
def test_while_leaders_are_killed_no_run_is_missing_and_none_double(stage: BeatStage, times: int) -> None:
    for _ in range(times):
        began = time.monotonic()
        leader = stage.wait_for_leader()
        leader.kill()
        stage.start_beat()
        time.sleep(max(began + EVERY - time.monotonic(), 0.0))
    stage.wait_for_leader()
    stage.wait_for_runs(20)
    states = stage.stop()
    verdict = stage.verdict(states)
    assert verdict.is_good, f"{verdict}\n{stage.logs()}"


@both
@times(2, 40)
def test_while_leaders_sleep_for_longer_than_their_lease_no_run_is_missing_and_none_double(
    stage: BeatStage, times: int
) -> None:
    for _ in range(times):
        leader = stage.wait_for_leader()
        leader.signal(signal.SIGSTOP)
        time.sleep(LEASE * 1.75)
        leader.signal(signal.SIGCONT)
        time.sleep(EVERY)
    states = stage.stop()
    verdict = stage.verdict(states)
    assert verdict.is_good, f"{verdict}\n{stage.logs()}"


@both
@times(2, 40)
def test_while_clocks_are_set_no_run_is_missing_and_none_double(stage: BeatStage, times: int) -> None:
    """On Redis the schedule goes by the server's clock, so theirs change nothing."""
    for number in range(times):
        stage.set_clock([3600.0, 0.0, -3600.0, 0.0][number % 4])
        time.sleep(EVERY)
        if number % 4 == 3:
            stage.wait_for_leader().kill()
            stage.start_beat()
    stage.wait_for_runs(20)
    states = stage.stop()
    verdict = stage.verdict(states, was_set=stage.app.broker.url.startswith("sqlite"))
    assert verdict.is_good, f"{verdict}\n{stage.logs()}"


@pytest.mark.parametrize("url", ["rabbitmq"], indirect=True)
@times(2, 40)
def test_on_rabbitmq_no_run_is_missing_and_a_double_has_the_same_id(stage: BeatStage, times: int) -> None:
    """The schedule lies beside the broker: a beat that dies between the two has sent, and not noted it."""
    for _ in range(times):
        stage.wait_for_leader().kill()
        stage.start_beat()
        time.sleep(EVERY)
    stage.wait_for_runs(20)
    states = stage.stop()
    verdict = stage.verdict(states)
    assert not (verdict.missing or verdict.unexplained or verdict.late), f"{verdict}\n{stage.logs()}"
    assert len(verdict.doubled) <= 20 * times
