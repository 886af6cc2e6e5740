"""The life of a worker, from its settings to its exit code."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from fastq import signals
from fastq._core.consume import Gate
from fastq._core.trace import Tracer
from fastq._core.window import PrefetchWindow
from fastq.app.log import Logging
from fastq.exceptions import ImproperlyConfigured, OperationalError
from fastq.topology import worker_direct
from fastq.wakeup import Waker
from fastq.worker.banner import banner
from fastq.worker.checks import choose_queues, refuse_pickle_as_root, unused_settings
from fastq.worker.cpus import available_cpus
from fastq.worker.daemon import PidFile
from fastq.worker.duplicates import Duplicates
from fastq.worker.elsewhere import Elsewhere
from fastq.worker.events import HEARTBEAT_SECONDS, WorkerEvents
from fastq.worker.followups import Followups
from fastq.worker.last_results import LastResults
from fastq.worker.loop import Loop
from fastq.worker.nodes import expand_path, node_name
from fastq.worker.pools.base import NewChild, Pool, PoolOptions
from fastq.worker.pools.table import DEFAULT_CONCURRENCY, open_pool
from fastq.worker.rates import rate_limits
from fastq.worker.revocations import Revocations
from fastq.worker.state import WorkerState
from fastq.worker.stopping import SignalHandlers

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.backends.base import Backend
    from fastq.bootsteps import Step
    from fastq.brokers.base import Consumer
    from fastq.worker.autoscale import Autoscaler
    from fastq.worker.metrics_server import MetricsServer
    from fastq.worker.remote.pidbox import Pidbox

logger = logging.getLogger(__name__)

# Seconds between two looks for the connection of a worker that started while the broker was away.
LOOK_EVERY = 0.2


@dataclass(eq=False)
class Worker:
    """One worker of *app*. An option that is None is as the app's settings say.

    `start` is the whole of its life; `prepare` may be called before it, to have every
    error of settings and user code raised while nothing has started.
    """

    loop_class: ClassVar[type[Loop]] = Loop

    app: FastQ
    _: KW_ONLY
    hostname: str = ""  # NAME, NAME@HOST or a format; the full node name once made
    pool: str | None = None
    concurrency: Any = None  # a number, or "auto" for the processors we may use; the number once made
    pool_start_method: str | None = None
    queues: Sequence[str] = ()
    exclude_queues: Sequence[str] = ()
    loglevel: str | int | None = None
    logfile: str | None = None
    prefetch_multiplier: int | str | None = None
    disable_prefetch: bool | None = None
    time_limit: float | None = None  # seconds
    soft_time_limit: float | None = None  # seconds
    max_tasks_per_child: int | None = None
    max_memory_per_child: int | None = None  # KiB
    purge: bool = False
    include: Sequence[str] = ()
    autoscale: tuple[int, int] | None = None  # most and fewest tasks at once
    statedb: str | None = None  # file that keeps what was revoked
    mingle: bool = False  # ask other workers at the start what was revoked, as Celery's do
    task_events: bool | None = None  # send events of tasks
    without_heartbeat: bool = False
    heartbeat_interval: float | None = None  # seconds
    beat: bool = False  # send periodic tasks too
    schedule_filename: str | None = None  # of the beat's scheduler
    scheduler: Any = None  # the beat's
    metrics: str | None = None  # "[HOST:]PORT" to serve them at
    pidfile: str | None = None
    quiet: bool = False
    colorize: bool | None = None  # None: when stderr is a terminal
    on_started: Callable[[], None] | None = None  # called when signals are handled
    queue_names: list[str] = field(init=False, default_factory=list)
    state: WorkerState = field(init=False, default_factory=WorkerState)
    is_announced: bool = field(init=False, default=False)  # whether it has said that it is ready
    _waker: Waker = field(init=False)
    _pool: Pool = field(init=False)
    _steps: list[Step] = field(init=False, default_factory=list)  # of the user's
    _started_steps: list[Step] = field(init=False, default_factory=list)
    _is_prepared: bool = field(init=False, default=False)
    _is_over: bool = field(init=False, default=False)
    _held_pidfile: PidFile | None = field(init=False, default=None)
    _beat: Any = field(init=False, default=None)
    events: WorkerEvents | None = field(init=False, default=None)
    autoscaler: Autoscaler | None = field(init=False, default=None)
    _paused: set[str] = field(init=False, default_factory=set)
    _loop: Loop | None = field(init=False, default=None)
    _gate: Gate = field(init=False)
    _window: PrefetchWindow = field(init=False)
    _revocations: Revocations = field(init=False)
    _pidbox: Pidbox | None = field(init=False, default=None)
    _metrics: MetricsServer | None = field(init=False, default=None)

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
            "worker_pool_start_method": self.pool_start_method,
            "worker_prefetch_multiplier": self.prefetch_multiplier,
            "worker_disable_prefetch": self.disable_prefetch,
            "task_time_limit": self.time_limit,
            "task_soft_time_limit": self.soft_time_limit,
            "worker_max_tasks_per_child": self.max_tasks_per_child,
            "worker_max_memory_per_child": self.max_memory_per_child,
            "worker_send_task_events": self.task_events,
        }
        conf.override(**{name: value for name, value in given.items() if value is not None})
        self.logfile = self.logfile or conf.worker_logfile
        if self.include:
            conf.include = [*conf.include, *self.include]
        wanted = conf.worker_concurrency or DEFAULT_CONCURRENCY.get(self.pool_name, "auto")
        self.concurrency = available_cpus() if wanted == "auto" else wanted
        if self.pool_name == "solo":
            self.concurrency = 1
        if self.autoscale is not None:
            self._make_autoscaler(*self.autoscale)

    def _make_autoscaler(self, most: int, least: int) -> None:
        from fastq.worker.autoscale import Autoscaler  # for workers that have one

        if self.pool_name == "solo":
            raise ImproperlyConfigured(
                "the solo pool runs one task at a time: choose another for --autoscale"
            )
        self.autoscaler = Autoscaler(most, least)
        self.concurrency = self.autoscaler.current

    # -- the whole life -----------------------------------------------------------

    def prepare(self) -> None:
        """Load the user's code and check that this worker can do what it is asked.

        Takes the pid file too. Raises what the user's modules raise, and `ImproperlyConfigured`.
        """
        if self._is_prepared:
            return
        self.pidfile = self.pidfile or self.app.conf.worker_pidfile
        if self.pidfile is not None:
            self._held_pidfile = PidFile(expand_path(self.pidfile, self.hostname))
            self._held_pidfile.acquire()
        try:
            self._prepare()
        except BaseException:
            self._release_pidfile()
            raise
        self._is_prepared = True

    def _prepare(self) -> None:
        app, conf = self.app, self.app.conf
        signals.celeryd_init.send(sender=self.hostname, instance=self, conf=conf, options=vars(self))
        self._configure()
        app.import_modules()
        app.finalize()
        self._set_up_logging()
        for line in unused_settings(conf.unused()):
            logger.warning(line)
        signals.celeryd_after_setup.send(sender=self.hostname, instance=self, conf=conf)
        refuse_pickle_as_root(conf.accept_content)
        self.queue_names = choose_queues(
            app.router.consumed(),
            [app.router.declaration(name).name for name in self.queues],
            [app.router.declaration(name).name for name in self.exclude_queues],
            conf.task_create_missing_queues,
        )
        if conf.worker_direct:
            self.queue_names.append(app.router.add(worker_direct(self.hostname)).name)
        if (address := self.metrics or conf.worker_metrics) is not None:
            from fastq.worker.metrics_server import MetricsServer  # for workers that have one

            self._metrics = MetricsServer(self, address)
        self._waker = Waker()
        self._pool = open_pool(self.pool_name, app, self._pool_options(), self._waker)
        if conf.worker_cancel_long_running_tasks_on_connection_loss and not self._pool.ends_tasks:
            why = f"the {self.pool_name} pool can't end a task that runs"
            logger.warning("Without effect: worker_cancel_long_running_tasks_on_connection_loss: %s", why)

    def start(self) -> int:
        """Run until told to stop; returns the exit code."""
        self.prepare()
        signals.worker_init.send(sender=self)
        child: NewChild | None = None
        try:
            # Before anything opens a connection or starts a thread: what is forked here has neither.
            if self.beat:
                self._start_beat()
            self._make_steps()
            self._pool.start()
            loop = self._loop = self._make_loop()
            self._start_events(loop)
            self._revocations = self._make_revocations(loop)
            if self.app.conf.worker_enable_remote_control:
                self._start_control(loop)
            if self._metrics is not None:
                self._metrics.start(loop)
            for step in self._steps:
                step.start(self)
                self._started_steps.append(step)
            with self._signal_handlers(loop) as handlers:
                if self.on_started is not None:
                    self.on_started()
                self._greet()
                try:
                    self._pool.main(loop.run)()
                except SystemExit:
                    # Meant for the task that ran in this thread, which ended that very moment.
                    if not loop.is_stopping():
                        raise
        except NewChild as new:
            child = new
        except BaseException:
            self._pool.stop(force=True)
            raise
        finally:
            if child is None:
                self._end()
        if child is not None:
            # Not where it is handled: then every error of a task would have it for its context.
            os._exit(child.serve())
        signals.worker_shutdown.send(sender=self)
        logger.info("%s has stopped", self.hostname)
        if handlers.wants_restart:
            restart()
        code: int = handlers.exit_code
        return code

    def _signal_handlers(self, loop: Loop) -> AbstractContextManager[Any]:
        """What hears the signals of this process for *loop*."""
        conf = self.app.conf
        timeouts = conf.worker_shutdown_timeout, conf.worker_soft_shutdown_timeout
        return SignalHandlers(self.hostname, loop, self._pool, self._waker, *timeouts)

    def _start_beat(self) -> None:
        from fastq.beat.embedded import EmbeddedService  # for workers that have one

        self._beat = EmbeddedService(
            self.app,
            schedule_filename=self.schedule_filename,
            scheduler_cls=self.scheduler,
            thread=self.app.broker.is_private,
        )
        self._beat.start()

    def _make_revocations(self, loop: Loop) -> Revocations:
        conf = self.app.conf
        file = self.statedb or conf.worker_state_db
        path = None if file is None else expand_path(file, self.hostname)
        found = Revocations(self._gate, loop, conf.control_revoke_expires, path, self.app.clock)
        found.load()
        return found

    def _recall(self) -> None:
        """Read what the broker keeps for its workers; before the first claim, and after it was away."""
        # Its own: on gevent the loop's thread may share no connection with others.
        broker = self.app.own_broker()
        try:
            self._revocations.recall(broker)
            paused = set(broker.paused(self.queue_names))
        except OperationalError as exc:
            if exc.is_passing:
                raise
            logger.warning("What is revoked or paused can't be read, so it is not heeded: %s", exc)
            return
        finally:
            broker.close()
        if paused != self._paused:
            self._paused = paused
            self._consume()

    def _start_control(self, loop: Loop) -> None:
        from fastq.worker.remote.node import Node  # for workers that answer
        from fastq.worker.remote.pidbox import Pidbox

        self._pidbox = Pidbox(Node(self, loop, self._pool, self._gate, self._window, self._revocations))
        if self.mingle:
            self._mingle()
        self._pidbox.start()

    def _mingle(self) -> None:
        """Hear from other workers, Celery's among them, what was revoked, and count past their clocks."""
        others = self.app.control.inspect().hello(self.hostname, self._revocations.records())
        for node, said in (others or {}).items():
            if node == self.hostname or not isinstance(said, dict) or "clock" not in said:
                continue
            self.app.clock.adjust(int(said["clock"]))
            self._revocations.add(said.get("revoked") or ())
            logger.info("Mingled with %s", node)

    def _end_control(self) -> None:
        if self._pidbox is not None:
            self._pidbox.stop()
            self._revocations.save()

    @property
    def paused(self) -> frozenset[str]:
        """The queues of this worker from which nothing is taken now."""
        return frozenset(self._paused)

    def _start_events(self, loop: Loop) -> None:
        frequency = 0.0 if self.without_heartbeat else self.heartbeat_interval or HEARTBEAT_SECONDS
        self.events = WorkerEvents(self.app, self.hostname, loop, self._pool, frequency)
        if self.app.conf.worker_send_task_events:
            self.events.enable()
        self.events.start()

    def _stop_events(self) -> None:
        if self.events is not None:
            self.events.stop()

    # -- what remote control has done; but for `shut_down` in the loop's thread ------------------

    def shut_down(self) -> None:
        """Stop as a TERM does. From any thread."""
        os.kill(os.getpid(), signal.SIGTERM)

    def resize(self, concurrency: int) -> None:
        """Run so many tasks at once. Raises `PoolRefused`."""
        self._pool.resize(concurrency)
        self._window.resize(concurrency)
        self.concurrency = concurrency

    def consume(self, queues: Sequence[str]) -> None:
        """Consume *queues*, but for those that are paused."""
        self.queue_names = list(queues)
        broker = self.app.own_broker()
        try:
            self._paused = set(broker.paused(self.queue_names))
        finally:
            broker.close()
        self._consume()

    def pause(self, queue: str, is_paused: bool) -> None:
        """Take nothing from *queue*, or take again."""
        if is_paused:
            self._paused.add(queue)
        else:
            self._paused.discard(queue)
        self._consume()

    def _consume(self) -> None:
        assert self._loop is not None and self._loop.consumer is not None
        queues = [name for name in self.queue_names if name not in self._paused]
        self._loop.consumer.consume(queues)
        self._loop.give_back_but(queues)
        logger.info("Consuming from %s", ", ".join(queues) or "no queue")

    def _make_steps(self) -> None:
        if any(self.app.steps.values()):
            from fastq.bootsteps import make_steps  # for apps that have some

            self._steps = make_steps(self, vars(self))
            for step in self._steps:
                step.create(self)

    def _stop_steps(self) -> None:
        while self._started_steps:
            self._started_steps.pop().stop(self)

    def _end(self) -> None:
        self._is_over = True
        self._stop_steps()
        self._end_control()
        if self._metrics is not None:
            self._metrics.stop()
        self._stop_events()
        if self._beat is not None:
            self._beat.stop()
        self.app.close()
        self._waker.close()
        self._release_pidfile()

    def _release_pidfile(self) -> None:
        if self._held_pidfile is not None:
            self._held_pidfile.release()

    def _make_loop(self) -> Loop:
        conf, broker = self.app.conf, self.app.broker
        # The loop tries again by itself, and must renew its lease meanwhile.
        backend = None if self.app.backend is None else self.app.backend.without_retries()
        shares_store = backend is not None and backend.shares_store_with(self.app.read_broker)
        tracer = Tracer(self.app, self.hostname, max_redeliveries=self.app.conf.task_max_redeliveries)
        followups = Followups(conf.result_chord_retry_interval)
        last = None if backend is None else LastResults(self.app, tracer, backend, followups)
        # A result that was sent is not here any more to be looked at.
        dedupes = conf.worker_deduplicate_successful_tasks and not (backend and backend.sends_replies)
        rates = rate_limits({} if conf.worker_disable_rate_limits else self.app.tasks)
        self._gate = Gate(self.app, tracer, dict(rates))
        self._window = PrefetchWindow(
            self.concurrency or 1,
            # A window of one message for each slot: none is taken before a slot is free.
            1 if conf.worker_disable_prefetch else conf.worker_prefetch_multiplier,
        )
        return self.loop_class(
            self._pool,
            lambda: self._open_consumer(backend if shares_store else None, last),
            waker=self._waker,
            gate=self._gate,
            window=self._window,
            # Where one store does not hold all, what follows goes first (D5).
            elsewhere=Elsewhere(
                broker if broker is not self.app.read_broker or (backend and not shares_store) else None,
                None if shares_store else backend,
            ),
            followups=followups,
            state=self.state,
            lease=conf.worker_lease,
            duplicates=Duplicates(self.app, backend) if backend and dedupes else None,
            tally=None if self._metrics is None else self._metrics.tally,
            ends_lost=conf.worker_cancel_long_running_tasks_on_connection_loss,
            max_retries=(conf.broker_connection_max_retries or None) if conf.broker_connection_retry else 0,
            recall=self._recall,
        )

    def _open_consumer(self, backend: Backend | None, last: LastResults | None) -> Consumer:
        """Connect, and say that the worker is ready when it is."""
        consumer = self.app.read_broker.consumer(self.queue_names, self.hostname, self._waker, backend)
        consumer.before_burial = None if last is None else last.store
        try:
            consumer.turn((), 0, 0.0)
        except OperationalError as exc:
            conf = self.app.conf
            retries = conf.broker_connection_retry_on_startup
            if retries is False or (retries is None and not conf.broker_connection_retry):
                raise
            what = "The broker is away" if exc.is_passing else "The broker refuses this worker"
            logger.error("%s: %s. It will be tried again until it answers.", what, exc)
            threading.Thread(
                target=self._announce_later, args=(consumer,), name="fastq-ready", daemon=True
            ).start()
        else:
            self._announce()
        return consumer

    def _announce(self) -> None:
        self.is_announced = True
        logger.info("%s is ready", self.hostname)
        signals.worker_ready.send(sender=self)

    def _announce_later(self, consumer: Consumer) -> None:
        while not consumer.is_connected:
            if self._is_over:
                return
            time.sleep(LOOK_EVERY)
        self._announce()

    def _set_up_logging(self) -> None:
        Logging(self.app).setup(**self._logging())

    def _logging(self) -> dict[str, Any]:
        """The arguments of `Logging.setup`."""
        conf = self.app.conf
        return {
            "loglevel": self.loglevel,
            "logfile": self.logfile,
            "redirect_stdouts": conf.worker_redirect_stdouts,
            "redirect_level": conf.worker_redirect_stdouts_level,
            "colorize": self.colorize,
            "hostname": self.hostname,
        }

    def _greet(self) -> None:
        if not self.quiet:
            print(banner(self), file=sys.__stderr__, flush=True)
        if self.purge:
            count = sum(self.app.read_broker.purge(name) for name in self.queue_names)
            logger.warning("Purged %s messages from %s", count, ", ".join(self.queue_names))

    def _pool_options(self) -> PoolOptions:
        conf = self.app.conf
        return PoolOptions(
            concurrency=self.concurrency or 1,
            time_limit=conf.task_time_limit,
            soft_time_limit=conf.task_soft_time_limit,
            max_tasks_per_child=conf.worker_max_tasks_per_child,
            max_memory_per_child=conf.worker_max_memory_per_child,
            start_method=conf.worker_pool_start_method,
            logging=self._logging(),
            proc_alive_timeout=conf.worker_proc_alive_timeout,
            hostname=self.hostname,
            max_redeliveries=conf.task_max_redeliveries,
        )


def restart() -> None:
    """Become a new process with the same arguments, at the same process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
