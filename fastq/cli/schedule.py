"""`fastq schedule`: look at the schedule that beats share, and change it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.options import common_options, json_value, target_of
from fastq.cli.output import print_json, print_table
from fastq.cli.user_code import innermost_line, user_code_error
from fastq.exceptions import FastQError

if TYPE_CHECKING:
    from fastq.beat.api import EntryInfo, Schedule

COLUMNS = ("name", "task", "schedule", "last run", "next run", "runs", "outcome")
SOLAR_VALUES = 3  # event, latitude, longitude


@click.group()
def schedule() -> None:
    """The schedule that beats share: its entries, and what has become of them.

    Entries of the code (beat_schedule, add_periodic_task) can be paused and run now; those that were added
    here, or by app.schedule, can be replaced and removed too. Beats see a change within a second or so.

    \b
    fastq schedule list
    fastq schedule add cleanup tasks.cleanup --cron '0 4 * * *'
    fastq schedule add ping tasks.ping --every 30 --args '["db"]' --overlap skip
    fastq schedule pause ping
    fastq schedule next cleanup
    """


@schedule.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object an entry.")
@common_options
@click.pass_context
def list_entries(ctx: click.Context, as_json: bool) -> None:
    """List the entries, with when they ran and will run."""
    found = load(ctx)
    entries = found.list()
    if as_json:
        print_json([as_map(info) for info in entries])
        return
    rows = [
        (
            info.name,
            info.task or "?",
            info.schedule or "?",
            shown(info.last_run_at),
            "paused" if info.is_paused else shown(info.next_run_at),
            str(info.total_run_count),
            outcome_of(info),
        )
        for info in entries
    ]
    print_table(COLUMNS, rows, color=not target_of(ctx).no_color)
    leader = found.leader()
    said = f"the beat {leader} leads" if leader else "no beat leads: start one with `fastq beat`"
    click.echo(f"fastq: {said}", err=True)


@schedule.command()
@click.argument("name", metavar="NAME")
@click.argument("task", metavar="TASK")
@click.option("--every", type=float, metavar="SECONDS", help="Due again after so many seconds.")
@click.option("--cron", metavar="FIELDS", help="Minute, hour, day of the month, month, day of the week.")
@click.option("--solar", metavar="EVENT,LAT,LON", help="An event of the sun: sunset,48.1,11.6.")
@click.option("-a", "--args", default="[]", metavar="JSON", help="Positional arguments: a JSON list.")
@click.option("-k", "--kwargs", default="{}", metavar="JSON", help="Keyword arguments: a JSON object.")
@click.option("-Q", "--queue", metavar="QUEUE", help="Send it to this queue instead of the task's own.")
@click.option("--expires", type=float, metavar="SECONDS", help="Don't run it so long after it was sent.")
@click.option("--priority", type=click.IntRange(0, 255), metavar="N", help="Its priority.")
@click.option(
    "--overlap",
    type=click.Choice(["allow", "skip", "queue"]),
    default="allow",
    show_default=True,
    help="When the run before has not ended.",
)
@click.option(
    "--catch-up",
    type=click.Choice(["none", "one", "all"]),
    default="one",
    show_default=True,
    help="Of the runs that were due while no beat ran.",
)
@click.option("--jitter", type=click.FloatRange(min=0), default=0.0, metavar="SECONDS", help="Spread runs.")
@click.option("--replace", is_flag=True, help="Take the place of an entry that was added before.")
@common_options
@click.pass_context
def add(
    ctx: click.Context,
    /,
    name: str,
    task: str,
    every: float | None,
    cron: str | None,
    solar: str | None,
    args: str,
    kwargs: str,
    **options: Any,
) -> None:
    """Add the entry NAME, which sends TASK."""
    when = parse_schedule(every, cron, solar)
    values = json_value(args, "--args", list), json_value(kwargs, "--kwargs", dict)
    sending = {key: value for key, value in options.items() if value is not None}
    info = load(ctx).add(name, task, when, *values, **sending)
    click.echo(f"added {info.name}: {info.task}, {info.schedule}")


@schedule.command()
@click.argument("name", metavar="NAME")
@common_options
@click.pass_context
def pause(ctx: click.Context, name: str) -> None:
    """Send no runs of the entry NAME until it is resumed."""
    with named(ctx) as entries:
        entries.pause(name)
    click.echo(f"paused {name}")


@schedule.command()
@click.argument("name", metavar="NAME")
@common_options
@click.pass_context
def resume(ctx: click.Context, name: str) -> None:
    """Send runs of the entry NAME again, from now on."""
    with named(ctx) as entries:
        entries.resume(name)
    click.echo(f"resumed {name}")


@schedule.command()
@click.argument("name", metavar="NAME")
@common_options
@click.pass_context
def run(ctx: click.Context, name: str) -> None:
    """Send a run of the entry NAME now, and print the id of its task."""
    with named(ctx) as entries:
        click.echo(entries.run(name).id)


@schedule.command()
@click.argument("name", metavar="NAME")
@common_options
@click.pass_context
def remove(ctx: click.Context, name: str) -> None:
    """Remove the entry NAME, with what is known of its runs."""
    with named(ctx) as entries:
        entries.remove(name)
    click.echo(f"removed {name}")


@schedule.command("next")
@click.argument("name", metavar="NAME")
@click.option("-n", "--count", type=click.IntRange(min=1), default=5, show_default=True, help="So many.")
@common_options
@click.pass_context
def next_runs(ctx: click.Context, name: str, count: int) -> None:
    """Say when the next runs of the entry NAME are due."""
    with named(ctx) as entries:
        for when in entries.next(name, count):
            click.echo(shown(when))


def load(ctx: click.Context) -> Schedule:
    """The schedule of the user's app, with all its code imported."""
    app = target_of(ctx).load_app_or_default()
    try:
        app.import_modules()
    except (FastQError, OSError):
        raise
    except (Exception, SystemExit) as exc:
        if innermost_line(exc) is None:
            raise
        raise user_code_error(exc, str(app.main)) from exc
    found: Schedule = app.schedule
    return found


