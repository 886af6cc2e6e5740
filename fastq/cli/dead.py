"""`fastq dead`: look at what could not be run, send it again or drop it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from fastq._core.message import decode_envelope
from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.options import common_options, target_of
from fastq.cli.output import age, moment, print_json, print_table
from fastq.exceptions import DecodeError, FastQError
from fastq.serialization import loads

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.brokers.base import DeadMessage

COLUMNS = ("id", "task", "queue", "died", "reason")
NEWEST = 100  # entries shown unless --limit says otherwise


@click.group()
def dead() -> None:
    """Messages that could not be run: their reason, and what to do with them.

    A message comes here when it can't be decoded, names a task that no worker knows, is rejected, or
    killed its worker too often. Nothing leaves by itself.

    \b
    fastq dead list
    fastq dead show ID
    fastq dead retry --all --queue mail
    fastq dead drop ID ID
    """


@dead.command("list")
@click.option("-Q", "--queue", metavar="QUEUE", help="Only this queue's.")
@click.option("-n", "--limit", default=NEWEST, show_default=True, help="At most so many, newest first.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, one object an entry.")
@common_options
@click.pass_context
def list_entries(ctx: click.Context, queue: str | None, limit: int, as_json: bool) -> None:
    """List the dead messages, newest first."""
    target = target_of(ctx)
    app = target.load_app_or_default()
    entries = app.read_broker.dead(queue, limit)
    if as_json:
        print_json([summary(entry) for entry in entries])
        return
    now = time.time()
    rows = [
        (
            entry.id,
            entry.task or "?",
            entry.queue,
            f"{age(now - entry.died_at)} ago",
            entry.reason.split("\n", 1)[0],
        )
        for entry in entries
    ]
    print_table(COLUMNS, rows, color=not target.no_color)


@dead.command()
@click.argument("id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object with headers, args and kwargs.")
@common_options
@click.pass_context
def show(ctx: click.Context, id: str, as_json: bool) -> int:
    """Show one dead message: its reason, its arguments, its headers."""
    app = target_of(ctx).load_app_or_default()
    entry = app.read_broker.find_dead(id)
    if entry is None:
        raise no_such_entry(id)
    fields = {**summary(entry), **content(app, entry)}
    if as_json:
        print_json(fields)
        return ExitCode.OK
    fields["died_at"] = moment(entry.died_at)
    for name, value in fields.items():
        click.echo(f"{name + ':':9} {value if isinstance(value, str) else repr(value)}")
    return ExitCode.OK


@dead.command()
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "all_entries", is_flag=True, help="All of them, or all of --queue.")
@click.option("-Q", "--queue", metavar="QUEUE", help="With --all: only this queue's.")
@common_options
@click.pass_context
def retry(ctx: click.Context, ids: tuple[str, ...], all_entries: bool, queue: str | None) -> int:
    """Send dead messages back to their queues, as if they had never been delivered."""
    chosen = choose(ids, all_entries)
    count = target_of(ctx).load_app_or_default().read_broker.retry_dead(chosen, queue)
    return report(count, chosen, "sent {} back to their queues")


@dead.command()
@click.argument("ids", nargs=-1, metavar="ID...")
@click.option("--all", "all_entries", is_flag=True, help="All of them, or all of --queue.")
@click.option("-Q", "--queue", metavar="QUEUE", help="With --all: only this queue's.")
@click.option("-f", "--force", is_flag=True, help="Don't ask before --all.")
@common_options
@click.pass_context
def drop(ctx: click.Context, ids: tuple[str, ...], all_entries: bool, queue: str | None, force: bool) -> int:
    """Delete dead messages; they are gone for good."""
    chosen = choose(ids, all_entries)
    broker = target_of(ctx).load_app_or_default().read_broker
    if chosen is None and not force:
        held = sum(info.dead for info in broker.queues() if queue in (None, info.name))
        click.confirm(f"Delete {held:,} dead messages for good?", abort=True, err=True)
    return report(broker.drop_dead(chosen, queue), chosen, "deleted {}")


def choose(ids: tuple[str, ...], all_entries: bool) -> tuple[str, ...] | None:
    """The ids to act on; None is all. Raises `CommandError` when it is not clear which."""
    if bool(ids) == all_entries:
        raise CommandError("say which: the ids of dead messages, or --all")
    return None if all_entries else ids


def report(count: int, chosen: tuple[str, ...] | None, done: str) -> int:
    """Say how many messages were acted on; it is a failure when some of the *chosen* do not exist."""
    missing = len(set(chosen)) - count if chosen is not None else 0
    if chosen is not None and len(chosen) == 1 and not count:
        raise no_such_entry(chosen[0])
    click.echo(done.format(f"{count:,} dead message{'' if count == 1 else 's'}"))
    if missing > 0:
        raise CommandError(f"{missing} of the ids are not in the dead set", ExitCode.FAILED)
    return ExitCode.OK


def no_such_entry(entry_id: str) -> CommandError:
    """The error for an id that is not in the dead set."""
    return CommandError(f"no dead message has the id {entry_id!r}: see `fastq dead list`", ExitCode.FAILED)


def summary(entry: DeadMessage) -> dict[str, Any]:
    """What is known of *entry* without decoding it."""
    return {
        "id": entry.id,
        "task": entry.task,
        "queue": entry.queue,
        "died_at": entry.died_at,
        "reason": entry.reason,
    }


def content(app: FastQ, entry: DeadMessage) -> dict[str, Any]:
    """The headers and arguments of *entry*, as far as they can be decoded; else its bytes."""
    try:
        message = decode_envelope(entry.raw)
    except DecodeError:
        return {"raw": entry.raw.decode("utf-8", "backslashreplace")}
    found: dict[str, Any] = {"headers": message.headers}
    try:
        if "compression" in message.headers:
            raise DecodeError("compressed")
        body = loads(message.body, message.content_type, message.content_encoding, None)
        found["args"], found["kwargs"] = body[0], body[1]
    except (FastQError, LookupError, TypeError):
        found["args"] = message.headers.get("argsrepr", "can't be decoded here")
        found["kwargs"] = message.headers.get("kwargsrepr", "can't be decoded here")
    return found
