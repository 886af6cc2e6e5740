"""The worker's loop, with a consumer and a pool that do as the test says."""

import logging
import threading
import time

import pytest

from fastq import FastQ
from fastq._core.consume import Gate
from fastq._core.message import JOB_DONE, Action, Delivery, Effects, Message, Outcome
from fastq._core.trace import Tracer
from fastq._core.window import PrefetchWindow
from fastq.backends.base import CompleteChord
from fastq.exceptions import OperationalError
from fastq.wakeup import Waker
from fastq.worker import loop as loop_module
from fastq.worker.elsewhere import Elsewhere
from fastq.worker.followups import Followups, is_job
from fastq.worker.heartbeat import Heartbeat
from fastq.worker.loop import Loop
from fastq.worker.state import WorkerState


class FakeConsumer:
    """Hands out *script*, one item a turn: deliveries, or an exception to raise. Then stops the loop."""

    commits_results = True
    is_connected = True

    def __init__(self, script):
        self.script = list(script)
        self.loop = None
        self.turns = []
        self.timeouts = []
        self.started = []
        self.sent_back = set()  # tags of redelivered messages that may not run
        self.lost = []
        self.completed = []
        self.closed_with = None

    def turn(self, outcomes, room, timeout):
        self.turns.append((list(outcomes), room))
        self.timeouts.append(timeout)
        if room and not self.script:
            self.loop.stop(60)
            return []
        step = self.script.pop(0) if room else []
        if isinstance(step, Exception):
            raise step
        return step

    def mark_started(self, deliveries):
        self.started.append([delivery.tag for delivery in deliveries])
        return [delivery for delivery in deliveries if delivery.tag not in self.sent_back]

    def adopt(self, running):
        self.adopted = [delivery.tag for delivery in running]

    def has_idle_peers(self, running):
        return True

    def unclaim(self):
        pass

    def close(self, unstarted=()):
        self.closed_with = list(unstarted)

    def settled(self):
        return [outcome for outcomes, _ in self.turns for outcome in outcomes]


class FakePool:
    """Ends each delivery with a success as soon as outcomes are asked for, unless its task is held."""

    runs_inline = False

    def __init__(self):
        self.submitted = []
        self.waiting = []
        self.held = set()
        self.is_stopped = False
        self.ended = []

    def submit(self, deliveries):
        self.submitted += deliveries
        self.waiting += deliveries

    def outcomes(self):
        ended = [delivery for delivery in self.waiting if delivery.message.id not in self.held]
        self.waiting = [delivery for delivery in self.waiting if delivery.message.id in self.held]
        return [Outcome(delivery, state="SUCCESS", result=b"{}", runtime=1e-5) for delivery in ended]

    def running(self):
        return []

    def take_back(self):
        taken, self.waiting = self.waiting, []
        return taken

    def deadline(self):
        return None

    def end(self, deliveries):
        self.ended += deliveries

    def stop(self, *, force=False):
        self.is_stopped = True


class FakeStore:
    sends_replies = False

    def __init__(self):
        self.stored = []

    def store(self, results, deadline):
        self.stored += results


@pytest.fixture
def app():
    app = FastQ("loop", broker="memory://loop", set_as_current=False)

    @app.task(name="late")
    def late():
        pass

    @app.task(name="early", acks_late=False)
    def early():
        pass

    app.finalize()
    yield app
    app.close()


def delivery(number, task="late", redelivered=0):
    headers = {"task": task, "id": f"id-{number}"}
    return Delivery(
        Message(task, f"id-{number}", headers, b"[[],{},{}]", queue="q"), number, "q", redelivered
    )


def make_loop(
    app, consumer, pool, *, follow_to=None, store=None, concurrency=1, multiplier=0, lease=30.0, **options
):
    loop = Loop(
        pool,
        lambda: consumer,
        waker=Waker(),
        gate=Gate(app, Tracer(app, "w@host")),
        window=PrefetchWindow(concurrency, multiplier),
        elsewhere=Elsewhere(follow_to, store),
        followups=Followups(0.0),
        state=WorkerState(),
        lease=lease,
        **options,
    )
    consumer.loop = loop
    return loop


