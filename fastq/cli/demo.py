"""`fastq demo`: a real worker, twenty thousand tasks, and what was seen."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.options import common_options, target_of
from fastq.cli.output import print_json
from fastq.exceptions import TimeoutError
from fastq.states import READY_STATES

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.app.task import Task

# One at a time on the idle worker, to see how long a round trip takes.
LATENCY_CALLS = 200
START_SECONDS = 30.0
# Without a single new result for so long, the rest is taken to be lost.
STALL_SECONDS = 30.0
# Results that are waited for together.
BLOCK = 1000
STOP_SECONDS = 30.0

NEXT_STEPS = """
Next: write a tasks.py

    from fastq import FastQ

    app = FastQ("tasks")

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

run a worker in that folder          fastq worker
send a task from another terminal    fastq call tasks.add --args '[2, 3]' --wait
or from Python                       from tasks import add; add.delay(2, 3).get()
see what waits                       fastq queues
"""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What the demo measured."""

    tasks: int
    broker: str
    pool: str
    sent_per_second: float
    run_per_second: float  # from the first task sent to the last result collected
    latency_p50_ms: float
    latency_p99_ms: float
    wrong: int
    missing: int


@click.command()
@click.option(
    "--tasks", type=click.IntRange(min=1), default=20_000, show_default=True, help="How many to send."
)
@click.option("-P", "--pool", default="prefork", show_default=True, help="The worker's pool.")
@click.option("-c", "--concurrency", metavar="N", help="The worker's concurrency.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object of what was measured.")
@common_options
@click.pass_context
def demo(ctx: click.Context, tasks: int, pool: str, concurrency: str | None, as_json: bool) -> int:
    """Start a real worker, send it tasks, check every result, say how fast it was.

    Runs on the embedded broker in a temporary folder, so that nothing is needed and nothing stays; -b
    names another broker, which must be empty of such tasks.

    \b
    fastq demo
    fastq demo --tasks 100000 -b redis://localhost --pool threads

    Exits with 1 when a result is wrong or missing.
    """
    target = target_of(ctx)
    with tempfile.TemporaryDirectory(prefix="fastq-demo-") as home:
        os.environ["FASTQ_HOME"] = home
        options = ["-P", pool, *(["-c", concurrency] if concurrency else [])]
        if target.broker:
            # Results lie with the broker, unless another place is named.
            backend = target.result_backend or target.broker
            os.environ.update(FASTQ_BROKER_URL=target.broker, FASTQ_RESULT_BACKEND=backend)
        from fastq.cli.demo_tasks import add, app

        say = Progress(quiet=as_json or target.quiet, color=not target.no_color)
        say.line(f"A worker on {app.broker.description()}, pool {pool}")
        with app, worker_process(options) as process:
            wait_until_ready(add, process)
            seen = measure(app, add, tasks, pool, say)
    if as_json:
        print_json(asdict(seen))
    else:
        print_seen(seen)
    return ExitCode.FAILED if seen.wrong or seen.missing else ExitCode.OK


class Progress:
    """Says what happens, with a bar for the results; on stderr, and not at all when *quiet*."""

    def __init__(self, *, quiet: bool, color: bool) -> None:
        self.quiet = quiet
        self.color = color

    def line(self, text: str) -> None:
        """Say *text*."""
        if not self.quiet:
            click.echo(text, err=True)

    def counted(self, results: Iterator[tuple[str, Any]], total: int) -> Iterator[tuple[str, Any]]:
        """Yield the *total* *results*, and move the bar with each."""
        if self.quiet:
            yield from results
            return
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True, no_color=not self.color)
        yield from track(results, description="Results", total=total, console=console, transient=True)


@contextmanager
def worker_process(options: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the demo's tasks in a process of its own; told to stop at the end."""
    command = [
        sys.executable,
        "-m",
        "fastq",
        "worker",
        "-A",
        "fastq.cli.demo_tasks:app",
        "-l",
        "WARNING",
        "-q",
    ]
    # Its own session: Ctrl-C reaches us alone, and leaving the block stops it. Not in the current
    # folder: in a checkout Python would import the sources, without extensions, instead of what is installed.
    process = subprocess.Popen([*command, *options], cwd=tempfile.gettempdir(), start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until_ready(add: Task[Any, int], process: subprocess.Popen[bytes]) -> None:
    """Return when the worker has run one task. Raises `CommandError` when it ended or does not answer."""
    first = add.delay(0, 0)
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            first.get(timeout=0.5)
            return
        except TimeoutError:
            if process.poll() is not None:
                raise CommandError(f"the worker ended with {process.returncode}", ExitCode.FAILED) from None
    raise CommandError(f"the worker ran no task within {START_SECONDS:g} s", ExitCode.TIMED_OUT)


def measure(app: FastQ, add: Task[Any, int], tasks: int, pool: str, say: Progress) -> Seen:
    """Send *tasks* in bulk, check their results, then time single calls on the idle worker."""
    say.line(f"Sending {tasks:,} tasks and collecting their results")
    start = time.perf_counter()
    results = add.apply_many([((at, at + 1), {}) for at in range(tasks)])
    sent_after = time.perf_counter() - start
    expected = {result.id: 2 * at + 1 for at, result in enumerate(results)}
    wrong = 0
    for task_id, value in say.counted(collect(app, list(expected)), tasks):
        wrong += value != expected.pop(task_id)
    collected = tasks - len(expected)
    if expected:
        say.line(f"{len(expected):,} results did not come within {STALL_SECONDS:g} s")
    run_after = time.perf_counter() - start
    latencies = [latency_ms(add) for _ in range(LATENCY_CALLS)] if collected == tasks else [float("nan")]
    latencies.sort()
    return Seen(
        tasks=tasks,
        broker=app.broker.description(),
        pool=pool,
        sent_per_second=round(tasks / sent_after),
        run_per_second=round(collected / run_after),
        latency_p50_ms=round(latencies[len(latencies) // 2], 2),
        latency_p99_ms=round(latencies[len(latencies) * 99 // 100], 2),
        wrong=wrong,
        missing=tasks - collected,
    )


def collect(app: FastQ, ids: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the id and value of each result as it comes; ends early when one is missing for too long."""
    assert app.backend is not None
    for at in range(0, len(ids), BLOCK):
        missing = set(ids[at : at + BLOCK])
        for task_id, document in app.backend.wait(missing, STALL_SECONDS):
            meta = app.load_result(document)
            if meta["status"] in READY_STATES and task_id in missing:
                missing.discard(task_id)
                yield task_id, meta["result"]
            if not missing:
                break
        if missing:
            return


def latency_ms(add: Task[Any, int]) -> float:
    """How long one `delay().get()` takes."""
    start = time.perf_counter()
    add.delay(1, 1).get(timeout=STALL_SECONDS)
    return (time.perf_counter() - start) * 1000


def print_seen(seen: Seen) -> None:
    """Say what was measured and what to try next."""
    verdict = "every one right" if not seen.wrong else f"{seen.wrong:,} of them WRONG"
    click.echo(f"results     {seen.tasks - seen.missing:,} of {seen.tasks:,}, {verdict}")
    click.echo(f"sent        {seen.sent_per_second:,.0f} tasks a second")
    click.echo(
        f"run         {seen.run_per_second:,.0f} tasks a second, from the first send to the last result"
    )
    click.echo(
        f"round trip  {seen.latency_p50_ms} ms median, {seen.latency_p99_ms} ms p99, delay().get() one by one"
    )
    click.echo(NEXT_STEPS, nl=False)
