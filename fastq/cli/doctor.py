"""`fastq doctor`: find what is wrong with an app, its broker and its workers, and say what to do."""

from __future__ import annotations

from dataclasses import asdict

import click

from fastq.cli.checkup import ERROR, Checkup
from fastq.cli.errors import ExitCode
from fastq.cli.options import common_options, target_of
from fastq.cli.output import print_json

MARKS = {"error": ("✗", "red"), "warning": ("!", "yellow")}


@click.command()
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=1.0,
    metavar="SECONDS",
    help="Wait so long for answers of workers; 1.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@common_options
@click.pass_context
def doctor(ctx: click.Context, timeout: float, as_json: bool) -> int:
    """Look for what is wrong, and say what to do.

    Checks the settings, the broker and the result backend, clocks, queues that nobody consumes or that are
    paused, what dead workers held, the dead set, and the versions and tasks of the fleet. Changes
    nothing. The exit code is 1 if anything is wrong.
    """
    target = target_of(ctx)
    app = target.load_app_or_default()
    app.finalize()
    checkup = Checkup(app, timeout)
    findings = checkup.run()
    if as_json:
        print_json(
            {
                "findings": [asdict(finding) for finding in findings],
                "passed": checkup.passed,
                "skipped": checkup.skipped,
            }
        )
    else:
        print_checkup(checkup, color=not target.no_color)
    return ExitCode.FAILED if findings else ExitCode.OK


def print_checkup(checkup: Checkup, *, color: bool) -> None:
    """Print what was found, the worst first, then what is well."""
    for finding in sorted(checkup.findings, key=lambda finding: finding.level != ERROR):
        mark, hue = MARKS[finding.level]
        said = click.style(f"{mark} {finding.check}", fg=hue) if color else f"{mark} {finding.check}"
        click.echo(f"{said}: {finding.what}")
        click.echo(f"    {finding.advice}")
    if checkup.passed:
        click.echo(f"✓ well: {', '.join(checkup.passed)}")
    for name, why in checkup.skipped.items():
        click.echo(f"- {name}: not checked: {why}")