def run_loop(app, consumer, pool, **options):
    loop = make_loop(app, consumer, pool, **options)
    try:
        loop.run()
    finally:
        loop._waker.close()


def serve(app, script, *, pool=None, **options):
    consumer, pool = FakeConsumer(script), pool or FakePool()
    run_loop(app, consumer, pool, **options)
    return consumer, pool


def test_what_comes_in_is_run_and_settled_once(app):
    consumer, pool = serve(app, [[delivery(1), delivery(2)], [delivery(3)]])
    assert [each.tag for each in pool.submitted] == [1, 2, 3]
    assert [outcome.delivery.tag for outcome in consumer.settled()] == [1, 2, 3]
    assert consumer.closed_with == []
    assert pool.is_stopped


def test_a_turn_settles_and_asks_for_as_many_again(app):
    consumer, _ = serve(app, [[delivery(1), delivery(2)], [delivery(3)]], multiplier=2)
    assert consumer.turns[0] == ([], 2)
    outcomes, room = consumer.turns[1]
    assert (len(outcomes), room) == (2, 2)


def test_outcomes_outlive_a_broker_that_goes_away(app, monkeypatch, caplog):
    monkeypatch.setattr(loop_module, "FIRST_BACKOFF", 0.0)
    with caplog.at_level(logging.WARNING):
        consumer, _ = serve(
            app, [[delivery(1)], OperationalError("gone"), OperationalError("gone"), [delivery(2)]]
        )
    with_first = [
        [outcome.delivery.tag for outcome in outcomes] for outcomes, _ in consumer.turns if outcomes
    ]
    assert with_first == [[1], [1], [1], [2]]
    assert len([record for record in caplog.records if "away" in record.getMessage()]) == 1


def test_a_broker_that_stays_away_is_given_up_after_the_set_number_of_tries(app, monkeypatch):
    monkeypatch.setattr(loop_module, "FIRST_BACKOFF", 0.0)
    with pytest.raises(OperationalError):
        serve(app, [OperationalError("gone")] * 5, max_retries=3)


def test_a_task_that_acks_early_is_settled_before_it_runs(app):
    consumer, pool = serve(app, [[delivery(1, "early"), delivery(2)]])
    early, late = pool.submitted
    assert (early.tag, late.tag) == (None, 2)
    [first_settled] = consumer.turns[1][0]
    assert (first_settled.action, first_settled.result) == (Action.ACK, None)
    assert len(consumer.settled()) == 3


def test_a_message_whose_early_settlement_failed_runs_when_it_has_succeeded(app, monkeypatch):
    monkeypatch.setattr(loop_module, "FIRST_BACKOFF", 0.0)
    ran_at_failure = []

    class Flaky(FakeConsumer):
        has_failed = False

        def turn(self, outcomes, room, timeout):
            if outcomes and outcomes[0].result is None and not self.has_failed:
                self.has_failed = True
                ran_at_failure.extend(pool.submitted)
                raise OperationalError("gone")
            return super().turn(outcomes, room, timeout)

    monkeypatch.setitem(globals(), "FakeConsumer", Flaky)
    pool = FakePool()
    consumer, _ = serve(app, [[delivery(1, "early")], [], []], pool=pool)
    assert ran_at_failure == []
    assert [each.message.id for each in pool.submitted] == ["id-1"]
    assert [outcome.result for outcome in consumer.settled()] == [None, b"{}"]


