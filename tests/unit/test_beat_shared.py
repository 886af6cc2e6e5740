"""The shared scheduler on a memory broker, in a time that passes when told to."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from fastq import FastQ, signals
from fastq._core.codec import json_dumps, json_loads
from fastq._core.message import new_id
from fastq.beat import SharedScheduler, leadership, shared, store_clock
from fastq.beat.api import UnknownEntry
from fastq.beat.entry import BeatLazyFunc, ScheduleEntry
from fastq.beat.state import State, state_from
from fastq.brokers import memory_schedules
from fastq.brokers.base import Broker
from fastq.brokers.memory_store import open_store
from fastq.exceptions import ImproperlyConfigured, OperationalError
from fastq.schedules import BaseSchedule, crontab, schedstate, schedule

START = 1_777_896_000.0  # 4 May 2026, 12:00 UTC


class Time:
    """Steady time and the clock on the wall, of the store and of every beat."""

    def __init__(self) -> None:
        self.steady = 100.0
        self.wall = START

    def pass_(self, seconds: float) -> None:
        self.steady = round(self.steady + seconds, 3)
        self.wall = round(self.wall + seconds, 3)

    def step(self, seconds: float) -> None:
        """Set the clock on the wall."""
        self.wall += seconds


@pytest.fixture
def time(monkeypatch):
    passing = Time()
    for module in (leadership, shared, store_clock):
        monkeypatch.setattr(module, "steady", lambda: passing.steady)
    fake = SimpleNamespace(time=lambda: passing.wall, monotonic=lambda: passing.steady)
    monkeypatch.setattr(memory_schedules, "time", fake)
    monkeypatch.setattr("fastq.beat.api.time", fake)
    return passing


class Beats:
    """Beats of one schedule, each with an app of its own as in a process of its own."""

    def __init__(self, time: Time) -> None:
        self.time = time
        self.url = f"memory://{new_id()}"
        self.apps: list[FastQ] = []
        self.beats: list[SharedScheduler] = []

    def app(self, main="proj", **settings) -> FastQ:
        app = FastQ(main, broker=self.url, set_as_current=False, **settings)
        app.task(lambda *args, **kwargs: None, name="tasks.note")
        self.apps.append(app)
        return app

    def start(self, entries=(), **settings) -> SharedScheduler:
        """A beat whose code defines *entries*: name to schedule, or to the whole entry."""
        app = self.app(**settings)
        app.conf.beat_schedule = {
            name: what
            if isinstance(what, dict)
            else {"task": "tasks.note", "schedule": what, "args": (name,)}
            for name, what in dict(entries).items()
        }
        beat = SharedScheduler(app)
        self.beats.append(beat)
        beat.tick()
        return beat

    def run(self, seconds: float, *beats: SharedScheduler, step: float = 0.05) -> None:
        """Let time pass, and *beats* (else all of them) tick as they like to."""
        ends = self.time.steady + seconds
        while self.time.steady < ends - 1e-9:
            self.time.pass_(min(step, ends - self.time.steady))
            for beat in beats or self.beats:
                for _ in range(5):
                    if beat.tick() > 0:
                        break

    @property
    def store(self):
        return open_store(self.url)

    def sent(self):
        """The messages that were sent, taken away."""
        found = [item.message for line in self.store.ready.values() for item in line]
        self.store.ready.clear()
        return found

    def args(self):
        """The arguments of what was sent."""
        return [json_loads(each.body)[0] for each in self.sent()]

    def count(self):
        """How many runs of each entry were sent."""
        counts: dict[str, int] = {}
        for (name, *_), *_ in [(each,) for each in self.args()]:
            counts[name] = counts.get(name, 0) + 1
        return counts

    def states(self):
        kept = self.store.schedules["proj"].states
        return {name: state_from(number, data) for name, (number, data) in kept.items()}


@pytest.fixture
def beats(time):
    made = Beats(time)
    yield made
    for beat in made.beats:
        beat.close()
    for app in made.apps:
        app.close()


# -- one beat -----------------------------------------------------------------------------


def test_runs_are_sent_when_they_are_due(beats, time):
    beat = beats.start({"a": 10, "b": crontab("*/1")})
    assert beat.leads
    assert beat.schedule["a"].total_run_count == 0
    beats.run(9.9)
    assert beats.sent() == []
    beats.run(0.2)
    (message,) = beats.sent()
    assert message.task == "tasks.note"
    assert message.headers["celery_beat_task"] is True
    beats.run(50)
    assert beats.count() == {"a": 5, "b": 1}
    state = beats.states()["a"]
    assert (state.number, state.runs, state.outcome, state.due) == (7, 6, "sent", START + 60)
    assert state.next_due == START + 70
    assert state.schedule == "every 10.00 seconds"
    assert beat.schedule["a"].total_run_count == 6
    assert abs(beat.schedule["a"].last_run_at.timestamp() - START - 60) < 0.1


def test_the_id_of_a_task_names_its_run(beats):
    beats.start({"a": 1})
    beats.run(3)
    ids = [message.id for message in beats.sent()]
    assert len(set(ids)) == 3
    assert beats.states()["a"].task_id == ids[-1]


def test_a_thousand_entries_of_one_moment_are_made_ahead_and_sent_in_time(beats, time):
    beat = beats.start({str(n): crontab("*/1") for n in range(1000)})
    beats.run(59.95)
    assert all(item._prepared is not None for item in beat._items.values())
    assert beats.sent() == []
    time.pass_(0.05)
    beat.tick()
    assert len(beats.sent()) == 1000


def test_options_count_from_when_it_is_sent(beats):
    options = {"expires": 30, "countdown": 5, "queue": "q", "headers": {"mine": 1}}
    beats.start({"a": {"task": "tasks.note", "schedule": 10, "options": options}})
    beats.run(10)
    (delayed,) = [item.message for _, _, item in beats.store.delayed]
    assert delayed.headers["expires"] == "2026-05-04T12:00:40+00:00"
    assert delayed.headers["eta"] == "2026-05-04T12:00:15+00:00"
    assert (delayed.queue, delayed.headers["mine"]) == ("q", 1)


def test_lazy_arguments_are_made_when_they_are_sent(beats, time):
    beats.start({"a": {"task": "tasks.note", "schedule": 10, "args": (BeatLazyFunc(lambda: time.steady),)}})
    beats.run(20)
    first, second = (args[0] for args in beats.args())
    assert first == pytest.approx(110, abs=0.06)
    assert second == pytest.approx(120, abs=0.06)


def test_one_broken_entry_stops_no_other(beats, caplog):
    class Broken(schedule):
        def next_after(self, when):
            raise ValueError("no idea")

    class BrokenToo(schedule):
        def is_due(self, last_run_at):
            raise ValueError("no idea either")

    beats.start(
        {
            "good": 10,
            "broken": Broken(5, relative=True),
            "crazy": crontab("*/1", nowfun=lambda: None),
            "broken too": BrokenToo(5),
            "nothing": 0,
            "unsendable": {"task": "tasks.note", "schedule": 10, "args": (object(),)},
            "wrong": {"task": "tasks.note", "schedule": 10, "nonsense": 1},
        }
    )
    beats.run(10)
    assert beats.count() == {"good": 1}
    assert "When 'broken too' is due can't be told" in caplog.text
    assert "'nothing' is due can't be told" in caplog.text
    assert "'wrong' can't be scheduled and is left out" in caplog.text
    assert "the periodic task 'unsendable' can't be sent" in caplog.text
    state = beats.states()["unsendable"]
    assert (state.outcome, state.runs, state.due) == ("failed", 0, START + 10)
    assert state.error


def test_a_schedule_that_defines_is_due_is_asked(beats):
    asked = []

    class Asks(BaseSchedule):
        def is_due(self, last_run_at):
            asked.append(last_run_at)
            left = 7 - (self.now() - last_run_at).total_seconds()
            return schedstate(left <= 0, left if left > 0 else 7)

    beats.start({"a": Asks(nowfun=lambda: shared.moment(beats.time.wall))})
    beats.run(22)
    assert beats.count() == {"a": 3}
    assert len(asked) < 60


def test_a_schedule_that_is_always_due_keeps_nobody_waiting(beats):
    class Always(BaseSchedule):
        def is_due(self, last_run_at):
            return schedstate(True, 2.0)

    beats.start({"always": Always(), "b": 10})
    beats.run(10)
    assert beats.count() == {"always": 6, "b": 1}


def test_jitter_spreads_runs_the_same_way_for_every_beat(beats):
    entries = {str(n): {"task": "tasks.note", "schedule": 60, "args": (n,), "jitter": 10} for n in range(50)}
    beat = beats.start(entries)
    beats.run(60)
    assert len(beats.sent()) < 5
    beats.run(5)
    assert 10 < len(beats.sent()) < 45
    beats.run(5)
    assert {state.runs for state in beats.states().values()} == {1}
    assert {state.due for state in beats.states().values()} == {START + 60}
    twin = SharedScheduler(beat.app)
    twin.tick()
    for name, item in beat._items.items():
        assert 0 <= item.jitter(START) < 10
        assert shared.Item(item.entry, State()).jitter(START) == item.jitter(START), name


def test_the_signals_of_publishing_are_sent(beats):
    told = []
    receiver = signals.after_task_publish.connect(
        lambda sender, headers, **named: told.append((sender, headers["id"])), weak=False
    )
    beats.start({"a": 10})
    beats.run(10)
    signals.after_task_publish.disconnect(receiver)
    assert told == [("tasks.note", beats.states()["a"].task_id)]


# -- several beats --------------------------------------------------------------------------


def test_one_of_several_beats_leads_and_the_next_one_follows(beats, caplog):
    caplog.set_level(logging.INFO, "fastq.beat")
    entries = {"a": 1}
    first, second, third = (beats.start(entries) for _ in range(3))
    assert [beat.leads for beat in beats.beats] == [True, False, False]
    beats.run(10)
    assert beats.count() == {"a": 10}
    first.close()
    beats.run(2, second, third)
    assert second.leads != third.leads
    assert beats.count() == {"a": 2}
    assert "looks on" in caplog.text


def test_a_leader_that_dies_is_succeeded_and_no_run_is_lost_or_doubled(beats):
    first, second = beats.start({"a": 1}), beats.start({"a": 1})
    beats.run(3.5)
    beats.run(10, second)
    assert second.leads
    assert beats.count() == {"a": 13}
    beats.run(2)
    assert not first.leads
    assert beats.count() == {"a": 2}
    assert beats.states()["a"].number == 16


def test_a_leader_that_slept_sends_nothing_twice(beats):
    """It wakes up and sends before it looks at the lease."""
    first, second = beats.start({"a": 1}), beats.start({"a": 1})
    beats.run(2.5)
    first._leadership.look_at = float("inf")
    beats.run(8, second)
    beats.sent()
    before = beats.states()["a"]
    assert first.leads
    first.tick()
    assert beats.sent() == []
    assert beats.states()["a"] == before
    first.tick()
    assert not first.leads


def test_entries_that_the_leader_does_not_know_are_served_all_the_same(beats):
    old = beats.start({"a": 1, "b": 1})
    new = beats.start({"b": 1, "c": 1})
    assert old.leads
    assert set(new._items) == {"c"}
    beats.run(5)
    assert beats.count() == {"a": 5, "b": 5, "c": 5}
    old.close()
    beats.run(3, new)
    counts = beats.count()
    assert counts.get("a", 0) == 0
    assert (counts["b"], counts["c"]) == (3, 3)


def test_applications_do_not_mix(beats):
    beats.start({"a": 1})
    other = beats.start({"a": 1}, main="other")
    assert other.leads
    beats.run(2)
    assert beats.count() == {"a": 4}


def test_a_beat_whose_lease_does_not_run_out_is_succeeded_all_the_same(beats, time):
    """The clock of the store was set, or it never lets go."""
    beats.start({"a": 1})
    second = beats.start({"a": 1})
    beats.run(1)
    beats.store.schedules["proj"].until = float("inf")
    beats.run(8, second)
    assert second.leads


# -- missed runs -------------------------------------------------------------------------------


@pytest.mark.parametrize(("catch_up", "made_up"), [("none", 0), ("one", 1), ("all", 60)])
def test_what_was_due_while_no_beat_was_at_work(beats, catch_up, made_up, caplog):
    entries = {"a": {"task": "tasks.note", "schedule": 10, "args": ("a",), "catch_up": catch_up}}
    beats.start(entries).close()
    beats.beats.clear()
    beats.time.pass_(605)
    beats.start(entries)
    assert beats.count() == ({"a": made_up} if made_up else {})
    assert "no beat was at work for 10.08 minutes" in caplog.text
    beats.run(6)
    assert beats.count() == {"a": 1}
    assert beats.states()["a"].due == START + 610


def test_a_short_absence_misses_nothing(beats):
    beats.start({"a": 1}).close()
    beats.beats.clear()
    beats.time.pass_(14)
    beats.start({"a": 1})
    assert beats.count() == {"a": 14}


@pytest.mark.parametrize(("deadline", "made_up"), [(None, 10), (185, 3), (5, 0)])
def test_runs_of_a_crontab_that_are_too_late_are_not_made_up_for(beats, deadline, made_up):
    crontabs = {"task": "tasks.note", "schedule": crontab("*/1"), "args": ("a",), "catch_up": "all"}
    intervals = {"task": "tasks.note", "schedule": 60, "args": ("b",), "catch_up": "all"}
    beats.start({"a": crontabs, "b": intervals}, beat_cron_starting_deadline=deadline).close()
    beats.beats.clear()
    beats.time.pass_(610)
    beats.start({"a": crontabs, "b": intervals}, beat_cron_starting_deadline=deadline)
    assert beats.count() == ({"a": made_up, "b": 10} if made_up else {"b": 10})
    assert beats.states()["a"].due == START + 600
    beats.run(51)
    assert beats.count() == {"a": 1, "b": 1}


def test_many_missed_runs_come_in_portions(beats):
    entries = {"a": {"task": "tasks.note", "schedule": 1, "args": ("a",), "catch_up": "all"}}
    beats.start(entries).close()
    beats.beats.clear()
    beats.time.pass_(900)
    beats.start(entries)
    beats.run(1)
    assert beats.count() == {"a": 901}


# -- clocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [3600.0, -3600.0, 30.0, -30.0])
def test_when_the_clock_is_set_intervals_go_on_as_time_passes(beats, time, step, caplog):
    beats.start({"a": 10, "b": 1})
    beats.start({"a": 10, "b": 1})
    beats.run(25.5)
    beats.sent()
    time.step(step)
    beats.run(10)
    counts = beats.count()
    assert counts["a"] == 1
    assert 9 <= counts["b"] <= 11
    assert f"the clock of the schedule was set by {step:+.1f} s" in caplog.text


def test_when_the_clock_is_set_back_times_of_the_day_come_once_and_minutes_go_on(beats, time):
    beats.start({"daily": crontab(1, 12), "often": crontab("*/1")})
    beats.run(90)
    assert beats.count() == {"daily": 1, "often": 1}
    time.step(-3600)
    beats.run(120)
    assert beats.count() == {"often": 2}
    beats.run(3600, step=5.0)
    assert beats.count() == {"often": 60}


def test_when_the_clock_is_set_forward_one_missed_time_is_made_up_for(beats, time):
    beats.start({"daily": crontab(30, 12), "often": crontab("*/1")})
    beats.run(30)
    time.step(3600)
    beats.run(1.5)
    counts = beats.count()
    assert counts["daily"] == 1
    assert counts["often"] <= 2


def test_small_corrections_are_no_steps(beats, time, caplog):
    beats.start({"a": 10})
    for _ in range(10):
        beats.run(1.5)
        time.step(0.2)
    assert beats.count() == {"a": 1}
    assert "was set by" not in caplog.text


# -- overlap --------------------------------------------------------------------------------------


def end(beats, task_id, status="SUCCESS"):
    """Let the result store say that a task has ended."""
    from fastq.backends.base import StoredResult

    document = json_dumps({"status": status, "result": None, "task_id": task_id})
    beats.apps[0].backend.store([StoredResult(task_id, status, document)])


def overlapping(how):
    return {"a": {"task": "tasks.note", "schedule": 10, "args": ("a",), "overlap": how}}


def test_a_run_that_would_overlap_is_skipped(beats):
    beats.start(overlapping("skip"))
    beats.run(10.5)
    (first,) = beats.sent()
    assert first.headers["ignore_result"] is False
    beats.run(20)
    assert beats.sent() == []
    state = beats.states()["a"]
    assert (state.outcome, state.runs, state.error) == ("skipped", 1, f"task {first.id} has not ended")
    end(beats, first.id, "STARTED")
    beats.run(10)
    assert beats.sent() == []
    end(beats, first.id, "FAILURE")
    beats.run(10)
    assert beats.count() == {"a": 1}
    assert beats.states()["a"].error is None


def test_a_run_that_would_overlap_waits(beats):
    beats.start(overlapping("queue"))
    beats.run(30.5)
    (first,) = beats.sent()
    state = beats.states()["a"]
    assert (state.outcome, state.waiting) == ("waiting", (START + 20, START + 30))
    end(beats, first.id)
    beats.run(0.5)
    (second,) = beats.sent()
    assert beats.states()["a"].waiting == (START + 30,)
    assert beats.states()["a"].due == START + 30
    end(beats, second.id)
    beats.run(0.5)
    (third,) = beats.sent()
    assert len({first.id, second.id, third.id}) == 3
    end(beats, third.id)
    beats.run(9)
    assert beats.count() == {"a": 1}
    assert beats.states()["a"].due == START + 40


def test_runs_do_not_wait_without_end(beats, monkeypatch):
    monkeypatch.setattr("fastq.beat.item.MOST_WAITING", 2)
    beats.start(overlapping("queue"))
    beats.run(50.5)
    assert beats.states()["a"].waiting == (START + 20, START + 30)
    assert beats.states()["a"].outcome == "skipped"


def test_a_task_that_is_nowhere_has_ended(beats):
    """Its message was purged, and no result will come."""
    beats.start(overlapping("skip"))
    beats.run(10.5)
    assert beats.apps[0].broker.purge("celery") == 1
    beats.run(50)
    assert beats.sent() == []
    beats.run(20)
    assert beats.count() == {"a": 1}


def test_without_results_nobody_can_tell(beats, caplog):
    beats.start(overlapping("skip"), result_backend="disabled://")
    assert "overlap='skip' needs a result_backend" in caplog.text
    beats.run(11)
    assert beats.sent() == []


def test_results_that_come_as_replies_tell_no_beat():
    pytest.importorskip("fastq._core.amqp")
    app = FastQ("proj", broker="amqp://", backend="rpc://", set_as_current=False)
    entry = ScheduleEntry("a", "tasks.note", schedule=schedule(10), overlap="queue", app=app)
    with pytest.raises(ImproperlyConfigured, match="that every beat can read"):
        shared.check_results(app, entry)
    app.close()


def test_a_result_store_that_is_away_delays_nobody(beats, monkeypatch, caplog):
    beat = beats.start({**overlapping("skip"), "b": 10})
    beats.run(10.5)
    fetches = []

    def fetch(ids):
        fetches.append(ids)
        raise OperationalError("away")

    monkeypatch.setattr(beat.app.backend, "fetch", fetch)
    beats.sent()
    beats.run(10)
    assert beats.count() == {"b": 1}
    assert "whether runs have ended can't be told: away" in caplog.text
    assert len(fetches) == 1


# -- the broker is away -------------------------------------------------------------------------------


def test_while_the_broker_is_away_a_beat_tries_on(beats, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "fastq.beat")
    beat = beats.start({"a": 1})
    store = beat.place.store
    with monkeypatch.context() as patched:
        for method in ("look", "accept"):
            patched.setattr(store, method, lambda *args: (_ for _ in ()).throw(OperationalError("gone")))
        assert beat.tick() > 0
        beats.run(5)
        assert beats.sent() == []
    beats.run(1)
    assert beats.count() == {"a": 6}
    assert caplog.text.count("the schedule can't be reached, and is tried again: gone") == 1
    assert "within reach again" in caplog.text


def test_a_step_whose_answer_was_lost_is_not_taken_twice(beats, monkeypatch):
    beat = beats.start({"a": 1})
    store, accept = beat.place.store, beat.place.store.accept

    def lose_the_answer(runs, version):
        accept(runs, version)
        monkeypatch.setattr(store, "accept", accept)
        raise OperationalError("lost")

    monkeypatch.setattr(store, "accept", lose_the_answer)
    beats.run(3.1)
    assert beats.count() == {"a": 3}
    assert beats.states()["a"].runs == 3


def test_a_message_that_its_queue_can_not_take_is_a_failed_run(beats, monkeypatch, caplog):
    beat = beats.start({"a": 10, "b": 10})
    accept = beat.place.store.accept

    def refuse(runs, version):
        if any(run.messages for run in runs):
            monkeypatch.setattr(beat.place.store, "accept", accept)
            said = accept([run for run in runs if run.name == "b"], version)
            return ["WRONGTYPE" if run.name == "a" else said[0] for run in runs]
        return accept(runs, version)

    monkeypatch.setattr(beat.place.store, "accept", refuse)
    beats.run(11)
    assert beats.count() == {"b": 1}
    state = beats.states()["a"]
    assert (state.outcome, state.error, state.runs) == ("failed", "WRONGTYPE", 0)
    beats.run(10)
    assert beats.count() == {"a": 1, "b": 1}


# -- a store apart from the broker -----------------------------------------------------------------------


@pytest.fixture
def apart(beats, monkeypatch):
    """A broker that keeps no schedules; they lie in the embedded store, which is a memory store here."""
    from fastq.beat import stores
    from fastq.brokers.memory import MemoryBroker

    monkeypatch.setattr(MemoryBroker, "keeps_schedules", False)
    monkeypatch.setattr(stores, "EMBEDDED_URL", f"memory://{new_id()}")
    return beats


def test_runs_are_taken_in_the_store_and_then_published(apart):
    beat = apart.start({"a": 1})
    assert "MemoryBroker keeps none: shared by the beats of this machine alone" in beat.info
    apart.run(3)
    assert apart.count() == {"a": 3}
    kept = beat.place.store.read().states["a"]
    assert state_from(*kept).is_pending is False


def test_a_run_that_was_taken_and_not_published_is_published_by_the_next_beat(apart, monkeypatch):
    first = apart.start({"a": 1})
    apart.run(1.5)
    apart.sent()
    publish = first.place.publisher.publish

    def die(messages):
        raise KeyboardInterrupt

    monkeypatch.setattr(first.place.publisher, "publish", die)
    with pytest.raises(KeyboardInterrupt):
        apart.run(1)
    state = state_from(*first.place.store.read().states["a"])
    assert state.is_pending
    assert apart.sent() == []
    second = apart.start({"a": 1})
    apart.run(8, second)
    found = apart.sent()
    assert [message.id for message in found].count(state.task_id) == 1
    assert len(found) == len({message.id for message in found}) == 9
    monkeypatch.setattr(first.place.publisher, "publish", publish)


def test_while_the_broker_is_away_taken_runs_wait(apart, monkeypatch):
    beat = apart.start({"a": 1})
    with monkeypatch.context() as patched:
        away = lambda messages: (_ for _ in ()).throw(OperationalError("away"))  # noqa: E731
        patched.setattr(beat.place.publisher, "publish", away)
        apart.run(3.5)
    assert apart.sent() == []
    apart.run(1)
    assert apart.count() == {"a": 4}


# -- changes at run time -----------------------------------------------------------------------------------


def test_an_entry_is_added_changed_paused_and_removed(beats):
    beats.start({"code": 10})
    entries = beats.app().schedule
    info = entries.add("new", "tasks.note", 5, ("new",), overlap="allow", queue="celery")
    assert (info.task, info.schedule, info.is_in_code, info.outcome) == (
        "tasks.note", "every 5.00 seconds", False, "",
    )  # fmt: skip
    beats.run(11.2)
    assert beats.count() == {"new": 2, "code": 1}
    assert entries.change("new", schedule=1).schedule == "every 1.00 second"
    beats.run(5)
    assert beats.count()["new"] >= 4
    entries.pause("new")
    beats.run(1.1)
    beats.sent()
    beats.run(5)
    assert beats.count() == {"code": 1}
    assert entries.get("new").is_paused
    assert entries.get("new").next_run_at is None
    entries.resume("new")
    beats.run(3.1)
    assert 2 <= beats.count()["new"] <= 3
    entries.remove("new")
    beats.run(1.1)
    beats.sent()
    beats.run(5)
    assert "new" not in beats.count()
    with pytest.raises(UnknownEntry, match="no entry is named 'new'"):
        entries.get("new")


def test_an_entry_of_the_code_is_paused_and_run_by_hand(beats):
    beats.start({"code": 60})
    entries = beats.app().schedule
    entries._app.conf.beat_schedule = {"code": {"task": "tasks.note", "schedule": 60, "args": ("code",)}}
    entries.pause("code")
    beats.run(70)
    assert beats.sent() == []
    result = entries.run("code")
    (message,) = beats.sent()
    assert message.id == result.id
    assert message.headers["celery_beat_task"] is True
    info = entries.get("code")
    assert (info.total_run_count, info.outcome, info.task_id) == (1, "sent", result.id)
    entries.resume("code")
    beats.run(58)
    assert beats.sent() == []
    beats.run(4)
    assert beats.count() == {"code": 1}


def test_a_run_by_hand_moves_no_schedule(beats):
    beats.start({"code": 10})
    entries = beats.app().schedule
    entries._app.conf.beat_schedule = {"code": {"task": "tasks.note", "schedule": 10, "args": ("code",)}}
    beats.run(5)
    entries.run("code")
    assert beats.count() == {"code": 1}
    beats.run(5.1)
    assert beats.count() == {"code": 1}
    assert beats.states()["code"].due == START + 10


def test_what_will_be_due_is_told(beats):
    beats.start({"code": 60})
    entries = beats.app(timezone="Europe/Berlin").schedule
    entries._app.conf.beat_schedule = {
        "code": {"task": "tasks.note", "schedule": 60},
        "daily": {"task": "tasks.note", "schedule": crontab(0, 4)},
    }
    beats.run(90)
    found = [when.strftime("%H:%M:%S %Z") for when in entries.next("code", 2)]
    assert found == ["14:02:00 CEST", "14:03:00 CEST"]
    (when,) = entries.next("daily", 1)
    assert when.strftime("%d %H:%M %Z") == "05 04:00 CEST"


def test_the_list_shows_everything(beats):
    beats.start({"code": 60, "theirs": 60})
    app = beats.app()
    app.conf.beat_schedule = {
        "code": {"task": "tasks.note", "schedule": 60},
        "mine": {"task": "tasks.note", "schedule": 5},
        "broken": {"task": "tasks.note"},
    }
    app.schedule.add("added", "tasks.note", crontab(0, 4))
    beats.run(60)
    listed = {info.name: info for info in app.schedule.list()}
    assert list(listed) == ["added", "broken", "code", "mine", "theirs"]
    assert listed["code"].outcome == "sent"
    assert listed["code"].total_run_count == 1
    assert listed["code"].next_run_at.timestamp() == START + 120
    assert (listed["theirs"].task, listed["theirs"].schedule) == ("tasks.note", "every 1.00 minute")
    assert "code of another program" in listed["theirs"].problem
    assert listed["mine"].outcome == ""
    assert listed["broken"].problem == "it needs a task and a schedule"
    assert listed["added"].outcome == "new"
    app.schedule.remove("theirs")
    assert "theirs" not in [info.name for info in app.schedule.list()]


def test_the_state_of_the_last_task_is_shown(beats):
    beats.start({"code": 60})
    beats.run(60)
    end(beats, beats.states()["code"].task_id, "FAILURE")
    assert beats.apps[0].schedule.get("code").task_state == "FAILURE"


def test_what_can_not_be_changed_is_refused(beats):
    beats.start({"code": 60})
    app = beats.apps[0]
    entries = app.schedule
    entries.add("added", "tasks.note", 5)
    with pytest.raises(ImproperlyConfigured, match="an entry is named 'added' already: replace or remove it"):
        entries.add("added", "tasks.note", 6)
    assert entries.add("added", "tasks.note", 6, replace=True).schedule == "every 6.00 seconds"
    for change in (entries.change, entries.remove):
        with pytest.raises(ImproperlyConfigured, match="the entry 'code' is defined in code"):
            change("code")
    with pytest.raises(ImproperlyConfigured, match="the entry 'code' is defined in code: change it there"):
        entries.add("code", "tasks.note", 5)
    with pytest.raises(UnknownEntry, match="no entry is named 'aded'; did you mean 'added'"):
        entries.pause("aded")
    with pytest.raises(TypeError, match="an entry has no 'shedule'; did you mean 'schedule'"):
        entries.change("added", shedule=5)
    with pytest.raises(TypeError, match="apply_async takes no option 'queu'"):
        entries.add("x", "tasks.note", 5, queu="q")
    with pytest.raises(ImproperlyConfigured, match="must be more than 0"):
        entries.add("x", "tasks.note", 0)
    with pytest.raises(ImproperlyConfigured, match="needs a task and a schedule"):
        entries.add("x", "tasks.note", None)


def test_a_definition_of_a_later_version_is_left_out(beats, caplog):
    beat = beats.start({"code": 10})
    beat.place.store.put("later", b'{"task":"t","schedule":{"moon":"full"}}')
    beats.run(11)
    assert "'later' can't be scheduled and is left out: {'moon': 'full'}" in caplog.text
    assert beats.count() == {"code": 1}


def test_brokers_that_keep_schedules_say_so():
    assert not Broker.keeps_schedules
