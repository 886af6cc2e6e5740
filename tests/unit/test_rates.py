"""Rate limits: when the next run may start."""

import pytest

from fastq.exceptions import ImproperlyConfigured
from fastq.worker.rates import RateLimit, parse_rate


@pytest.mark.parametrize(
    ("text", "per_second"),
    [
        ("10/s", 10.0),
        ("120/m", 2.0),
        ("3600/h", 1.0),
        ("5", 5.0),
        (7, 7.0),
        (None, 0.0),
        (0, 0.0),
        ("0/s", 0.0),
    ],
)
def test_rates_are_read_in_celerys_forms(text, per_second):
    assert parse_rate(text) == pytest.approx(per_second)


@pytest.mark.parametrize("text", ["fast", "10/x", "1/s/s", []])
def test_a_rate_that_is_none_names_itself(text):
    with pytest.raises(ImproperlyConfigured, match="rate limit"):
        parse_rate(text)


def test_runs_are_spaced_evenly():
    limit = RateLimit(10)
    assert [round(limit.wait(str(n), 100.0), 3) for n in range(4)] == [0.0, 0.1, 0.2, 0.3]


def test_a_message_that_waited_starts_at_its_own_time_whatever_came_meanwhile():
    limit = RateLimit(1)
    assert limit.wait("first", 0.0) == 0
    assert limit.wait("second", 0.0) == 1
    assert limit.wait("third", 0.5) == 1.5
    assert limit.wait("second", 1.0) == 0
    assert limit.wait("third", 2.0) == 0


def test_a_message_that_comes_back_too_early_waits_the_rest():
    limit = RateLimit(1)
    limit.wait("first", 0.0)
    limit.wait("second", 0.0)
    assert limit.wait("second", 0.4) == pytest.approx(0.6)
