"""What a program has sent, kept in place of being sent, and assertions on it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from fastq import serialization
from fastq.app.base import FastQ

if TYPE_CHECKING:
    from fastq._core.message import Message

# Seconds by which a countdown may differ from the one that is asked for: the test itself takes time.
COUNTDOWN_SLACK = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTask:
    """One message: the call of a task with its options, as a worker would read them."""

    name: str
    id: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    embed: dict[str, Any]  # what follows: callbacks, errbacks, chain, chord
    queue: str
    exchange: str
    routing_key: str
    priority: int | None
    eta: datetime | None
    expires: datetime | None
    headers: Mapping[str, Any]  # those of the protocol and the user's own
    sent_at: datetime
    content_type: str

    @property
    def countdown(self) -> float | None:
        """Seconds from when it was sent to its eta."""
        return None if self.eta is None else (self.eta - self.sent_at).total_seconds()

    def __str__(self) -> str:
        given = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        countdown = None if self.countdown is None else round(self.countdown, 1)
        options: dict[str, Any] = {"queue": self.queue, "priority": self.priority, "countdown": countdown}
        said = ", ".join(f"{name}={value!r}" for name, value in options.items() if value is not None)
        return f"{self.name}({', '.join(given)}) [{said}]"


class Sent(Sequence[SentTask]):
    """The calls that were sent in a `capture`, in order; of a workflow those that start."""

    def __init__(self, app: FastQ) -> None:
        self._app = app
        self._tasks: list[SentTask] = []

    def __getitem__(self, at: Any) -> Any:
        return self._tasks[at]

    def __len__(self) -> int:
        return len(self._tasks)

    def __str__(self) -> str:
        return "\n".join(f"  {task}" for task in self._tasks) or "  nothing"

    @property
    def names(self) -> list[str]:
        """The names of the tasks."""
        return [task.name for task in self._tasks]

    def of(self, task: Any) -> list[SentTask]:
        """The calls of *task*, a task or a name."""
        name = getattr(task, "name", task)
        return [each for each in self._tasks if each.name == name]

    def assert_sent(
        self,
        task: Any,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        count: int | None = None,
        countdown: float | timedelta | None = None,
        **options: Any,
    ) -> SentTask:
        """Assert that *task* was called so, and return the first such call.

        What is None does not matter. *countdown* (seconds) is near the one of the call; *options* are fields
        of `SentTask`, such as ``queue``. With *count* there were exactly so many such calls.
        """
        found = [each for each in self.of(task) if self._fits(each, args, kwargs, countdown, options)]
        wanted = {"args": args, "kwargs": kwargs, "countdown": countdown, **options}
        said = ", ".join(f"{name}={value!r}" for name, value in wanted.items() if value is not None)
        what = f"{getattr(task, 'name', task)}({said})"
        assert found, f"{what} was not sent; what was sent:\n{self}"
        assert count in (None, len(found)), f"{what} was sent {len(found)} times, not {count}:\n{self}"
        return found[0]

    def assert_not_sent(self, task: Any, args: Sequence[Any] | None = None, **options: Any) -> None:
        """Assert that *task* was not called, or not so (as in `assert_sent`)."""
        kwargs = options.pop("kwargs", None)
        countdown = options.pop("countdown", None)
        found = [each for each in self.of(task) if self._fits(each, args, kwargs, countdown, options)]
        assert not found, f"{found[0]} was sent; all that was sent:\n{self}"

    def assert_nothing_sent(self) -> None:
        """Assert that nothing was sent."""
        assert not self._tasks, f"this was sent:\n{self}"

    def _fits(
        self,
        sent: SentTask,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        countdown: float | timedelta | None,
        options: Mapping[str, Any],
    ) -> bool:
        if args is not None and _travelled(list(args), sent) != list(sent.args):
            return False
        if kwargs is not None and _travelled(dict(kwargs), sent) != sent.kwargs:
            return False
        if countdown is not None:
            seconds = countdown.total_seconds() if isinstance(countdown, timedelta) else countdown
            if sent.countdown is None or abs(sent.countdown - seconds) > COUNTDOWN_SLACK:
                return False
        return all(getattr(sent, name) == value for name, value in options.items())

    def _add(self, message: Message) -> None:
        args, kwargs, embed = self._app.load_body(message)
        self._tasks.append(
            SentTask(
                name=message.task,
                id=message.id,
                args=tuple(args),
                kwargs=kwargs,
                embed=embed or {},
                queue=message.queue,
                exchange=message.exchange,
                routing_key=message.routing_key,
                priority=message.priority,
                eta=_instant(message.header("eta")),
                expires=_instant(message.header("expires")),
                headers=message.headers,
                sent_at=self._app.now_utc(),
                content_type=message.content_type,
            )
        )


@contextmanager
def capture(app: FastQ, *, publish: bool = False) -> Iterator[Sent]:
    """Collect what *app* sends in the block, in any thread; with *publish* it goes out as well.

    Without, nothing reaches a broker or a backend, and a result stays pending.
    """
    sent = Sent(app)
    real_publish, real_begin = app.publish, app.begin_chords

    def keep(messages: list[Message], *args: Any, **options: Any) -> None:
        if app._pipeline.get() is None:  # else they come again when it ends
            for message in messages:
                sent._add(message)
        if publish or app._pipeline.get() is not None:
            real_publish(messages, *args, **options)

    def begin(chords: list[tuple[str, int]]) -> None:
        if publish or app._pipeline.get() is not None:
            real_begin(chords)

    vars(app).update(publish=keep, begin_chords=begin)
    try:
        yield sent
    finally:
        del app.publish, app.begin_chords  # the instance's: the methods are there again


def _travelled(value: Any, sent: SentTask) -> Any:
    """*value* as a worker reads it from a message like *sent*."""
    content_type, encoding, data = serialization.dumps(value, serialization.name_of(sent.content_type))
    return serialization.loads(data, content_type, encoding, frozenset({content_type}))


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
