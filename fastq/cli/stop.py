"""`fastq stop`: stop workers that run in the background of this machine."""

from __future__ import annotations

import signal

import click

from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.multi import stop_nodes
from fastq.cli.options import common_options
from fastq.exceptions import nearest_name
from fastq.worker.nodes import node_name
from fastq.worker.roster import in_background


@click.command()
@click.argument("names", nargs=-1, metavar="[NODES]")
@click.option("--all", "every", is_flag=True, help="All of them, if there are several.")
@click.option("--force", is_flag=True, help="Give running tasks back at once (QUIT).")
@click.option(
    "--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait so long; default: for ever."
)
@common_options
def stop(names: tuple[str, ...], every: bool, force: bool, timeout: float | None) -> int:
    """Stop workers that `fastq worker -D` or `fastq multi` started, and wait until they have ended.

    Without NODES the one that runs; --all if there are several. Running tasks finish, as after Ctrl-C.
    """
    running = {node.name: node for node in in_background()}
    if not running:
        raise CommandError("no worker runs in the background here", ExitCode.FAILED)
    wanted = [node_name(name) for name in names]
    for name in wanted:
        if name not in running:
            raise CommandError(
                f"no node {name!r} runs in the background here{nearest_name(name, running)}", ExitCode.FAILED
            )
    if not wanted and len(running) > 1 and not every:
        raise CommandError(f"several run: name some of {', '.join(running)}, or give --all")
    nodes = [running[name] for name in wanted] or list(running.values())
    return stop_nodes(nodes, signal.SIGQUIT if force else signal.SIGTERM, timeout)
