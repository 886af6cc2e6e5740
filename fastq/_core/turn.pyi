from collections.abc import Callable, Sequence
from typing import Any, final

from fastq._core.message import Delivery, Outcome

def redeliveries(raw: bytes) -> int: ...
def without_count(raw: bytes) -> bytes: ...

@final
class QueueKeys:
    name: str
    ready: list[bytes]
    claims: bytes
    started: bytes
    delayed: bytes
    dead: bytes
    entries: bytes
    def __init__(
        self,
        name: str,
        ready: list[bytes],
        claims: bytes,
        started: bytes,
        delayed: bytes,
        dead: bytes,
        entries: bytes,
    ) -> None: ...

@final
class TurnCodec:
    def __init__(
        self,
        sha: bytes,
        epoch: bytes,
        leases: bytes,
        turn: bytes,
        queues: list[QueueKeys],
        steps: Sequence[int],
        destination: Callable[[str, int | None], tuple[bytes, bytes, bytes]],
        *,
        max_redeliveries: int = 3,
        result_prefix: bytes | None = None,
        ttl: bytes = b"",
        failure_ttl: bytes = b"",
        chords: tuple[bytes, bytes, bytes, bytes, bytes, bytes] | None = None,
        claimed: int | None = None,
    ) -> None: ...
    lasts: dict[tuple[bytes, bytes], Outcome]
    told: list[list[Any]]
    @property
    def unsettled(self) -> dict[bytes, Delivery]: ...
    def request(
        self,
        outcomes: Sequence[Outcome],
        number: int,
        lease_ms: int,
        room: int,
        first_id: int,
        waits: bool,
        rotation: int,
        now: float,
    ) -> bytes: ...
    def settled(self, outcomes: Sequence[Outcome], waiting: Sequence[Outcome] = ()) -> None: ...
    def deliveries(self, reply: list[Any], first_id: int) -> list[Delivery]: ...
    def adopt(self, queue: str, tag: bytes, raw: bytes) -> Delivery: ...
