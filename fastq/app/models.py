"""Pydantic models as arguments and results of tasks (``pydantic=True``)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints

from fastq.exceptions import ImproperlyConfigured

try:
    from pydantic import BaseModel
except ModuleNotFoundError as exc:
    raise ImproperlyConfigured('pydantic=True needs it: pip install "fastq-queue[pydantic]"') from exc


def dump_models(args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """*args* and *kwargs* with every model among them as plain data, for the message."""

    def dumped(value: Any) -> Any:
        return value.model_dump(mode="json") if isinstance(value, BaseModel) else value

    return [dumped(value) for value in args], {name: dumped(value) for name, value in kwargs.items()}


def with_models(
    function: Callable[..., Any],
    *,
    bind: bool = False,
    strict: bool = False,
    context: Mapping[str, Any] | None = None,
    dump_kwargs: Mapping[str, Any] | None = None,
) -> Callable[..., Any]:
    """*function*, with annotated models validated from plain data, and a returned model dumped to it.

    *strict* and *context* go to ``model_validate``, *dump_kwargs* to ``model_dump`` (JSON
    mode unless they say otherwise). With *bind* the first parameter is the task itself.
    """
    signature = inspect.signature(function)
    hints = get_type_hints(function)
    hints.pop("return", None)
    models = {
        name: kind for name, kind in hints.items() if isinstance(kind, type) and issubclass(kind, BaseModel)
    }
    dump = {"mode": "json", **(dump_kwargs or {})}

    def validated(args: tuple[Any, ...], kwargs: dict[str, Any]) -> inspect.BoundArguments:
        bound = signature.bind(*args, **kwargs)
        for name, model in models.items():
            value = bound.arguments.get(name)
            if value is not None and not isinstance(value, model):
                bound.arguments[name] = model.model_validate(value, strict=strict, context=context)
        return bound

    def dumped(value: Any) -> Any:
        return value.model_dump(**dump) if isinstance(value, BaseModel) else value

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            bound = validated(args, kwargs)
            return dumped(await function(*bound.args, **bound.kwargs))

        return run_async

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        bound = validated(args, kwargs)
        return dumped(function(*bound.args, **bound.kwargs))

    return run
