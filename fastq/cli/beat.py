"""`fastq beat`: send periodic tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fastq.cli.options import common_options, target_of
from fastq.cli.worker import detach_first, level, prepare, restrict, settle_down

if TYPE_CHECKING:
    from fastq.beat.program import Beat


@click.command()
@click.option("-s", "--schedule", metavar="PATH", help="The file of a scheduler that keeps one.")
@click.option("-S", "--scheduler", metavar="CLASS", help="Another scheduler: module:Class.")
@click.option(
    "--max-interval",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Look at the schedule at least so often.",
)
@click.option(
    "-n", "--hostname", metavar="NAME", help="Node name, as of fastq worker; default: celerybeat@%h."
)
@click.option(
    "-l", "--loglevel", callback=level, metavar="LEVEL", help="DEBUG, INFO, WARNING, ERROR, CRITICAL."
)
@click.option("-f", "--logfile", metavar="PATH", help="Log there, not to stderr; %n, %h as in -n.")
@click.option("-D", "--detach", is_flag=True, help="Run in the background, with a pid and a log file.")
@click.option("--pidfile", metavar="PATH", help="Keep the process id there; one beat a file.")
@click.option("--uid", metavar="USER", help="Become this user.")
@click.option("--gid", metavar="GROUP", help="Become this group.")
@click.option("--umask", metavar="OCTAL", help="The umask of files we make, as in 022.")
@click.option("--executable", hidden=True, expose_value=False)
@click.option(
    "--enable-remote-control/--no-enable-remote-control", default=None, hidden=True, expose_value=False
)
@common_options
@click.pass_context
def beat(ctx: click.Context, /, **options: Any) -> Beat:
    """Send periodic tasks when they are due, until told to stop.

    \b
    fastq beat                                  in the folder of your tasks.py
    fastq beat -A proj -l INFO
    fastq beat -A proj -s /var/lib/proj/celerybeat-schedule
    fastq worker -B                             a worker with a beat

    TERM and Ctrl-C stop it. Celery's --enable-remote-control is accepted and changes nothing yet.
    """
    target = target_of(ctx)
    process = {name: options.pop(name) for name in ("detach", "uid", "gid", "umask")}
    target.enter_workdir()
    restrict(umask=process["umask"])
    options["hostname"] = options["hostname"] or "celerybeat"
    launch = detach_first(options) if process["detach"] else None
    restrict(uid=process["uid"], gid=process["gid"])  # before any code of the user's runs
    from fastq.beat.program import Beat

    app = target.load_app()
    if process["umask"] is None:
        restrict(umask=app.conf.beat_umask)
    if process["uid"] is None and process["gid"] is None:
        restrict(uid=app.conf.beat_uid, gid=app.conf.beat_gid)
    made = Beat(app, quiet=target.quiet, colorize=False if target.no_color else None, **options)
    prepare(made)
    if launch is not None:
        settle_down(made, launch)
    return made
