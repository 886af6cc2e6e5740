"""How calls of a result backend are tried again: result_backend_always_retry, and Redis's retry_policy."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fastq import FastQ
from fastq.backends import retrying
from fastq.backends.base import BackendOptions, RetryOptions, StoredResult
from fastq.backends.memory import MemoryBackend
from fastq.backends.redis import RedisBackend
from fastq.backends.retrying import RetryingBackend
from fastq.brokers.redis import connection as connection_module
from fastq.brokers.redis.connection import ConnectionPool, ServerRefused
from fastq.brokers.redis.endpoint import Endpoint
from fastq.brokers.retry_policy import RetryPolicy
from fastq.exceptions import ImproperlyConfigured, OperationalError

RESULT = StoredResult("id-1", "SUCCESS", b"{}")


class FlakyBackend(MemoryBackend):
    """Fails as often as *failures* says before each success."""

    def __init__(self, failures: int, error: type[OperationalError] = OperationalError) -> None:
        super().__init__("memory://flaky", BackendOptions())
        self.failures = failures
        self.error = error

    def fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise self.error("the store is away")

    def store(self, *args: Any) -> None:
        self.fail()
        super().store(*args)

    def fetch(self, task_ids: Any) -> Any:
        self.fail()
        return super().fetch(task_ids)

    def wait(self, *args: Any) -> Any:
        self.fail()
        yield from super().wait(*args)

    def save_group(self, *args: Any) -> None:
        self.fail()
        super().save_group(*args)

    def restore_group(self, group_id: str) -> bytes | None:
        self.fail()
        return super().restore_group(group_id)

    def delete_group(self, group_id: str) -> None:
        self.fail()
        super().delete_group(group_id)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was slept; nobody really sleeps."""
    slept: list[float] = []
    for module in (retrying, connection_module):
        monkeypatch.setattr(module.time, "sleep", slept.append)
    # The longest that may be drawn.
    monkeypatch.setattr(retrying.random, "uniform", lambda low, high: high)
    return slept


def test_calls_are_made_until_they_succeed(pauses: list[float]) -> None:
    backend = RetryingBackend(FlakyBackend(6), RetryOptions(first_pause=0.01, longest_pause=0.3))
    backend.store([RESULT])
    assert pauses == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.3, 0.3])
    assert backend.fetch(["id-1"]) == [b"{}"]


def test_groups_are_kept_with_retries_too(pauses: list[float]) -> None:
    inner = FlakyBackend(1)
    backend = RetryingBackend(inner, RetryOptions())
    backend.save_group("g", b"group")
    inner.failures = 1
    assert backend.restore_group("g") == b"group"
    inner.failures = 1
    backend.delete_group("g")
    assert backend.restore_group("g") is None
    assert len(pauses) == 3


def test_the_set_number_of_retries_is_the_last(pauses: list[float]) -> None:
    inner = FlakyBackend(10)
    backend = RetryingBackend(inner, RetryOptions(most=3))
    with pytest.raises(OperationalError, match="away"):
        backend.fetch(["id-1"])
    assert len(pauses) == 3
    assert inner.failures == 10 - 4


def test_a_wait_goes_on_after_a_fault_within_its_timeout(pauses: list[float]) -> None:
    backend = RetryingBackend(FlakyBackend(2), RetryOptions())
    backend.without_retries().failures = 0  # type: ignore[attr-defined]
    backend.store([RESULT])
    backend.without_retries().failures = 2  # type: ignore[attr-defined]
    assert next(backend.wait(["id-1"], 60.0)) == ("id-1", b"{}")
    backend.without_retries().failures = 2  # type: ignore[attr-defined]
    with pytest.raises(OperationalError):
        next(backend.wait(["id-1"], 0.0))


def test_what_another_attempt_would_not_change_is_raised_at_once(pauses: list[float]) -> None:
    backend = RetryingBackend(FlakyBackend(1, ServerRefused), RetryOptions())
    with pytest.raises(ServerRefused):
        backend.fetch(["id-1"])
    assert pauses == []


def test_the_settings_ask_for_it() -> None:
    plain = FastQ("plain", backend="memory://settings", set_as_current=False)
    assert plain.backend is plain.backend.without_retries()  # type: ignore[union-attr]
    app = FastQ(
        "retrying",
        backend="memory://settings",
        set_as_current=False,
        result_backend_always_retry=True,
        result_backend_base_sleep_between_retries_ms=20,
        result_backend_max_sleep_between_retries_ms=500,
        result_backend_max_retries=7,
    )
    assert isinstance(app.backend, RetryingBackend)
    assert app.backend._retries == (7, 0.02, 0.5)
    assert isinstance(app.backend.without_retries(), MemoryBackend)
    app.conf.result_backend_max_retries = math.inf
    plain.close()
    app.close()


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (RetryPolicy(max_retries=4, interval_start=0, interval_step=0.4), [0, 0.4, 0.8, 1]),
        (RetryPolicy(max_retries=0), []),
        (RetryPolicy(max_retries=2, interval_start=0.3, interval_step=0), [0.3, 0.3]),
    ],
)
def test_a_pool_tries_again_as_its_policy_says(
    policy: RetryPolicy, expected: list[float], pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(endpoint: Endpoint, timeout: float) -> None:
        raise OperationalError("nobody is there")

    monkeypatch.setattr(connection_module, "connect", refuse)
    pool = ConnectionPool(Endpoint(), retry_policy=policy)
    with pytest.raises(OperationalError, match="nobody"):
        pool.run(lambda connection, left: None, policy.deadline(4.0))
    assert pauses == pytest.approx(expected)


def test_the_time_of_a_policy_is_that_of_its_attempts() -> None:
    assert RetryPolicy(timeout=5.0).deadline(4.0) == 5.0
    assert RetryPolicy(max_retries=2, interval_start=0.5, interval_step=0).deadline(4.0) == 1.0 + 3 * 4.0
    assert RetryPolicy(max_retries=None).deadline(4.0) > 1e6
    backend = RedisBackend(
        "redis://", BackendOptions(transport_options={"retry_policy": {"timeout": 2.0}}, deadline=9.0)
    )
    assert backend._deadline == 2.0


def test_a_misspelt_policy_names_the_nearest() -> None:
    options = BackendOptions(transport_options={"retry_policy": {"max_retry": 3}})
    with pytest.raises(ImproperlyConfigured, match="max_retries"):
        RedisBackend("redis://", options)
