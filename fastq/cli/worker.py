"""`fastq worker`: run tasks."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastq.cli.errors import CommandError
from fastq.cli.options import Target, comma_separated, common_options, target_of
from fastq.cli.user_code import innermost_line, user_code_error
from fastq.exceptions import FastQError, nearest_name

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.beat.program import Beat
    from fastq.worker.daemon import Launch
    from fastq.worker.worker import Worker

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")
POOLS = {
    "prefork": "prefork",
    "processes": "prefork",
    "threads": "threads",
    "gevent": "gevent",
    "eventlet": "eventlet",
    "asyncio": "asyncio",
    "solo": "solo",
}


def level(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A log level by its name, in any case (a callback)."""
    if value is None or value.upper() in LEVELS:
        return value and value.upper()
    raise CommandError(f"no log level is named {value!r}{nearest_name(value.upper(), LEVELS)}")


def pool_name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A pool by its name, Celery's other name for it, or that of its class (a callback)."""
    if value is None or ":" in value:
        return value
    if value in POOLS:
        return POOLS[value]
    hint = nearest_name(value, POOLS) or f": choose one of {', '.join(dict.fromkeys(POOLS.values()))}"
    raise CommandError(f"no pool is named {value!r}{hint}")


def count_or_auto(ctx: click.Context, param: click.Parameter, value: str | None) -> int | str | None:
    """A whole number or "auto" (a callback)."""
    if value is None or value == "auto":
        return value
    if not value.isdigit():
        raise CommandError(f"{param.opts[-1]} {value}: neither a number nor auto")
    return int(value)