def test_a_beat_of_the_heartbeat_starts_nothing(app):
    pool = FakePool()
    consumer = FakeConsumer([[delivery(1, redelivered=1), delivery(2, redelivered=1)], [], [], []])
    loop = make_loop(app, consumer, pool)
    submit = pool.submit

    def submit_and_beat(deliveries):
        submit(deliveries)
        before = list(pool.submitted)
        loop.beat()
        assert pool.submitted == before

    pool.submit = submit_and_beat
    loop.run()
    loop._waker.close()
    assert [each.tag for each in pool.submitted] == [1, 2]
    assert {outcome.delivery.tag for outcome in consumer.settled()} == {1, 2}


def test_redelivered_messages_start_one_for_each_slot_and_the_broker_knows(app):
    suspects = [delivery(number, redelivered=1) for number in range(3)]
    consumer, pool = serve(app, [[*suspects, delivery(9)], [], [], []])
    assert consumer.started == [[0], [1], [2]]
    assert {each.tag for each in pool.submitted} == {0, 1, 2, 9}


def test_redelivered_messages_that_wait_for_a_slot_keep_no_turn_from_waiting(app):
    pool = FakePool()
    pool.held = {"id-0"}
    suspects = [delivery(0, redelivered=1), delivery(1, redelivered=1)]
    consumer, _ = serve(app, [suspects, [], []], pool=pool)
    assert consumer.started == [[0]]
    with_room = [
        timeout for (_, room), timeout in zip(consumer.turns, consumer.timeouts, strict=True) if room
    ]
    assert len(with_room) == 4 and min(with_room) > 1.0


def test_a_freed_slot_starts_the_next_redelivered_message_before_the_turn_waits(app):
    suspects = [delivery(0, redelivered=1), delivery(1, redelivered=1)]
    consumer, _ = serve(app, [suspects, [], [delivery(9)]])
    assert consumer.started == [[0], [1]]
    assert consumer.timeouts[1] == 0.0 and consumer.timeouts[2] > 1.0


def test_a_redelivered_message_that_was_sent_back_keeps_neither_slot_nor_place(app):
    consumer = FakeConsumer([[delivery(1, redelivered=1)], [delivery(2, redelivered=1)]])
    consumer.sent_back = {1}
    pool = FakePool()
    run_loop(app, consumer, pool)
    assert [each.tag for each in pool.submitted] == [2]
    assert [outcome.delivery.tag for outcome in consumer.settled()] == [2]
    assert consumer.turns[-1][1] == consumer.turns[0][1]  # the window is as wide as at first


def test_a_lost_redelivered_message_keeps_no_slot(app):
    class Losing(FakePool):
        def submit(self, deliveries):
            super().submit(deliveries)
            if len(self.submitted) == 1:
                consumer.lost += deliveries

    pool = Losing()
    pool.held = {"id-1"}
    consumer = FakeConsumer([[delivery(1, redelivered=1)], [], [delivery(2, redelivered=1)]])
    run_loop(app, consumer, pool)
    assert consumer.started == [[1], [2]]
    assert [outcome.delivery.tag for outcome in consumer.settled()] == [2]


@pytest.mark.parametrize("has_idle_peers", [True, False])
def test_what_waits_behind_a_long_task_goes_back_if_another_worker_could_run_it(app, has_idle_peers):
    class Stuck(FakePool):
        def running(self):
            return [(long, time.monotonic() - 1.0)]

    long, waiting = delivery(1), delivery(2)
    consumer, pool = FakeConsumer([]), Stuck()
    consumer.has_idle_peers = lambda running: has_idle_peers and running == 1
    pool.waiting, pool.held = [waiting], {"id-2"}
    loop = make_loop(app, consumer, pool, multiplier="auto")
    loop._consumer = consumer
    loop.beat()
    loop._waker.close()
    returned = [each.delivery for each in consumer.settled() if each.action == Action.RETURN]
    assert (returned, pool.waiting) == (([waiting], []) if has_idle_peers else ([], [waiting]))


def test_what_the_gate_stops_is_settled_without_running(app):
    consumer, pool = serve(app, [[delivery(1, "unknown")]])
    assert pool.submitted == []
    assert [outcome.action for outcome in consumer.settled()] == [Action.BURY]


