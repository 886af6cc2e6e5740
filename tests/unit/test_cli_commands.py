"""The commands on an app whose broker and backend are fakes."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from command_line import run

from fastq._core.message import Message
from fastq.brokers.base import DeadMessage, QueueInfo, TaskPlace
from fastq.cli import dead, queues, result
from fastq.cli.call import parse_seconds_or_time, parse_time
from fastq.cli.errors import ExitCode
from fastq.cli.options import Target
from fastq.cli.output import age
from fastq.exceptions import OperationalError

ENVELOPE = Message(
    "tasks.add", "id-1", {"task": "tasks.add", "id": "id-1"}, b"[[2, 3], {}, {}]", queue="mail"
).envelope()


class FakeBroker:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.purged: list[str] = []
        self.retried: tuple[str, ...] | None = ()
        self.dropped: tuple[str, ...] | None = ()
        self.place: TaskPlace | None = None
        self.fails = False

    def queues(self, names=()):
        if self.fails:
            raise OperationalError("redis://localhost:1 refuses connections")
        return [
            QueueInfo(name="celery", ready=1200, claimed=2, delayed=3, dead=0, oldest_age=75.2),
            QueueInfo(name="mail", ready=0, claimed=0, delayed=0, dead=1, oldest_age=None),
        ]

    def purge(self, queue):
        self.purged.append(queue)
        return 1203

    def locate(self, task_id, queues=()):
        return self.place

    def dead(self, queue=None, limit=100):
        entry = DeadMessage(
            id="id-1", queue="mail", task="tasks.add", reason="unknown task", died_at=0.0, raw=ENVELOPE
        )
        return [entry] if queue in (None, "mail") else []

    def find_dead(self, id):
        return next((entry for entry in self.dead() if entry.id == id), None)

    def retry_dead(self, ids, queue=None):
        self.retried = ids
        return 1 if ids is None or "id-1" in ids else 0

    def drop_dead(self, ids, queue=None):
        self.dropped = ids
        return 1 if ids is None or "id-1" in ids else 0


class FakeApp:
    main = "fake"
    backend = None
    tasks = {"tasks.add": None, "celery.ping": None}

    def __init__(self) -> None:
        self.broker = self.read_broker = FakeBroker()

    def finalize(self):
        pass

    def queue_names(self):
        return ["celery"]


@pytest.fixture
def app(monkeypatch):
    made = FakeApp()
    monkeypatch.setattr(Target, "load_app_or_default", lambda self: made)
    return made


def test_queues_are_a_table_for_people(app, capsys):
    assert run(["queues"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == list(queues.COLUMNS)
    assert [line.split() for line in lines if line.startswith(("celery", "mail"))] == [
        ["celery", "1,200", "2", "3", "0", "1", "min", "15", "s"],
        ["mail", "0", "0", "0", "1", "-"],
    ]


def test_queues_are_json_for_programs(app, capsys):
    assert run(["queues", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["ready"] == 1200


def test_a_broker_that_is_down_has_its_exit_code(app, capsys):
    app.broker.fails = True
    assert run(["queues"]) == ExitCode.UNAVAILABLE
    assert capsys.readouterr().err == "fastq: redis://localhost:1 refuses connections\n"


def test_purge_asks_first(app, monkeypatch, capsys):
    monkeypatch.setattr(
        "click.confirm", lambda text, **options: pytest.fail(text) if "1,203" not in text else True
    )
    assert run(["purge"]) == 0
    assert app.broker.purged == ["celery"]
    assert "removed 1,203 messages from 'celery'" in capsys.readouterr().out


def test_purge_with_force_does_not_ask(app, monkeypatch):
    monkeypatch.setattr("click.confirm", lambda text, **options: pytest.fail("asked"))
    assert run(["purge", "-f"]) == 0
    assert app.broker.purged == ["celery"]


def test_purge_of_a_misspelt_queue_removes_nothing(app, capsys):
    assert run(["purge", "-f", "-Q", "celer"]) == ExitCode.FAILED
    assert "did you mean 'celery'?" in capsys.readouterr().err
    assert app.broker.purged == []


def test_dead_messages_are_listed(app, capsys):
    assert run(["dead", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"id": "id-1", "task": "tasks.add", "queue": "mail", "died_at": 0.0, "reason": "unknown task"}
    ]
    assert run(["dead", "list"]) == 0
    assert "unknown task" in capsys.readouterr().out


def test_a_dead_message_shows_its_arguments(app, capsys):
    assert run(["dead", "show", "id-1", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["args"], shown["kwargs"], shown["headers"]["id"]) == ([2, 3], {}, "id-1")


def test_a_dead_message_that_is_not_there_is_a_failure(app):
    assert run(["dead", "show", "id-2"]) == ExitCode.FAILED
    assert run(["dead", "retry", "id-2"]) == ExitCode.FAILED
    assert run(["dead", "retry", "id-1", "id-2"]) == ExitCode.FAILED


def test_dead_messages_are_retried_and_dropped(app, capsys):
    assert run(["dead", "retry", "--all"]) == 0
    assert app.broker.retried is None
    assert run(["dead", "drop", "id-1"]) == 0
    assert app.broker.dropped == ("id-1",)
    assert run(["dead", "drop", "--all", "--force"]) == 0
    assert app.broker.dropped is None


def test_what_can_not_be_decoded_is_shown_as_it_came():
    entry = DeadMessage(id="x", queue="q", task="", reason="r", died_at=0.0, raw=b"\xffnot json")
    assert dead.content(None, entry) == {"raw": "\\xffnot json"}


@pytest.mark.parametrize(
    ("place", "said", "code"),
    [
        (None, "unknown: neither the broker nor the result backend knows this id", 1),
        (TaskPlace(state="queued", queue="celery"), "queued in queue 'celery'", 0),
        (TaskPlace(state="claimed", queue="celery", worker="w@h"), "claimed by w@h in queue 'celery'", 0),
        (TaskPlace(state="dead", queue="celery", reason="boom"), "dead in queue 'celery': boom", 1),
        (
            TaskPlace(state="delayed", queue="celery", until=0.0),
            "delayed in queue 'celery' until 1970-01-01",
            0,
        ),
    ],
)
def test_a_task_without_result_is_located(app, capsys, place, said, code):
    app.broker.place = place
    assert run(["result", "some-id"]) == code
    assert capsys.readouterr().out.startswith(said)


@pytest.mark.parametrize(
    ("state", "place", "headline", "code"),
    [
        ("SUCCESS", None, "done: SUCCESS", 0),
        ("FAILURE", None, "failed: FAILURE", 1),
        ("STARTED", TaskPlace(state="claimed", queue="q", worker="w@h"), "running by w@h in queue 'q'", 0),
        ("RETRY", TaskPlace(state="queued", queue="q"), "queued in queue 'q'", 0),
    ],
)
def test_a_stored_state_counts(app, capsys, state, place, headline, code):
    app.backend = object()
    app.broker.place = place
    stored = SimpleNamespace(state=state, result=5, info=None, traceback=None, date_done=None)
    app.AsyncResult = lambda task_id: stored
    assert run(["result", "some-id"]) == code
    assert capsys.readouterr().out.startswith(headline)


def test_a_task_that_died_with_its_worker_says_so():
    lines = result.describe({"id": "x", "place": "queued", "queue": "q", "state": None, "redelivered": 2})
    assert lines == ["queued in queue 'q'", "its worker died 2 times while it ran"]


def test_times_are_utc_unless_they_say_otherwise():
    assert parse_time("2030-01-31T12:00:00", "--eta") == datetime(2030, 1, 31, 12, tzinfo=timezone.utc)
    assert parse_time("2030-01-31T12:00:00Z", "--eta") == datetime(2030, 1, 31, 12, tzinfo=timezone.utc)
    assert parse_time("2030-01-31T12:00:00+02:00", "--eta").utcoffset() == timedelta(hours=2)
    assert parse_seconds_or_time("2.5", "--expires") == 2.5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (-1, "0.0 s"),
        (0.44, "0.4 s"),
        (75, "1 min 15 s"),
        (3600, "1 h"),
        (183_600, "2 d 3 h"),
        (59, "59 s"),
    ],
)
def test_ages_have_two_units(seconds, text):
    assert age(seconds) == text
