"""Exceptions as maps in result documents (docs/PROTOCOL.md §5.2, DESIGN D16).

A class is taken from a module that is loaded already, and only if it is an exception; nothing
is ever imported because data names it. What is not found becomes a neutral class of that name.
"""

import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import fastq.exceptions as our_exceptions
from fastq.exceptions import DecodeError, SecurityError, SerializationError
from fastq.serialization.serializers import dumps

OURS = our_exceptions.__name__
CELERYS = "celery.exceptions"
# Where Celery's processes know those of our exceptions that Celery does not define itself.
FOREIGN_HOMES = {
    "SoftTimeLimitExceeded": "billiard.exceptions",
    "TimeLimitExceeded": "billiard.exceptions",
    "WorkerLostError": "billiard.exceptions",
    "Terminated": "billiard.exceptions",
    "OperationalError": "kombu.exceptions",
    "SerializationError": "kombu.exceptions",
    "EncodeError": "kombu.exceptions",
    "DecodeError": "kombu.exceptions",
    "ContentDisallowed": "kombu.exceptions",
    "SerializerNotInstalled": "kombu.exceptions",
}
# Classes that have another name there.
FOREIGN_NAMES = {
    "FastQError": "CeleryError",
    "FastQWarning": "CeleryWarning",
    "CommandError": "CeleryCommandException",
}
# An exception of one of these modules is ours, whether or not Celery is loaded as well.
SAME_AS_OURS = frozenset({OURS, CELERYS, "billiard.exceptions", "kombu.exceptions"})

# A class's name comes from data: enough for any real one, and no more.
MAX_NAME_LENGTH = 200


def exception_to_map(exc: BaseException, serializer: str = "json") -> dict[str, Any]:
    """Return *exc* as ``exc_type``, ``exc_message`` (its arguments) and ``exc_module``.

    Arguments that *serializer* can't write are replaced by their repr. Our own exceptions are
    named as Celery names them, so that its clients raise theirs.
    """
    cls = type(exc)
    name, module = cls.__qualname__, cls.__module__
    if module == OURS:
        module = FOREIGN_HOMES.get(name, CELERYS)
        name = FOREIGN_NAMES.get(name, name)
    args = [_writable(arg, serializer) for arg in exc.args]
    return {"exc_type": name, "exc_message": args, "exc_module": module}


def exception_from_map(map: Mapping[str, Any]) -> BaseException:
    """Make the exception that *map* describes, its class where it is loaded, else a neutral one.

    An exception (pickled results hold them) is returned as it is. Raises `SecurityError` when the
    map names something that is no exception class, `DecodeError` when it is no exception map.
    """
    if isinstance(map, BaseException):
        return map
    if not isinstance(map, Mapping) or not isinstance(map.get("exc_type"), str):
        raise DecodeError(f"the stored failure is no map with an exc_type: {map!r:.200}")
    name, module, message = map["exc_type"], map.get("exc_module"), map.get("exc_message")
    args = tuple(message) if isinstance(message, list | tuple) else () if message is None else (message,)
    cls = _loaded_class(module, name)
    if cls is None:
        return _neutral_class(name)(*args)
    if not isinstance(cls, type) or not issubclass(cls, BaseException):
        raise SecurityError(
            f"{module}.{name} is no exception class; the stored failure gives it {args!r:.200}"
        )
    return _instance(cls, name, args)


def _loaded_class(module: object, name: str) -> object:
    """What the qualified *name* stands for in *module*; None if that is not loaded or lacks the name."""
    if module in SAME_AS_OURS:
        ours = vars(our_exceptions).get(name)
        if ours is not None:
            return ours
    found = sys.modules.get(module) if isinstance(module, str) else None
    for part in name.split("."):
        # Not getattr: a module's __getattr__ may import what it is asked for.
        found = getattr(found, "__dict__", {}).get(part)
    return found


def _instance(cls: type[BaseException], name: str, args: tuple[Any, ...]) -> BaseException:
    try:
        return cls(*args)
    except Exception:  # a user's __init__, whose arguments are others than those in args
        pass
    try:
        made = cls.__new__(cls, *args)
        str(made)  # may rely on what __init__ sets
    except Exception:
        return _neutral_class(name)(*args)
    return made


@lru_cache(maxsize=256)
def _neutral_class(name: str) -> type[Exception]:
    """One class per name, so that two failures of one kind are of one class here too."""
    clean = name.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")[:MAX_NAME_LENGTH]
    return type(clean, (Exception,), {"__module__": OURS})


def _writable(value: Any, serializer: str) -> Any:
    try:
        dumps(value, serializer)
    except SerializationError:
        return _safe_repr(value)
    return value


def _safe_repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as exc:  # a user's __repr__
        return f"<{type(value).__name__}, whose repr raised {type(exc).__name__}>"
