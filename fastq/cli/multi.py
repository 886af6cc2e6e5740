"""`fastq multi`: start and stop several workers in the background, by name."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

import click

from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.nodes import Line, named, nodes_of, parse
from fastq.cli.options import Target, common_options, target_of
from fastq.cli.worker import worker
from fastq.exceptions import nearest_name
from fastq.worker.nodes import expand_path
from fastq.worker.roster import Node, Roster, signal_number, wait_for_end


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@common_options
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND [NODES] [OPTIONS]")
@click.pass_context
def multi(ctx: click.Context, arguments: tuple[str, ...]) -> int:
    """Run several workers in the background.

    \b
    fastq multi start 3 -A proj -l INFO              fastq1, fastq2 and fastq3
    fastq multi start mail web -Q:mail mail -c:2 8   options by name or place: 1,3-5,NAME
    fastq multi restart mail                         as it was started
    fastq multi stop                                 all that were started
    \b
    start     each is up, or has said why not, when this returns
    stop      send TERM (-INT, -QUIT, … another one), and return
    stopwait  stop, and wait until they have ended (--timeout SECONDS)
    restart   stopwait, then start; without options with those of then
    kill      send KILL: running tasks are redelivered
    show      the command line of each, and whether it runs
    names     their names          get NAME      one's command line
    expand FORMAT NODES            %n, %h, … of each

    Options are those of `fastq worker`. Pid and log files lie in the state directory (FASTQ_HOME)
    unless --pidfile and --logfile say otherwise: %n stands for a node's name.
    """
    if not arguments:
        raise CommandError(f"say what to do: one of {', '.join(ACTIONS)}")
    action, *rest = arguments
    if action not in ACTIONS:
        raise CommandError(f"multi has no command {action!r}{nearest_name(action, ACTIONS)}")
    target = target_of(ctx)
    target.enter_workdir()
    return ACTIONS[action](target, rest)


def start(target: Target, arguments: Sequence[str]) -> int:
    """Start the nodes side by side."""
    nodes = nodes_of(parse(arguments, worker), leading(target))
    if not nodes:
        raise CommandError("name the nodes to start, or say how many: fastq multi start 3")
    return start_nodes(nodes)


def start_nodes(nodes: Sequence[Node]) -> int:
    """Start *nodes* and remember those that are up; 1 if one is not."""
    fresh = [node for node in nodes if not _says_it_runs(node)]
    started = [(node, subprocess.Popen(command(node), cwd=node.folder or None, env=_environment(node),
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)) for node in fresh]  # fmt: skip
    up: list[Node] = []
    for node, process in started:
        _, said = process.communicate()
        if process.returncode == 0:
            up.append(node)
            click.echo(f"{node.name}: started as process {node.pid}, log {node.logfile}")
        else:
            lines = said.strip().splitlines() or ["no reason was given"]
            click.echo(f"{node.name}: not started: {lines[-1].removeprefix('fastq: ')}", err=True)
    Roster().add(up)
    return ExitCode.OK if len(up) == len(nodes) else ExitCode.FAILED


def stop(target: Target, arguments: Sequence[str]) -> int:
    """Send a signal, and go."""
    nodes, line = chosen(arguments)
    return send(nodes, signal_of(line, signal.SIGTERM), forget=True)


def stopwait(target: Target, arguments: Sequence[str]) -> int:
    """Send a signal, and wait."""
    nodes, line = chosen(arguments)
    return stop_nodes(nodes, signal_of(line, signal.SIGTERM), timeout_of(line))


def stop_nodes(nodes: Sequence[Node], number: int, timeout: float | None) -> int:
    """Stop *nodes*, and say of each that it has ended; 75 if one still runs after *timeout* seconds."""
    running = [node for node in nodes if node.signal(number)]
    for node in nodes:
        if node not in running:
            click.echo(f"{node.name}: does not run")
    left = wait_for_end(running, timeout, lambda node: click.echo(f"{node.name}: has stopped"))
    for node in left:
        click.echo(f"{node.name}: still runs as process {node.pid} after {timeout:g} s", err=True)
    Roster().remove([node for node in nodes if node not in left])
    return ExitCode.TIMED_OUT if left else ExitCode.OK


def restart(target: Target, arguments: Sequence[str]) -> int:
    """Stop, wait, start."""
    nodes, line = chosen(arguments)
    given = nodes_of(line, leading(target)) if line.options else []
    again = given or nodes
    code = stop_nodes(nodes, signal_of(line, signal.SIGTERM), timeout_of(line))
    return code or start_nodes(again)


def kill(target: Target, arguments: Sequence[str]) -> int:
    """End them at once."""
    nodes, _ = chosen(arguments)
    return send(nodes, signal.SIGKILL, forget=True)


def show(target: Target, arguments: Sequence[str]) -> int:
    """Print command lines."""
    line = parse(arguments, worker)
    nodes = nodes_of(line, leading(target)) if line.options else chosen(arguments, needs_any=False)[0]
    for node in nodes:
        pid = node.pid
        click.echo(f"{node.name}: {'does not run' if pid is None else f'runs as process {pid}'}")
        click.echo(f"    {shlex.join(command(node))}")
    return ExitCode.OK


def names(target: Target, arguments: Sequence[str]) -> int:
    """Print names."""
    line = parse(arguments, worker)
    for name in named(line) if line.names else [node.name for node in Roster().nodes()]:
        click.echo(name)
    return ExitCode.OK


def expand(target: Target, arguments: Sequence[str]) -> int:
    """Print a format for each node."""
    if not arguments:
        raise CommandError("expand takes a format, as in: fastq multi expand %n.log 3")
    for name in named(parse(arguments[1:], worker)):
        click.echo(expand_path(arguments[0], name))
    return ExitCode.OK


def get(target: Target, arguments: Sequence[str]) -> int:
    """Print one node's command line: of those that the other arguments describe, or that were started."""
    if not arguments:
        raise CommandError("get takes the name of a node")
    line = parse(arguments[1:], worker)
    nodes = nodes_of(line, leading(target)) if line.names else Roster().nodes()
    for node in nodes:
        if arguments[0] in (node.name, node.name.partition("@")[0]):
            click.echo(shlex.join(command(node)))
            return ExitCode.OK
    known = [node.name for node in nodes]
    raise CommandError(
        f"no node is named {arguments[0]!r}{nearest_name(arguments[0], known)}", ExitCode.FAILED
    )