def bounds(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """The most and the fewest of ``10,3`` or ``10`` (a callback)."""
    if value is None:
        return None
    from fastq.worker.autoscale import parse_autoscale

    try:
        return parse_autoscale(value)
    except ValueError:
        raise CommandError(f"--autoscale {value}: not MAX,MIN, as in 10,3") from None


@click.command()
@click.option(
    "-Q", "--queues", callback=comma_separated, metavar="NAMES", help="Consume these, joined by commas."
)
@click.option("-X", "--exclude-queues", callback=comma_separated, metavar="NAMES", help="All but these.")
@click.option(
    "-P",
    "--pool",
    callback=pool_name,
    metavar="POOL",
    help="prefork (default), threads, gevent, eventlet, asyncio, solo or package.module:Class.",
)
@click.option(
    "-c",
    "--concurrency",
    callback=count_or_auto,
    metavar="N|auto",
    help="Tasks at once; default: the processors we may use, 100 on asyncio.",
)
@click.option(
    "--pool-start-method",
    type=click.Choice(["fork", "spawn"]),
    help="How children start: of one process, or each as a fresh interpreter.",
)
@click.option(
    "-n", "--hostname", metavar="NAME", help="Node name: name, name@%h; %h host, %n name, %d domain."
)
@click.option(
    "-l", "--loglevel", callback=level, metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR, CRITICAL."
)
@click.option("-f", "--logfile", metavar="PATH", help="Log there, not to stderr; %n, %h as in -n.")
@click.option(
    "--prefetch-multiplier",
    callback=count_or_auto,
    metavar="N|auto",
    help="Claim N x concurrency ahead; 0: no limit.",
)
@click.option("--disable-prefetch/--no-disable-prefetch", default=None, help="Claim only for free slots.")
@click.option(
    "--time-limit", type=click.FloatRange(min=0), metavar="SECONDS", help="End any task after this."
)
@click.option(
    "--soft-time-limit",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Raise SoftTimeLimitExceeded after this.",
)
@click.option(
    "--max-tasks-per-child", type=click.IntRange(min=1), metavar="N", help="Replace a child after N tasks."
)
@click.option(
    "--max-memory-per-child",
    type=click.IntRange(min=1),
    metavar="KIB",
    help="Replace a child that has grown over this.",
)
@click.option(
    "--autoscale",
    callback=bounds,
    metavar="MAX,MIN",
    help="Run MIN to MAX tasks at once, as work needs them.",
)
@click.option("--statedb", metavar="PATH", help="Keep there too what was revoked.")
@click.option("--with-mingle", "mingle", is_flag=True, help="Ask other workers first what was revoked.")
@click.option("--purge", "--discard", is_flag=True, help="First remove what waits in the queues.")
@click.option("-I", "--include", callback=comma_separated, metavar="MODULES", help="Import these too.")
@click.option("-D", "--detach", is_flag=True, help="Run in the background, with a pid and a log file.")
@click.option("--pidfile", metavar="PATH", help="Keep the process id there; one worker a file.")
@click.option("-E", "--task-events", is_flag=True, default=None, help="Send events of tasks, for monitors.")
@click.option("--without-heartbeat", is_flag=True, help="Send no worker-heartbeat events.")
@click.option(
    "--heartbeat-interval",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Between these; default: 2.",
)
@click.option("-B", "--beat", is_flag=True, help="Send periodic tasks too, from a process of its own.")
@click.option(
    "-s", "--schedule-filename", "--schedule", metavar="PATH", help="With -B: the file of its scheduler."
)
@click.option("-S", "--scheduler", metavar="CLASS", help="With -B: another scheduler.")
@click.option(
    "--metrics",
    metavar="[HOST:]PORT",
    help="Serve metrics for Prometheus, /live and /ready there; loopback without HOST.",
)
@click.option("--reload", is_flag=True, help="Start anew when the code changes (for development).")
@click.option("--uid", metavar="USER", help="Become this user.")
@click.option("--gid", metavar="GROUP", help="Become this group.")
@click.option("--umask", metavar="OCTAL", help="The umask of files we make, as in 022.")
@click.option("-O", "--optimization", type=click.Choice(["default", "fair"]), hidden=True, expose_value=False)
@click.option("--without-gossip", is_flag=True, hidden=True, expose_value=False)
@click.option("--without-mingle", is_flag=True, hidden=True, expose_value=False)
@common_options
@click.pass_context
def worker(ctx: click.Context, /, **options: Any) -> int | Worker:
    """Run tasks until told to stop.

    \b
    fastq worker                                in the folder of your tasks.py
    fastq worker -A proj -l INFO -c 8
    fastq worker -A proj -P gevent -c 500 -Q mail,web
    fastq worker -A proj --reload               start anew when the code changes

    The first Ctrl-C or TERM stops taking tasks, finishes what runs (worker_shutdown_timeout) and gives
    the rest back; the second, or QUIT, gives everything back at once, or when what runs has had
    worker_soft_shutdown_timeout. HUP restarts, USR1 logs all stacks.

    Celery's -O, --without-gossip and --without-mingle are accepted and change nothing.
    """
    target = target_of(ctx)
    if options.pop("reload"):
        return run_reloading(target)
    from fastq.worker.init import split_from_init

    split_from_init()
    process = {name: options.pop(name) for name in ("detach", "uid", "gid", "umask")}
    return ready_worker(target, process, options)


def ready_worker(target: Target, process: dict[str, Any], options: dict[str, Any]) -> Worker:
    """The worker with its code loaded, in the background if *process* says so; `main` starts it."""
    target.enter_workdir()
    restrict(umask=process["umask"])
    launch = detach_first(options) if process["detach"] else None
    restrict(uid=process["uid"], gid=process["gid"])  # before any code of the user's runs
    from fastq.worker.reload import report_imports

    try:
        app = target.load_app()
        if process["umask"] is None:
            restrict(umask=app.conf.worker_umask)
        if process["uid"] is None and process["gid"] is None:
            restrict(uid=app.conf.worker_uid, gid=app.conf.worker_gid)
        made = make_worker(app, target, options)
        prepare(made)
    finally:
        report_imports()
    if launch is not None:
        settle_down(made, launch)
    return made


def restrict(
    *, umask: str | int | None = None, uid: str | int | None = None, gid: str | int | None = None
) -> None:
    """Take this umask, and become that user and group; what is None stays as it is."""
    from fastq.worker.daemon import drop_privileges, parse_umask

    if umask is not None:
        os.umask(umask if isinstance(umask, int) else parse_umask(umask))
    if uid is not None or gid is not None:
        drop_privileges(None if uid is None else str(uid), None if gid is None else str(gid))


def make_worker(app: FastQ, target: Target, options: dict[str, Any]) -> Worker:
    """The worker that the command line describes."""
    from fastq.worker.worker import Worker

    color = False if target.no_color else None
    options["hostname"] = options["hostname"] or ""
    return Worker(app, quiet=target.quiet, colorize=color, **options)


def prepare(made: Worker | Beat) -> None:
    """Load the user's modules into *made*; their errors are said as such."""
    try:
        made.prepare()
    except (FastQError, OSError):
        raise
    except (Exception, SystemExit) as exc:
        if innermost_line(exc) is None:
            raise  # nothing of the user's was at work: our own error, to be seen whole
        raise user_code_error(exc, str(made.app.main)) from exc


def detach_first(options: dict[str, Any]) -> Launch:
    """Leave the terminal; pid and log file get their places in the state directory unless they have some."""
    from fastq.state_dir import state_dir
    from fastq.worker.daemon import detach
    from fastq.worker.nodes import expand_path, node_name

    node = node_name(options["hostname"])
    for option, suffix in (("pidfile", "pid"), ("logfile", "log")):
        default = str(state_dir() / f"%n.{suffix}")
        # Absolute: the same file whatever folder the user's code goes to.
        options[option] = str(Path(expand_path(options[option] or default, node)).absolute())
    return detach()


def settle_down(made: Worker | Beat, launch: Launch) -> None:
    """Say where it will run, and let the terminal go: from here on errors go to the log."""
    text = f"{made.hostname} runs as process {os.getpid()}; log {made.logfile}; pid file {made.pidfile}"
    click.echo(f"fastq: {text}", file=sys.__stdout__)  # sys.stdout goes to the log by now
    launch.leave_terminal(made.logfile or os.devnull)
    made.on_started = launch.succeed


def run_reloading(target: Target) -> int:
    """Run this same command without --reload as a child that is started anew when the code changes."""
    from fastq.worker.reload import Reloader

    target.enter_workdir()
    arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
    return Reloader([sys.executable, "-m", "fastq", *arguments], Path.cwd()).run()


def run_for(app: FastQ, arguments: list[str]) -> int:
    """Run ``fastq worker`` with *arguments* for *app* (`FastQ.worker_main`)."""
    target = Target(given=app)
    done = worker.main(args=arguments, prog_name="fastq worker", standalone_mode=False, obj=target)
    return done if isinstance(done, int) else done.start()
