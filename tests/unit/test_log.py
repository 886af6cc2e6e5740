"""Logging: task names in lines, colours, redirected output, and who sets it up."""

import io
import logging
import sys
import warnings

import pytest

from fastq import signals
from fastq.app.log import Logging
from fastq.app.settings import Settings
from fastq.exceptions import CDeprecationWarning
from fastq.utils import log
from fastq.utils.log import (
    ColorFormatter,
    LoggingProxy,
    TaskFormatter,
    get_task_logger,
    in_sighandler,
    mlevel,
    task_logger,
)


class App:
    def __init__(self, **settings):
        self.conf = Settings(settings)


class Request:
    id = "the-id"
    task = "proj.add"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    """Give the process its logging back."""
    names = (None, "fastq", "fastq.task", "fastq.redirected", "py.warnings")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger, logger.handlers, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers[1:]:
        logger.handlers = []
    monkeypatch.setattr(Logging, "already_setup", False)
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    with warnings.catch_warnings():
        yield
    logging.captureWarnings(False)
    for logger, handlers, level, propagate in before:
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def running(monkeypatch):
    monkeypatch.setattr(log, "current_request", Request)


def record(level=logging.INFO, message="hello %s", *args):
    return logging.LogRecord("proj", level, "file", 1, message, args or ("you",), None)


# Formatters


def test_task_formatter_names_the_running_task(running):
    assert TaskFormatter("%(task_name)s[%(task_id)s]: %(message)s", use_color=False).format(record()) == (
        "proj.add[the-id]: hello you"
    )


def test_task_formatter_outside_of_a_task(monkeypatch):
    monkeypatch.setattr(log, "current_request", lambda: None)
    assert TaskFormatter("%(task_name)s[%(task_id)s]", use_color=False).format(record()) == "???[???]"


def test_task_formatter_keeps_what_the_record_says(monkeypatch):
    monkeypatch.setattr(log, "current_request", lambda: None)
    given = record()
    given.task_id = "given"
    assert TaskFormatter("%(task_id)s", use_color=False).format(given) == "given"


@pytest.mark.parametrize(
    ("level", "color"),
    [(logging.DEBUG, 34), (logging.WARNING, 33), (logging.ERROR, 31), (logging.CRITICAL, 35)],
)
def test_lines_are_coloured_by_level(level, color):
    assert ColorFormatter("%(message)s").format(record(level)) == f"\033[1;{color}mhello you\033[0m"
    assert ColorFormatter("%(message)s", use_color=False).format(record(level)) == "hello you"


def test_info_has_no_colour():
    assert ColorFormatter("%(message)s").format(record()) == "hello you"


# Loggers


def test_a_task_logger_is_a_child_of_the_tasks_logger():
    logger = get_task_logger("some.module.of.tasks")
    assert logger.name == "some.module.of.tasks"
    assert logger.parent is task_logger
    assert get_task_logger("some.module.of.tasks") is logger


def test_a_task_logger_stays_one_when_its_package_gets_a_logger():
    logging.getLogger("later.package.tasks")
    logger = get_task_logger("later.package.tasks")
    logging.getLogger("later")
    logging.getLogger("later.package")
    assert logger.parent is task_logger


@pytest.mark.parametrize("name", ["fastq", "fastq.task"])
def test_reserved_logger_names(name):
    with pytest.raises(RuntimeError, match="reserved"):
        get_task_logger(name)


@pytest.mark.parametrize(("level", "number"), [("info", 20), ("WARN", 30), (10, 10), ("15", 15), (None, 0)])
def test_levels_by_name_and_number(level, number):
    assert mlevel(level) == number


def test_an_unknown_level_is_named():
    with pytest.raises(ValueError, match="'loud'"):
        mlevel("loud")


# Redirection


@pytest.fixture
def lines():
    """The records of the logger 'redirected', whose proxy the tests write to."""
    logger = logging.getLogger("redirected")
    got = []
    handler = logging.Handler()
    handler.emit = got.append
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.DEBUG)
    return got


def test_what_is_printed_is_logged(lines):
    proxy = LoggingProxy(logging.getLogger("redirected"), "WARNING")
    print("100 % done", file=proxy)
    assert [(line.getMessage(), line.levelno) for line in lines] == [("100 % done", logging.WARNING)]


def test_the_proxy_is_a_file(lines):
    proxy = LoggingProxy(logging.getLogger("redirected"), logging.INFO)
    assert proxy.write("text\n") == 5
    assert proxy.write(b"bytes") == 5
    proxy.writelines(["one", "", "\n", "two"])
    proxy.flush()
    assert not proxy.isatty()
    with pytest.raises(OSError, match="redirected"):
        proxy.fileno()
    proxy.close()
    assert proxy.write("dropped") == 0
    assert [line.getMessage() for line in lines] == ["text", "bytes", "one", "two"]


