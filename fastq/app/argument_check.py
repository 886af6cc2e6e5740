"""What a call of a task's function takes and gives, found without `inspect`: that takes 10 ms to import."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any

# As inspect names them.
CO_VARARGS, CO_VARKEYWORDS, CO_COROUTINE = 0x04, 0x08, 0x80


def argument_check(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """What raises `TypeError` when it is called with arguments that do not fit *function*.

    For Python's functions and methods it is an empty function with the same parameters: the
    interpreter checks a call in 0.1 µs, `inspect.Signature.bind` takes 5.
    """
    plain = _python_function(function)
    if plain is None:
        from inspect import signature  # for callables that are no functions of Python

        return signature(function).bind
    parameters = _parameters(plain)
    if isinstance(function, MethodType) and plain.__code__.co_argcount:
        del parameters[0]
        if parameters[:1] == ["/"]:
            del parameters[0]
    # Names of parameters are identifiers, for they come from a function; so this text holds nothing else.
    title = name.rpartition(".")[2]
    title = title if title.isidentifier() else "task"
    namespace: dict[str, Any] = {}
    exec(f"def {title}({', '.join(parameters)}): pass", namespace)
    check: Callable[..., None] = namespace[title]
    return check


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether a call of *function*, be it decorated or partial, gives a coroutine."""
    found: Any = function
    while True:
        if hasattr(found, "__wrapped__"):
            found = found.__wrapped__
        elif isinstance(found, partial):
            found = found.func
        else:
            break
    if hasattr(found, "_is_coroutine_mark"):  # of inspect.markcoroutinefunction, new in Python 3.12
        return True
    code = getattr(found, "__code__", None)
    return code is not None and bool(code.co_flags & CO_COROUTINE)


def _python_function(function: Any) -> FunctionType | None:
    """The function whose parameters *function* has, through decorators that used `functools.wraps`."""
    if isinstance(function, MethodType):
        function = function.__func__
    while isinstance(function, FunctionType) and not hasattr(function, "__signature__"):
        if not hasattr(function, "__wrapped__"):
            return function
        function = function.__wrapped__
    return None


def _parameters(function: FunctionType) -> list[str]:
    """The parameters of *function* as its ``def`` has them, every default as None."""
    code = function.__code__
    names = code.co_varnames  # positional ones, then those by keyword alone, then those with stars
    named = code.co_argcount + code.co_kwonlyargcount
    optional = set(function.__kwdefaults__ or ())
    if function.__defaults__:
        optional.update(names[code.co_argcount - len(function.__defaults__) : code.co_argcount])
    parts = [name + "=None" * (name in optional) for name in names[:named]]
    keyword_only = parts[code.co_argcount :]
    del parts[code.co_argcount :]
    if code.co_posonlyargcount:
        parts.insert(code.co_posonlyargcount, "/")
    if code.co_flags & CO_VARARGS:
        parts.append("*" + names[named])
    elif keyword_only:
        parts.append("*")
    parts += keyword_only
    if code.co_flags & CO_VARKEYWORDS:
        parts.append("**" + names[named + bool(code.co_flags & CO_VARARGS)])
    return parts