@contextmanager
def named(ctx: click.Context) -> Iterator[Schedule]:
    """The schedule, for a command that names an entry. Raises `CommandError` where there is none."""
    from fastq.beat.api import UnknownEntry

    try:
        yield load(ctx)
    except UnknownEntry as exc:
        raise CommandError(f"{exc}; see `fastq schedule list`", ExitCode.FAILED) from exc


def parse_schedule(every: float | None, cron: str | None, sun: str | None) -> Any:
    """The schedule that one of the three options describes. Raises `CommandError`."""
    from fastq.schedules import crontab, solar

    if sum(each is not None for each in (every, cron, sun)) != 1:
        raise CommandError("say when: one of --every, --cron and --solar")
    if every is not None:
        if every <= 0:
            raise CommandError(f"--every {every:g}: it must be more than 0 seconds")
        return every
    try:
        if cron is not None:
            return crontab.from_string(cron)
        parts = (sun or "").split(",")
        if len(parts) != SOLAR_VALUES:
            raise ValueError("an event, a latitude and a longitude, as in sunset,48.1,11.6")
        return solar(parts[0], float(parts[1]), float(parts[2]))
    except ValueError as exc:
        raise CommandError(f"--{'solar' if cron is None else 'cron'} {sun or cron}: {exc}") from exc


def shown(when: datetime | None) -> str:
    """A time for people."""
    return "-" if when is None else when.strftime("%Y-%m-%d %H:%M:%S %Z")


def outcome_of(info: EntryInfo) -> str:
    """What became of the last run, in a few words."""
    if info.problem:
        return f"can't be served: {info.problem}"
    words = [info.outcome or "not seen by a beat yet", info.task_state, info.error]
    return ", ".join(word for word in words if word)


def as_map(info: EntryInfo) -> dict[str, Any]:
    """*info* for JSON, with times in ISO 8601."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in info._asdict().items()
    }
