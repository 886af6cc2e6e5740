"""`fastq beat` as a program: its banner, log, pid file and signals around the service."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from fastq.app.log import Logging
from fastq.beat.service import Service
from fastq.version import __version__
from fastq.worker.daemon import PidFile
from fastq.worker.nodes import expand_path, node_name

logger = logging.getLogger("fastq.beat")

DEFAULT_NAME = "celerybeat"


@dataclass(eq=False)
class Beat:
    """One beat of *app*. An option that is None is as the app's settings say.

    `start` is the whole of its life; `prepare` may be called before it, to have every error
    of settings and user code raised while nothing has started.
    """

    app: Any
    _: KW_ONLY
    schedule: str | None = None  # the file of a scheduler that has one
    scheduler: Any = None
    scheduler_cls: Any = None  # the same
    max_interval: float | None = None  # seconds
    hostname: str = DEFAULT_NAME  # NAME, NAME@HOST or a format; the full node name once made
    loglevel: str | int | None = None
    logfile: str | None = None
    pidfile: str | None = None
    quiet: bool = False
    no_color: bool | None = None
    colorize: bool | None = None
    redirect_stdouts: bool | None = None
    redirect_stdouts_level: str | int | None = None
    socket_timeout: float | None = None  # accepted as in Celery, and not needed
    remote_control: bool | None = None
    on_started: Callable[[], None] | None = None  # called when the schedule is set up
    _service: Service = field(init=False)
    _held_pidfile: PidFile | None = field(init=False, default=None)
    _is_prepared: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.hostname = node_name(self.hostname or DEFAULT_NAME)

    def prepare(self) -> None:
        """Load the user's code, take the pid file and set up the log."""
        if self._is_prepared:
            return
        conf = self.app.conf
        self.pidfile = self.pidfile or conf.beat_pidfile
        self.logfile = self.logfile or conf.beat_logfile
        if self.pidfile is not None:
            self._held_pidfile = PidFile(expand_path(self.pidfile, self.hostname))
            self._held_pidfile.acquire()
        try:
            self.app.import_modules()
            self.app.finalize()
            self._set_up_log()
            self._service = Service(
                self.app,
                self.max_interval,
                self.schedule,
                self.scheduler or self.scheduler_cls,
                self.remote_control,
                self.hostname,
            )
        except BaseException:
            self._release_pidfile()
            raise
        self._is_prepared = True

    def start(self) -> int:
        """Run until told to stop; returns the exit code."""
        self.prepare()
        self._service.on_started = self._greet
        previous = {
            number: signal.signal(number, lambda *signalled: self._service.stop())
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            self._service.start()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
            self.app.close()
            self._release_pidfile()
        return 0

    run = start

    def _greet(self) -> None:
        if not self.quiet:
            print(self._banner(), file=sys.__stderr__, flush=True)
        if self.on_started is not None:
            self.on_started()

    def _banner(self) -> str:
        scheduler = self._service.scheduler
        kind = type(scheduler)
        facts = {
            "app": self.app.main or "unnamed",
            "broker": self.app.broker.description(),
            "scheduler": f"{kind.__module__}.{kind.__qualname__} {scheduler.info}".strip(),
            "entries": str(len(scheduler.schedule)),
        }
        lines = [f"  {name:10} {value}" for name, value in facts.items()]
        return "\n".join([f"fastq {__version__} · {self.hostname} · process {os.getpid()}", "", *lines, ""])

    def _set_up_log(self) -> None:
        conf = self.app.conf
        redirects, level = self.redirect_stdouts, self.redirect_stdouts_level
        Logging(self.app).setup(
            loglevel=self.loglevel,
            logfile=self.logfile,
            redirect_stdouts=conf.worker_redirect_stdouts if redirects is None else redirects,
            redirect_level=conf.worker_redirect_stdouts_level if level is None else level,
            colorize=False if self.no_color else self.colorize,
            hostname=self.hostname,
        )

    def _release_pidfile(self) -> None:
        if self._held_pidfile is not None:
            self._held_pidfile.release()
