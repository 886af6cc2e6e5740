"""Celery's schedulers: what they send and when, and the file that keeps it."""

from __future__ import annotations

import logging
import pickle
import shelve
import threading
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import celery.beat
import celery.schedules
import pytest
from celery import Celery

from fastq import FastQ, group, maybe_signature, signals
from fastq._core.codec import json_loads
from fastq._core.message import new_id
from fastq.beat import (
    BeatLazyFunc,
    PersistentScheduler,
    ScheduleEntry,
    Scheduler,
    SchedulingError,
    Service,
    shelf,
)
from fastq.beat import service as service_module
from fastq.beat.service import scheduler_class
from fastq.brokers.memory_store import open_store
from fastq.exceptions import ImproperlyConfigured
from fastq.schedules import BaseSchedule, crontab, schedule, solar

NOON = datetime(2026, 5, 4, 12, tzinfo=timezone.utc)


class Clock:
    """A clock that stands until it is set; the ``nowfun`` of schedules."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def app(clock):
    app = FastQ("beat", broker=f"memory://{new_id()}", set_as_current=False)
    app.now = clock

    @app.task(name="tasks.add")
    def add(x, y):
        return x + y

    yield app
    app.close()


def sent(app):
    """The messages that were sent, in order; they are taken away."""
    store = open_store(app.broker.url)
    found = [item.message for line in store.ready.values() for item in line]
    store.ready.clear()
    return found


def calls(app):
    """Task and arguments of the messages that were sent."""
    return [(each.task, *json_loads(each.body)[:2]) for each in sent(app)]


# -- entries ------------------------------------------------------------------------------


def test_an_entry_is_what_celerys_is(app):
    fields = {"name": "a", "task": "t", "schedule": timedelta(seconds=5), "args": (1,), "kwargs": {"k": "v"}}
    ours = ScheduleEntry(**fields, last_run_at=NOON, app=app)
    theirs = celery.beat.ScheduleEntry(**fields, last_run_at=NOON, app=Celery(set_as_current=False))
    assert repr(ours) == repr(theirs)
    ours_next, theirs_next = next(ours), theirs.next()
    assert ours_next.total_run_count == theirs_next.total_run_count == 1
    assert ours_next.last_run_at == NOON
    assert ours_next == ours
    assert (ours == "other") is False


def test_what_an_update_takes_over(app):
    entry = ScheduleEntry("a", "t", NOON, 7, 5, app=app)
    entry.update(ScheduleEntry("b", "u", None, 0, 6, (2,), {"k": 1}, {"queue": "q"}, app=app, jitter=2.0))
    assert (entry.name, entry.last_run_at, entry.total_run_count) == ("a", NOON, 7)
    assert (entry.task, entry.args, entry.kwargs, entry.options) == ("u", (2,), {"k": 1}, {"queue": "q"})
    assert entry.schedule == schedule(6)
    assert entry.jitter == 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": "skips"}, "overlap='skips' is nothing that an entry can have; did you mean 'skip'"),
        ({"catch_up": "never"}, "catch_up='never' .* one of none, one, all"),
    ],
)
def test_a_wrong_choice_is_refused(app, options, message):
    with pytest.raises(ImproperlyConfigured, match=message):
        ScheduleEntry("a", "t", NOON, 0, 5, app=app, **options)


# -- the scheduler --------------------------------------------------------------------------


def test_what_is_due_is_sent_with_celerys_header(app, clock):
    app.conf.beat_schedule = {
        "add": {"task": "tasks.add", "schedule": 10, "args": (1, 2), "options": {"headers": {"mine": 1}}},
        "other": {"task": "not.here", "schedule": timedelta(seconds=30), "kwargs": {"k": "v"}},
    }
    scheduler = Scheduler(app)
    assert scheduler.tick() == 10.0
    assert sent(app) == []
    clock.advance(10)
    assert scheduler.tick() == 10.0
    (message,) = sent(app)
    assert (message.task, json_loads(message.body)[:2]) == ("tasks.add", [[1, 2], {}])
    assert message.headers["celery_beat_task"] is True
    assert message.headers["mine"] == 1
    assert app.conf.beat_schedule["add"]["options"] == {"headers": {"mine": 1}}
    clock.advance(20)
    scheduler.tick()
    assert sorted(calls(app)) == [("not.here", [], {"k": "v"}), ("tasks.add", [1, 2], {})]
    assert scheduler.schedule["add"].total_run_count == 2
    assert scheduler.schedule["add"].last_run_at == clock.time


def test_a_tick_sends_all_that_is_due(app, clock):
    app.conf.beat_schedule = {str(n): {"task": "tasks.add", "schedule": 5, "args": (n, 0)} for n in range(50)}
    scheduler = Scheduler(app)
    clock.advance(5)
    scheduler.tick()
    assert len(sent(app)) == 50


def test_an_entry_that_is_always_due_keeps_nobody_waiting(app, clock):
    app.conf.beat_schedule = {
        "always": {"task": "always", "schedule": 0},
        "later": {"task": "later", "schedule": 5},
    }
    scheduler = Scheduler(app)
    clock.advance(5)
    scheduler.tick()
    assert {name for name, *_ in calls(app)} == {"always", "later"}


def test_one_broken_entry_stops_no_other(app, clock, caplog):
    class Broken(BaseSchedule):
        def is_due(self, last_run_at):
            raise ValueError("no idea")

    app.conf.beat_schedule = {
        "broken": {"task": "broken", "schedule": Broken()},
        "none": {"task": "none"},
        "wrong": {"task": "wrong", "schedule": 5, "shedule": 6},
        "unsendable": {"task": "tasks.add", "schedule": 5, "args": (1, object())},
        "good": {"task": "good", "schedule": 5},
    }
    scheduler = Scheduler(app)
    assert "'wrong' can't be scheduled and is left out" in caplog.text
    assert "'none' can't be scheduled and is left out: it needs a task and a schedule" in caplog.text
    clock.advance(5)
    scheduler.tick()
    assert [name for name, *_ in calls(app)] == ["good"]
    assert "When 'broken' is due can't be told" in caplog.text
    assert "the periodic task 'unsendable' can't be sent" in caplog.text


def test_sending_by_hand_counts_the_run_and_says_what_is_wrong(app):
    scheduler = Scheduler(app)
    entry = scheduler.add(name="a", task="tasks.add", schedule=5, args=(1, 2))
    assert scheduler.apply_async(entry).id
    assert scheduler.schedule["a"].total_run_count == 1
    entry.args = (1,)
    with pytest.raises(SchedulingError, match=r"the periodic task 'a' can't be sent: .*missing"):
        scheduler.apply_async(entry, advance=False)
    assert scheduler.schedule["a"].total_run_count == 1


def test_lazy_arguments_are_made_for_each_run(app, clock):
    numbers = iter(range(9))
    lazy = BeatLazyFunc(lambda plus: next(numbers) + plus, 10)
    app.conf.beat_schedule = {
        "a": {"task": "t", "schedule": 5, "args": (lazy,), "kwargs": {"k": lazy}},
    }
    scheduler = Scheduler(app)
    for _ in range(2):
        clock.advance(5)
        scheduler.tick()
    assert calls(app) == [("t", [10], {"k": 11}), ("t", [12], {"k": 13})]


def test_a_schedule_that_changes_is_seen(app, clock):
    scheduler = Scheduler(app)
    assert scheduler.tick() == scheduler.max_interval
    scheduler.schedule = {"a": ScheduleEntry("a", "t", clock(), 0, 20, app=app)}
    assert scheduler.tick() == 20.0
    scheduler.update_from_dict({"b": {"task": "t", "schedule": 10}})
    assert scheduler.tick() == 10.0
    scheduler.merge_inplace({"a": {"task": "t", "schedule": 15}})
    assert list(scheduler.schedule) == ["a"]
    assert scheduler.tick() == 15.0


def test_a_tick_comes_again_after_the_longest_interval(app):
    app.conf.beat_schedule = {"a": {"task": "t", "schedule": 1000}}
    assert Scheduler(app).tick() == 300
    app.conf.beat_max_loop_interval = 7
    assert Scheduler(app).tick() == 7
    assert Scheduler(app, max_interval=5).tick() == 5


def test_syncs_come_by_time_and_by_count(app, clock):
    syncs = []

    class Counting(Scheduler):
        def sync(self):
            syncs.append(self._tasks_since_sync)

    app.conf.beat_schedule = {"a": {"task": "t", "schedule": 5}}
    scheduler = Counting(app, sync_every_tasks=2)
    for _ in range(5):
        clock.advance(5)
        scheduler.tick()
    assert syncs == [1, 2, 2]  # the first since there was none before


def test_when_the_clock_is_set_intervals_go_on_and_times_of_the_day_follow(app, clock):
    app.conf.beat_schedule = {
        "interval": {"task": "interval", "schedule": 600},
        "daily": {"task": "daily", "schedule": crontab(30, 12, app=app)},
    }
    scheduler = Scheduler(app)
    scheduler.tick()
    clock.advance(3600)
    scheduler.clock_stepped(3600)
    scheduler.tick()
    assert [name for name, *_ in calls(app)] == ["daily"]
    clock.advance(600)
    scheduler.tick()
    assert [name for name, *_ in calls(app)] == ["interval"]
    clock.advance(-3600)
    scheduler.clock_stepped(-3600)
    clock.advance(600)
    scheduler.tick()
    assert [name for name, *_ in calls(app)] == ["interval"]


def test_old_results_are_deleted_where_the_store_does_not_do_so(app):
    app._backend = SimpleNamespace(
        expires_by_itself=False, shares_store_with=lambda broker: False, close=lambda: None
    )
    app._is_backend_open = True
    entry = Scheduler(app).schedule["celery.backend_cleanup"]
    assert (entry.schedule, entry.options) == (crontab("0", "4", "*"), {"expires": 43200})
    app.conf.result_expires = None
    assert "celery.backend_cleanup" not in Scheduler(app).schedule


# -- the file ----------------------------------------------------------------------------------


def write_by_celery(path, entries, **marks):
    """A schedule file, as Celery writes it."""
    with shelve.open(str(path)) as file:
        file.update({"entries": entries, "__version__": "5.7.0", "tz": None, "utc_enabled": True, **marks})


def test_celerys_file_is_read(app, tmp_path):
    path = tmp_path / "schedule"
    entries = {
        name: celery.beat.ScheduleEntry(name, "t", NOON, 3, when, (1,), {}, {"queue": "q"})
        for name, when in [
            ("interval", celery.schedules.schedule(60)),
            ("crontab", celery.schedules.crontab("*/5", 3)),
            ("solar", celery.schedules.solar("sunset", 1, 2)),
            ("gone", celery.schedules.schedule(1)),
        ]
    }
    write_by_celery(path, entries)
    app.conf.beat_schedule = {
        "interval": {"task": "t", "schedule": 60},
        "crontab": {"task": "t", "schedule": crontab("*/5", 3)},
        "solar": {"task": "t", "schedule": solar("sunset", 1, 2)},
        "new": {"task": "t", "schedule": 60},
    }
    scheduler = PersistentScheduler(app, schedule_filename=str(path))
    kept = {name: (entry.last_run_at, entry.total_run_count) for name, entry in scheduler.schedule.items()}
    known = (NOON, 3)
    assert kept == {"interval": known, "crontab": known, "solar": known, "new": (app.now(), 0)}
    assert all(entry.app is app for entry in scheduler.schedule.values())
    scheduler.close()


@pytest.mark.parametrize("when", [schedule(5), crontab("*/5", "1-3", "mon"), solar("sunset", 1, 2)])
def test_celery_reads_our_file(app, tmp_path, clock, when):
    path = tmp_path / "schedule"
    app.conf.beat_schedule = {"a": {"task": "t", "schedule": when, "args": ("x",), "options": {"queue": "q"}}}
    scheduler = PersistentScheduler(app, schedule_filename=str(path))
    entry = scheduler.reserve(scheduler.schedule["a"])
    scheduler.close()
    with shelve.open(str(path)) as file:
        found = file["entries"]["a"]
    assert type(found) is celery.beat.ScheduleEntry
    assert type(found.schedule).__module__ == "celery.schedules"
    assert repr(found.schedule) == repr(when)
    assert (found.last_run_at, found.total_run_count) == (entry.last_run_at, 1)
    assert (found.task, found.args, found.options) == ("t", ("x",), {"queue": "q"})

    theirs = Celery(set_as_current=False)
    theirs.conf.beat_schedule = {"a": {"task": "t", "schedule": type(found.schedule)(*when.__reduce__()[1])}}
    celerys = celery.beat.PersistentScheduler(theirs, schedule_filename=str(path))
    assert celerys.schedule["a"].total_run_count == 1
    celerys._store.close()


def test_our_own_file_is_read_again(app, tmp_path, clock):
    path = str(tmp_path / "schedule")
    app.conf.beat_schedule = {"a": {"task": "t", "schedule": 60}}
    first = PersistentScheduler(app, schedule_filename=path)
    clock.advance(60)
    first.tick()
    first.close()
    clock.advance(30)
    assert PersistentScheduler(app, schedule_filename=path).tick() == 30.0


def test_the_file_begins_anew_for_another_zone(app, tmp_path, caplog):
    path = tmp_path / "schedule"
    write_by_celery(path, {"a": celery.beat.ScheduleEntry("a", "t", NOON, 3, 60)}, tz="Europe/Berlin")
    app.conf.beat_schedule = {"a": {"task": "t", "schedule": 60}}
    scheduler = PersistentScheduler(app, schedule_filename=str(path))
    assert scheduler.schedule["a"].total_run_count == 0
    assert "begins anew: it was written for {'tz': 'Europe/Berlin'" in caplog.text
    scheduler.close()


def test_a_file_that_is_no_schedule_is_put_aside(app, tmp_path, caplog):
    path = tmp_path / "schedule"
    path.write_bytes(b"something else" * 100)
    scheduler = PersistentScheduler(app, schedule_filename=str(path))
    scheduler.close()
    assert (tmp_path / "schedule.unreadable").read_bytes().startswith(b"something else")
    assert "can't be read, and is put aside" in caplog.text


def test_a_file_that_names_what_is_not_there_is_left_alone(app, tmp_path):
    path = tmp_path / "schedule"
    with shelve.open(str(path)) as file:
        file["entries"] = {}
        file.dict[b"extra"] = b"cno_such_module\nThing\n."
    with pytest.raises(ImproperlyConfigured, match=r"that this program lacks.*no_such_module"):
        PersistentScheduler(app, schedule_filename=str(path))
    assert not list(tmp_path.glob("*.unreadable"))


def test_a_shelf_names_celerys_classes_and_no_other(app):
    when = crontab(nowfun=datetime.now)
    data = shelf.dumps({"fastq.schedules.cron crontab": when, "app": ScheduleEntry})
    assert b"cfastq" not in data
    assert shelf.loads(data)["fastq.schedules.cron crontab"] == when
    assert pickle.loads(data)["app"] is celery.beat.ScheduleEntry


# -- the service ---------------------------------------------------------------------------------


class Ticking(Scheduler):
    """Counts its ticks, and calls *then* at each."""

    then = staticmethod(lambda scheduler: None)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.ticks = 0
        self.steps = []
        self.is_closed = False

    def tick(self):
        self.ticks += 1
        return self.then(self)

    def clock_stepped(self, seconds):
        self.steps.append(seconds)

    def close(self):
        self.is_closed = True


def run_service(app, then, **options):
    """Run a service whose scheduler does *then* at each tick; returns the scheduler."""
    kind = type("Ticking", (Ticking,), {"then": staticmethod(then)})
    service = Service(app, scheduler_cls=kind, **options)
    app.service = service
    service.start()
    return service.scheduler


def test_a_service_ticks_until_it_is_stopped(app):
    begun = []
    receiver = signals.beat_init.connect(lambda sender, **named: begun.append(sender), weak=False)

    def then(scheduler):
        if scheduler.ticks == 3:
            app.service.stop()
        return 0.0

    scheduler = run_service(app, then)
    signals.beat_init.disconnect(receiver)
    assert scheduler.ticks == 3
    assert scheduler.is_closed
    assert begun == [app.service]


def test_a_stop_wakes_a_service_that_waits(app):
    def then(scheduler):
        threading.Thread(target=app.service.stop).start()
        return 60.0

    assert run_service(app, then).ticks == 1


def test_a_tick_that_raises_does_not_end_the_service(app, caplog, monkeypatch):
    monkeypatch.setattr(service_module, "LOOK_EVERY", 0.001)

    def then(scheduler):
        if scheduler.ticks == 1:
            raise ValueError("once")
        app.service.stop()
        return 0.0

    assert run_service(app, then).ticks == 2
    assert "the schedule could not be looked at" in caplog.text


def test_an_orphan_ends(app):
    scheduler = run_service(app, lambda scheduler: 60.0, is_orphaned=lambda: True, max_interval=1)
    assert scheduler.ticks == 1


def test_a_clock_that_was_set_is_told_to_the_scheduler(app, monkeypatch, caplog):
    wall = [1e9]
    monkeypatch.setattr(service_module.time, "time", lambda: wall[0])
    monkeypatch.setattr(service_module.time, "monotonic", lambda: 50.0)

    def then(scheduler):
        if scheduler.ticks == 2:
            app.service.stop()
            return 0.0
        app.service._waker.set()
        threading.Thread(target=lambda: None).start()
        monkeypatch.setattr(app.service._waker, "wait", lambda timeout: wall.__setitem__(0, 1e9 - 3600))
        return 60.0

    scheduler = run_service(app, then)
    assert scheduler.steps == [-3600.0]
    assert "the system's clock was set by -3600.0 s" in caplog.text


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("celery.beat:PersistentScheduler", PersistentScheduler),
        ("celery.beat.Scheduler", Scheduler),
        ("fastq.beat:Scheduler", Scheduler),
        (Ticking, Ticking),
    ],
)
def test_a_scheduler_is_found_by_its_name(wanted, found):
    assert scheduler_class(wanted) is found


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("fastq.beat:Nothing", "the scheduler 'fastq.beat:Nothing' can't be had: .*Nothing"),
        ("no_such:Thing", "No module named 'no_such'"),
        ("nothing", "no scheduler is named 'nothing': name one as module:Class"),
    ],
)
def test_a_scheduler_that_is_not_there(wanted, message):
    with pytest.raises(ImproperlyConfigured, match=message):
        scheduler_class(wanted)


# -- add_periodic_task ------------------------------------------------------------------------------


def test_periodic_tasks_are_added_in_code(app, clock):
    task = app.tasks["tasks.add"]
    app.conf.beat_schedule = {"configured": {"task": "t", "schedule": 5}}

    @app.on_after_configure.connect
    def setup(sender, **kwargs):
        sender.add_periodic_task(10, task, (1, 2), name="ten", queue="q", overlap="skip")

    assert app.add_periodic_task(20, task, (3,), {"y": 4}) == "tasks.add(3, y=4)"
    app.finalize()
    assert app.conf.beat_schedule == {
        "configured": {"task": "t", "schedule": 5},
        "tasks.add(3, y=4)": {
            "task": "tasks.add", "schedule": 20, "args": (3,), "kwargs": {"y": 4}, "options": {},
        },
        "ten": {
            "task": "tasks.add", "schedule": 10, "args": (1, 2), "kwargs": {}, "options": {"queue": "q"},
            "overlap": "skip",
        },
    }  # fmt: skip
    assert set(Scheduler(app).schedule) == {"configured", "tasks.add(3, y=4)", "ten"}


def test_signatures_are_entries(app):
    task = app.tasks["tasks.add"]
    assert app.add_periodic_task(10, task.s(2).set(queue="q"), (1,)) == "tasks.add(1, 2)"
    entry = app.conf.beat_schedule["tasks.add(1, 2)"]
    assert (entry["task"], tuple(entry["args"]), entry["options"]) == ("tasks.add", (1, 2), {"queue": "q"})
    app.add_periodic_task(10, group(task.s(1, 2), task.s(3, 4)), name="g", queue="q", jitter=1.0)
    entry = app.conf.beat_schedule["g"]
    assert (entry["task"], entry["options"], entry["jitter"]) == ("fastq.start", {"queue": "q"}, 1.0)
    (workflow,) = entry["args"]
    assert maybe_signature(workflow, app=app) == group(task.s(1, 2), task.s(3, 4))


def test_periodic_tasks_stay_when_the_configuration_comes_later(app):
    app.add_periodic_task(20, app.tasks["tasks.add"], name="a")
    app.config_from_object({"beat_schedule": {"b": {"task": "t", "schedule": 5}}})
    assert set(app.conf.beat_schedule) == {"a", "b"}
    assert app.conf.value_set_for("beat_schedule")


def test_the_same_call_without_a_name_replaces_the_one_before(app, caplog):
    task = app.tasks["tasks.add"]
    with caplog.at_level(logging.WARNING):
        app.add_periodic_task(20, task, (1,), name="a")
        app.add_periodic_task(20, task, (1,), name="a")
        assert caplog.text == ""
        app.add_periodic_task(20, task, (1,))
        app.add_periodic_task(30, task, (1,))
    assert "tasks.add(1) takes the place of the one before" in caplog.text
    assert app.conf.beat_schedule["tasks.add(1)"]["schedule"] == 30
