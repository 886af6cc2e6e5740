"""A result backend whose calls are tried again when they fail: ``result_backend_always_retry``."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from fastq.backends.base import Backend, CompleteChord, Part, Pulse, RetryOptions, StoredResult
from fastq.exceptions import OperationalError

if TYPE_CHECKING:
    from fastq.brokers.base import Broker

logger = logging.getLogger(__name__)
T = TypeVar("T")


class RetryingBackend(Backend):
    """Makes each call of *inner* until it succeeds, or has failed once more than *retries* allow.

    What another attempt would not change is raised at once.
    """

    def __init__(self, inner: Backend, retries: RetryOptions) -> None:
        super().__init__(inner.url, inner.options)
        self._inner = inner
        self.sends_replies = inner.sends_replies
        self.keeps_chords = inner.keeps_chords
        self.keeps_chains = inner.keeps_chains
        self._retries = retries

    def without_retries(self) -> Backend:
        """The backend itself."""
        return self._inner

    def store(self, results: Sequence[StoredResult], deadline: float | None = None) -> None:
        """Store, and store again what may have been stored already."""
        self._persist(lambda: self._inner.store(results, deadline))

    def fetch(self, task_ids: Sequence[str]) -> list[bytes | None]:
        """As the backend itself."""
        return self._persist(lambda: self._inner.fetch(task_ids))

    def wait(
        self, task_ids: Collection[str], timeout: float | None, pulse: Pulse | None = None
    ) -> Generator[tuple[str, bytes], None, None]:
        """Wait anew after a fault, for what is left of *timeout*; what has come may come again."""
        ends = None if timeout is None else time.monotonic() + timeout
        pauses = self._pauses()
        while True:
            left = None if ends is None else max(ends - time.monotonic(), 0.0)
            try:
                for found in self._inner.wait(task_ids, left, pulse):
                    yield found
                    pauses = self._pauses()
                return
            except OperationalError as exc:
                self._pause(pauses, exc, ends)

    def forget(self, task_ids: Sequence[str]) -> None:
        """As the backend itself."""
        self._persist(lambda: self._inner.forget(task_ids))

    def save_group(self, group_id: str, document: bytes) -> None:
        """As the backend itself."""
        self._persist(lambda: self._inner.save_group(group_id, document))

    def restore_group(self, group_id: str) -> bytes | None:
        """As the backend itself."""
        return self._persist(lambda: self._inner.restore_group(group_id))

    def delete_group(self, group_id: str) -> None:
        """As the backend itself."""
        self._persist(lambda: self._inner.delete_group(group_id))

    def save_chain(self, chain_id: str, blocks: Sequence[bytes], seconds: float) -> None:
        """As the backend itself."""
        self._persist(lambda: self._inner.save_chain(chain_id, blocks, seconds))

    def chain_block(self, chain_id: str, index: int, seconds: float) -> bytes | None:
        """As the backend itself."""
        return self._persist(lambda: self._inner.chain_block(chain_id, index, seconds))

    def begin_chords(self, chords: Sequence[tuple[str, int]], deadline: float | None = None) -> None:
        """As the backend itself."""
        self._persist(lambda: self._inner.begin_chords(chords, deadline))

    def extend_chords(self, extended: Sequence[tuple[str, int, str]], deadline: float | None = None) -> None:
        """As the backend itself."""
        self._persist(lambda: self._inner.extend_chords(extended, deadline))

    def count_parts(self, parts: Sequence[Part], deadline: float | None = None) -> list[CompleteChord]:
        """As the backend itself."""
        return self._persist(lambda: self._inner.count_parts(parts, deadline))

    def parts(self, group_id: str, deadline: float | None = None) -> list[bytes] | None:
        """As the backend itself."""
        return self._persist(lambda: self._inner.parts(group_id, deadline))

    def end_chord(self, group_id: str, deadline: float | None = None) -> bool:
        """As the backend itself."""
        return self._persist(lambda: self._inner.end_chord(group_id, deadline))

    def cleanup(self) -> int:
        """As the backend itself."""
        return self._persist(self._inner.cleanup)

    def reply_queue(self) -> str | None:
        """As the backend itself."""
        return self._persist(self._inner.reply_queue)

    def shares_store_with(self, broker: Broker) -> bool:
        """As the backend itself."""
        return self._inner.shares_store_with(broker)

    def close(self) -> None:
        """Close the backend itself."""
        self._inner.close()

    def description(self) -> str:
        """Where the backend itself lies."""
        return self._inner.description()

    def _persist(self, call: Callable[[], T]) -> T:
        pauses = self._pauses()
        while True:
            try:
                return call()
            except OperationalError as exc:
                self._pause(pauses, exc)

    def _pauses(self) -> Iterator[float]:
        """The seconds before each further attempt: doubled to the longest, and then drawn, as in Celery."""
        retries, made = self._retries, 0
        while made < retries.most:
            made += 1
            yield random.uniform(0.0, min(retries.first_pause * 2 ** min(made, 30), retries.longest_pause))

    def _pause(self, pauses: Iterator[float], exc: OperationalError, ends: float | None = None) -> None:
        """Sleep before the next attempt, or raise *exc* when there is none."""
        pause = next(pauses, None) if exc.is_passing else None
        if pause is None or (ends is not None and time.monotonic() + pause >= ends):
            raise exc
        logger.warning("The result store failed: %s. Trying again in %.2f s.", exc, pause)
        time.sleep(pause)
