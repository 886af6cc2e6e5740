"""The checks of `fastq doctor`: each looks at one part and says what is wrong, and what to do."""

from __future__ import annotations

import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastq.app.stores import EMBEDDED_URL
from fastq.exceptions import FastQError
from fastq.state_dir import state_dir
from fastq.version import __version__

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.brokers.base import QueueInfo

ERROR, WARNING = "error", "warning"
# Seconds by which clocks may differ before etas, expiries and leases are noticeably wrong.
CLOCK_SKEW = 2.0
# Seconds that a message may wait before there are too few workers for it.
LONG_WAIT = 600.0
# What each worker is asked.
QUESTIONS = ("report", "active_queues", "registered")
LEAST_FREE_BYTES = 200 * 1024 * 1024
SOFTWARE = re.compile(r"software -> (fastq|celery):(\S+)")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is wrong."""

    check: str
    level: str  # "error": tasks do not run, or get lost; "warning": they may
    what: str
    advice: str


@dataclass
class Checkup:
    """Looks at *app*, its broker and its workers, which have *timeout* seconds to answer."""

    app: FastQ
    timeout: float = 1.0
    now: Callable[[], float] = time.time
    findings: list[Finding] = field(default_factory=list)
    passed: list[str] = field(default_factory=list)  # names of checks that found nothing
    skipped: dict[str, str] = field(
        default_factory=dict
    )  # and of those that could not be made, with the reason

    def run(self) -> list[Finding]:
        """Make every check; returns what was found."""
        for name, check in CHECKS.items():
            if name in NEED_BROKER and self.broker_error is not None:
                self.skipped[name] = "the broker can't be reached"
                continue
            if name in NEED_WORKERS and not self.nodes:
                self.skipped[name] = "no worker answers"
                continue
            try:
                found = [
                    Finding(check=name, level=level, what=what, advice=advice)
                    for level, what, advice in check(self)
                ]
            except (FastQError, OSError) as exc:
                self.skipped[name] = f"{type(exc).__name__}: {exc}"
                continue
            self.findings += found
            if not found:
                self.passed.append(name)
        return self.findings

    # -- what several checks look at ---------------------------------------------------

    @cached_property
    def broker_error(self) -> str | None:
        """Why the broker can't be used; None if it can."""
        try:
            self.queues  # noqa: B018  (asking is the test)
        except (FastQError, OSError, ImportError) as exc:
            return f"{exc}"
        return None

    @cached_property
    def queues(self) -> list[QueueInfo]:
        """What each queue holds."""
        return self.app.read_broker.queues(self.app.queue_names())

    @cached_property
    def answers(self) -> dict[str, dict[str, Any]]:
        """What the workers say to each of `QUESTIONS`, which are put side by side, by node."""
        inspect = self.app.control.inspect(timeout=self.timeout)
        with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor() as asking:
            warnings.simplefilter("always")
            replies = [reply or {} for reply in asking.map(inspect.ask, QUESTIONS)]
        self.duplicates = sorted({str(each.message) for each in caught})
        return dict(zip(QUESTIONS, replies, strict=True))

    @cached_property
    def nodes(self) -> dict[str, str]:
        """The workers that answer, each with its software as ``fastq 1.2`` or ``celery 5.5``."""
        return {node: software(said) for node, said in self.answers["report"].items()}

    @cached_property
    def consumed(self) -> set[str]:
        """The queues that some worker consumes."""
        replies = self.answers["active_queues"].values()
        return {queue["name"] for queues in replies for queue in queues or ()}


def software(report: Any) -> str:
    """What a worker's report says that it is."""
    text = report.get("ok", "") if isinstance(report, dict) else ""
    match = SOFTWARE.search(text)
    return f"{match[1]} {match[2]}" if match else "unknown"


Findings = Iterator[tuple[str, str, str]]


def check_settings(checkup: Checkup) -> Findings:
    """Settings that change nothing, are dangerous, or contradict each other."""
    conf = checkup.app.conf
    for name, why in conf.unused().items():
        yield WARNING, f"the setting {name} has no effect: {why}", "remove it"
    if {"pickle", "application/x-python-serialize"} & set(conf.accept_content):
        yield (
            WARNING,
            "accept_content has pickle: whoever can send a message can run code in a worker",
            "send JSON, and remove pickle when no such message is left",
        )
    if conf.task_always_eager:
        yield WARNING, "task_always_eager is on: tasks run where they are called", "leave it to tests"
    if conf.task_serializer not in conf.accept_content:
        yield (
            ERROR,
            f"tasks are sent as {conf.task_serializer}, which accept_content does not have: all go to the "
            "dead set",
            f"add {conf.task_serializer!r} to accept_content",
        )


def check_tasks(checkup: Checkup) -> Findings:
    """Whether there are any."""
    if all(name.startswith(("celery.", "fastq.")) for name in checkup.app.tasks):
        yield (
            WARNING,
            "the app has no tasks",
            "import their modules: `include=[…]`, `imports`, or autodiscover_tasks()",
        )


def check_state_directory(checkup: Checkup) -> Findings:
    """Where the embedded broker, pid and log files lie."""
    folder = state_dir()
    probe = folder / ".doctor"
    try:
        probe.touch()
        probe.unlink()
    except OSError as exc:
        yield ERROR, f"{folder} can't be written to: {exc.strerror}", "set FASTQ_HOME to another folder"
        return
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES and EMBEDDED_URL in (checkup.app.broker.url, checkup.app.read_broker.url):
        yield WARNING, f"{free // 2**20} MiB are free where the embedded broker lies", "free some space"


