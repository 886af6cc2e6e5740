"""Processes: a supervisor in the loop's thread, and plain children (D12)."""

from __future__ import annotations

import logging
import selectors
import signal
import socket
from collections import deque
from collections.abc import Sequence
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from fastq._core.message import Delivery, Outcome, outcome_from_tuple
from fastq.exceptions import FastQError, PoolRefused
from fastq.worker.pools.base import Pool, PoolOptions
from fastq.worker.pools.child import LEAVING, READY
from fastq.worker.pools.handle import STALLED_AFTER, ChildHandle
from fastq.worker.pools.template import Template
from fastq.worker.pools.tracing import make_tracer

if TYPE_CHECKING:
    from fastq._core.trace import Tracer
    from fastq.wakeup import Waker
    from fastq.worker.pools.launcher import Launcher

logger = logging.getLogger(__name__)

# A child is given work for about this long, seconds: enough that it never waits for the parent,
# little enough to be taken back or run soon.
BATCH_SECONDS = 0.005
BATCH_MOST = 64

# How many children a pool may grow to, if it does not begin with more: 128 bytes of memory for each.
GROWS_TO = 256

# What a delivery costs a child beside the task itself, seconds.
OVERHEAD = 20e-6

# How much one outcome moves the measured run time.
SMOOTHING = 0.1

# The pause before a new attempt when children die before they are ready, seconds; it doubles.
BACKOFF_FIRST = 0.1
BACKOFF_MOST = 30.0

# How long children may take to leave when nothing runs and they are told to, seconds.
LEAVE_WITHIN = 5.0

# Room in a socket for a batch of usual size, so that one call sends it.
SOCKET_BYTES = 1 << 20


