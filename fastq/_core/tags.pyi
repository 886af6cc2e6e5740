from collections.abc import Callable
from typing import Any, TypeVar

_T = TypeVar("_T")

def encode(value: object) -> str: ...
def decode(text: str) -> Any: ...
def register_type(
    cls: type[_T],
    marker: str | None,
    encoder: Callable[[_T], Any],
    decoder: Callable[[Any], _T] | None = None,
) -> None: ...
