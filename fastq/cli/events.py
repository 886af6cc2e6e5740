"""`fastq events`: what happens in the fleet, as it happens."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from fastq.cli.errors import CommandError
from fastq.cli.options import common_options, target_of

if TYPE_CHECKING:
    from fastq.app.base import FastQ


@click.command()
@click.option("-d", "--dump", is_flag=True, help="Print each event as a line.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as a line of JSON.")
@click.option("-c", "--camera", metavar="CLASS", help="Take pictures with this: module:Class, a Polaroid.")
@click.option(
    "-F",
    "--frequency",
    "--freq",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    metavar="SECONDS",
    help="Between two pictures; default: 1.",
)
@click.option("-r", "--maxrate", metavar="RATE", help="Take no more pictures than this, as in 10/m.")
@common_options
@click.pass_context
def events(
    ctx: click.Context,
    /,
    *,
    dump: bool,
    as_json: bool,
    camera: str | None,
    frequency: float,
    maxrate: str | None,
) -> None:
    """Show what happens in the fleet.

    \b
    fastq events                                a live screen of workers and tasks
    fastq events --dump                         a line for each event
    fastq events --json | jq .type
    fastq events --camera proj.cams:Cam -F 2.0  pictures of the state, stored as your class says

    Workers tell of their tasks when they were started with -E, or when someone asks them to (key e).
    """
    if camera is not None and (dump or as_json):
        raise CommandError("--camera takes pictures and prints nothing: leave out --dump and --json")
    app = target_of(ctx).load_app_or_default()
    if camera is not None:
        take_pictures(app, camera, frequency, maxrate)
    elif dump or as_json:
        print_events(app, as_json=as_json)
    elif sys.stdin.isatty() and sys.stdout.isatty():
        from fastq.cli.events_screen import show_screen

        show_screen(app)
    else:
        raise CommandError("the live screen needs a terminal: use --dump or --json")


def print_events(app: FastQ, *, as_json: bool) -> None:
    """Print events until interrupted."""
    from fastq.events.dumper import Dumper
    from fastq.events.watch import Watch

    Watch(app, Dumper(as_json=as_json).on_event, say_lost).run()


def take_pictures(app: FastQ, camera: str, frequency: float, maxrate: str | None) -> None:
    """Keep the fleet's state, and let the class called *camera* take its pictures, until interrupted."""
    from fastq.events.watch import Watch

    state = app.events.State()
    made = camera_class(camera)(state, app=app, freq=frequency, maxrate=maxrate)
    click.echo(f"fastq: taking pictures with {camera} every {frequency:g} s", err=True)
    made.install()
    try:
        Watch(app, state.event, say_lost).run()
    finally:
        made.cancel()


def camera_class(name: str) -> Any:
    """The class that ``module:Class`` or ``module.Class`` names."""
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as exc:
        raise CommandError(f"--camera {name}: {exc}") from exc


def say_lost(exc: Exception, seconds: float) -> None:
    """Say that the broker is away."""
    click.echo(f"fastq: the broker is away: {exc}; trying again in {seconds:.1f} s", err=True)
