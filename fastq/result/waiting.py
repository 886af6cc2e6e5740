"""Looking at many results, and waiting for them: one call of each backend, however many they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from fastq import states
from fastq.backends.base import Pulse

if TYPE_CHECKING:
    from fastq.result.async_result import AsyncResult

# Results that are asked for at once by what may end at the first that says enough.
BLOCK = 1000
# Seconds between two looks at the ancestors of a result that are too many to be watched, and the
# part of the time that these looks may take.
LOOK_AT_KIN, LOOKING = 10.0, 0.05

Meta = dict[str, Any]


def look(results: Iterable[AsyncResult[Any]]) -> None:
    """Learn the ends of those of *results* that have ended, as far as they are not known."""
    for _ in looked_at(results):
        pass


def looked_at(results: Iterable[AsyncResult[Any]]) -> Iterator[tuple[AsyncResult[Any], Meta]]:
    """Yield each of *results* with what is stored for it now. They are read in blocks."""
    results = list(results)
    for start in range(0, len(results), BLOCK):
        block = results[start : start + BLOCK]
        metas = read(block)
        for result in block:
            yield result, metas[id(result)]


def read(results: Sequence[AsyncResult[Any]]) -> dict[int, Meta]:
    """What is stored for each of *results*, by its identity; a known end is not read again."""
    metas = {id(result): result.known for result in results}
    for backend, unknown in by_backend(each for each in results if not each.has_ended):
        documents = backend.fetch([each.id for each in unknown])
        for result, document in zip(unknown, documents, strict=True):
            if document is not None:
                meta = metas[id(result)] = result.read(document)
                if meta["status"] in states.READY_STATES:
                    result.learn(meta)
    return metas


def by_backend(results: Iterable[AsyncResult[Any]]) -> list[tuple[Any, list[AsyncResult[Any]]]]:
    """*results* in their order, apart for each backend; that is a single one as a rule."""
    found: dict[int, tuple[Any, list[AsyncResult[Any]]]] = {}
    for result in results:
        backend = result.stored_in()
        found.setdefault(id(backend), (backend, []))[1].append(result)
    return list(found.values())


def forget(results: Iterable[AsyncResult[Any]]) -> None:
    """Delete what is stored of *results*, here and in their backends."""
    for backend, stored in by_backend(each for each in results if each.is_stored):
        backend.forget(list(dict.fromkeys(each.id for each in stored)))
        for each in stored:
            each.unlearn()


class Wait:
    """How long somebody waits, and what he wants to be told meanwhile. Seconds throughout."""

    def __init__(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        on_message: Callable[[Meta], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> None:
        self.timeout = timeout
        self._ends = None if timeout is None else time.monotonic() + timeout
        self._on_message = on_message
        self._on_interval, self._interval = on_interval, interval
        self._pulse = None if on_interval is None else Pulse(on_interval, interval)

    def look_at(self, kin: Kin) -> None:
        """Look at *kin* now and then meanwhile."""
        on_interval = self._on_interval

        def beat() -> None:
            kin.look_when_due()
            if on_interval is not None:
                on_interval()

        self._pulse = Pulse(beat, LOOK_AT_KIN if on_interval is None else self._interval)

    def until_ended(self, results: Iterable[AsyncResult[Any]]) -> Generator[AsyncResult[Any], None, None]:
        """Yield each of *results* once it has ended, as it ends; those that have when this begins, in order.

        Stops when the time is up.
        """
        for backend, unknown in by_backend(results):
            waiting: dict[str, list[AsyncResult[Any]]] = {}
            for result in unknown:
                waiting.setdefault(result.id, []).append(result)
            with closing(backend.wait(waiting, self._left(), self._pulse)) as arriving:
                for task_id, document in arriving:
                    if task_id not in waiting:
                        continue  # it comes again after its end
                    meta = waiting[task_id][0].read(document)
                    if self._on_message is not None:
                        self._on_message(meta)
                    if meta["status"] in states.READY_STATES:
                        for result in waiting.pop(task_id):
                            result.learn(meta)
                            yield result
                        if not waiting:
                            break

    def _left(self) -> float | None:
        return None if self._ends is None else max(self._ends - time.monotonic(), 0.0)


class Kin:
    """The earlier steps of a result, when they are too many to be watched.

    One that fails makes the later ones fail, as a rule, so it is enough to look now and then, at
    each until it has succeeded.
    """

    def __init__(self, results: Sequence[AsyncResult[Any]]) -> None:
        self._open = results
        self._due = time.monotonic() + LOOK_AT_KIN

    def look(self) -> None:
        """Raise the error of the earliest that has failed."""
        began = time.monotonic()
        for result, _ in looked_at(self._open):
            result.raise_failure()
        self._open = [each for each in self._open if not each.has_ended]
        now = time.monotonic()
        self._due = now + max(LOOK_AT_KIN, (now - began) / LOOKING)

    def look_when_due(self) -> None:
        """As `look`, if the last one was long ago."""
        if time.monotonic() >= self._due:
            self.look()
