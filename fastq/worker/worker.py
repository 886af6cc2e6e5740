"""The life of a worker, from its settings to its exit code."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING

from fastq import signals
from fastq.wakeup import Waker
from fastq.worker.banner import banner
from fastq.worker.checks import check_limits, choose_queues, refuse_pickle_as_root
from fastq.worker.cpus import available_cpus
from fastq.worker.daemon import PidFile
from fastq.worker.nodes import expand_path, node_name
from fastq.worker.pools.base import PoolOptions
from fastq.worker.stopping import SignalHandlers

if TYPE_CHECKING:
    from fastq.app.base import FastQ

logger = logging.getLogger(__name__)

# Greenlets and coroutines only wait: there a slot per processor, Celery's default for every
# pool, would leave the worker idle.
WAITING_POOLS = {"gevent": 100, "asyncio": 100}


@dataclass(eq=False)
class Worker:
    """One worker of *app*. An option that is None is as the app's settings say.

    `start` is the whole of its life; `prepare` may be called before it, to have every
    error of settings and user code raised while nothing has started.
    """

    app: FastQ
    _: KW_ONLY
    hostname: str = ""  # NAME, NAME@HOST or a format; the full node name once made
    pool: str | None = None
    concurrency: int | None = None
    queues: Sequence[str] = ()
    exclude_queues: Sequence[str] = ()
    loglevel: str | int | None = None
    logfile: str | None = None
    prefetch_multiplier: int | str | None = None
    time_limit: float | None = None  # seconds
    soft_time_limit: float | None = None  # seconds
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None  # KiB
    purge: bool = False
    include: Sequence[str] = ()
    pidfile: str | None = None
    quiet: bool = False
    colorize: bool | None = None  # None: when stderr is a terminal
    queue_names: list[str] = field(init=False, default_factory=list)
    _is_prepared: bool = field(init=False, default=False)
    _is_ready: bool = field(init=False, default=False)
    _wants_restart: bool = field(init=False, default=False)
    _held_pidfile: PidFile | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.hostname = node_name(self.hostname)

    # -- what the settings and options come to --------------------------------------

    @property
    def pool_name(self) -> str:
        """The name of the pool."""
        name: str = self.app.conf.worker_pool
        return name

    def _configure(self) -> None:
        """Write the options over the settings, so that whoever reads a setting sees what holds here."""
        conf = self.app.conf
        given = {
            "worker_pool": self.pool,
            "worker_concurrency": self.concurrency,
            "worker_prefetch_multiplier": self.prefetch_multiplier,
            "task_time_limit": self.time_limit,
            "task_soft_time_limit": self.soft_time_limit,
            "worker_max_tasks_per_child": self.max_tasks_per_child,
            "worker_max_memory_per_child": self.max_memory_per_child,
        }
        conf.update({name: value for name, value in given.items() if value is not None})
        if self.include:
            conf.include = [*conf.include, *self.include]
        default = WAITING_POOLS.get(self.pool_name) or available_cpus()
        self.concurrency = 1 if self.pool_name == "solo" else conf.worker_concurrency or default

    # -- the whole life -----------------------------------------------------------

    def prepare(self) -> None:
        """Load the user's code and check that this worker can do what it is asked.

        Raises what the user's modules raise, and `ImproperlyConfigured`.
        """
        if self._is_prepared:
            return
        app, conf = self.app, self.app.conf
        signals.celeryd_init.send(sender=self.hostname, instance=self, conf=conf, options=vars(self))
        self._configure()
        app.import_modules()
        app.finalize()
        self._set_up_logging()
        signals.celeryd_after_setup.send(sender=self.hostname, instance=self, conf=conf)
        refuse_pickle_as_root(conf.accept_content)
        check_limits(pool_class(self.pool_name), conf, app.tasks.values())
        self.queue_names = choose_queues(
            app.queue_names(), self.queues, self.exclude_queues, conf.task_create_missing_queues
        )
        self._is_prepared = True

    def hold_pidfile(self) -> None:
        """Take the pid file, if one is named. Raises `ImproperlyConfigured` when another worker has it."""
        if self.pidfile is not None and self._held_pidfile is None:
            held = PidFile(expand_path(self.pidfile, self.hostname))
            held.acquire()
            self._held_pidfile = held

    def start(self) -> int:
        """Run until told to stop; returns the exit code."""
        self.prepare()
        self.hold_pidfile()
        try:
            code = self._run()
        finally:
            if self._held_pidfile is not None:
                self._held_pidfile.release()
        if self._wants_restart:
            restart()
        return code

    def _run(self) -> int:
        waker = Waker()
        pool = pool_class(self.pool_name)(self.app, self._pool_options(), waker)
        signals.worker_init.send(sender=self)
        # Before anything opens a connection or starts a thread: children are forked here.
        pool.start()
        try:
            loop = self._make_loop(pool, waker)
            with SignalHandlers(
                self.hostname, loop, waker, self.app.conf.worker_shutdown_timeout
            ) as handlers:
                self._greet()
                pool.run(loop.run)
        finally:
            pool.stop(force=True)
            self.app.close()
            waker.close()
        signals.worker_shutdown.send(sender=self)
        logger.info("%s has stopped", self.hostname)
        self._wants_restart = handlers.wants_restart
        return handlers.exit_code

    def _greet(self) -> None:
        if not self.quiet:
            print(banner(self), file=sys.stderr, flush=True)
        if self.purge:
            count = sum(self.app.broker.purge(name) for name in self.queue_names)
            logger.warning("Purged %s messages from %s", count, ", ".join(self.queue_names))

    def _pool_options(self) -> PoolOptions:
        conf = self.app.conf
        return PoolOptions(
            concurrency=self.concurrency or 1,
            time_limit=conf.task_time_limit,
            soft_time_limit=conf.task_soft_time_limit,
            max_tasks_per_child=conf.worker_max_tasks_per_child,
            max_memory_per_child=conf.worker_max_memory_per_child,
            hostname=self.hostname,
            max_redeliveries=conf.task_max_redeliveries,
        )


def restart() -> None:
    """Become a new process with the same arguments, at the same process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
