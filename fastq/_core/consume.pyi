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
    revoked: dict[str, float]
    stamps: dict[str, dict[str, float]]
    counts: dict[str, int]
    def __init__(self, app: Any, tracer: Tracer, rates: dict[str, Rate] | None = None) -> None: ...
    def is_revoked(self, delivery: Delivery) -> bool: ...
    def revoke(self, delivery: Delivery) -> Outcome | None: ...
    def admit(self, deliveries: list[Delivery], now: float, settled: list[Outcome]) -> list[Delivery]: ...
