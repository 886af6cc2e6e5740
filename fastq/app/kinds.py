"""The kinds of values that settings take: what each accepts, and how it is told."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta, tzinfo
from typing import Any, NamedTuple

_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})
_FALSE = frozenset({"0", "false", "no", "off", "n", "f", ""})
_RATE = re.compile(r"\d+(\.\d+)?(/[smh])?")


class Kind(NamedTuple):
    """A kind of value: *expected* ends the sentence "must be ..."; *convert* raises ValueError on others."""

    expected: str
    convert: Callable[[Any], Any]


def _bool(value: Any) -> bool:
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise ValueError
    if value in (True, False):  # 0 and 1 too
        return bool(value)
    raise ValueError


def _int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError
    return int(value)


def _count(value: Any) -> int:
    number = _int(value)
    if number < 0:
        raise ValueError
    return number


def _count_or_auto(value: Any) -> int | str:
    return "auto" if value == "auto" else _count(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    number = float(value) if isinstance(value, str) else value
    if number != number:  # NaN
        raise ValueError
    return number


def _seconds(value: Any) -> float:
    number = value.total_seconds() if isinstance(value, timedelta) else _number(value)
    if number < 0:
        raise ValueError
    return number


def _some_seconds(value: Any) -> float:
    number = _seconds(value)
    if number == 0:
        raise ValueError
    return number


def _path(value: Any) -> str:
    return os.fsdecode(os.fspath(value))


def _names(value: Any) -> list[str] | tuple[str, ...]:
    """A single name stands for a list of one."""
    if isinstance(value, str):
        return (value,)
    if isinstance(value, Mapping) or not isinstance(value, Iterable):
        raise ValueError
    names = value if isinstance(value, list) else tuple(value)
    if not all(isinstance(name, str) for name in names):
        raise ValueError
    return names


def _url(value: Any) -> Any:
    return value if isinstance(value, str) else _names(value)


def _level(value: Any) -> int | str:
    if isinstance(value, str) and not value.isdigit():
        import logging  # 5 ms to import, for programs that set a level

        if not isinstance(logging.getLevelName(value.upper()), int):
            raise ValueError
        return value
    return _count(value)


def _rate(value: Any) -> Any:
    if isinstance(value, str) and not _RATE.fullmatch(value):
        raise ValueError
    return value if isinstance(value, str) else _seconds(value)


def _umask(value: Any) -> Any:
    if isinstance(value, str):
        int(value, 8)
        return value
    return _count(value)


def _ssl(value: Any) -> Any:
    return value if isinstance(value, Mapping) else _bool(value)


def _class(value: Any) -> Any:
    if isinstance(value, str) or callable(value):
        return value
    raise ValueError


def _instance(*types: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not isinstance(value, types):
            raise ValueError
        return value

    return check


def one_of(*choices: Any) -> Kind:
    """Return the kind of exactly these values; a number may be written as text."""

    def choose(value: Any) -> Any:
        for choice in choices:
            if value == choice or (isinstance(value, str) and value == str(choice)):
                return choice
        raise ValueError

    return Kind("one of " + ", ".join(map(repr, choices)), choose)


ANY = Kind("anything", lambda value: value)
BOOL = Kind("True or False", _bool)
BYTES = Kind("text or bytes", _instance(str, bytes))
CLASS = Kind("a name, or a class or function", _class)
COUNT = Kind("a whole number, 0 or more", _count)
COUNT_OR_AUTO = Kind("a whole number, 0 or more, or 'auto'", _count_or_auto)
ID = Kind("a name or a number", _instance(str, int))
INT = Kind("a whole number", _int)
LEVEL = Kind("a log level, such as 'INFO' or 20", _level)
MAP = Kind("a dict", _instance(Mapping))
NAMES = Kind("a list of names", _names)
NUMBER = Kind("a number", _number)
PATH = Kind("a path", _path)
QUEUES = Kind("a list of queues, or a dict of them by name", _instance(Mapping, list, tuple, set))
RATE = Kind("a number of tasks a second, or text such as '10/s', '100/m' or '5/h'", _rate)
SECONDS = Kind("a number of seconds, 0 or more, or a timedelta", _seconds)
SOME_SECONDS = Kind("a number of seconds above 0, or a timedelta", _some_seconds)
SSL = Kind("True, False or a dict of TLS options", _ssl)
STR = Kind("text", _instance(str))
TIMEZONE = Kind("the name of a time zone, or a tzinfo", _instance(str, tzinfo))
UMASK = Kind("a number, or octal text such as '022'", _umask)
URL = Kind("a URL, or a list of them", _url)
