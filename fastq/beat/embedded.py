"""A beat within a worker: in a process of its own, or in a thread."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from typing import Any

from fastq.beat.service import Service

logger = logging.getLogger("fastq.beat")

# Seconds from a crash of the beat to its next start.
RESTART_PAUSE = 1.0
# Seconds that a beat has to end when the worker does.
PATIENCE = 5.0


def EmbeddedService(app: Any, max_interval: float | None = None, **kwargs: Any) -> Any:
    """A beat to `start` and `stop`; with *thread* in a thread of this process, else in one of its own.

    Start the process before this one has threads and connections: it is forked.
    """
    if kwargs.pop("thread", False):
        return _ThreadedBeat(app, max_interval, **kwargs)
    return _ForkedBeat(app, max_interval, **kwargs)


class _ThreadedBeat(threading.Thread):
    def __init__(self, app: Any, max_interval: float | None, **kwargs: Any) -> None:
        super().__init__(name="fastq-beat", daemon=True)
        self.service = Service(app, max_interval, **kwargs)

    def run(self) -> None:
        """Run the service."""
        self.service.start()

    def stop(self) -> None:
        """End it, and return when it has ended."""
        self.service.stop()
        self.join()


class _ForkedBeat:
    """A keeper process, and its child that runs the service; one that crashes is started anew.

    The keeper has no threads and no connections, so that it can fork at any time.
    """

    def __init__(self, app: Any, max_interval: float | None, **kwargs: Any) -> None:
        self._app = app
        self._max_interval = max_interval
        self._options = kwargs
        self._keeper = 0  # process id
        self._child = 0  # in the keeper: the process id of the service
        self._is_stopping = False

    def start(self) -> None:
        """Fork the keeper."""
        parent = os.getpid()
        self._keeper = os.fork()
        if not self._keeper:
            code = 1
            try:
                self._keep(parent)
                code = 0
            finally:
                os._exit(code)

    def stop(self) -> None:
        """End the beat, and return when it has ended, or was killed for taking too long."""
        if not self._keeper:
            return
        ends = time.monotonic() + PATIENCE
        try:
            os.kill(self._keeper, signal.SIGTERM)
            while os.waitpid(self._keeper, os.WNOHANG) == (0, 0):
                if time.monotonic() > ends:
                    os.kill(self._keeper, signal.SIGKILL)  # its child sees that it is gone
                    os.waitpid(self._keeper, 0)
                    break
                time.sleep(0.01)
        except (ProcessLookupError, ChildProcessError):
            pass
        self._keeper = 0

    # -- in the keeper ------------------------------------------------------------------------

    def _keep(self, parent: int) -> None:
        """Start the service again and again, until told to end or the worker has gone."""
        signal.set_wakeup_fd(-1)
        # Ctrl-C reaches every process of the terminal; the worker says when to end.
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._pass_on)
        while not self._is_stopping and os.getppid() == parent:
            keeper = os.getpid()
            self._child = os.fork()
            if not self._child:
                self._serve(keeper, parent)
            if self._is_stopping:
                self._pass_on()
            _, status = os.waitpid(self._child, 0)
            if not self._is_stopping and os.getppid() == parent:
                logger.error("beat: ended with %s; it is started anew", os.waitstatus_to_exitcode(status))
                time.sleep(RESTART_PAUSE)

    def _pass_on(self, *signalled: object) -> None:
        self._is_stopping = True
        if self._child:
            try:
                os.kill(self._child, signal.SIGTERM)
            except ProcessLookupError:
                pass

    # -- in its child -------------------------------------------------------------------------

    def _serve(self, keeper: int, worker: int) -> None:
        code = 1
        try:
            service = Service(
                self._app,
                self._max_interval,
                **self._options,
                is_orphaned=lambda: os.getppid() != keeper or not _is_alive(worker),
            )
            signal.signal(signal.SIGTERM, lambda *signalled: service.stop())
            service.start(embedded_process=True)
            code = 0
        except BaseException:
            logger.critical("beat: can't run", exc_info=True)
        finally:
            os._exit(code)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
