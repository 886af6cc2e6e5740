"""The commands of remote control, those of the user's own included.

>>> @inspect_command(name="uptime_of", args=[("unit", str)], signature="[unit=s]")
... def uptime_of(node, unit="s"):
...     \"\"\"How long this worker has run.\"\"\"
...     return {"uptime": node.uptime()}

Import the module that defines them where the worker finds it (`include`), and in the program
that sends them if its command line shall know them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, overload

from fastq.worker.orders import Order

Function = TypeVar("Function", bound=Callable[..., Any])


class Command(NamedTuple):
    """One command, and how the command line reads its arguments."""

    name: str
    function: Callable[..., Any]  # called with the `Node` and the arguments by name
    type: str  # "inspect", which changes nothing, or "control"
    alias: str | None = None
    args: Sequence[tuple[str, Callable[[str], Any]]] = ()  # those of the command line: name and type
    variadic: str | None = None  # the name of the argument that takes all the rest
    signature: str = ""
    visible: bool = True
    default_timeout: float = 1.0  # seconds that the command line waits for replies
    help: str = ""


class Pending(NamedTuple):
    """What a command returns that has something done by the worker's loop: the reply comes with its end."""

    order: Order
    reply: Callable[[Any], Any]  # from what the order came to


NO_REPLY = object()  # what a command returns that does not answer

COMMANDS: dict[str, Command] = {}  # by name
_aliases: dict[str, str] = {}


@overload
def control_command(function: Function) -> Function: ...
@overload
def control_command(**options: Any) -> Callable[[Function], Function]: ...
def control_command(function: Any = None, **options: Any) -> Any:
    """Make a function a command that changes something, with Celery's *options*.

    They are ``name``, ``alias``, ``args`` (a list of name and type), ``variadic``, ``signature``, ``help``,
    ``visible`` and ``default_timeout``. The function gets a `Node` and the arguments by name; what it
    returns is the reply, which JSON must have a form for.
    """
    return _register("control", function, options)


@overload
def inspect_command(function: Function) -> Function: ...
@overload
def inspect_command(**options: Any) -> Callable[[Function], Function]: ...
def inspect_command(function: Any = None, **options: Any) -> Any:
    """Make a function a command that only tells something; as `control_command`."""
    return _register("inspect", function, options)


def find_command(name: str) -> Command:
    """The command of that name or alias. Raises KeyError."""
    return COMMANDS[_aliases.get(name, name)]


def _register(kind: str, function: Any, options: dict[str, Any]) -> Any:
    def register(function: Function) -> Function:
        name = options.get("name") or function.__name__
        text = options.get("help") or (function.__doc__ or "").strip().partition("\n")[0]
        known = {key: value for key, value in options.items() if value is not None}
        COMMANDS[name] = Command(**{**known, "name": name, "function": function, "type": kind, "help": text})
        if options.get("alias"):
            _aliases[options["alias"]] = name
        return function

    return register if function is None else register(function)


class Panel:
    """Celery's name for the registry, for code that registers commands by it."""

    data = COMMANDS

    @staticmethod
    def register(*args: Any, **options: Any) -> Any:
        """`control_command`."""
        return control_command(*args, **options)
