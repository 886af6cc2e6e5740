"""Lists whose items come from an iterator, as they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any


class Lazy(Sequence[Any]):
    """The items of *source*, taken from it once and kept, so that it can be gone through again."""

    __slots__ = ("_kept", "_source")

    def __init__(self, source: Iterable[Any]) -> None:
        self._source: Iterator[Any] | None = iter(source)
        self._kept: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        at = 0
        while at < len(self._kept) or self._take():
            yield self._kept[at]
            at += 1

    def _take(self) -> bool:
        """Take one more item from the source, if there is one."""
        if self._source is None:
            return False
        item = next(self._source, self)
        if item is self:
            self._source = None
            return False
        self._kept.append(item)
        return True

    def _all(self) -> list[Any]:
        while self._take():
            pass
        return self._kept

    def map(self, function: Callable[[Any], Any]) -> None:
        """Put *function* of each item in its place, when it is taken."""
        self._kept = [function(item) for item in self._kept]
        if self._source is not None:
            self._source = map(function, self._source)

    def __getitem__(self, index: Any) -> Any:
        last = index.stop if isinstance(index, slice) else index + 1
        if last is None or last <= 0 or (isinstance(index, slice) and (index.start or 0) < 0):
            return self._all()[index]
        while len(self._kept) < last and self._take():
            pass
        return self._kept[index]

    def __len__(self) -> int:
        return len(self._all())

    def __bool__(self) -> bool:
        return bool(self._kept) or self._take()

    def __eq__(self, other: object) -> bool:
        return self._all() == list(other) if isinstance(other, list | tuple | Lazy) else NotImplemented

    def __reduce__(self) -> Any:
        return list, (self._all(),)

    def __json__(self) -> list[Any]:
        return self._all()

    def __repr__(self) -> str:
        more = [] if self._source is None else ["..."]
        return f"[{', '.join([*map(repr, self._kept), *more])}]"


def is_single(items: Sequence[Any]) -> bool:
    """Whether there is one item in *items*; of a lazy list no more than two are taken for this."""
    if isinstance(items, Lazy):
        return len(items[:2]) == 1
    return len(items) == 1


def reusable(items: Iterable[Any]) -> Sequence[Any]:
    """*items*, to be gone through several times: itself if it is a list, a tuple or lazy."""
    return items if isinstance(items, list | tuple | Lazy) else Lazy(items)
