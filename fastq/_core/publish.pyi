from collections.abc import Callable, Iterable

from fastq._core.message import Message

def pack_publishes(
    messages: Iterable[Message], destination: Callable[[str, int | None], tuple[bytes, bytes, bytes]]
) -> list[tuple[bytes, int, int]]: ...
