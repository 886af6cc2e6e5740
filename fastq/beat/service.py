"""The loop of a beat: have the scheduler tick, and wait until it wants to again."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from fastq import signals
from fastq.beat.persistent import PersistentScheduler
from fastq.beat.shared import SharedScheduler
from fastq.exceptions import ImproperlyConfigured, nearest_name
from fastq.schedules.interval import humanize_seconds
from fastq.wakeup import Waker

logger = logging.getLogger("fastq.beat")

# Seconds after which a wait looks whether the system's clock was set, or the parent has gone.
LOOK_EVERY = 1.0
# Seconds by which the system's clock must have jumped to count as having been set. NTP slews below this.
STEP = 0.5
# Groups of entry points by which packages offer schedulers under short names.
EXTENSIONS = ("fastq.beat_schedulers", "celery.beat_schedulers")


class Service:
    """Runs a scheduler until it is stopped; the arguments that are None are as the settings say.

    *is_orphaned* is asked every second whether the service has nobody left to work for.
    """

    scheduler_cls: Any = SharedScheduler

    def __init__(
        self,
        app: Any,
        max_interval: float | None = None,
        schedule_filename: str | None = None,
        scheduler_cls: Any = None,
        remote_control: bool | None = None,
        hostname: str | None = None,
        *,
        is_orphaned: Callable[[], bool] = lambda: False,
    ) -> None:
        self.app = app
        self.max_interval = max_interval or app.conf.beat_max_loop_interval
        # Who names a file wants the scheduler that has one.
        has_file = schedule_filename is not None or app.conf.value_set_for("beat_schedule_filename")
        default = PersistentScheduler if has_file else self.scheduler_cls
        self.scheduler_cls = scheduler_cls or app.conf.beat_scheduler or default
        self.schedule_filename = schedule_filename or app.conf.beat_schedule_filename
        self.hostname = hostname
        self.on_started: Callable[[], None] | None = None  # called when the scheduler is set up
        self._is_orphaned = is_orphaned
        self._waker = Waker()
        self._is_shutdown = False
        self._is_stopped = threading.Event()

    def start(self, embedded_process: bool = False) -> None:
        """Tick until `stop` is called. Raises what the set-up of the scheduler raises."""
        logger.info("beat: starting")
        scheduler = self.scheduler
        signals.beat_init.send(sender=self)
        if embedded_process:
            signals.beat_embedded_init.send(sender=self)
        if self.on_started is not None:
            self.on_started()
        logger.debug("beat: ticks at least every %s", humanize_seconds(scheduler.max_interval))
        try:
            while not self._is_shutdown:
                pause = self._tick()
                if pause and pause > 0:
                    self._wait(pause)
                    if scheduler.should_sync():
                        scheduler._do_sync()
        except (KeyboardInterrupt, SystemExit):
            self._is_shutdown = True
        finally:
            self.sync()
            self._waker.close()
        logger.info("beat: has stopped")

    def _tick(self) -> float:
        """Let the scheduler tick. What it raises is logged: a beat that ends would be missed."""
        try:
            return float(self.scheduler.tick())
        except Exception:
            logger.exception("beat: the schedule could not be looked at; it is tried again in a second")
            return LOOK_EVERY

    def _wait(self, seconds: float) -> None:
        """Wait so long, or until `stop`; less if the system's clock was set meanwhile."""
        ends = time.monotonic() + seconds
        offset = time.time() - time.monotonic()
        while not self._is_shutdown and (left := ends - time.monotonic()) > 0:
            self._waker.wait(min(left, LOOK_EVERY))
            step = time.time() - time.monotonic() - offset
            if abs(step) > STEP:
                logger.warning("beat: the system's clock was set by %+.1f s", step)
                self.scheduler.clock_stepped(step)
                return
            if self._is_orphaned():
                self._is_shutdown = True

    def sync(self) -> None:
        """Have the scheduler keep what is to be kept, and close."""
        self.scheduler.close()
        self._is_stopped.set()

    def stop(self, wait: bool = False) -> None:
        """End the loop, from any thread or signal handler; with *wait* return when it has ended."""
        self._is_shutdown = True
        self._waker.set()
        if wait:
            self._is_stopped.wait()

    def get_scheduler(self, lazy: bool = False) -> Any:
        """The scheduler; a *lazy* one can only be shown."""
        return scheduler_class(self.scheduler_cls)(
            app=self.app,
            schedule_filename=self.schedule_filename,
            max_interval=self.max_interval,
            lazy=lazy,
        )

    @cached_property
    def scheduler(self) -> Any:
        """The scheduler, set up when it is first asked for."""
        return self.get_scheduler()


def scheduler_class(wanted: Any) -> Any:
    """The class of a scheduler: itself, ``module:Class``, or a name that a package offers.

    Celery's own are ours here. Raises `ImproperlyConfigured`.
    """
    if not isinstance(wanted, str):
        return wanted
    path = wanted.replace(":", ".")
    module, _, name = path.rpartition(".")
    if not module:
        offered = {each.name: each for group in EXTENSIONS for each in entry_points(group=group)}
        if name not in offered:
            hint = nearest_name(name, offered) or ": name one as module:Class"
            raise ImproperlyConfigured(f"no scheduler is named {name!r}{hint}")
        return offered[name].load()
    if module == "celery.beat":
        module = "fastq.beat"
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as exc:
        raise ImproperlyConfigured(f"the scheduler {wanted!r} can't be had: {exc}") from exc
