"""`fastq report`: what to paste into a bug report."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import click

from fastq.cli.app_name import NoAppFound
from fastq.cli.errors import ExitCode
from fastq.cli.options import common_options, target_of
from fastq.cli.output import print_json
from fastq.exceptions import FastQError
from fastq.version import __version__

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.brokers.base import Broker

# What can be reached or not, as the report names it; "read from" only where workers read from elsewhere.
PLACES = ("broker", "read from", "results")
PACKAGES = ("orjson", "hiredis", "click", "rich", "gevent", "msgpack", "celery", "kombu", "django")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@common_options
@click.pass_context
def report(ctx: click.Context, as_json: bool) -> int:
    """Say which versions run here, what is set, and whether broker and results can be reached.

    Passwords and secrets are masked: the output can be shared. Works without an app too.
    """
    found: dict[str, Any] = {"versions": versions(), "platform": platform.platform()}
    reachable = True
    try:
        app = target_of(ctx).load_app_or_default()
    except NoAppFound as exc:
        found["app"] = f"none: {exc}"
    else:
        app.finalize()
        found.update(app_facts(app))
        reachable = all(found[place]["error"] is None for place in PLACES if found.get(place))
    if as_json:
        print_json(found)
    else:
        print_report(found)
    return ExitCode.OK if reachable else ExitCode.UNAVAILABLE


def versions() -> dict[str, str]:
    """The versions of fastq, Python and what of `PACKAGES` is installed."""
    found = {"fastq": __version__, "python": sys.version.split()[0], "sqlite": sqlite_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            pass
    return found


def sqlite_version() -> str:
    """The version of the SQLite library, which is not that of a package."""
    try:
        import sqlite3
    except ImportError:
        return "missing: this Python was built without sqlite3"
    return sqlite3.sqlite_version


def app_facts(app: FastQ) -> dict[str, Any]:
    """What is set on *app* and what of it can be reached."""
    backend = app.backend
    return {
        "app": app.main,
        "tasks": sorted(name for name in app.tasks if not name.startswith("celery.")),
        "settings": {
            key: repr(value) for key, value in app.conf.table(with_defaults=False, censored=True).items()
        },
        "without effect": app.conf.unused(),
        "broker": broker_facts(app.broker),
        **({} if app.read_broker is app.broker else {"read from": broker_facts(app.read_broker)}),
        "results": None
        if backend is None
        else {"at": backend.description(), "error": error_of(lambda: backend.fetch(["fastq-report"]))},
        "environment": sorted(name for name in os.environ if name.startswith(("FASTQ_", "CELERY_"))),
    }


def broker_facts(broker: Broker) -> dict[str, Any]:
    """Where *broker* lies, and what is wrong with it."""
    return {"at": broker.description(), "error": error_of(broker.queues)}


def error_of(attempt: Any) -> str | None:
    """What *attempt* raises, or None when it works."""
    try:
        attempt()
    except (FastQError, OSError, ImportError) as exc:
        return f"{type(exc).__name__}: {exc}"
    return None


def print_report(found: dict[str, Any]) -> None:
    """Print what was found, a section each."""
    click.echo("versions   " + " ".join(f"{name}:{number}" for name, number in found["versions"].items()))
    click.echo(f"platform   {found['platform']}")
    click.echo(f"app        {found['app']}")
    for name in PLACES:
        if name in found:
            place = found[name]
            text = "disabled" if place is None else f"{place['at']}  ({place['error'] or 'reachable'})"
            click.echo(f"{name:10} {text}")
    for name in ("settings", "without effect", "tasks", "environment"):
        if found.get(name):
            click.echo(f"\n{name}")
            values = found[name]
            lines = [f"{key} = {values[key]}" for key in values] if isinstance(values, dict) else values
            for line in lines:
                click.echo(f"  {line}")
