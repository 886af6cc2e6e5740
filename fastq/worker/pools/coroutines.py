"""Coroutines that can be interrupted by any exception, and a thread that runs them for others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Generator
from contextvars import copy_context
from typing import Any, Generic, TypeVar

from fastq.exceptions import SoftTimeLimitExceeded

T = TypeVar("T")


class Interruptible(Coroutine[Any, Any, T]):
    """A coroutine into which `interrupt` raises an exception at the point where it waits.

    asyncio can only cancel. So this cancels its task, with all that the task waits for, and
    replaces the CancelledError that arrives by the exception wanted.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._instead: BaseException | None = None
        self._task: asyncio.Task[T] | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[T]:
        """Make it a task of *loop*, whose thread this is."""
        self._task = loop.create_task(self)
        return self._task

    def interrupt(self, exc: BaseException) -> None:
        """Raise *exc* where it waits. In the loop's thread, after `start`."""
        assert self._task is not None
        if self._task.cancel():
            self._instead = exc

    def send(self, value: Any) -> Any:
        return self._coroutine.send(value)

    def throw(self, exc: Any, value: Any = None, traceback: Any = None) -> Any:
        cancelled = isinstance(exc, asyncio.CancelledError) or exc is asyncio.CancelledError
        if self._instead is None or not cancelled:
            return self._coroutine.throw(exc)
        exc, self._instead = self._instead, None
        uncancel = getattr(self._task, "uncancel", None)  # Python 3.11
        if uncancel is not None:
            uncancel()
        return self._coroutine.throw(exc)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, T]:
        return self._coroutine.__await__()


class CoroutineRunner:
    """Runs coroutines to their end in the thread that asks, which gets an event loop for all of them.

    *suspend* takes the soft limit of the calling thread out of force and returns the
    seconds that were left of it, or None: an exception raised from outside would break the
    event loop, or not be seen while it waits, so the loop keeps the limit instead.
    """

    def __init__(self, suspend: Callable[[], float | None]) -> None:
        self._suspend = suspend
        self._local = threading.local()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """What *coroutine* returns or raises."""
        loop: asyncio.AbstractEventLoop | None = getattr(self._local, "loop", None)
        if loop is None:
            loop = self._local.loop = asyncio.new_event_loop()
        seconds = self._suspend()
        job = Interruptible(coroutine)
        task = job.start(loop)
        timer = None if seconds is None else loop.call_later(seconds, job.interrupt, SoftTimeLimitExceeded())
        try:
            return loop.run_until_complete(task)
        except BaseException:
            if not task.done():
                self.close()  # an exception from outside has hit the event loop: what it runs must not go on
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """Close the event loop of the calling thread."""
        loop = self._local.__dict__.pop("loop", None)
        if loop is not None:
            end_loop(loop)


class CoroutineLoop:
    """An event loop that serves the coroutines of other threads, each in the context of its caller.

    *run_in_thread* starts a native thread, also where `threading` is patched.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, run_in_thread: Callable[[Callable[[], None]], object]
    ) -> None:
        self._loop = loop
        run_in_thread(self._run)

    def call(self, coroutine: Coroutine[Any, Any, T], on_end: Callable[[], None]) -> CoroutineCall[T]:
        """Run *coroutine*; *on_end* is called in the loop's thread when it has ended."""
        return CoroutineCall(self._loop, coroutine, on_end)

    def stop(self) -> None:
        """End the loop and its thread; what still runs is dropped."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        end_loop(self._loop)


class CoroutineCall(Generic[T]):
    """One coroutine that runs on behalf of another thread."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T], on_end: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._job = Interruptible(coroutine)
        self._task: asyncio.Task[T] | None = None
        self._on_end = on_end
        # The context carries the current request over; a task copies the one it is made in.
        loop.call_soon_threadsafe(self._start, context=copy_context())

    def interrupt(self, exc: BaseException) -> None:
        """Raise *exc* in it, from the thread that called."""
        self._loop.call_soon_threadsafe(self._interrupt, exc)

    def result(self) -> T:
        """What it returned or raised. After `on_end`."""
        assert self._task is not None
        return self._task.result()

    def forget(self) -> None:
        """Do not call *on_end* any more."""
        self._on_end = _nothing

    def _start(self) -> None:
        self._task = self._job.start(self._loop)
        self._task.add_done_callback(lambda _: self._on_end())

    def _interrupt(self, exc: BaseException) -> None:
        if self._task is not None and not self._task.done():
            self._job.interrupt(exc)


def _nothing() -> None:
    """Nobody waits for the end."""


# How long tasks that are cancelled at the end may take to clean up, seconds.
CLEAN_UP_WITHIN = 1.0


def end_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what *loop* still runs, let it clean up for a moment, and close it."""
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=CLEAN_UP_WITHIN))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
