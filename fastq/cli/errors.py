"""What the command says and returns when it can't do what it was asked."""

from __future__ import annotations

from enum import IntEnum

from fastq.exceptions import FastQError


class ExitCode(IntEnum):
    """The exit codes of every command. Those above 63 are those of sysexits.h."""

    OK = 0
    FAILED = 1  # a task failed, or what was asked for does not exist
    USAGE = 2  # a misspelt command or option, an app that can't be found
    UNAVAILABLE = 69  # the broker or the result backend can't be reached
    TIMED_OUT = 75  # it may still happen: ask again later
    NO_PERMISSION = 77
    CONFIG = 78  # an error in the settings or in the user's code
    INTERRUPTED = 130  # Ctrl-C, as shells count it


class CommandError(FastQError):
    """What went wrong, in one line for the user, and the code to exit with."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.exit_code = exit_code
