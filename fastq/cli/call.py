"""`fastq call`: send one task."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.options import common_options, json_value, target_of
from fastq.cli.output import print_json
from fastq.exceptions import TimeoutError, nearest_name

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.result import AsyncResult


@click.command()
@click.argument("name", metavar="TASK")
@click.option("-a", "--args", default="[]", metavar="JSON", help="Positional arguments: a JSON list.")
@click.option("-k", "--kwargs", default="{}", metavar="JSON", help="Keyword arguments: a JSON object.")
@click.option("-Q", "--queue", metavar="QUEUE", help="Send it to this queue instead of the task's own.")
@click.option("--countdown", type=float, metavar="SECONDS", help="Run it after so many seconds.")
@click.option("--eta", metavar="TIME", help="Run it then: ISO 8601, UTC unless it has an offset.")
@click.option("--expires", metavar="WHEN", help="Don't run it later than this: seconds, or ISO 8601.")
@click.option("--priority", type=click.IntRange(0, 255), metavar="N", help="Its priority.")
@click.option("--serializer", metavar="NAME", help="How the arguments are encoded; default: the app's.")
@click.option("-w", "--wait", is_flag=True, help="Wait for the result and print it as JSON.")
@click.option("--timeout", type=float, metavar="SECONDS", help="With --wait: give up waiting after this.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON object: id, and with --wait state and result."
)
@common_options
@click.pass_context
def call(
    ctx: click.Context,
    /,
    name: str,
    args: str,
    kwargs: str,
    wait: bool,
    timeout: float | None,
    as_json: bool,
    **sending: Any,
) -> int:
    """Send the task called TASK and print its id. Its code need not be here.

    \b
    fastq call tasks.add --args '[2, 3]' --wait
    fastq call tasks.report -k '{"day": "2030-01-31"}' --countdown 60
    fastq call mail.send -b redis://localhost --queue mail

    Exits with 1 when the task failed, 75 when --timeout ran out (the task may still run).
    """
    options = {key: value for key, value in sending.items() if value is not None}
    if "eta" in options:
        options["eta"] = parse_time(options["eta"], "--eta")
    if "expires" in options:
        options["expires"] = parse_seconds_or_time(options["expires"], "--expires")
    values = json_value(args, "--args", list), json_value(kwargs, "--kwargs", dict)
    app = target_of(ctx).load_app_or_default()
    app.finalize()
    warn_if_unknown(app, name)
    task = app.tasks.get(name)
    if task is not None:
        result = task.apply_async(*values, **options)
    else:
        result = app.send_task(name, *values, **options)
    if wait:
        return print_outcome(result, timeout, as_json)
    if as_json:
        print_json({"id": result.id})
    else:
        click.echo(result.id)
    return ExitCode.OK


def warn_if_unknown(app: FastQ, name: str) -> None:
    """Say so when the app has tasks, but none called *name*: it is sent all the same."""
    known = [task for task in app.tasks if not task.startswith("celery.")]
    if known and name not in app.tasks:
        click.echo(f"fastq: warning: this app has no task {name!r}{nearest_name(name, known)}", err=True)


def print_outcome(result: AsyncResult[Any], timeout: float | None, as_json: bool) -> int:
    """Wait for *result*, print it and return the exit code."""
    try:
        value = result.get(timeout=timeout, propagate=False)
    except TimeoutError as exc:
        raise CommandError(
            f"no result of {result.id} within {timeout:g} s; `fastq result {result.id}` says where it is",
            ExitCode.TIMED_OUT,
        ) from exc
    failed = result.failed() or isinstance(value, BaseException)
    if as_json:
        print_json({"id": result.id, "state": result.state, "result": value, "traceback": result.traceback})
    elif failed:
        click.echo(result.traceback or "", err=True, nl=False)
        click.echo(f"{result.state}: {value!r}", err=True)
    else:
        print_json(value)
    return ExitCode.FAILED if failed else ExitCode.OK


def parse_time(text: str, option: str) -> datetime:
    """*text* as a point in time, UTC unless it names an offset. Raises `CommandError`."""
    try:
        # Python 3.10 does not know the suffix Z.
        time = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError as exc:
        raise CommandError(f"{option} {text}: not a time like 2030-01-31T12:00:00Z") from exc
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def parse_seconds_or_time(text: str, option: str) -> float | datetime:
    """*text* as a number of seconds or as a point in time. Raises `CommandError`."""
    try:
        return float(text)
    except ValueError:
        return parse_time(text, option)