ACTIONS: dict[str, Callable[[Target, Sequence[str]], int]] = {
    "start": start,
    "stop": stop,
    "stopwait": stopwait,
    "stop_verify": stopwait,  # Celery's other name
    "restart": restart,
    "kill": kill,
    "show": show,
    "names": names,
    "get": get,
    "expand": expand,
}


def chosen(arguments: Sequence[str], *, needs_any: bool = True) -> tuple[list[Node], Line]:
    """The nodes that *arguments* name, as they were started; none named: all. Raises `CommandError`."""
    line = parse(arguments, worker)
    kept = {node.name: node for node in Roster().nodes()}
    if not line.names:
        if needs_any and not kept:
            raise CommandError("no node was started by `fastq multi start`", ExitCode.FAILED)
        return list(kept.values()), line
    described = {node.name: node for node in nodes_of(line, [])}
    # A pid file that is given now says better where a node is than what was written down.
    has_pidfile = any(option == "--pidfile" for _, option, _ in line.options)
    return [node if has_pidfile else kept.get(name, node) for name, node in described.items()], line


def send(nodes: Sequence[Node], number: int, *, forget: bool) -> int:
    """Send the signal *number* to *nodes*; 1 if one does not run."""
    name = signal.Signals(number).name
    reached = [node for node in nodes if node.signal(number)]
    for node in nodes:
        click.echo(f"{node.name}: {f'sent {name}' if node in reached else 'does not run'}")
    if forget:
        Roster().remove(nodes)
    return ExitCode.OK if len(reached) == len(nodes) else ExitCode.FAILED


def leading(target: Target) -> list[str]:
    """The common options that were given before the command's name, for the workers."""
    given = (
        ("-A", target.app),
        ("-b", target.broker),
        ("--result-backend", target.result_backend),
        ("--config", target.config),
    )
    return [part for option, value in given if value for part in (option, value)]


def command(node: Node) -> list[str]:
    """What starts *node*."""
    files = ["--pidfile", node.pidfile, "--logfile", node.logfile]
    return [sys.executable, "-m", "fastq", "worker", "-D", "-n", node.name, *files, *node.options]


def signal_of(line: Line, default: int) -> int:
    """The signal that the arguments name. Raises `CommandError`."""
    if line.signal is None:
        return default
    number = signal_number(line.signal)
    if number is None:
        raise CommandError(f"-{line.signal}: no such signal")
    return number


def timeout_of(line: Line) -> float | None:
    """The seconds of --timeout. Raises `CommandError`."""
    text = line.own.get("--timeout")
    try:
        return None if text is None else float(text)
    except ValueError:
        raise CommandError(f"--timeout {text}: not a number of seconds") from None


def _says_it_runs(node: Node) -> bool:
    pid = node.pid
    if pid is not None:
        click.echo(f"{node.name}: runs already, as process {pid}", err=True)
    return pid is not None


def _environment(node: Node) -> dict[str, str] | None:
    return None if node.app is None else {**os.environ, "FASTQ_APP": node.app}
