from typing import Any, Protocol, final

from fastq._core.message import Delivery, Outcome
from fastq._core.trace import Tracer

class Rate(Protocol):
    def wait(self, message_id: str, now: float, /) -> float: ...

def parse_instant(text: str) -> float: ...

@final
class Gate:
    tracer: Tracer
    rates: dict[str, Rate]
    revoked: set[str]
    def __init__(self, app: Any, tracer: Tracer, rates: dict[str, Rate] | None = None) -> None: ...
    def admit(self, deliveries: list[Delivery], now: float, settled: list[Outcome]) -> list[Delivery]: ...
