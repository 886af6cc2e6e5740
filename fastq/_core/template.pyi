from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

from fastq._core.message import Message
from fastq._core.request import Context

@final
class Template:
    def __init__(
        self,
        task: str,
        headers: dict[str, Any],
        properties: dict[str, Any],
        queues: list[str],
        *,
        exchange: str,
        routing_key: str,
        content_type: str = "application/json",
        content_encoding: str = "utf-8",
        priority: int | None = None,
        due: float | None = None,
        encode: Callable[[Any], bytes] | None = None,
        repr_depth: int = 3,
        tells_time: bool = False,
    ) -> None: ...
    @property
    def is_json(self) -> bool: ...
    def messages(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        request: Context | None,
        task_id: str | None = None,
        announce: Callable[[Any, dict[str, Any], dict[str, Any]], None] | None = None,
        embed: dict[str, Any] | bytes | None = None,
        group_id: str | None = None,
        group_index: int | None = None,
    ) -> list[Message]: ...
