"""Loggers of tasks, formatters, and standard output turned into log lines."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from fastq._core.request import current_request

LOG_LEVELS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
    "FATAL": logging.FATAL,
}

RESERVED_LOGGER_NAMES = frozenset({"fastq", "fastq.task"})

base_logger = logging.getLogger("fastq")
task_logger = logging.getLogger("fastq.task")
worker_logger = logging.getLogger("fastq.worker")

_RESET = "\033[0m"
_COLORS = {
    "DEBUG": "\033[1;34m",  # blue
    "WARNING": "\033[1;33m",  # yellow
    "ERROR": "\033[1;31m",  # red
    "CRITICAL": "\033[1;35m",  # magenta
}

_is_in_signal_handler = False


def get_logger(name: str) -> logging.Logger:
    """Return the logger *name*; it stays silent where no logging is set up."""
    logger = logging.getLogger(name)
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return logger


def get_task_logger(name: str) -> logging.Logger:
    """Return the logger *name* for a module of tasks; its lines bear the name and id of the running task.

    That is because it becomes a child of the logger 'fastq.task'. The names 'fastq' and
    'fastq.task' raise RuntimeError.
    """
    if name in RESERVED_LOGGER_NAMES:
        raise RuntimeError(f"the logger name {name!r} is reserved: call get_task_logger(__name__)")
    # A logger of one of its packages that was made later would put itself in task_logger's place.
    for end, character in enumerate(name):
        if character == ".":
            logging.getLogger(name[:end])
    logger = get_logger(name)
    if task_logger not in _ancestors(logger):
        logger.parent = task_logger
    return logger


def _ancestors(logger: logging.Logger | None) -> Iterator[logging.Logger]:
    while logger is not None:
        yield logger
        logger = logger.parent


def mlevel(level: int | str | None) -> int:
    """Return the number of a log level that is given by name or number; 0 for None."""
    if not level:
        return 0
    if isinstance(level, int):
        return level
    number = int(level) if level.isdigit() else LOG_LEVELS.get(level.upper())
    if number is None:
        raise ValueError(f"no log level is named {level!r}: choose one of {', '.join(LOG_LEVELS)}")
    return number


def set_in_sighandler(value: bool) -> None:
    """Say that a signal handler runs, so that what is printed goes straight to standard error."""
    global _is_in_signal_handler
    _is_in_signal_handler = value


@contextmanager
def in_sighandler() -> Iterator[None]:
    """Keep the log's locks alone while a signal handler runs: the interrupted code may hold them."""
    set_in_sighandler(True)
    try:
        yield
    finally:
        set_in_sighandler(False)


class ColorFormatter(logging.Formatter):
    """A formatter that colours lines by their level."""

    def __init__(self, fmt: str | None = None, use_color: bool = True, datefmt: str | None = None) -> None:
        super().__init__(fmt, datefmt)
        self.use_color = use_color

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, between the codes of its colour if there is one."""
        line = super().format(record)
        color = _COLORS.get(record.levelname) if self.use_color else None
        return f"{color}{line}{_RESET}" if color else line


class TaskFormatter(ColorFormatter):
    """A formatter that gives ``%(task_name)s`` and ``%(task_id)s`` of the running task, or ``???``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line with the task's name and id."""
        request = current_request()
        if request is not None and request.id:
            record.task_id = request.id
            record.task_name = request.task
        else:
            record.__dict__.setdefault("task_id", "???")
            record.__dict__.setdefault("task_name", "???")
        return super().format(record)


class LoggingProxy:
    """A file that writes what it gets to a logger, one record a write."""

    mode = "w"
    name = None
    encoding = "utf-8"
    errors = "replace"

    def __init__(self, logger: logging.Logger, loglevel: int | str | None = None) -> None:
        self.logger = logger
        self.loglevel = mlevel(loglevel) or logger.level or logging.ERROR
        self.closed = False
        self._thread = threading.local()  # .is_logging: this thread is within write()

    def write(self, data: str | bytes) -> int:
        """Log *data* without its last newline; return how many characters were taken."""
        text = data.decode(self.encoding, self.errors) if isinstance(data, bytes) else str(data)
        if self.closed or not text:
            return 0
        # A handler whose stream is this proxy, or one that reports its own failure on sys.stderr,
        # would lead back here without end.
        if _is_in_signal_handler or getattr(self._thread, "is_logging", False):
            stream: IO[str] | None = sys.__stderr__
            return stream.write(text) if stream is not None else 0
        line = text.rstrip("\n")
        if line:
            self._thread.is_logging = True
            try:
                self.logger.log(self.loglevel, "%s", line)
            finally:
                self._thread.is_logging = False
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write each of *lines*."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def close(self) -> None:
        """Drop what is written from here on."""
        self.closed = True

    def isatty(self) -> bool:
        """Return False: colours don't belong into a log."""
        return False

    def writable(self) -> bool:
        """Return True, as a file opened for writing does."""
        return True

    def fileno(self) -> Any:
        """Raise OSError: there is no file behind it."""
        raise OSError("standard output is redirected to the log and has no file descriptor")
