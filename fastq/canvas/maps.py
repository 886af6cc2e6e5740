"""A task for each of many items: in one task, or in one for every so many of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar

from fastq.canvas.lazy import reusable
from fastq.canvas.primitives import Workflow, group
from fastq.canvas.signature import Signature, maybe_signature

if TYPE_CHECKING:
    from fastq.app.base import FastQ


class _Map(Signature[Any]):
    """A task that calls another one for every item, in one process."""

    __slots__ = ()

    _task_name: ClassVar[str]
    _shown_call: ClassVar[str]

    def __init__(self, task: Any, it: Iterable[Any], app: FastQ | None = None, **options: Any) -> None:
        kwargs = {"task": task, "it": reusable(it)}
        super().__init__(self._task_name, (), kwargs, options, immutable=True, app=app)

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: FastQ | None = None) -> _Map:
        """The signature that a map stands for."""
        return cls(d["kwargs"]["task"], d["kwargs"]["it"], app=app, **d["options"])

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send it, to where the task itself would go."""
        given = {name: value for name, value in options.items() if value is not None}
        given.setdefault("route_name", self.kwargs["task"]["task"])
        own = {"task": self.kwargs["task"], "it": list(self.kwargs["it"])}
        return self.type.apply_async((), own, **self._merge(options=given)[2])

    def __repr__(self) -> str:
        items = repr(self.kwargs["it"])
        if len(items) >= 100:
            items = items[:100].rsplit(" ", 1)[0] + "..."
        return f"[{self.kwargs['task']['task']}({self._shown_call}) for x in {items}]"


@Signature.register_type()
class xmap(_Map):
    """``[task(x) for x in it]`` in one task."""

    __slots__ = ()

    _task_name = "celery.map"
    _shown_call = "x"


@Signature.register_type()
class xstarmap(_Map):
    """``[task(*x) for x in it]`` in one task."""

    __slots__ = ()

    _task_name = "celery.starmap"
    _shown_call = "*x"


@Signature.register_type()
class chunks(Workflow):
    """``[task(*x) for x in it]`` in a group of tasks, each for *n* items."""

    __slots__ = ()

    def __init__(
        self, task: Any, it: Iterable[Any], n: int, app: FastQ | None = None, **options: Any
    ) -> None:
        kwargs = {"task": task, "it": reusable(it), "n": n}
        super().__init__("celery.chunks", (), kwargs, options, immutable=True, app=app)

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: FastQ | None = None) -> chunks:
        """The signature that a map stands for."""
        return cls(d["kwargs"]["task"], d["kwargs"]["it"], d["kwargs"]["n"], app=app, **d["options"])

    def parts(self) -> Iterator[Any]:
        yield self.kwargs["task"]

    def __call__(self, **options: Any) -> Any:
        """Send it; the result is that of the group."""
        return self.apply_async(**options)

    def apply(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Run it here."""
        return self.group().apply(args, kwargs, **options)

    def group(self) -> group:
        """The group of tasks that it is sent as."""
        task, n = self.kwargs["task"], self.kwargs["n"]
        items = iter(self.kwargs["it"])
        parts = iter(lambda: list(islice(items, n)), [])
        return group((xstarmap(task, part, app=self._app) for part in parts), app=self._app)

    @classmethod
    def apply_chunks(cls, task: Any, it: Iterable[Any], n: int, app: FastQ | None = None) -> Any:
        """Send a call of *task* for every item of *it*, in tasks of *n*."""
        return cls(maybe_signature(task, app=app), it, n, app=app)()
