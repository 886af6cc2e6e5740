"""Lamport's clock."""

from fastq import FastQ
from fastq.clock import LamportClock


def test_it_counts_what_is_sent() -> None:
    clock = LamportClock()
    assert [clock.forward(), clock.forward(), clock.value] == [1, 2, 2]


def test_it_counts_past_what_is_heard() -> None:
    clock = LamportClock(5)
    assert (clock.adjust(9), clock.adjust(3), clock.value) == (10, 11, 11)


def test_each_app_has_one() -> None:
    with FastQ("one") as one, FastQ("two") as two:
        one.clock.forward()
        assert (one.clock.value, two.clock.value) == (1, 0)