def check_broker(checkup: Checkup) -> Findings:
    """Whether it answers, and is safe."""
    where = checkup.app.read_broker.description()
    if checkup.broker_error is not None:
        yield (
            ERROR,
            f"the broker {where} can't be used: {checkup.broker_error}",
            "start it, or set broker_url",
        )
        return
    for what, advice in checkup.app.read_broker.dangers():
        yield WARNING, what, advice


def check_results(checkup: Checkup) -> Findings:
    """Whether the result backend answers."""
    backend = checkup.app.backend
    if backend is None:
        return
    try:
        backend.fetch(["fastq-doctor"])
    except (FastQError, OSError, ImportError) as exc:
        yield (
            ERROR,
            f"the result backend {backend.description()} can't be used: {exc}",
            "start it, or set result_backend",
        )


def check_clock(checkup: Checkup) -> Findings:
    """Whether this machine and the broker agree on the time."""
    before = checkup.now()
    told = checkup.app.read_broker.clock()
    if told is None:
        return
    after = checkup.now()
    skew = max(before - told, told - after, 0.0)
    if skew > CLOCK_SKEW:
        late = "behind" if told > after else "ahead of"
        yield (
            ERROR,
            f"this machine's clock is {skew:.0f} s {late} the broker's: etas and expiries are off by as much",
            "run NTP on both",
        )


def check_queues(checkup: Checkup) -> Findings:
    """What waits where nobody takes it, or for too long."""
    for queue in checkup.queues:
        if not queue.ready:
            continue
        if checkup.nodes and queue.name not in checkup.consumed:
            yield (
                ERROR,
                f"{queue.ready:,} messages wait in {queue.name}, which no worker consumes",
                f"start a worker with -Q {queue.name}, or correct the route that leads there",
            )
        elif queue.oldest_age is not None and queue.oldest_age > LONG_WAIT:
            yield (
                WARNING,
                f"the next message of {queue.name} has waited for {queue.oldest_age / 60:.0f} min",
                "start more workers for it",
            )


def check_paused(checkup: Checkup) -> Findings:
    """Queues that somebody has paused, maybe long ago."""
    names = [queue.name for queue in checkup.queues]
    for name in sorted(checkup.app.read_broker.paused(names)):
        yield WARNING, f"the queue {name} is paused", f"`fastq control resume_queue {name}` when that is over"


def check_workers(checkup: Checkup) -> Findings:
    """Whether there are any, each with a name of its own."""
    waiting = sum(queue.ready for queue in checkup.queues)
    if not checkup.nodes:
        level = ERROR if waiting else WARNING
        what = f"no worker answers within {checkup.timeout:g} s, and {waiting:,} messages wait"
        yield level, what, "start one: `fastq worker`"
    for said in checkup.duplicates:
        yield WARNING, said.partition(":")[0], "give each a name of its own: `fastq worker -n NAME`"


def check_leases(checkup: Checkup) -> Findings:
    """What is held by workers that are no more."""
    if checkup.nodes:
        return  # they take back what a dead one held when its lease has run out
    held = sum(queue.claimed or 0 for queue in checkup.queues)
    if held:
        yield (
            ERROR,
            f"{held:,} messages are held by workers that do not answer",
            "start a worker: it takes them back when their lease has run out (worker_lease)",
        )


def check_dead(checkup: Checkup) -> Findings:
    """What could not be run."""
    for queue in checkup.queues:
        if queue.dead:
            yield (
                WARNING,
                f"{queue.dead:,} messages of {queue.name} could not be run and lie in the dead set",
                "`fastq dead list` says why; `fastq dead retry` or `drop` them",
            )


def check_versions(checkup: Checkup) -> Findings:
    """Whether the whole fleet runs one version, and that of this command."""
    ours = {name.partition(" ")[2] for name in checkup.nodes.values() if name.startswith("fastq ")}
    if len(ours) > 1 or (ours and ours != {__version__}):
        by_version = ", ".join(
            f"{node} has {name}" for node, name in sorted(checkup.nodes.items()) if name.startswith("fastq ")
        )
        yield WARNING, f"versions differ: {by_version}; here is {__version__}", "bring all to one version"


def check_registered(checkup: Checkup) -> Findings:
    """Whether every worker knows the tasks that are known here."""
    replies = checkup.answers["registered"]
    ours = {name for name in checkup.app.tasks if not name.startswith(("celery.", "fastq."))}
    for node, names in sorted(replies.items()):
        missing = sorted(ours - {name.partition(" ")[0] for name in names})
        if missing:
            shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            yield (
                WARNING,
                f"{node} does not know {shown}",
                "restart it with the code of now; if it serves other queues, route them elsewhere",
            )


CHECKS: dict[str, Callable[[Checkup], Findings]] = {
    "settings": check_settings,
    "tasks": check_tasks,
    "state directory": check_state_directory,
    "broker": check_broker,
    "results": check_results,
    "clock": check_clock,
    "workers": check_workers,
    "queues": check_queues,
    "paused queues": check_paused,
    "leases": check_leases,
    "dead set": check_dead,
    "versions": check_versions,
    "registered tasks": check_registered,
}
NEED_BROKER = frozenset(CHECKS) - {"settings", "tasks", "state directory", "broker", "results"}
NEED_WORKERS = frozenset({"versions", "registered tasks"})
