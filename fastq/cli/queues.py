"""`fastq queues`: which queues there are and what they hold."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from fastq.cli.options import common_options, target_of
from fastq.cli.output import age, print_json, print_table

if TYPE_CHECKING:
    from fastq.brokers.base import QueueInfo

COLUMNS = ("queue", "ready", "claimed", "delayed", "dead", "oldest")


@click.group(invoke_without_command=True)
@click.option(
    "--watch", type=float, metavar="SECONDS", help="Show it again every so many seconds, until Ctrl-C."
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object a queue.")
@common_options
@click.pass_context
def queues(ctx: click.Context, watch: float | None, as_json: bool) -> None:
    """List the queues: what waits, what workers hold, what is delayed, what is dead.

    "oldest" is how long the next message to be delivered has waited.

    \b
    fastq queues
    fastq queues -b redis://localhost --json | jq '.[] | select(.ready > 1000)'
    fastq queues pause mail
    fastq queues resume mail
    """
    if ctx.invoked_subcommand is not None:
        return
    target = target_of(ctx)
    app = target.load_app_or_default()
    app.finalize()
    while True:
        found = app.read_broker.queues(app.queue_names())
        if as_json:
            print_json([queue._asdict() for queue in found])
        else:
            if watch:
                click.clear()
            print_table(COLUMNS, [row(queue) for queue in found], color=not target.no_color)
        if not watch:
            return
        time.sleep(watch)


@queues.command()
@click.argument("names", nargs=-1, required=True, metavar="QUEUE...")
@common_options
@click.pass_context
def pause(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Let no worker take from these queues, also none that starts later, until they are resumed."""
    control = target_of(ctx).load_app_or_default().control
    for name in names:
        said(name, "paused", control.pause_queue(name, reply=True))


@queues.command()
@click.argument("names", nargs=-1, required=True, metavar="QUEUE...")
@common_options
@click.pass_context
def resume(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Let workers take from these queues again."""
    control = target_of(ctx).load_app_or_default().control
    for name in names:
        said(name, "resumed", control.resume_queue(name, reply=True))


def said(queue: str, what: str, replies: Any) -> None:
    """Say that *queue* is *what*, and how many workers have heard."""
    count = len(replies or ())
    click.echo(f"{queue} is {what}; {count} {'worker has' if count == 1 else 'workers have'} said so.")


def row(queue: QueueInfo) -> tuple[str, ...]:
    """*queue* as a line of the table."""
    counts = (queue.ready, queue.claimed, queue.delayed, queue.dead)
    return (queue.name, *("" if count is None else f"{count:,}" for count in counts), age(queue.oldest_age))
