"""The command line of `fastq multi`: nodes, and options of the worker that hold for all or some of them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import click

from fastq.cli.errors import CommandError
from fastq.exceptions import nearest_name
from fastq.worker.nodes import expand_path, node_name
from fastq.worker.roster import Node, default_files

RANGE = re.compile(r"(\d+)-(\d+)")
# Options of `fastq multi` itself, which Celery's scripts give it.
OWN = {
    "--suffix": True,
    "--range-prefix": True,
    "--executable": True,
    "--cmd": True,
    "--nosplash": False,
    "--verbose": False,
    "--timeout": True,
}
SIGNAL = re.compile(r"-(?:SIG)?(HUP|INT|QUIT|KILL|TERM|USR1|USR2|CONT|STOP|\d+)", re.IGNORECASE)


@dataclass
class Line:
    """What the arguments say."""

    names: list[str] = field(default_factory=list)
    # (selector, option, value): the selector is "" for all nodes, the value None for a flag.
    options: list[tuple[str, str, str | None]] = field(default_factory=list)
    own: dict[str, str] = field(default_factory=dict)
    signal: str | None = None


def parse(arguments: Sequence[str], worker: click.Command) -> Line:
    """Read *arguments*; *worker* tells which options there are and which take a value.

    Raises `CommandError`.
    """
    line = Line()
    takes_value = _options(worker)
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            line.options += [("", extra, None) for extra in rest]
            break
        if not argument.startswith("-") or argument == "-":
            line.names.append(argument)
        elif match := SIGNAL.fullmatch(argument):
            line.signal = match[1]
        else:
            _read_option(argument, rest, takes_value, line)
    return line


def _options(worker: click.Command) -> dict[str, bool]:
    """Each option of *worker* and whether it takes a value."""
    return {
        name: not param.is_flag
        for param in worker.params
        if isinstance(param, click.Option)
        for name in (*param.opts, *param.secondary_opts)
    }


def _read_option(argument: str, rest: list[str], takes_value: dict[str, bool], line: Line) -> None:
    """Take the option *argument*, and its value from *rest* if it is there."""
    name, equals, value = argument.partition("=")
    name, _, selector = name.partition(":")
    known = {**takes_value, **OWN}
    if not name.startswith("--") and name not in known and name[:2] in known:
        name, value, equals = name[:2], argument[2:], "="  # -c3
    if name not in known:
        raise CommandError(f"no option is named {name!r}{nearest_name(name, known)}")
    if known[name] and not equals:
        if not rest:
            raise CommandError(f"the option {argument} takes a value")
        value = rest.pop(0)
    if name in OWN:
        line.own[name] = value
    elif name in ("-n", "--hostname"):
        raise CommandError(f"{name} {value}: nodes are named without an option, as in `multi start {value}`")
    else:
        line.options.append((selector, name, value if known[name] else None))


def named(line: Line) -> list[str]:
    """The full names of the nodes; a number stands for so many, ``1-3`` for these."""
    suffix = line.own.get("--suffix", "")
    prefix = line.own.get("--range-prefix", "fastq")
    names: list[str] = []
    for name in line.names:
        if match := RANGE.fullmatch(name):
            names += [f"{prefix}{n}" for n in range(int(match[1]), int(match[2]) + 1)]
        elif name.isdigit() and len(line.names) == 1:
            names += [f"{prefix}{n}" for n in range(1, int(name) + 1)]
        else:
            names.append(name)
    return [node_name(name if "@" in name or not suffix else f"{name}@{suffix}") for name in names]


def nodes_of(line: Line, leading: Sequence[str]) -> list[Node]:
    """The nodes with the options of each, *leading* before them. Raises `CommandError`."""
    names = named(line)
    for selector, name, _ in line.options:
        if selector and not any(_selects(selector, at, node) for at, node in enumerate(names, start=1)):
            raise CommandError(f"{name}:{selector} is for none of the nodes {', '.join(names)}")
    return [_node(line, at, name, leading) for at, name in enumerate(names, start=1)]


def _node(line: Line, at: int, name: str, leading: Sequence[str]) -> Node:
    general = [(option, value) for selector, option, value in line.options if not selector]
    own = [(option, value) for selector, option, value in line.options if _selects(selector, at, name)]
    overridden = {option for option, _ in own}
    chosen = [pair for pair in general if pair[0] not in overridden] + own
    files = dict(zip(("--pidfile", "--logfile"), default_files(name), strict=True))
    options: list[str] = list(leading)
    for option, value in chosen:
        option = {"-f": "--logfile"}.get(option, option)
        if option in files and value is not None:
            files[option] = os.path.abspath(expand_path(value, name))
        elif option not in ("-D", "--detach"):
            options += [option] if value is None else [option, value]
    return Node(
        name=name,
        pidfile=files["--pidfile"],
        logfile=files["--logfile"],
        options=tuple(options),
        folder=os.getcwd(),
        app=os.environ.get("FASTQ_APP"),
    )


def _selects(selector: str, at: int, name: str) -> bool:
    """Whether *selector*, as in ``-c:1,3-5,mail``, is for the node *name*, the one at place *at*."""
    for part in filter(None, selector.split(",")):
        if match := RANGE.fullmatch(part):
            if int(match[1]) <= at <= int(match[2]):
                return True
        elif part == str(at) or part in (name, name.partition("@")[0]):
            return True
    return False
