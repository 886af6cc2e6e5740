"""What a pool is: it runs functions and knows nothing of brokers (D3)."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

# The codec imports it with the first message that is read: here that would be in every child anew.
import orjson  # noqa: F401

from fastq.exceptions import PoolRefused

if TYPE_CHECKING:
    from fastq._core.message import Delivery, Outcome
    from fastq._core.trace import Tracer
    from fastq.wakeup import Waker


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """What the worker was told about its pool."""

    concurrency: int = 1
    time_limit: float | None = None  # seconds, hard
    soft_time_limit: float | None = None  # seconds
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None  # KiB of resident memory, as in Celery
    start_method: str = "fork"  # of children, or "spawn"
    logging: Mapping[str, Any] = field(
        default_factory=dict
    )  # for `Logging.setup`, in children that are spawned
    proc_alive_timeout: float = 4.0  # seconds that a child has to be ready
    hostname: str = ""  # the node's name
    max_redeliveries: int = 3  # crashes after which a message goes to the dead set


class NewChild(BaseException):
    """Raised in a process that a pool has just forked, to leave the frames of its parent.

    Whoever calls `Pool.start` lets it pass through, touching nothing, and exits with what *serve*
    returns.
    """

    def __init__(self, serve: Callable[[], int]) -> None:
        super().__init__("this process is a child of the pool")
        self.serve = serve


class Pool(ABC):
    """Runs deliveries and returns their outcomes. `submit` and `outcomes` are called by the loop alone.

    *app* is finalized and its task modules are imported. The pool sets *waker* whenever
    an outcome is ready, so that a loop that waits for the broker looks again.
    """

    name: ClassVar[str]
    keeps_soft_limits: ClassVar[bool]  # whether it can raise SoftTimeLimitExceeded in a task
    keeps_hard_limits: ClassVar[bool]  # whether it can end a task that does not cooperate
    ends_tasks: ClassVar[bool] = False  # whether `end` does anything
    runs_inline: ClassVar[bool] = False  # whether `submit` runs the tasks itself, in the thread of the loop

    def __init__(self, app: Any, options: PoolOptions, waker: Waker) -> None:
        self.app = app
        self.options = options
        self.waker = waker

    def main(self, loop: Callable[[], None]) -> Callable[[], None]:
        """What the main thread is to call: *loop* itself, or what runs *loop* in another thread meanwhile.

        The latter is for pools that need the main thread themselves, for an event loop.
        """
        return loop

    @abstractmethod
    def start(self) -> None:
        """Start children or threads, until tasks can be submitted. In a child it raises `NewChild`."""

    @abstractmethod
    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries to run. Never blocks (the solo pool: runs them)."""

    @abstractmethod
    def outcomes(self) -> list[Outcome]:
        """What has ended since the last call, in order of ending. Never blocks. May replace children."""

    def deadline(self) -> float | None:
        """The monotonic time at which to call `outcomes` although nothing has woken the loop; None: never."""
        return None

    @abstractmethod
    def running(self) -> list[tuple[Delivery, float]]:
        """Each delivery that runs now, with the monotonic time at which it started."""

    @abstractmethod
    def take_back(self) -> list[Delivery]:
        """Withdraw every delivery that has not started yet; they will not run here."""

    @abstractmethod
    def waiting(self) -> list[Delivery]:
        """What was submitted and has not started, as far as it can be told. From any thread."""

    def end(self, deliveries: Sequence[Delivery]) -> None:  # noqa: B027  (most pools can end no task)
        """End these, which run and whose outcome no longer matters."""

    # -- what remote control asks; `processes` and `info` from any thread, the others from the loop's ----

    def pid_of(self, delivery: Delivery) -> int:
        """The process that runs *delivery*."""
        return os.getpid()

    def processes(self) -> list[int]:
        """The processes that run tasks."""
        return [os.getpid()]

    def info(self) -> dict[str, Any]:
        """What Celery's ``inspect stats`` shows of a pool (docs/PROTOCOL.md §7.4)."""
        options = self.options
        return {
            "implementation": f"{type(self).__module__}:{type(self).__name__}",
            "max-concurrency": options.concurrency,
            "processes": self.processes(),
            "max-tasks-per-child": options.max_tasks_per_child or "N/A",
            "put-guarded-by-semaphore": False,
            "timeouts": [options.soft_time_limit or 0, options.time_limit or 0],
        }

    def terminate(self, delivery: Delivery, reason: str) -> None:
        """End *delivery*, which runs, and no other; its outcome is that of a revoked task.

        Raises `PoolRefused` if this pool has no way to do so; does nothing if it has just ended.
        """
        raise PoolRefused(f"the {self.name} pool can't end a task that runs")

    def resize(self, concurrency: int) -> None:
        """Run so many tasks at once from now on; what runs is left to end. Raises `PoolRefused`."""
        self.options = replace(self.options, concurrency=concurrency)

    def restart(self) -> None:
        """Replace every process when its task has ended. Raises `PoolRefused`."""
        raise PoolRefused(f"the {self.name} pool has no processes to replace: restart the worker (HUP)")

    def set_limits(self, task: str, hard: float | None, soft: float | None) -> None:
        """Let runs of *task* that start from now on have these limits, in seconds. Raises `PoolRefused`."""
        if hard is not None and not self.keeps_hard_limits:
            raise PoolRefused(f"the {self.name} pool can't keep a hard time limit")
        if soft is not None and not self.keeps_soft_limits:
            raise PoolRefused(f"the {self.name} pool can't keep a soft time limit")
        self.app.tasks[task].time_limit = hard
        self.app.tasks[task].soft_time_limit = soft
        for tracer in self.tracers():
            tracer.forget_plans()

    def show_outcomes(self, shows: bool) -> None:
        """Say whether outcomes are to have what events tell of them (`Outcome.shown`). From any thread."""
        for tracer in self.tracers():
            tracer.shows = shows

    @abstractmethod
    def tracers(self) -> list[Tracer]:
        """What runs its tasks in this process."""

    def start_thread(self, run: Callable[[], None], name: str) -> None:
        """Run *run* in a thread that goes on whatever the tasks do."""
        threading.Thread(target=run, name=name, daemon=True).start()

    @abstractmethod
    def stop(self, *, force: bool = False) -> None:
        """End threads and children.

        Nothing runs any more, unless *force*, which abandons or kills what does.
        """
