"""What a worker notes of tasks, and the events that are made of it."""

from __future__ import annotations

import json
import time
from typing import Any

from pytest import MonkeyPatch

from fastq._core.message import Delivery, Message, Outcome
from fastq._core.task_events import EventWriter
from fastq.events.dispatcher import beginning
from fastq.worker import task_log
from fastq.worker.task_log import TaskLog, tells_of


class Log:
    """A log, what has woken, and the events that it gave, as (type, task)."""

    def __init__(self, **options: Any) -> None:
        self.woken = 0
        self.log = TaskLog(self._wake, **options)
        writers = (EventWriter(beginning({"hostname": name}), lambda name: True) for name in ("w", "c"))
        self._writer, self._sender = writers

    def _wake(self) -> None:
        self.woken += 1

    def take(self, *running: tuple[Delivery, float]) -> list[tuple[str, str]]:
        events = [json.loads(each) for each in self.log.take(self._writer, self._sender, running)]
        assert [event["clock"] for event in events] == sorted({event["clock"] for event in events})
        return [(event["type"].removeprefix("task-"), event["uuid"]) for event in events]


def delivery(task_id: str) -> Delivery:
    return Delivery(Message("proj.add", task_id, {}, b"[]", queue="celery"), 1, "celery")


def success(of: Delivery, **fields: Any) -> Outcome:
    return Outcome(of, state="SUCCESS", runtime=0.5, **fields)


def test_a_start_is_told_when_it_is_seen_or_with_the_end_and_once() -> None:
    log, seen, unseen = Log(), delivery("seen"), delivery("unseen")
    log.log.received([seen, unseen])
    assert log.take((seen, time.monotonic())) == [
        ("received", "seen"),
        ("received", "unseen"),
        ("started", "seen"),
    ]
    assert log.take((seen, time.monotonic())) == []
    log.log.ended([success(seen), success(unseen)])
    assert log.take() == [("succeeded", "seen"), ("started", "unseen"), ("succeeded", "unseen")]


def test_what_a_task_sends_is_told_before_its_end_if_that_is_wanted() -> None:
    follow = [Message("proj.next", "next", {}, b"[]", queue="celery")]
    for notes_sent, more in ((True, [("sent", "next")]), (False, [])):
        log = Log(notes_sent=notes_sent)
        outcome = success(delivery("u"), follow=follow)
        log.log.ended([outcome])
        outcome.follow = None  # they were published
        assert log.take() == [*more, ("started", "u"), ("succeeded", "u")]


def test_only_the_first_note_after_a_rest_wakes() -> None:
    log = Log()
    for _ in range(3):
        log.log.received([delivery("u")])
    assert log.woken == 1
    log.log.rest()  # there is something still
    assert log.woken == 2
    log.take()
    log.log.rest()
    assert log.woken == 2
    log.log.ended([success(delivery("u"))])
    assert log.woken == 3


def test_notes_are_bounded_and_what_is_lost_is_counted(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(task_log, "MOST_NOTED", 4)
    log, running = Log(), delivery("running")
    log.take((running, time.monotonic()))
    for number in range(6):
        log.log.received([delivery(str(number)), delivery(str(number))])
    log.log.ended([success(running)])
    assert (len(log.take()), log.log.dropped) == (4, 9)
    log.log.dropped = 0
    log.log.received([delivery("later")])
    assert log.take() == [("received", "later")]


def test_a_task_says_whether_it_is_told_of() -> None:
    class Silent:
        send_events = False

    tells = tells_of({"silent": Silent(), "loud": object()})
    assert [tells(name) for name in ("silent", "loud", "unknown")] == [False, True, True]
