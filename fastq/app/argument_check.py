"""Check a call's arguments against a function's signature, at the speed of a call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def signature_stub(function: Callable[..., Any], name: str) -> Callable[..., None]:
    """An empty function with *function*'s parameters: a call that does not fit raises the same `TypeError`.

    `inspect.Signature.bind` takes 5 µs; the interpreter checks a call in 0.1 µs.
    """
    signature = inspect.signature(function)
    parts, seen_keyword_only, positional_only = [], False, False
    for parameter in signature.parameters.values():
        if positional_only and parameter.kind is not parameter.POSITIONAL_ONLY:
            parts.append("/")
        positional_only = parameter.kind is parameter.POSITIONAL_ONLY
        if parameter.kind is parameter.KEYWORD_ONLY and not seen_keyword_only:
            parts.append("*")
            seen_keyword_only = True
        prefix = STARS.get(parameter.kind, "")
        seen_keyword_only = seen_keyword_only or prefix == "*"
        parts.append(prefix + parameter.name + ("" if parameter.default is parameter.empty else "=None"))
    if positional_only:
        parts.append("/")
    # Names of parameters are identifiers, for they come from a function; so this text holds nothing else.
    title = name.rpartition(".")[2]
    title = title if title.isidentifier() else "task"
    namespace: dict[str, Any] = {}
    exec(f"def {title}({', '.join(parts)}): pass", namespace)
    stub: Callable[..., None] = namespace[title]
    return stub