class PreforkPool(Pool):
    """Children under one supervisor, which is no process or thread of its own but the loop's calls.

    Whatever `submit` brings waits in `_backlog` until a child is about to run it. The parent's
    ends of all sockets stand in one selector, which the waker watches.
    """

    name = "prefork"
    keeps_soft_limits = True
    keeps_hard_limits = True
    ends_tasks = True

    def __init__(self, app: Any, options: PoolOptions, waker: Waker) -> None:
        super().__init__(app, options, waker)
        self._tracer = make_tracer(app, options)
        self._backlog: deque[Delivery] = deque()
        self._done: list[Outcome] = []
        self._children: list[ChildHandle] = []
        self._selector = selectors.DefaultSelector()  # of what the children, and the launcher, have to say
        # A child that leaves holds its row until it has ended, while its successor works.
        rows = 2 * max(options.concurrency, GROWS_TO)
        self._free_rows = list(range(rows - 1, -1, -1))  # the lowest first: children are named by them
        self._runtime = BATCH_SECONDS  # seconds that a delivery takes, smoothed
        self._launcher = self._make_launcher(rows)
        self._limits: dict[str, tuple[float | None, float | None]] = {}  # set since, for children to come
        self._failed_starts = 0
        self._launch_at = 0.0  # monotonic: no new child before
        self._is_stopping = False

    def _make_launcher(self, rows: int) -> Launcher:
        if self.options.start_method == "spawn":
            # What it needs, the others need not carry.
            from fastq.worker.pools.spawn import Spawner

            return Spawner(self.app, self.options, rows)
        return Template(self.app, self.options, rows, self._leave)

    # -- what the loop calls ----------------------------------------------------

    def start(self) -> None:
        """Start the children. Each gets its first delivery when it says that it is ready."""
        self._launcher.start()
        if (fd := self._launcher.fileno()) is not None:
            self._selector.register(fd, selectors.EVENT_READ, self._launcher)
        self.waker.watch(self._selector.fileno())
        for _ in range(self.options.concurrency):
            self._launch()

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        self._backlog.extend(deliveries)
        if not self._is_stopping:
            self._feed()

    def outcomes(self) -> list[Outcome]:
        if not self._is_stopping:
            self._poll(0)
            self._enforce_limits()
            self._give_up_late_ones()
            self._rebalance()
            self._replace()
            self._feed()
        done, self._done = self._done, []
        return done

    def deadline(self) -> float | None:
        if self._is_stopping:
            return None
        now = monotonic()
        times = []
        if self._lacking() > 0 and self._free_rows:
            times.append(self._launch_at)
        has_idle = any(child.is_ready and not child.given for child in self._children)
        for child in self._children:
            if not child.is_ready and not child.is_late:
                times.append(child.started_at + self.options.proc_alive_timeout)
            if not child.given or child.is_leaving:
                continue
            limit = self._hard_limit(child)
            if limit is not None:
                running = child.running()
                times.append(limit + (now if running is None else running[1]))
            if has_idle and len(child.given) > 1:
                times.append(child.last_progress() + STALLED_AFTER)
        return min(times, default=None)

    def running(self) -> list[tuple[Delivery, float]]:
        return [run for child in self._children if (run := child.running()) is not None]

    def take_back(self) -> list[Delivery]:
        taken = [delivery for child in self._children for delivery in child.withdraw()]
        taken += self._backlog
        self._backlog.clear()
        return taken

    def waiting(self) -> list[Delivery]:
        unstarted = [delivery for child in self._children[:] for delivery in child.unstarted()]
        return unstarted + list(self._backlog)

    def pid_of(self, delivery: Delivery) -> int:
        for child in self._children[:]:
            running = child.running()
            if running is not None and running[0] is delivery:
                return child.pid
        return super().pid_of(delivery)

    def processes(self) -> list[int]:
        return [child.pid for child in self._children[:]]

    def tracers(self) -> list[Tracer]:
        return [self._tracer]

    def info(self) -> dict[str, Any]:
        children = self._children[:]
        given = [child.given_in_all for child in children]
        total = sum(given)
        return super().info() | {
            "writes": {
                "total": total,
                "avg": f"{total / len(given) if given else 0:.2f}",
                "all": ", ".join(f"{count / total if total else 0:.2f}" for count in given),
                "raw": ", ".join(map(str, given)),
                "strategy": "fair",
                "inqueues": {"total": len(children), "active": sum(bool(child.given) for child in children)},
            }
        }

    def terminate(self, delivery: Delivery, reason: str) -> None:
        for child in self._children:
            running = child.running()
            if running is not None and running[0] is delivery and self._hold_and_kill(child):
                child.revoked = reason

    def resize(self, concurrency: int) -> None:
        if 2 * concurrency > self._launcher.board.rows:
            most = self._launcher.board.rows // 2
            raise PoolRefused(f"the pool can grow to {most} processes: start the worker with more")
        super().resize(concurrency)
        # Those first that have least to do.
        surplus = max(0, -self._lacking())
        staying = [child for child in self._children if not child.is_leaving]
        for child in sorted(staying, key=lambda child: len(child.given))[:surplus]:
            self._dismiss(child)
        self._replace()

    def restart(self) -> None:
        for child in [child for child in self._children if not child.is_leaving]:
            self._dismiss(child)

    def _dismiss(self, child: ChildHandle) -> None:
        """Let *child* leave when what it runs has ended."""
        child.is_leaving = True
        self._backlog.extendleft(reversed(child.withdraw()))
        _hang_up(child)

    def set_limits(self, task: str, hard: float | None, soft: float | None) -> None:
        super().set_limits(task, hard, soft)
        self._limits[task] = (hard, soft)
        for child in self._children:
            child.tell_limits({task: (hard, soft)})
            self._watch_writes(child)

    def end(self, deliveries: Sequence[Delivery]) -> None:
        for child in self._children:
            running = child.running()
            if running is not None and running[0] in deliveries and self._hold_and_kill(child):
                child.is_unwanted = True

    def stop(self, *, force: bool = False) -> None:
        """End the children; `outcomes` and `take_back` then give what they left."""
        if self._is_stopping:
            return
        self._is_stopping = True
        for child in self._children:
            self._backlog.extend(child.withdraw())
            if force:
                child.kill()
            else:
                _hang_up(child)
        patience = monotonic() + LEAVE_WITHIN
        while self._children:
            self._poll(0.1)
            if any(child.given for child in self._children):
                patience = monotonic() + LEAVE_WITHIN  # a task still runs, and may
            elif monotonic() > patience:
                for child in self._children:
                    child.kill()
        self.waker.unwatch(self._selector.fileno())
        self._selector.close()
        self._launcher.close()

    # -- giving -----------------------------------------------------------------

    def _feed(self) -> None:
        """Give children what they will run soon, those first that have least, each its even share."""
        if not self._backlog:
            return
        most = 1 + min(BATCH_MOST - 1, int(BATCH_SECONDS / self._runtime))
        now = monotonic()
        takers = [
            child
            for child in self._children
            if child.is_ready
            and not child.is_leaving
            and len(child.given) <= most // 2
            and not (child.given and child.is_stalled(now))
        ]
        takers.sort(key=lambda child: len(child.given))
        for left, child in zip(range(len(takers), 0, -1), takers, strict=True):
            share = -(-len(self._backlog) // left)
            batch = list(islice(self._backlog, min(share, most - len(child.given))))
            for _ in batch:
                self._backlog.popleft()
            if batch:
                if child.shows != self._tracer.shows:
                    child.show_outcomes(self._tracer.shows)
                child.give(batch)
                self._watch_writes(child)

    def _rebalance(self) -> None:
        """Take back what waits behind long tasks, if there is a child without work."""
        if self._backlog or all(child.given for child in self._children if child.is_ready):
            return
        now = monotonic()
        for child in self._children:
            if len(child.given) > 1 and child.is_stalled(now):
                self._backlog.extend(child.withdraw())

    # -- hearing ------------------------------------------------------------------

    def _poll(self, timeout: float) -> None:
        """Handle what the children have to say, waiting for it at most *timeout* seconds."""
        for key, events in self._selector.select(timeout):
            if key.data is self._launcher:
                self._selector.unregister(key.fd)
                if not self._is_stopping:
                    raise FastQError(
                        "no child can be started any more: the process that they are forked from has ended. "
                        "This worker gives everything back: start it again"
                    )
                continue
            child: ChildHandle = key.data
            if child not in self._children:
                continue  # buried by an earlier event of the same round
            if key.fd == child.pidfd:
                self._bury(child)
                continue
            if events & selectors.EVENT_WRITE:
                child.flush()
                self._watch_writes(child)
            if events & selectors.EVENT_READ:
                frames, is_open = child.receive()
                self._hear(child, frames)
                if not is_open:
                    child.kill()  # without its socket it is of no use; most likely it has exited
                    self._bury(child)

    def _hear(self, child: ChildHandle, frames: list[tuple[int, Any]]) -> None:
        for position, said in frames:
            if position >= 0:
                outcome = outcome_from_tuple(child.given.pop(position), said)
                self._runtime += (outcome.runtime + OVERHEAD - self._runtime) * SMOOTHING
                self._done.append(outcome)
            elif position == READY:
                child.is_ready = True
                self._failed_starts = 0
            elif position == LEAVING:
                logger.info("child %d leaves and is replaced: %s", child.pid, said)
                child.is_leaving = True
                self._backlog.extendleft(reversed(child.withdraw()))

    def _watch_writes(self, child: ChildHandle) -> None:
        """Be told when the socket of *child* has room again, while something waits for it."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if child.wants_to_write else 0)
        if self._selector.get_key(child.sock).events != events:
            self._selector.modify(child.sock, events, child)

    # -- limits ---------------------------------------------------------------------

    def _hard_limit(self, child: ChildHandle) -> float | None:
        """The hard limit in seconds of the delivery that *child* runs or is to run next."""
        head = child.head()
        if head is None:
            return None
        if child.hard_limit[0] != head:
            child.hard_limit = (head, self._tracer.limits(child.given[head])[0])
        return child.hard_limit[1]

    def _enforce_limits(self) -> None:
        """Kill each child whose task has overrun its hard limit."""
        now = monotonic()
        for child in self._children:
            running = None if child.overran is not None else child.running()
            if running is None:
                continue
            limit = self._hard_limit(child)
            if limit is not None and now - running[1] >= limit and self._hold_and_kill(child):
                child.overran = limit

    def _hold_and_kill(self, child: ChildHandle) -> bool:
        """Kill *child* for the one task that it runs; False if it has just gone on to another."""
        unstarted = child.hold()
        if unstarted is None:
            return False
        self._backlog.extendleft(reversed(unstarted))
        child.kill()
        return True

    # -- life and death -----------------------------------------------------------------

    def _lacking(self) -> int:
        """How many children there should be beside those that are not about to leave."""
        return self.options.concurrency - sum(not child.is_leaving for child in self._children)

    def _replace(self) -> None:
        """Start a successor for each child that has gone or leaves."""
        for _ in range(self._lacking()):
            # Without a free row as many as may be are still leaving; the end of one brings us back.
            if monotonic() < self._launch_at or not self._free_rows:
                return
            self._launch()

    def _launch(self) -> None:
        """Add a child."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        row = self._free_rows.pop()
        self._launcher.board.reset(row)
        try:
            pid = self._launcher.launch(row, theirs)
        except OSError as exc:
            self._free_rows.append(row)
            ours.close()
            self._back_off(f"a child can't be started: {exc}")
            return
        finally:
            theirs.close()
        ours.setblocking(False)
        child = ChildHandle(pid, row, ours, self._launcher.board)
        if self._limits:
            child.tell_limits(self._limits)
        self._children.append(child)
        self._selector.register(ours, selectors.EVENT_READ, child)
        if child.pidfd is not None:
            self._selector.register(child.pidfd, selectors.EVENT_READ, child)

    def _leave(self) -> None:
        """Close what is ours alone, in a process that is to hold nothing of it."""
        self._selector.close()
        self.waker.close()

    def _give_up_late_ones(self) -> None:
        """Kill each child that takes too long to be ready."""
        now = monotonic()
        for child in self._children:
            if not child.is_ready and now - child.started_at >= self.options.proc_alive_timeout:
                child.is_late = True
                child.kill()

    def _bury(self, child: ChildHandle) -> None:
        """Settle what a dead child leaves: outcomes on their way, what it ran, what it had not begun."""
        cause = self._cause_of_death(child)
        self._hear(child, child.drain())
        self._backlog.extendleft(reversed(child.withdraw()))
        for delivery in child.given.values():
            self._done.append(self._end_of(child, delivery, cause))
        if not child.is_ready and not self._is_stopping:
            hint = ", so look at what runs on worker_process_init"
            self._back_off(f"child {child.pid} {cause} before it was ready", hint)
        elif not child.given and not child.is_leaving and not self._is_stopping:
            logger.error("child %d %s while it ran nothing; it is replaced", child.pid, cause)
        self._children.remove(child)
        self._selector.unregister(child.sock)
        if child.pidfd is not None:
            self._selector.unregister(child.pidfd)
        child.close()
        self._free_rows.append(child.row)

    def _end_of(self, child: ChildHandle, delivery: Delivery, cause: str) -> Outcome:
        """The outcome of what a child ran when it died."""
        if child.overran is not None:
            return self._tracer.timed_out(delivery, child.overran)
        if child.revoked is not None:
            return self._tracer.revoked(delivery, child.revoked)
        if self._is_stopping or child.is_unwanted:
            return self._tracer.interrupted(delivery)
        message = delivery.message
        assert message is not None
        what = f"{message.task}[{message.id}]"
        logger.error("WorkerLostError: child %d %s while it ran %s", child.pid, cause, what)
        return self._tracer.lost(delivery, f"child {child.pid} {cause} while it ran {what}")

    def _cause_of_death(self, child: ChildHandle) -> str:
        """How *child* died, in the past tense; collects its exit."""
        ended = self._launcher.reap(child.pid)
        if ended is None:
            return "ended, and something else in this process has collected its exit code"
        if child.is_late:
            timeout = self.options.proc_alive_timeout
            return f"took more than worker_proc_alive_timeout={timeout:g} s and was killed"
        cause = ended.describe()
        if ended.signal == signal.SIGKILL and child.overran is None and child.revoked is None:
            cause += ", so perhaps the system ran out of memory"
        return cause

    def _back_off(self, what: str, hint: str = "") -> None:
        """Wait ever longer before a new attempt: children can't be started, or die before they are ready."""
        pause = min(BACKOFF_FIRST * 2**self._failed_starts, BACKOFF_MOST)
        self._failed_starts += 1
        self._launch_at = monotonic() + pause
        logger.error(
            "%s (attempt %d)%s; the next attempt comes in %.1f s", what, self._failed_starts, hint, pause
        )


def _hang_up(child: ChildHandle) -> None:
    """Tell *child* that nothing more comes; it leaves when its task has ended."""
    try:
        child.sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it is dead already