def test_results_for_another_store_are_stored_before_the_settlement(app):
    store = FakeStore()
    consumer, _ = serve(app, [[delivery(1)]], store=store)
    assert [(result.task_id, result.document) for result in store.stored] == [("id-1", b"{}")]
    assert consumer.settled()[0].result is None


@pytest.mark.parametrize("sends_replies", [False, True])
def test_a_store_that_sends_replies_learns_where_to(app, sends_replies):
    store, asked = FakeStore(), delivery(1)
    store.sends_replies = sends_replies
    asked.message.properties["reply_to"] = "asker"
    serve(app, [[asked], [delivery(2)]], store=store)
    expected = ["asker", None] if sends_replies else [None, None]
    assert [result.reply_to for result in store.stored] == expected


class FakeBroker:
    """Fails as often as *failures* says, then publishes."""

    def __init__(self, failures=0):
        self.failures = failures
        self.published = []

    def publish(self, messages, deadline):
        if self.failures:
            self.failures -= 1
            raise OperationalError("the other broker is away")
        self.published += messages


class FollowingPool(FakePool):
    """Each task has asked for its retry."""

    def outcomes(self):
        ended = super().outcomes()
        for outcome in ended:
            outcome.follow = [outcome.delivery.message]
        return ended


def test_what_follows_goes_to_another_broker_before_results_and_the_settlement(app):
    broker = FakeBroker()

    class OrderedStore(FakeStore):
        def store(self, results, deadline):
            assert [message.id for message in broker.published] == ["id-1"]
            super().store(results, deadline)

    store = OrderedStore()
    consumer, _ = serve(app, [[delivery(1)]], pool=FollowingPool(), follow_to=broker, store=store)
    assert len(store.stored) == 1
    assert [outcome.follow for outcome in consumer.settled()] == [None]


def test_the_lease_is_kept_while_another_broker_is_away(app, monkeypatch):
    monkeypatch.setattr(loop_module, "FIRST_BACKOFF", 0.0)
    broker = FakeBroker(failures=2)
    consumer, _ = serve(app, [[delivery(1)]], pool=FollowingPool(), follow_to=broker)
    assert consumer.turns[1:3] == [([], 0), ([], 0)]
    assert [message.id for message in broker.published] == ["id-1"]
    assert len(consumer.settled()) == 1


def test_a_stop_hands_back_what_did_not_start(app):
    pool = FakePool()
    pool.held = {"id-2", "id-3"}
    consumer, _ = serve(app, [[delivery(1), delivery(2), delivery(3)]], pool=pool)
    actions = {outcome.delivery.tag: outcome.action for outcome in consumer.settled()}
    assert actions == {1: Action.ACK, 2: Action.RETURN, 3: Action.RETURN}


def test_a_stop_waits_for_the_beat_that_is_at_the_consumer(app):
    locked = []

    class Watched(FakePool):
        def take_back(self):
            locked.append(loop._lock.locked())
            return super().take_back()

    loop = make_loop(app, FakeConsumer([]), Watched())
    loop._consumer = loop._open_consumer()
    loop.stop(10.0)
    assert loop._is_over()
    assert locked == [True]
    loop._waker.close()


def test_a_heartbeat_outlives_a_turn_that_fails(app, caplog):
    beaten = threading.Event()

    class Failing:
        beats = 0

        def beat(self):
            self.beats += 1
            if self.beats == 1:
                raise RuntimeError("no turn")
            beaten.set()

    heartbeat = Heartbeat(Failing())
    with heartbeat:
        assert beaten.wait(10.0)
    heartbeat.stop()
    assert "no turn" in caplog.text


