from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")

def json_dumps(obj: object) -> bytes: ...
def json_loads(data: bytes | bytearray | memoryview | str) -> Any: ...
def register_type(
    cls: type[_T],
    marker: str | None,
    encoder: Callable[[_T], Any],
    decoder: Callable[[Any], _T] | None = None,
) -> None: ...
