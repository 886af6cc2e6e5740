"""Errors in the user's own modules, said in one line that names the user's own file and line."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from fastq.cli.errors import CommandError, ExitCode

OWN_CODE = str(Path(__file__).parents[1]) + os.sep


class UserCodeError(CommandError):
    """The user's module can't be imported: it is broken, or what it imports is missing."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.CONFIG)


def user_code_error(exc: BaseException, name: str) -> UserCodeError:
    """Say what *exc* is and where in the user's code it arose, while the module *name* was loaded."""
    if isinstance(exc, SyntaxError) and exc.filename:
        return UserCodeError(f"{short_path(exc.filename)}:{exc.lineno}: {type(exc).__name__}: {exc.msg}")
    where = innermost_line(exc) or f"while loading {name!r}"
    what = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    return UserCodeError(f"{where}: {what}")


def innermost_line(exc: BaseException) -> str | None:
    """The last ``file:line`` of the user's code in the traceback of *exc*, or None.

    That is one in the current folder, else one outside the installed packages, else any that is not ours.
    """
    frames = [
        (frame.filename, frame.lineno)
        for frame in traceback.extract_tb(exc.__traceback__)
        if not frame.filename.startswith((OWN_CODE, "<frozen"))
    ]
    here = os.getcwd() + os.sep
    installed = tuple({sys.prefix + os.sep, sys.base_prefix + os.sep, os.path.dirname(os.__file__) + os.sep})
    in_folder = [at for at in frames if at[0].startswith(here) and "site-packages" not in at[0]]
    outside = [at for at in frames if not at[0].startswith(installed)]
    for found in (in_folder, outside, frames):
        if found:
            file, line = found[-1]
            return f"{short_path(file)}:{line}"
    return None


def short_path(path: str) -> str:
    """*path* as seen from the current folder, where it lies in it."""
    return path.removeprefix(os.getcwd() + os.sep)
