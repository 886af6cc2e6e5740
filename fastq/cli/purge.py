"""`fastq purge`: remove what waits in queues."""

from __future__ import annotations

import click

from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.options import comma_separated, common_options, target_of
from fastq.cli.output import print_json
from fastq.exceptions import nearest_name


@click.command()
@click.option(
    "-Q", "--queues", callback=comma_separated, metavar="NAMES", help="These queues, joined by commas."
)
@click.option("-X", "--exclude-queues", callback=comma_separated, metavar="NAMES", help="Not these queues.")
@click.option("-f", "--force", is_flag=True, help="Don't ask.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: removed messages by queue.")
@common_options
@click.pass_context
def purge(
    ctx: click.Context, queues: list[str], exclude_queues: list[str], force: bool, as_json: bool
) -> int:
    """Remove the messages that wait or are delayed in queues; they are gone for good.

    Without -Q: the queues that a worker of this app consumes. What workers hold already, and the dead
    set, stay. Asks first, with the counts, unless --force.

    \b
    fastq purge -Q mail,reports
    """
    app = target_of(ctx).load_app_or_default()
    app.finalize()
    names = [name for name in queues or app.queue_names() if name not in exclude_queues]
    held = {info.name: info for info in app.read_broker.queues(names)}
    for name in queues:
        if name not in held:
            raise CommandError(f"no queue is named {name!r}{nearest_name(name, held)}", ExitCode.FAILED)
    counts = {name: held[name].ready + (held[name].delayed or 0) for name in names if name in held}
    total = sum(counts.values())
    if total and not force:
        listed = ", ".join(f"{count:,} in {name!r}" for name, count in counts.items() if count)
        click.confirm(f"Remove {total:,} messages ({listed}) for good?", abort=True, err=True)
    removed = {name: app.read_broker.purge(name) for name in counts if counts[name]}
    if as_json:
        print_json(removed)
    elif not total:
        click.echo(f"nothing to remove in {', '.join(map(repr, names))}")
    else:
        for name, count in removed.items():
            click.echo(f"removed {count:,} messages from {name!r}")
    return ExitCode.OK
