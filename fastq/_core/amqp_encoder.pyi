from collections.abc import Iterable
from typing import Any, final

from fastq._core.message import Message

PROTOCOL_HEADER: bytes
FRAME_MAX: int
FRAME_MIN: int

@final
class FrameEncoder:
    @property
    def frame_max(self) -> int: ...
    def __init__(self, frame_max: int = ...) -> None: ...
    def __len__(self) -> int: ...
    def tune(self, frame_max: int) -> None: ...
    def take(self) -> bytes: ...
    def truncate(self, length: int) -> None: ...
    def heartbeat(self) -> None: ...
    def method(self, channel: int, name: str, **fields: Any) -> None: ...
    def ack(self, channel: int, delivery_tag: int, multiple: bool = False) -> None: ...
    def nack(self, channel: int, delivery_tag: int, multiple: bool = False, requeue: bool = True) -> None: ...
    def reject(self, channel: int, delivery_tag: int, requeue: bool = True) -> None: ...
    def publish(
        self,
        channel: int,
        exchange: str,
        routing_key: str,
        body: bytes,
        *,
        headers: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
        content_type: str | None = None,
        content_encoding: str | None = None,
        mandatory: bool = False,
    ) -> None: ...
    def publish_message(
        self,
        channel: int,
        message: Message,
        *,
        exchange: str | None = None,
        routing_key: str | None = None,
        mandatory: bool = False,
    ) -> None: ...
    def publish_messages(
        self, channel: int, messages: Iterable[Message], *, mandatory: bool = False
    ) -> None: ...
