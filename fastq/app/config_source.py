"""Find the settings in a map, a module, a class or an object, under any of their names."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from types import ModuleType
from typing import Any

from fastq.exceptions import ImproperlyConfigured, UnknownSetting

# An unknown name that begins so was meant as a setting; other constants are the user's own.
_GUARDED_PREFIXES = ("CELERY_", "CELERYD_", "CELERYBEAT_", "BROKER_")
_DATA = (str, bytes, int, float, list, tuple, dict, set, frozenset, timedelta, type(None))


class SettingNames:
    """The names that settings have: the new ones, and a map from each old one to its new one."""

    def __init__(self, names: Collection[str], old: Mapping[str, str]) -> None:
        self.names = names
        self.old = old


def settings_in(
    source: Any, known: SettingNames, namespace: str | None = None, *, is_mixing_allowed: bool = False
) -> dict[str, Any]:
    """Return the settings in *source* by their new names, unvalidated.

    With a *namespace*, names that begin with it are settings (``CELERY_TASK_SERIALIZER`` for
    'CELERY'), and ones without it are only read if they are known. A name that was meant as a
    setting and is not one raises UnknownSetting; new and old names side by side raise
    ImproperlyConfigured, unless *is_mixing_allowed*. In modules, classes and objects, names that
    begin with an underscore or hold something else than plain data are not settings.
    """
    is_map = isinstance(source, Mapping)
    given = dict(_read_map(source) if is_map else _read_attributes(source, known, namespace))
    if namespace:
        return _by_namespace(given, known, namespace.rstrip("_") + "_", _origin(source))
    return _without_namespace(given, known, _origin(source), is_mixing_allowed)


def _read_map(source: Mapping[Any, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in source.items():
        if not isinstance(name, str):
            raise ImproperlyConfigured(f"the name of a setting must be text, not {name!r}")
        yield name, value


def _read_attributes(source: Any, known: SettingNames, namespace: str | None) -> Iterator[tuple[str, Any]]:
    for name in dir(source):
        if name in known.names or name in known.old or name == "TIME_ZONE":
            yield name, getattr(source, name)
        elif _may_be_meant(name, namespace) and not isinstance(getattr(type(source), name, None), property):
            value = getattr(source, name)
            if isinstance(value, _DATA):  # not what the module imports or defines
                yield name, value


def _may_be_meant(name: str, namespace: str | None) -> bool:
    """Whether an unknown *name* must be looked at; other attributes are not even read."""
    if namespace:
        return name.startswith(namespace.rstrip("_") + "_")
    return not name.startswith("_") and (name.islower() or name.startswith(_GUARDED_PREFIXES))


def _by_namespace(given: dict[str, Any], known: SettingNames, prefix: str, origin: str) -> dict[str, Any]:
    # From the weakest to the strongest, as Celery looks them up.
    found = _django_time_zone(given)
    found.update({known.old[name]: value for name, value in given.items() if name in known.old})
    found.update({name: value for name, value in given.items() if name in known.names})
    for name, value in given.items():
        if name.startswith(prefix):
            inner = name[len(prefix) :].lower()
            if inner in known.names:
                found[inner] = value
            elif name not in known.old:
                cased = str.upper if prefix.isupper() else str.lower
                raise UnknownSetting(name, [prefix + cased(one) for one in known.names], origin)
    return found


def _without_namespace(
    given: dict[str, Any], known: SettingNames, origin: str, is_mixing_allowed: bool
) -> dict[str, Any]:
    new = {name: value for name, value in given.items() if name in known.names}
    old = {name: value for name, value in given.items() if name in known.old}
    for name in given:
        if name not in new and name not in old:
            if name.islower():
                raise UnknownSetting(name, known.names, origin)
            if name.startswith(_GUARDED_PREFIXES):
                raise UnknownSetting(name, known.old, origin)
    if not is_mixing_allowed:
        _refuse_mixture(new, old, known, origin)
    return {**_django_time_zone(given), **{known.old[name]: value for name, value in old.items()}, **new}


def _refuse_mixture(new: Collection[str], old: Collection[str], known: SettingNames, origin: str) -> None:
    """Raise ImproperlyConfigured if some settings have only their old name and others only their new one."""
    only_old = {name: known.old[name] for name in old if known.old[name] not in new}
    old_of = {known.old[name]: name for name in old}
    if not only_old or all(name in old_of for name in new):
        return
    renames = "\n".join(f"    {name:<36} -> {only_old[name]}" for name in sorted(only_old))
    where = f"{origin}: " if origin else ""
    raise ImproperlyConfigured(
        f"{where}new and old names of settings can't be mixed; rename these to the new format:\n{renames}"
    )


def _django_time_zone(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"timezone": given["TIME_ZONE"]} if given.get("TIME_ZONE") else {}


def _origin(source: Any) -> str:
    if isinstance(source, ModuleType):
        return f"module {source.__name__}"
    if isinstance(source, type):
        return f"class {source.__qualname__}"
    return "" if isinstance(source, Mapping) else f"object of class {type(source).__qualname__}"


def import_config(path: str) -> Any:
    """Return what *path* names: 'module', 'module:attribute' or 'module.attribute'.

    A missing module raises ModuleNotFoundError, a missing attribute ImproperlyConfigured. What the
    module itself raises passes through.
    """
    module_name, colon, attribute = path.partition(":")
    with _current_folder_in_path():
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as exc:
            parent, dot, last = module_name.rpartition(".")
            if colon or not dot or not _is_missing(exc, module_name):
                raise _explained(exc, module_name) from exc
            found, attribute = _import_parent(parent, module_name), last
    for name in filter(None, attribute.split(".")):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise ImproperlyConfigured(f"configuration {path!r}: there is no attribute {name!r}") from None
    return found


def _import_parent(parent: str, module_name: str) -> ModuleType:
    try:
        return importlib.import_module(parent)
    except ModuleNotFoundError as exc:
        raise _explained(exc, module_name) from exc


def _is_missing(error: ModuleNotFoundError, module_name: str) -> bool:
    """Whether *module_name* or a package above it is what was not found, not a module that it imports."""
    return error.name is not None and f"{module_name}.".startswith(f"{error.name}.")


def _explained(error: ModuleNotFoundError, module_name: str) -> ModuleNotFoundError:
    if not _is_missing(error, module_name):
        return error
    hint = f"; did you mean {module_name[:-3]!r}?" if module_name.endswith(".py") else ""
    return ModuleNotFoundError(f"no configuration module is named {module_name!r}{hint}", name=module_name)


@contextmanager
def _current_folder_in_path() -> Iterator[None]:
    """Let modules of the current folder be imported, as a program started there could."""
    folder = os.getcwd()
    if folder in sys.path or "" in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