def test_a_handler_that_prints_does_not_loop(lines, monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", stderr)
    logger = logging.getLogger("redirected")
    proxy = LoggingProxy(logger, "INFO")
    logger.handlers[0].emit = lambda line: proxy.write(f"inner: {line.getMessage()}\n")
    proxy.write("outer\n")
    assert stderr.getvalue() == "inner: outer\n"


def test_a_signal_handler_does_not_take_the_locks_of_the_log(lines, monkeypatch):
    stderr = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", stderr)
    proxy = LoggingProxy(logging.getLogger("redirected"))
    with in_sighandler():
        proxy.write("stopping\n")
    assert stderr.getvalue() == "stopping\n"
    assert lines == []


# Set-up


def test_setup_writes_both_formats_to_the_file(tmp_path, running):
    path = tmp_path / "%n-%h-%%.log"
    app = App(worker_log_format="W %(message)s", worker_task_log_format="T %(task_name)s %(message)s")
    assert Logging(app).setup("INFO", str(path), hostname="w1@host.example") == []
    logging.getLogger("any").info("one")
    get_task_logger("proj.tasks").info("two")
    logging.getLogger("any").debug("too low")
    assert (tmp_path / "w1-host.example-%.log").read_text() == "W one\nT proj.add two\n"


def test_setup_uses_the_settings_date_format(tmp_path):
    path = tmp_path / "log"
    app = App(worker_log_format="%(asctime)s %(message)s", worker_log_datefmt="at noon")
    Logging(app).setup("INFO", str(path))
    logging.getLogger("any").info("one")
    assert path.read_text() == "at noon one\n"


def test_the_default_level_is_warning():
    Logging(App()).setup(logfile=io.StringIO())
    assert logging.getLogger().level == logging.WARNING


def test_setup_happens_once_per_process():
    first, second = io.StringIO(), io.StringIO()
    Logging(App()).setup("INFO", first)
    assert Logging(App()).setup("INFO", second) is None
    logging.getLogger("any").info("one")
    assert "one" in first.getvalue() and not second.getvalue()


def test_hijacking_removes_the_handlers_of_the_root_logger():
    other = logging.NullHandler()
    other.emit = other.handle = lambda _: pytest.fail("must be gone")
    logging.getLogger().handlers = [logging.StreamHandler(io.StringIO()), other]
    stream = io.StringIO()
    Logging(App()).setup("INFO", stream)
    assert [handler.stream for handler in logging.getLogger().handlers] == [stream]


def test_without_hijacking_the_root_logger_keeps_its_handlers():
    kept = logging.StreamHandler(io.StringIO())
    logging.getLogger().handlers = [kept]
    Logging(App(worker_hijack_root_logger=False)).setup("INFO", io.StringIO())
    assert logging.getLogger().handlers == [kept]


def test_a_receiver_of_setup_logging_takes_the_place_of_all_of_it():
    before, got = list(logging.getLogger().handlers), []

    def receive(**named):
        got.append(named)

    signals.setup_logging.connect(receive)
    try:
        answers = Logging(App()).setup("INFO", "never-opened.log", redirect_stdouts=True)
    finally:
        signals.setup_logging.disconnect(receive)
    assert answers == [(receive, None)]
    assert got[0]["loglevel"] == logging.INFO and got[0]["logfile"] == "never-opened.log"
    assert logging.getLogger().handlers == before
    assert not isinstance(sys.stdout, LoggingProxy)
    assert Logging.already_setup


def test_an_error_of_such_a_receiver_is_raised():
    def receive(**_):
        raise OSError("no log server")

    signals.setup_logging.connect(receive)
    try:
        with pytest.raises(OSError, match="no log server"):
            Logging(App()).setup("INFO", io.StringIO())
    finally:
        signals.setup_logging.disconnect(receive)
    assert not Logging.already_setup


def test_receivers_may_change_the_loggers_afterwards():
    got = {}

    def on_logger(logger, **named):
        got["root"] = logger, set(named)

    def on_task_logger(logger, **named):
        got["task"] = logger, set(named)

    signals.after_setup_logger.connect(on_logger)
    signals.after_setup_task_logger.connect(on_task_logger)
    try:
        Logging(App()).setup("INFO", io.StringIO())
    finally:
        signals.after_setup_logger.disconnect(on_logger)
        signals.after_setup_task_logger.disconnect(on_task_logger)
    named = {"signal", "sender", "loglevel", "logfile", "format", "colorize"}
    assert got == {"root": (logging.getLogger(), named), "task": (task_logger, named)}


def test_setup_redirects_output():
    stream = io.StringIO()
    Logging(App(worker_log_format="%(levelname)s %(message)s")).setup(
        "INFO", stream, redirect_stdouts=True, redirect_level="ERROR"
    )
    print("printed")
    print("complained", file=sys.stderr)
    assert stream.getvalue() == "ERROR printed\nERROR complained\n"


def test_redirecting_one_stream_leaves_the_other():
    stderr = sys.stderr
    Logging(App()).redirect_stdouts_to_logger(logging.getLogger("redirected"), "INFO", stderr=False)
    assert isinstance(sys.stdout, LoggingProxy)
    assert sys.stderr is stderr


def test_warnings_are_logged():
    stream = io.StringIO()
    Logging(App(worker_log_format="%(message)s")).setup("WARNING", stream)
    warnings.warn("old ways", CDeprecationWarning, stacklevel=1)
    assert "CDeprecationWarning: old ways" in stream.getvalue()


@pytest.mark.parametrize(
    ("setting", "colorize", "logfile", "stream", "expected"),
    [
        (None, None, None, Terminal(), True),
        (None, True, None, Terminal(), True),
        (None, None, None, io.StringIO(), False),
        (None, True, "file", Terminal(), False),
        (False, None, None, Terminal(), False),
        (True, False, None, Terminal(), False),
    ],
)
def test_colour_only_on_a_terminal(monkeypatch, setting, colorize, logfile, stream, expected):
    monkeypatch.setattr(sys, "stderr", stream)
    assert Logging(App(worker_log_color=setting)).supports_color(colorize, logfile) is expected