def test_a_lost_claim_does_not_start_any_more(app):
    class Losing(FakePool):
        def submit(self, deliveries):
            super().submit(deliveries)
            if len(self.submitted) == 3:
                consumer.lost.append(deliveries[1])

    pool = Losing()
    pool.held = {"id-1", "id-2", "id-3"}
    consumer = FakeConsumer([[delivery(1), delivery(2), delivery(3)], []])
    run_loop(app, consumer, pool)
    assert [each.tag for each in pool.submitted] == [1, 2, 3, 1, 3]
    assert {outcome.delivery.tag for outcome in consumer.settled()} == {1, 3}


@pytest.mark.parametrize(("lease", "longest"), [(30.0, 1.0), (0.6, 0.1)])
def test_a_full_window_takes_turns_well_within_the_lease(app, monkeypatch, lease, longest):
    pauses = []

    def wait(waker, timeout):
        pauses.append(timeout)
        if len(pauses) == 3:
            pool.held.clear()
        return False

    monkeypatch.setattr(Waker, "wait", wait)
    pool = FakePool()
    pool.held = {"id-1"}
    consumer, _ = serve(app, [[delivery(1)]], pool=pool, multiplier=1, lease=lease)
    assert [round(pause, 3) for pause in pauses] == [longest] * 3
    assert [room for _, room in consumer.turns[1:4]] == [0, 0, 1]


