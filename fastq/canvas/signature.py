"""Signatures: a task with arguments and options, not sent yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar, cast

from fastq._core.message import new_id
from fastq.app.current import get_current_app
from fastq.canvas.plain import kind_of, listed, plain
from fastq.canvas.stamping import stamp_links, stamps_for
from fastq.exceptions import NotRegistered

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.canvas.stamping import StampingVisitor
    from fastq.result import AsyncResult as Result
    from fastq.result import EagerResult

R = TypeVar("R")
V = TypeVar("V")
K = TypeVar("K", bound="type[Signature[Any]]")
# In the class itself the names stand for its properties.
SignatureType: TypeAlias = "type[Signature[Any]]"


def item(key: str, doc: str) -> Any:
    """The property of a signature that is its item *key*."""

    def set_item(signature: Signature[Any], value: Any) -> None:
        signature[key] = value

    return property(lambda signature: signature[key], set_item, doc=doc)


def kwargs_item(key: str, doc: str) -> Any:
    """The property of a signature that is its keyword argument *key*."""

    def set_item(signature: Signature[Any], value: Any) -> None:
        signature["kwargs"][key] = value

    return property(lambda signature: signature["kwargs"][key], set_item, doc=doc)


def _option(key: str, doc: str) -> Any:
    """The property of a signature that is its option *key*, or None."""

    def set_option(signature: Signature[Any], value: Any) -> None:
        signature["options"][key] = value

    return property(lambda signature: signature["options"].get(key), set_option, doc=doc)


class Signature(dict[str, Any], Generic[R]):
    """One call of a task that can be passed around, changed and sent: a map with methods.

    The map is what travels (docs/PROTOCOL.md §8.1): *task* is a name, *options* are those of
    `Task.apply_async`. An *immutable* signature takes no further arguments, so it ignores the
    result of the task before it.
    """

    __slots__ = ("_app", "_type")

    # The class for each `subtask_type`; None is a task's own.
    TYPES: ClassVar[dict[str, SignatureType]] = {}
    # What a call can't change: a task that left its group would never be counted there.
    _FIXED_OPTIONS = frozenset({"group_id", "stamped_headers"})

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[K], K]:
        """Make the decorated class the one for maps whose ``subtask_type`` is *name*, or its own name."""

        def register(subclass: K) -> K:
            cls.TYPES[name or subclass.__name__] = subclass
            return subclass

        return register

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: FastQ | None = None) -> Signature[Any]:
        """The signature that a map stands for, of the class for its ``subtask_type``."""
        kind = kind_of(d)
        if kind:
            wanted = cls.TYPES[kind]
            if wanted is not cls:
                return wanted.from_dict(d, app=app)
        return Signature(d, app=app)

    def __init__(
        self,
        task: Any = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: Any = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: FastQ | None = None,
        **more_options: Any,
    ) -> None:
        self._app = app
        self._type = type
        if isinstance(task, dict):
            super().__init__(task)
            return
        name = task
        if not isinstance(task, str) and hasattr(task, "name"):
            name = task.name
            self._type = task
        super().__init__(
            task=name,
            args=tuple(args or ()),
            kwargs=kwargs or {},
            options={**(options or {}), **more_options},
            subtask_type=subtask_type,
            immutable=immutable,
        )

    task = item("task", "The task's name.")
    args = item("args", "Positional arguments.")
    kwargs = item("kwargs", "Keyword arguments.")
    options = item("options", "Options of its message.")
    subtask_type = item("subtask_type", "What kind of workflow it is; None for a task.")
    immutable = item("immutable", "Whether it takes no further arguments.")
    id = _option("task_id", "The task's id, if it has one already.")
    root_id = _option("root_id", "The id of the first task of its workflow.")
    parent_id = _option("parent_id", "The id of the task that sends it.")

    @property
    def name(self) -> str:
        """The task's name, as a task has it."""
        return self["task"]  # type: ignore[no-any-return]

    @property
    def app(self) -> FastQ:
        """The app that sends it."""
        return self._app or get_current_app()

    @property
    def type(self) -> Any:
        """The task. Raises `NotRegistered` if this process does not know it."""
        return self._type or self.app.tasks[self["task"]]

    @property
    def AsyncResult(self) -> Callable[..., Result[R]]:
        """What makes the result of a run with a given id."""
        try:
            return cast("Callable[..., Result[R]]", self.type.AsyncResult)
        except NotRegistered:
            return self.app.AsyncResult

    # -- being called ---------------------------------------------------------

    def __call__(self, *partial_args: Any, **partial_kwargs: Any) -> R:
        """Run the task here and now, as a plain function; further arguments go before its own."""
        args, kwargs, _ = self._merge(partial_args, partial_kwargs)
        return cast(R, self.type(*args, **kwargs))

    def delay(self, *partial_args: Any, **partial_kwargs: Any) -> Result[R]:
        """Send it; further arguments go before its own."""
        return self.apply_async(partial_args, partial_kwargs)

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Result[R]:
        """Send it; *args* go before its own, *kwargs* and *options* (but None) over them."""
        given = {name: value for name, value in options.items() if value is not None}
        args, kwargs, options = self._merge(args, kwargs, given)
        try:
            task = self.type
        except NotRegistered:
            return self.app.send_task(self["task"], args, kwargs, **options)
        return cast("Result[R]", task.apply_async(args, kwargs, **options))

    def apply(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> EagerResult[R]:
        """Run it here, as a worker would, with what follows it."""
        given = {name: value for name, value in options.items() if value is not None}
        args, kwargs, options = self._merge(args, kwargs, given)
        return cast("EagerResult[R]", self.type.apply(args, kwargs, **options))

    def __invert__(self) -> R:
        """Send it and wait for its result."""
        return self.apply_async().get()

    def _merge(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """(args, kwargs, options) of a call: *args* before its own, the others over its own.

        An immutable signature keeps its arguments, unless *force* is set.
        """
        own = self["options"]
        if options:
            fixed = self._FIXED_OPTIONS
            if own.get("stamped_headers"):
                fixed = fixed.union(own["stamped_headers"])
            changes = {name: value for name, value in options.items() if name not in own or name not in fixed}
            own = {**own, **changes}
        if self["immutable"] and not force:
            return self["args"], self["kwargs"], own
        return (
            (*args, *self["args"]) if args else self["args"],
            {**self["kwargs"], **kwargs} if kwargs else self["kwargs"],
            own,
        )

    # -- being copied and changed -----------------------------------------------

    def clone(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Signature[R]:
        """A copy, with *args* before its own and *kwargs* and *options* over them."""
        merged_args, merged_kwargs, merged_options = self._merge(args, kwargs, options)
        copy = Signature.from_dict(
            {
                "task": self["task"],
                "args": tuple(merged_args),
                "kwargs": dict(merged_kwargs),
                "options": copied_options(merged_options),
                "subtask_type": self["subtask_type"],
                "immutable": self["immutable"],
            },
            app=self._app,
        )
        copy._type = self._type
        return copy

    partial = clone

    def replace(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Signature[R]:
        """A copy with other arguments or options in place of its own."""
        copy = self.clone()
        for key, value in (("args", args), ("kwargs", kwargs), ("options", options)):
            if value is not None:
                copy[key] = value
        return copy

    def set(self, immutable: bool | None = None, **options: Any) -> Signature[R]:
        """Set options of its message, and return it."""
        if immutable is not None:
            self.set_immutable(immutable)
        self["options"].update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Say whether it takes no further arguments."""
        self["immutable"] = immutable

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Mapping[str, Any] | None = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give it an id, *_id* unless it has one, and return the result of the call to come."""
        options = self["options"]
        task_id = options.setdefault("task_id", _id or new_id())
        if root_id:
            options["root_id"] = root_id
        if parent_id:
            options["parent_id"] = parent_id
        if "reply_to" not in options and (reply_to := self.app.reply_queue()) is not None:
            options["reply_to"] = reply_to
        if group_id and "group_id" not in options:
            options["group_id"] = group_id
        if chord:
            options["chord"] = chord
        if group_index is not None:
            options["group_index"] = group_index
        return self.AsyncResult(task_id)

    _freeze = freeze

    # -- what follows it ----------------------------------------------------------

    def append_to_list_option(self, key: str, value: V) -> V:
        """Add *value* to the list that is the option *key*, unless it is there already; returns *value*."""
        items = self["options"][key] = listed(self["options"].get(key))
        if value not in items:
            items.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Add *value*, or its items, to the list that is the option *key*."""
        self["options"][key] = [*listed(self["options"].get(key)), *listed(value)]

    def link(self, callback: Any) -> Any:
        """Run *callback* with the result when the task returns; returns *callback*."""
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Call *errback* when the task fails; returns *errback*."""
        return self.append_to_list_option("link_error", errback)

    def on_error(self, errback: Any) -> Signature[R]:
        """As `link_error`, but returns the signature."""
        self.link_error(errback)
        return self

    def flatten_links(self) -> list[Signature[Any]]:
        """It, its callbacks, theirs, and so on."""
        links = [maybe_signature(link, app=self._app) for link in listed(self["options"].get("link"))]
        return [self, *(each for link in links for each in link.flatten_links())]

    def __or__(self, other: Any) -> Any:
        """A chain: *other* gets the result of this one."""
        kinds = self.TYPES
        if not isinstance(other, Signature):
            return NotImplemented
        if isinstance(other, kinds["chain"]):
            other = other.unchain_tasks()  # type: ignore[attr-defined]
            return kinds["chain"]([self, *other], app=self._app)
        if isinstance(other, kinds["group"]):
            other = other.unrolled()  # type: ignore[attr-defined]
        return kinds["chain"]([self, other], app=self._app)

    def __ior__(self, other: Any) -> Any:
        return self.__or__(other)

    # -- stamps ---------------------------------------------------------------------

    def stamp(
        self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any
    ) -> Any:
        """Set *headers* and what *visitor* says as stamps on it, its callbacks and its errbacks.

        With *append_stamps* a stamp that is there already becomes a list, else it is replaced.
        """
        self.stamp_links(visitor, append_stamps, **headers)
        said = None if visitor is None else visitor.on_signature(self, **headers) or {}
        return self.set(**stamps_for(said, headers, append_stamps, self["options"]))

    def stamp_links(
        self, visitor: StampingVisitor | None, append_stamps: bool = False, **headers: Any
    ) -> None:
        """Stamp its callbacks and errbacks."""
        options = self["options"]
        for option in ("link", "link_error"):
            if options.get(option):
                options[option] = [maybe_signature(link, app=self._app) for link in listed(options[option])]
        stamp_links(options, visitor, append_stamps, headers)

    # -- being a value ----------------------------------------------------------------

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """The call as Python would write it, with *args* and *kwargs* merged in."""
        args, kwargs, _ = self._merge(args, kwargs, force=True)
        shown = [*map(_safe_repr, args), *(f"{key}={_safe_repr(value)}" for key, value in kwargs.items())]
        return f"{self['task']}({', '.join(shown)})"

    def __repr__(self) -> str:
        return self.reprcall()

    def __reduce__(self) -> Any:
        return signature, (plain(self),)

    def __deepcopy__(self, memo: dict[int, Any]) -> Signature[R]:
        # Its arguments may be lazy, and are never changed: only options are its own.
        copy = type(self).__new__(type(self))
        dict.update(copy, self, options=copied_options(self["options"]))
        copy._app, copy._type = self._app, self._type
        memo[id(self)] = copy
        return copy

    def __json__(self) -> dict[str, Any]:
        return cast("dict[str, Any]", plain(self))


def copied_options(value: Any) -> Any:
    """A copy of options, and of all maps and lists in them; of a signature, its options are copied."""
    if isinstance(value, Signature):
        return value.__deepcopy__({})
    if isinstance(value, dict):
        return {key: copied_options(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copied_options(item) for item in value]
    return tuple(copied_options(item) for item in value) if type(value) is tuple else value


def _safe_repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception:  # of a class of the user's
        return f"<{type(value).__name__} that can't be shown>"


def bound(task: Any, args: tuple[Any, ...], kwargs: dict[str, Any], immutable: bool) -> Signature[Any]:
    """The signature of a call of *task*, made in a third of the time that `Signature` takes."""
    made: Signature[Any] = Signature.__new__(Signature)
    made._app, made._type = task.app, task
    made.update(
        {
            "task": task.name,
            "args": args,
            "kwargs": kwargs,
            "options": {},
            "subtask_type": None,
            "immutable": immutable,
        }
    )
    return made


def signature(varies: Any, *args: Any, app: FastQ | None = None, **kwargs: Any) -> Signature[Any]:
    """A signature of a task or a task's name, of a map, or a copy of another signature."""
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, dict):
        return Signature.from_dict(varies, app=app)
    return Signature(varies, *args, **{"app": app, **kwargs})


subtask = signature


def maybe_signature(d: Any, app: FastQ | None = None, clone: bool = False) -> Any:
    """*d* as a signature, a copy with *clone*; what is neither a signature nor a map is returned as it is."""
    if isinstance(d, Signature):
        if clone:
            d = d.clone()
    elif isinstance(d, dict):
        d = Signature.from_dict(d, app=app)
    if app is not None and isinstance(d, Signature):
        d._app = app
    return d


maybe_subtask = maybe_signature
