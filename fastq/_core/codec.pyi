from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

def json_dumps(obj: object) -> bytes: ...
def json_loads(data: bytes | bytearray | memoryview | str) -> Any: ...
def register_type(
    cls: type[T], marker: str | None, encoder: Callable[[T], Any], decoder: Callable[[Any], T] | None = None
) -> None: ...
