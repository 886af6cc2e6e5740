"""The judge can fail: each kind of wrong is found, and only what a fault explains is excused."""

from __future__ import annotations

from pathlib import Path

import pytest
from judge import SETTLED_WITHIN, Event, Fault, Journal, JournalReader, judge

WORKER = 7


def one_run(
    task_id: str, started: float, ended: float | None, *, pid: int = WORKER, kind: str = "start"
) -> list[Event]:
    run = f"{task_id}@{started}"
    events = [Event(kind, task_id, run, pid, started)]
    return events if ended is None else [*events, Event("end", task_id, run, pid, ended)]


def good_day(count: int = 20) -> list[Event]:
    """Each of *count* tasks is sent at one second, and runs once in the next."""
    events = []
    for number in range(count):
        task_id, at = f"task-{number}", 10.0 * number
        events += [Event("try", task_id, "-", 1, at), Event("sent", task_id, "-", 1, at + 1)]
        events += one_run(task_id, at + 2, at + 3)
    return events


def test_a_good_day_is_good() -> None:
    verdict = judge(good_day())
    assert verdict.is_good
    assert (verdict.published, verdict.runs, verdict.excused) == (20, 20, set())


@pytest.mark.parametrize("number", range(20))
def test_one_dropped_is_found(number: int) -> None:
    gone = f"task-{number}"
    events = [each for each in good_day() if each.id != gone or each.kind in ("try", "sent")]
    assert judge(events).lost == {gone}
    # A fault does not excuse a loss.
    assert judge(events, faults=[Fault(0.0, 1e9)]).lost == {gone}


@pytest.mark.parametrize("number", range(20))
def test_one_doubled_is_found(number: int) -> None:
    twice = f"task-{number}"
    verdict = judge(good_day() + one_run(twice, 500.0, 501.0))
    assert verdict.duplicated == {twice} and not verdict.is_good


def test_one_that_nobody_sent_is_found() -> None:
    assert judge(good_day() + one_run("stranger", 500.0, 501.0)).unexplained == {"stranger"}


def test_one_that_did_not_end_is_lost() -> None:
    events = [each for each in good_day() if (each.id, each.kind) != ("task-3", "end")]
    assert judge(events).lost == {"task-3"}


def test_the_dead_and_the_waiting_are_not_lost() -> None:
    events = [each for each in good_day() if each.kind in ("try", "sent")]
    dead, waiting = {"task-0", "task-1"}, {f"task-{number}" for number in range(2, 19)}
    verdict = judge(events, dead=dead, waiting=waiting)
    assert (verdict.lost, verdict.dead) == ({"task-19"}, dead)


def test_one_that_ended_and_waits_again_is_duplicated() -> None:
    assert judge(good_day(), waiting={"task-2"}).duplicated == {"task-2"}
    assert judge(good_day(), dead={"task-2"}).duplicated == {"task-2"}


def test_a_publish_that_failed_may_have_happened() -> None:
    events = [each for each in good_day() if (each.id, each.kind) != ("task-3", "sent")]
    assert judge(events).is_good
    assert judge([each for each in events if each.id != "task-3" or each.kind == "try"]).is_good


@pytest.mark.parametrize(
    ("fault", "is_excused"),
    [
        (Fault(2.5, 2.5, WORKER), True),  # while it ran
        (Fault(3.0 + SETTLED_WITHIN / 2, 99.0, WORKER), True),  # before it was settled
        (Fault(3.1 + SETTLED_WITHIN, 99.0, WORKER), False),  # long after
        (Fault(1.0, 1.9, WORKER), False),  # before it
        (Fault(2.5, 2.5, WORKER + 1), False),  # somewhere else
        (Fault(2.5, 2.5), True),  # everywhere
        (Fault(0.5, 0.5), True),  # while it was sent, so it may have been sent twice
        (Fault(0.5, 0.5, WORKER), False),
    ],
)
def test_only_a_fault_that_struck_the_first_run_excuses_the_second(fault: Fault, is_excused: bool) -> None:
    verdict = judge(good_day() + one_run("task-0", 500.0, 501.0), faults=[fault])
    assert (verdict.excused, verdict.duplicated) == (
        ({"task-0"}, set()) if is_excused else (set(), {"task-0"})
    )


def test_an_excused_run_does_not_excuse_a_third() -> None:
    events = good_day() + one_run("task-0", 500.0, 501.0) + one_run("task-0", 600.0, 601.0)
    assert judge(events, faults=[Fault(2.5, 2.5)]).duplicated == {"task-0"}


def test_two_of_a_message_that_a_dying_worker_moved_are_excused() -> None:
    def verdict(*kinds: str, faults: tuple[Fault, ...]) -> set[str]:
        events = [Event("try", "a", "-", 1, 0.0), Event("sent", "a", "-", 1, 1.0)]
        for number, kind in enumerate(kinds):
            events += one_run("a", 50.0 + number, 50.5 + number, kind=kind)
        return judge(events, doubling=faults).duplicated

    died = (Fault(20.0, 20.0),)
    assert verdict("restart", "restart", faults=died) == set()
    assert verdict("restart", "restart", faults=()) == {"a"}
    assert verdict("restart", "restart", faults=(Fault(52.0, 52.0),)) == {"a"}
    assert verdict("start", "restart", faults=died) == {"a"}
    assert verdict("restart", "start", faults=died) == {"a"}


def test_only_what_was_sent_just_before_is_forgotten() -> None:
    gone = ("task-3", "task-4")
    events = [each for each in good_day() if each.kind in ("try", "sent") or each.id not in gone]
    verdict = judge(events, faults=[Fault(42.0, 43.0, loses_after=40.0)])
    assert (verdict.lost, verdict.forgotten) == ({"task-3"}, {"task-4"})


def test_a_journal_is_read_as_it_was_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    reader = JournalReader(journal.path)
    journal.note("sent", ["a", "b"])
    run = journal.new_run()
    journal.note("start", ["a"], run)
    read = [each[:3] for each in reader.read()]
    assert read == [("sent", "a", "-"), ("sent", "b", "-"), ("start", "a", run)]
    journal.note("end", ["a"], run)
    assert [each.kind for each in reader.read()] == ["end"]
    assert len(reader.events) == 4 and journal.new_run() != run
    journal.close()
    reader.close()