def test_a_later_stop_only_shortens_the_time(app, monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    loop = make_loop(app, FakeConsumer([]), FakePool())
    stops = []
    for seconds in (25.0, 3.0, 60.0):
        loop.stop(seconds)
        stops.append(loop._stop_at)
    assert stops == [125.0, 103.0, 103.0]
    loop._waker.close()


def test_what_has_succeeded_before_is_acknowledged_and_runs_no_more(app):
    class SecondIsDone:
        def among(self, deliveries):
            assert all(delivery.redelivered for delivery in deliveries)
            return [delivery for delivery in deliveries if delivery.tag == 2]

    script = [[delivery(1, redelivered=1), delivery(2, redelivered=1), delivery(3)], [], []]
    consumer, pool = serve(app, script, duplicates=SecondIsDone())
    assert {each.tag for each in pool.submitted} == {1, 3}
    results = {outcome.delivery.tag: outcome.result for outcome in consumer.settled()}
    assert results == {1: b"{}", 2: None, 3: b"{}"}
    assert all(outcome.action == Action.ACK for outcome in consumer.settled())


@pytest.mark.parametrize("ends_lost", [True, False])
def test_what_runs_is_ended_when_another_worker_has_it(app, ends_lost):
    class Losing(FakePool):
        def submit(self, deliveries):
            super().submit(deliveries)
            consumer.lost.append(deliveries[0])

        def running(self):
            return [(each, 0.0) for each in self.submitted if each not in self.ended]

        def take_back(self):
            return []

    pool = Losing()
    pool.held = {"id-1", "id-2"}
    consumer = FakeConsumer([[delivery(1), delivery(2)], []])
    loop = make_loop(app, consumer, pool, concurrency=2, ends_lost=ends_lost)
    loop._consumer = consumer
    pool.submit(loop._turn())
    loop._turn()
    assert [each.tag for each in pool.ended] == ([1] if ends_lost else [])
    loop._waker.close()


# ---- what waits for the pool ----


class WorkflowPool(FakePool):
    """Does jobs at once; a task has failed without a run if the test says so."""

    def __init__(self, failure=None):
        super().__init__()
        self.failure = failure
        self.jobs = []

    def outcomes(self):
        ended = []
        for outcome in super().outcomes():
            if is_job(outcome.delivery):
                headers = outcome.delivery.message.headers
                self.jobs.append(headers)
                effects = Effects(joined=headers.get("group"))
                outcome = Outcome(outcome.delivery, state=JOB_DONE, effects=effects)
            else:
                outcome.failure = self.failure
            ended.append(outcome)
        return ended


class ChordConsumer(FakeConsumer):
    """Tells that each outcome completes a chord, until that is joined."""

    def turn(self, outcomes, room, timeout):
        joined = {outcome.effects.joined for outcome in outcomes if outcome.effects is not None}
        if "g" not in joined:
            self.completed += [(outcome, CompleteChord("g", "p")) for outcome in outcomes]
        return super().turn(outcomes, room, timeout)


def test_a_part_that_completes_a_chord_is_settled_behind_its_join(app):
    consumer, pool = ChordConsumer([[delivery(1)]]), WorkflowPool()
    run_loop(app, consumer, pool)
    assert [headers["group"] for headers in pool.jobs] == ["g"]
    first, second = [outcomes for outcomes, _ in consumer.turns if outcomes]
    assert [outcome.delivery.tag for outcome in first] == [1]
    assert [outcome.delivery.tag for outcome in second] == [None, 1]
    assert second[1] is first[0]


def test_the_window_holds_what_waits_for_its_join(app):
    consumer, pool = ChordConsumer([[delivery(1)], [], []]), WorkflowPool()
    loop = make_loop(app, consumer, pool)
    loop.run()
    assert loop._window.unsettled == 0
    assert (loop._state.received, loop._state.settled) == (1, 1)
    loop._waker.close()


def test_a_stop_gives_back_uncounted_what_waits(app):
    consumer, pool = ChordConsumer([[delivery(1)]]), FakePool()
    loop = make_loop(app, consumer, pool)

    def never(deliveries):
        if any(is_job(each) for each in deliveries):
            loop.abort()
            return
        FakePool.submit(pool, deliveries)

    pool.submit = never
    loop.run()
    loop._waker.close()
    assert [each.tag for each in consumer.closed_with] == [1]


def test_what_follows_a_task_that_did_not_run_is_worked_out_first(app):
    consumer, pool = FakeConsumer([[delivery(1)]]), WorkflowPool({"exc_type": "KeyError"})
    run_loop(app, consumer, pool)
    assert [headers["state"] for headers in pool.jobs] == ["SUCCESS"]
    [outcome] = consumer.settled()
    assert (outcome.delivery.tag, outcome.failure) == (1, None)


def test_what_follows_goes_first_where_results_lie_elsewhere(app):
    backend, broker = app.backend, app.broker
    backend.begin_chords([("g", 1)])

    class PartPool(WorkflowPool):
        def outcomes(self):
            ended = super().outcomes()
            for outcome in ended:
                if not is_job(outcome.delivery):
                    outcome.effects = Effects(
                        parts=[("g", "id-1", 0, b"[]")],
                        results=[("later", "FAILURE", b"{}")],
                        chords=[("h", 3)],
                        groups=[("h", b"group")],
                    )
                else:
                    outcome.follow = [Message("body", "b", {"task": "body", "id": "b"}, b"", queue="bodies")]
            return ended

    consumer, pool = FakeConsumer([[delivery(1)]]), PartPool()
    consumer.commits_results = False
    run_loop(app, consumer, pool, follow_to=broker, store=backend)
    assert backend.fetch(["later"]) == [b"{}"]
    assert backend.restore_group("h") == b"group"
    assert backend.parts("g") is None  # it has ended
    assert [info.ready for info in broker.queues(["bodies"])] == [1]
    assert [outcome.delivery.tag for outcome in consumer.settled()] == [None, 1]


def test_a_success_that_comes_again_is_told_to_what_follows(app):
    class Duplicates:
        def among(self, deliveries):
            return list(deliveries)

    again = delivery(1, redelivered=1)
    again.message.body = b'[[], {}, {"chain": [{"task": "next"}]}]'
    consumer, pool = FakeConsumer([[again, delivery(2, redelivered=1)]]), WorkflowPool()
    run_loop(app, consumer, pool, duplicates=Duplicates(), concurrency=2)
    assert [headers["state"] for headers in pool.jobs] == ["SUCCESS"]
    assert sorted(outcome.delivery.tag for outcome in consumer.settled()) == [1, 2]
