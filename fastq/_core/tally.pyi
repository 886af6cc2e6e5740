from collections.abc import Callable, Container
from typing import final

from fastq._core.message import Message, Outcome

BOUNDS: tuple[float, ...]
UNKNOWN: str

@final
class Histogram:
    counts: list[int]
    total: float
    def observe(self, seconds: float) -> None: ...

@final
class TaskTally:
    states: dict[str, int]
    runs: Histogram
    waits: Histogram
    def __init__(self) -> None: ...

@final
class Tally:
    tasks: dict[str, TaskTally]
    def __init__(self, known: Container[str], ready_since: Callable[[Message], float | None]) -> None: ...
    def ended(self, outcomes: list[Outcome], now: float) -> None: ...
