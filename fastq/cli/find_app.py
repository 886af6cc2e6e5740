"""Find and import the user's app.

Whatever is wrong with its name or with the user's code is a `CommandError` of one line;
the cause is chained to it.
"""

from __future__ import annotations

import importlib
import os
from types import ModuleType
from typing import Any

from fastq.app.base import FastQ
from fastq.cli.app_name import (
    SUBMODULES,
    celery_app_error,
    modules_here,
    name_from_folder,
    name_from_pyproject,
)
from fastq.cli.errors import CommandError
from fastq.cli.user_code import user_code_error
from fastq.exceptions import nearest_name

ATTRIBUTES = ("app", "celery", "fastq")  # where a module keeps its app; the first two in Celery's order


def find_app(name: str | None) -> FastQ:
    """The app called *name*, else that of FASTQ_APP, of pyproject.toml, or the only one in this folder.

    The current folder must be on `sys.path`. Raises `CommandError`.
    """
    name = name or os.environ.get("FASTQ_APP") or name_from_pyproject() or name_from_folder()
    return load_app(name)


def load_app(name: str) -> FastQ:
    """The app called *name*: ``module``, ``module:attribute``, ``module.attribute`` or a package.

    Raises `CommandError`.
    """
    path, _, attribute = _as_module(name).partition(":")
    module = _import_user_module(path, name)
    if module is None:
        # Celery also takes a dot before the attribute: proj.main.app.
        parent, _, last = path.rpartition(".")
        owner = _import_user_module(parent, name) if parent and not attribute else None
        if owner is None or not hasattr(owner, last):
            raise _no_module(path, owner)
        module, attribute = owner, last
    return _named_app(module, attribute) if attribute else _only_app(module)


def _as_module(name: str) -> str:
    """Turn a path such as ``src/proj.py`` into a module's name; other names stay as they are."""
    path, colon, attribute = name.partition(":")
    if path.endswith(".py") or "/" in path:
        path = path.removeprefix("./").removesuffix(".py").strip("/").replace("/", ".")
    return f"{path}{colon}{attribute}"


def _import_user_module(path: str, name: str) -> ModuleType | None:
    """Import *path*, or return None when there is no such module. Raises `UserCodeError`."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as exc:
        if exc.name and (path == exc.name or path.startswith(exc.name + ".")):
            return None
        raise user_code_error(exc, name) from exc
    except ValueError as exc:
        if not path or path.startswith("."):
            raise CommandError(f"-A {name}: not the name of a module") from exc
        raise user_code_error(exc, name) from exc
    except (Exception, SystemExit) as exc:
        raise user_code_error(exc, name) from exc


def _no_module(path: str, owner: ModuleType | None) -> CommandError:
    if owner is not None:
        last = path.rpartition(".")[2]
        return _no_attribute(owner, last)
    here = [name for name, _ in modules_here()]
    hint = nearest_name(path, here) or f" in {os.getcwd()} or on the import path"
    return CommandError(f"no module is named {path!r}{hint}")


def _no_attribute(module: ModuleType, attribute: str) -> CommandError:
    known = _app_names(module) or [name for name in vars(module) if not name.startswith("_")]
    return CommandError(f"module {module.__name__!r} has no {attribute!r}{nearest_name(attribute, known)}")


def _named_app(module: ModuleType, attribute: str) -> FastQ:
    value: Any = module
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise _no_attribute(module, attribute)
        value = getattr(value, part)
    if isinstance(value, ModuleType):
        return _only_app(value)
    if not _is_app(value):
        _refuse_celery_app(value, module)
        raise CommandError(f"{module.__name__}:{attribute} is a {type(value).__name__}, not a FastQ app")
    app: FastQ = value
    return app


def _only_app(module: ModuleType) -> FastQ:
    """The app that *module* holds under a usual name or any other, or that a submodule of it holds."""
    names = _app_names(module)
    for name in (*ATTRIBUTES, *names):
        if name in names:
            app: FastQ = getattr(module, name)
            return app
    for value in vars(module).values():
        _refuse_celery_app(value, module)
    if hasattr(module, "__path__"):
        for last in SUBMODULES:
            submodule = _import_user_module(f"{module.__name__}.{last}", module.__name__)
            if submodule is not None and (names := _app_names(submodule)):
                return _only_app(submodule)
            for value in vars(submodule).values() if submodule else ():
                _refuse_celery_app(value, module)
    raise CommandError(
        f"module {module.__name__!r} holds no app: make one with `app = FastQ({module.__name__!r})`, "
        "or name where it is with -A module:attribute"
    )


def _app_names(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if _is_app(value)]


def _is_app(value: object) -> bool:
    return isinstance(value, FastQ)


def _refuse_celery_app(value: object, module: ModuleType) -> None:
    kind = type(value)
    if kind.__name__ == "Celery" and kind.__module__.startswith("celery."):
        raise celery_app_error(module.__name__)
