from collections.abc import Callable, Iterable
from typing import final

from fastq._core.message import Delivery, Message, Outcome

@final
class EventWriter:
    clock: int
    def __init__(self, own: bytes, tells: Callable[[str], bool]) -> None: ...
    def received(self, deliveries: Iterable[Delivery], at: float, out: list[bytes]) -> None: ...
    def ended(
        self,
        outcomes: Iterable[Outcome],
        at: float,
        started: dict[int, Delivery],
        out: list[bytes],
    ) -> None: ...
    def started(self, delivery: Delivery, at: float, out: list[bytes]) -> None: ...
    def sent(self, message: Message, at: float, out: list[bytes]) -> None: ...
