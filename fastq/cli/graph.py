"""`fastq graph`: the fleet, or what a task has sent, as a graph for Graphviz."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.options import common_options, target_of

if TYPE_CHECKING:
    from fastq.app.base import FastQ


@click.group()
def graph() -> None:
    """Graphs for Graphviz, on standard output: `fastq graph workers | dot -Tsvg > fleet.svg`."""


@graph.command()
@click.option(
    "--timeout", type=click.FloatRange(min=0), default=1.0, metavar="SECONDS", help="Wait so long; 1."
)
@common_options
@click.pass_context
def workers(ctx: click.Context, timeout: float) -> int:
    """The workers that answer, the queues that each consumes, the broker and where results go."""
    app = target_of(ctx).load_app_or_default()
    app.finalize()
    replies = app.control.inspect(timeout=timeout).active_queues() or {}
    if not replies:
        raise CommandError(f"no worker answers within {timeout:g} s", ExitCode.FAILED)
    consumed = {node: [queue["name"] for queue in queues or ()] for node, queues in replies.items()}
    click.echo(fleet(app, consumed), nl=False)
    return ExitCode.OK


@graph.command()
@click.argument("task_id", metavar="ID")
@common_options
@click.pass_context
def result(ctx: click.Context, task_id: str) -> int:
    """A task and all that it, and what it sent, have sent, each with its state."""
    app = target_of(ctx).load_app_or_default()
    app.AsyncResult(task_id).build_graph(intermediate=True).to_dot(sys.stdout)
    return ExitCode.OK


def fleet(app: FastQ, consumed: dict[str, list[str]]) -> str:
    """The graph of workers, by name, with the queues that each has."""
    lines = ["digraph fleet {", "  rankdir=LR;"]
    broker = quoted(app.read_broker.description())
    lines.append(f"  {broker} [shape=cylinder];")
    for queue in sorted({name for names in consumed.values() for name in names}):
        lines += [f"  {quoted(queue)} [shape=box];", f"  {broker} -> {quoted(queue)};"]
    for node, names in sorted(consumed.items()):
        lines.append(f"  {quoted(node)} [shape=ellipse];")
        lines += [f"  {quoted(name)} -> {quoted(node)};" for name in names]
    if app.backend is not None:
        results = quoted(f"results: {app.backend.description()}")
        lines.append(f"  {results} [shape=cylinder];")
        lines += [f"  {quoted(node)} -> {results};" for node in sorted(consumed)]
    return "\n".join([*lines, "}"]) + "\n"


def quoted(text: str) -> str:
    """*text* as a name in the language of Graphviz."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
