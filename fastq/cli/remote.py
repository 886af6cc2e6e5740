"""`fastq inspect`, `fastq control` and `fastq status`: ask the workers, or tell them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pprint import pformat
from textwrap import indent
from typing import TYPE_CHECKING, Any

import click

from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.options import Target, comma_separated, common_options, target_of
from fastq.exceptions import nearest_name

if TYPE_CHECKING:
    from fastq.worker.remote.registry import Command

NOBODY = "No nodes replied within time constraint"


def remote_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that all three have."""
    for option in (
        click.option("-j", "--json", "as_json", is_flag=True, help="Print JSON."),
        click.option(
            "-d", "--destination", callback=comma_separated, metavar="NAMES", help="Only these nodes."
        ),
        click.option(
            "-t", "--timeout", type=float, default=1.0, metavar="SECONDS", help="Wait so long for a reply."
        ),
    ):
        function = option(function)
    return function


def list_option(kind: str) -> Callable[..., Any]:
    """The option --list of the command for *kind* of commands."""

    def say(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
        if not wanted:
            return
        formatter = click.HelpFormatter()
        with formatter.section(f"{kind.capitalize()} Commands"):
            formatter.write_dl(
                [(f"{name} {each.signature}".strip(), each.help) for name, each in commands(kind).items()]
            )
        click.echo(formatter.getvalue(), nl=False)
        ctx.exit()

    help = f"List the {kind} commands and exit."
    return click.option("--list", is_flag=True, is_eager=True, expose_value=False, callback=say, help=help)


@click.command()
@remote_options
@common_options
@click.pass_context
def status(ctx: click.Context, timeout: float, destination: list[str], as_json: bool) -> None:
    """List the workers that answer."""
    printer = None if as_json else Printer(target_of(ctx), shows_reply=False)
    replies = ask(ctx, "ping", {}, timeout, destination, printer)
    if as_json:
        click.echo(json.dumps(replies))
    else:
        click.echo(f"\n{counted(replies)} online.")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("command")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@list_option("inspect")
@remote_options
@common_options
@click.pass_context
def inspect(
    ctx: click.Context,
    command: str,
    arguments: tuple[str, ...],
    timeout: float,
    destination: list[str],
    as_json: bool,
) -> None:
    """Ask the workers something.

    \b
    fastq inspect active
    fastq inspect query_task ID ID
    fastq inspect stats -d w1@host --json
    fastq inspect --list
    """
    given = compiled(named("inspect", command), arguments)
    target = target_of(ctx)
    replies = ask(ctx, command, given, timeout, destination, None if as_json else Printer(target))
    if as_json:
        click.echo(json.dumps(replies))
    elif not target.quiet:
        click.echo(f"\n{counted(replies)} online.")


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("command")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@list_option("control")
@remote_options
@common_options
@click.pass_context
def control(
    ctx: click.Context,
    command: str,
    arguments: tuple[str, ...],
    timeout: float,
    destination: list[str],
    as_json: bool,
) -> None:
    """Tell the workers something.

    \b
    fastq control revoke ID ID
    fastq control terminate SIGKILL ID
    fastq control rate_limit tasks.add 10/m
    fastq control pool_grow 2 -d w1@host
    fastq control --list
    """
    given = compiled(named("control", command), arguments)
    replies = ask(ctx, command, given, timeout, destination, None if as_json else Printer(target_of(ctx)))
    if as_json:
        click.echo(json.dumps([{node: said} for node, said in replies.items()]))


def commands(kind: str) -> dict[str, Command]:
    """The visible commands of that kind by name, in order."""
    from fastq.worker.remote import inspecting, steering  # noqa: F401  (they register their commands)
    from fastq.worker.remote.registry import COMMANDS

    return {name: each for name, each in sorted(COMMANDS.items()) if each.type == kind and each.visible}


def named(kind: str, name: str) -> Command:
    """The command of that kind and name. Raises `CommandError`."""
    known = commands(kind)
    if name not in known:
        hint = nearest_name(name, known) or f": choose one of {', '.join(known)}"
        raise CommandError(f"no {kind} command is named {name!r}{hint}", ExitCode.USAGE)
    return known[name]


def compiled(command: Command, given: Iterable[str]) -> dict[str, Any]:
    """The arguments *given* on the command line by name. Raises `CommandError`."""
    rest = list(given)
    found: dict[str, Any] = {}
    for name, kind in command.args:
        if not rest:
            break
        text = rest.pop(0)
        try:
            found[name] = kind(text)
        except ValueError as exc:
            raise CommandError(f"{command.name}: {name} is {text!r}: {exc}", ExitCode.USAGE) from exc
    if command.variadic:
        found[command.variadic] = rest
    elif rest:
        usage = f"{command.name} {command.signature}".strip()
        raise CommandError(f"{command.name} takes no {rest[0]!r}: write {usage}", ExitCode.USAGE)
    return found


def ask(
    ctx: click.Context,
    command: str,
    arguments: dict[str, Any],
    timeout: float,
    destination: list[str],
    printer: Printer | None,
) -> dict[str, Any]:
    """What the workers reply, by node name, each printed as it comes. Raises `CommandError` if none does."""
    from fastq.app.control import by_name

    app = target_of(ctx).load_app_or_default()
    replies = app.control.broadcast(
        command, arguments, destination or None, reply=True, timeout=timeout, callback=printer
    )
    if not replies:
        raise CommandError(NOBODY, ExitCode.UNAVAILABLE)
    return by_name(replies)


class Printer:
    """Prints replies as Celery does."""

    def __init__(self, target: Target, *, shows_reply: bool = True) -> None:
        self._arrow = "" if target.quiet else "-> "
        self._shows_reply = shows_reply

    def __call__(self, reply: dict[str, Any]) -> None:
        for node, said in reply.items():
            state, text = shown(said)
            color = "red" if state == "ERROR" else "green"
            name = click.style(f"{node}: ", fg="cyan", bold=True)
            click.echo(f"{self._arrow} {name}{click.style(state, fg=color, bold=True)}")
            if text and self._shows_reply:
                click.echo(indent(text, " " * 4))


def shown(said: Any) -> tuple[str, str]:
    """OK or ERROR, and a reply as text."""
    if isinstance(said, dict) and ("ok" in said or "error" in said):
        state = "OK" if "ok" in said else "ERROR"
        return state, indent(shown(said[state.lower()])[1], " " * 4)
    if isinstance(said, list):
        return "OK", "\n".join(f"* {each}" for each in said) or "- empty -"
    if isinstance(said, dict):
        return "OK", json.dumps(said, sort_keys=True, indent=4)
    return "OK", said if isinstance(said, str) else pformat(said)


def counted(replies: dict[str, Any]) -> str:
    """How many nodes have replied."""
    return "1 node" if len(replies) == 1 else f"{len(replies)} nodes"
