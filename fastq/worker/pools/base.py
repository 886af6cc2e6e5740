"""What a pool is: it runs functions and knows nothing of brokers (D3)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

# The codec imports it with the first message that is read: here that would be in every child anew.
import orjson  # noqa: F401

if TYPE_CHECKING:
    from fastq._core.message import Delivery, Outcome
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

    def end(self, deliveries: Sequence[Delivery]) -> None:  # noqa: B027  (most pools can end no task)
        """End these, which run and whose outcome no longer matters."""

    @abstractmethod
    def stop(self, *, force: bool = False) -> None:
        """End threads and children.

        Nothing runs any more, unless *force*, which abandons or kills what does.
        """
