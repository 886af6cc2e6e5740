"""Set up logging in a worker or another program: handlers, formats, redirected output."""

from __future__ import annotations

import logging
import logging.handlers
import re
import sys
import warnings
from typing import IO, TYPE_CHECKING, Any

from fastq import signals
from fastq.exceptions import CDeprecationWarning, CPendingDeprecationWarning
from fastq.utils.log import ColorFormatter, LoggingProxy, TaskFormatter, get_logger, mlevel, task_logger

if TYPE_CHECKING:
    from fastq.app.base import FastQ

__all__ = ("Logging", "TaskFormatter")

_NODE_CODES = re.compile("%([%pnhdiI])")
_OWN_LOGGERS = ("fastq", "fastq.task", "fastq.redirected")

LogFile = str | IO[str] | None
Answers = list[tuple[signals.Receiver, Any]]


class Logging:
    """The logging of an application, ``app.log``.

    It is set up once per process, by whoever comes first; `already_setup` says so. A receiver of
    the signal ``setup_logging`` takes the place of all of it.
    """

    already_setup = False

    def __init__(self, app: FastQ) -> None:
        self.app = app

    def setup(
        self,
        loglevel: int | str | None = None,
        logfile: LogFile = None,
        redirect_stdouts: bool = False,
        redirect_level: int | str = "WARNING",
        colorize: bool | None = None,
        hostname: str | None = None,
    ) -> Answers | None:
        """Set up logging and, if asked and no receiver did it, redirect standard output and error.

        *logfile* is a path, which may hold ``%n`` and the like of the node *hostname*, an open file, or
        None for standard error. Return the answers of the receivers of ``setup_logging``, which are
        none as a rule, or None if logging was set up before.
        """
        answers = self.setup_logging_subsystem(loglevel, logfile, colorize=colorize, hostname=hostname)
        if not answers and redirect_stdouts:
            self.redirect_stdouts(redirect_level)
        for category in (CDeprecationWarning, CPendingDeprecationWarning):
            warnings.filterwarnings("always", category=category)
        logging.captureWarnings(True)
        return answers

    def setup_logging_subsystem(
        self,
        loglevel: int | str | None = None,
        logfile: LogFile = None,
        format: str | None = None,
        colorize: bool | None = None,
        hostname: str | None = None,
        datefmt: str | None = None,
    ) -> Answers | None:
        """Set up the root logger and the tasks' one, unless that was done; return as `setup` does."""
        if Logging.already_setup:
            return None
        conf = self.app.conf
        level = mlevel(loglevel) or logging.WARNING
        if hostname and isinstance(logfile, str):
            logfile = _expand(logfile, hostname)
        format = format or conf.worker_log_format
        colorize = self.supports_color(colorize, logfile)
        details = {"loglevel": level, "logfile": logfile, "format": format, "colorize": colorize}
        answers = signals.setup_logging.send(sender=None, **details)
        for _, answer in answers:
            if isinstance(answer, Exception):
                raise answer
        Logging.already_setup = True
        if answers:
            return answers
        root = logging.getLogger()
        if conf.worker_hijack_root_logger:
            for logger in (root, *map(logging.getLogger, _OWN_LOGGERS)):
                logger.handlers = []
        self.setup_handlers(root, logfile, format, colorize, datefmt=datefmt or conf.worker_log_datefmt)
        root.setLevel(level)
        signals.after_setup_logger.send(sender=None, logger=root, **details)
        self.setup_task_loggers(level, logfile, colorize=colorize)
        return answers

    def setup_task_loggers(
        self,
        loglevel: int | str | None = None,
        logfile: LogFile = None,
        format: str | None = None,
        colorize: bool | None = None,
        propagate: bool = False,
        datefmt: str | None = None,
    ) -> logging.Logger:
        """Set up the logger above those of `get_task_logger`, and return it."""
        conf = self.app.conf
        level = mlevel(loglevel) or logging.WARNING
        format = format or conf.worker_task_log_format
        colorize = self.supports_color(colorize, logfile)
        datefmt = datefmt or conf.worker_task_log_datefmt
        self.setup_handlers(task_logger, logfile, format, colorize, TaskFormatter, datefmt)
        task_logger.setLevel(level)
        task_logger.propagate = propagate
        signals.after_setup_task_logger.send(
            sender=None, logger=task_logger, loglevel=level, logfile=logfile, format=format, colorize=colorize
        )
        return task_logger

    def setup_handlers(
        self,
        logger: logging.Logger,
        logfile: LogFile,
        format: str,
        colorize: bool,
        formatter: type[ColorFormatter] = ColorFormatter,
        datefmt: str | None = None,
    ) -> logging.Logger:
        """Give *logger* a handler that writes to *logfile*, unless it has one; return it."""
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return logger
        handler = _open_handler(logfile)
        handler.setFormatter(formatter(format, use_color=colorize, datefmt=datefmt))
        logger.addHandler(handler)
        return logger

    def redirect_stdouts(self, loglevel: int | str | None = None, name: str = "fastq.redirected") -> None:
        """Log what is printed from here on."""
        self.redirect_stdouts_to_logger(get_logger(name), loglevel)

    def redirect_stdouts_to_logger(
        self,
        logger: logging.Logger,
        loglevel: int | str | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> LoggingProxy:
        """Put one `LoggingProxy` to *logger* in place of standard output and error; return it."""
        proxy = LoggingProxy(logger, loglevel)
        if stdout:
            sys.stdout = proxy  # a file as far as print() needs one
        if stderr:
            sys.stderr = proxy
        return proxy

    def supports_color(self, colorize: bool | None = None, logfile: LogFile = None) -> bool:
        """Whether to colour: never if switched off or in a file, else if standard error is a terminal."""
        wanted = self.app.conf.worker_log_color if colorize is None else colorize
        if wanted is False or logfile is not None:
            return False
        return sys.stderr is not None and sys.stderr.isatty()

    def get_default_logger(self, name: str = "fastq") -> logging.Logger:
        """Return the logger *name*."""
        return get_logger(name)


def _open_handler(logfile: LogFile) -> logging.Handler:
    if isinstance(logfile, str):
        # It is opened again when logrotate moves it away.
        return logging.handlers.WatchedFileHandler(logfile, encoding="utf-8")
    return logging.StreamHandler(sys.__stderr__ if logfile is None else logfile)


def _expand(path: str, hostname: str) -> str:
    name, _, host = hostname.rpartition("@")
    short, _, domain = host.partition(".")
    # %i and %I number the processes of a pool; fastq's processes write to one file.
    values = {"%": "%", "p": hostname, "n": name or short, "h": host, "d": domain, "i": "0", "I": ""}
    return _NODE_CODES.sub(lambda match: values[match[1]], path)
