"""The prefetch window (D11)."""

from fastq._core.message import Delivery, Message, Outcome
from fastq._core.window import PrefetchWindow


def outcomes(count, runtime):
    delivery = Delivery(Message("t", "id", {}, b"", queue="q"), 1, "q")
    return [Outcome(delivery, runtime=runtime) for _ in range(count)]


def test_a_fixed_window_is_multiplier_times_concurrency():
    window = PrefetchWindow(4, 8)
    assert window.limit == 32
    window.take(30)
    assert window.room() == 2
    window.settle(10)
    assert window.room() == 12


def test_a_multiplier_of_zero_is_no_limit():
    window = PrefetchWindow(1, 0)
    window.take(5_000)
    assert window.room() > 10_000


def test_a_fixed_window_ignores_run_times():
    window = PrefetchWindow(2, 1)
    window.observe(outcomes(10, 1e-6))
    assert window.limit == 2


def test_the_adaptive_window_is_wide_for_short_tasks():
    window = PrefetchWindow(1)
    window.observe(outcomes(64, 2e-6))
    assert window.limit == 1024


def test_the_adaptive_window_is_one_for_each_slot_when_tasks_take_long():
    window = PrefetchWindow(4)
    window.observe(outcomes(64, 2e-6))
    for _ in range(100):
        window.observe(outcomes(4, 1.0))
    assert window.limit == 4


def test_one_task_that_goes_on_narrows_the_window_at_once():
    window = PrefetchWindow(2)
    window.observe(outcomes(1000, 2e-6))
    window.stretch(0.5)
    assert window.limit == 2


def test_outcomes_of_tasks_that_did_not_run_teach_nothing():
    window = PrefetchWindow(1)
    window.observe(outcomes(10, 0.0))
    assert window.runtime == 0


def test_room_is_never_negative():
    window = PrefetchWindow(1, 2)
    window.take(9)
    assert window.room() == 0
    window.settle(99)
    assert window.room() == 2
