"""The name of the app where the command line gives none: pyproject.toml, or the only one in this folder."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.user_code import short_path

SUBMODULES = ("celery", "fastq", "app", "tasks")  # where a package keeps its app
# A line that makes an app, as `app = FastQ("proj")`. An indented one is in a function and may never run.
MAKES_APP = re.compile(r"^\w+\s*(?::[^=\n]+)?=\s*(?:\w+\.)*(?:FastQ|Celery)\(", re.MULTILINE)
IMPORTS_FASTQ = re.compile(r"^\s*(?:from|import)\s+fastq\b", re.MULTILINE)
IMPORTS_CELERY = re.compile(r"^\s*(?:from|import)\s+celery\b", re.MULTILINE)


class NoAppFound(CommandError):
    """Nothing names an app, and the current folder holds none, or several."""


def celery_app_error(module: str) -> CommandError:
    """What to do about a module whose app is Celery's."""
    return CommandError(
        f"{module!r} makes a Celery app: change its import to `from fastq import Celery`", ExitCode.CONFIG
    )


def name_from_pyproject() -> str | None:
    """``app`` of ``[tool.fastq]`` in the pyproject.toml of this folder or the nearest one above it.

    Puts the folder of that file on `sys.path`. Raises `CommandError` on bad TOML.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        name = read_app_name(file.read_text(encoding="utf-8", errors="replace"), str(file))
        if name and str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        return name
    return None


def read_app_name(text: str, file: str) -> str | None:
    """``app`` of ``[tool.fastq]`` in the TOML *text* of *file*. Raises `CommandError`."""
    if sys.version_info < (3, 11):
        return read_plain_app_name(text)
    import tomllib

    try:
        value = tomllib.loads(text).get("tool", {}).get("fastq", {}).get("app")
    except tomllib.TOMLDecodeError as exc:
        raise CommandError(f"{short_path(file)}: {exc}", ExitCode.CONFIG) from exc
    if value is not None and not isinstance(value, str):
        raise CommandError(
            f"{short_path(file)}: app in [tool.fastq] is {value!r}, not a string", ExitCode.CONFIG
        )
    return value


def read_plain_app_name(text: str) -> str | None:
    """The same for Python 3.10, which reads no TOML: a plain string in this one table is all we need."""
    table = re.search(r"^\[tool\.fastq\][^\n]*\n(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    entry = re.search(r"""^\s*app\s*=\s*(["'])([^"'\n]*)\1""", table[1], re.MULTILINE) if table else None
    return entry[2] if entry else None


def name_from_folder() -> str:
    """The one module in the current folder whose text makes an app; imports nothing. Raises `NoAppFound`."""
    found, of_celery = [], []
    for name, file in modules_here():
        text = file.read_text(encoding="utf-8", errors="replace")
        if MAKES_APP.search(text):
            if IMPORTS_FASTQ.search(text):
                found.append(name)
            elif IMPORTS_CELERY.search(text):
                of_celery.append(name)
    if len(found) == 1:
        return found[0]
    if found:
        raise NoAppFound(f"several modules here make an app: choose one with -A: {', '.join(found)}")
    if of_celery:
        raise celery_app_error(of_celery[0])
    raise NoAppFound(
        f"no module in {os.getcwd()} makes an app: name one with -A, FASTQ_APP or [tool.fastq] app"
    )


def modules_here() -> list[tuple[str, Path]]:
    """The name and file of each module in this folder, and of those of its packages that may keep an app."""
    here = Path.cwd()
    modules = [
        (file.stem, file)
        for file in sorted(here.glob("*.py"))
        if file.stem.isidentifier()
        and file.stem not in ("setup", "conftest")
        and not file.stem.startswith("test_")
    ]
    for init in sorted(here.glob("*/__init__.py")):
        package = init.parent
        modules.append((package.name, init))
        for last in SUBMODULES:
            if (file := package / f"{last}.py").is_file():
                modules.append((f"{package.name}.{last}", file))
    return modules
