"""`fastq shell`: Python with the app and its tasks at hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click

from fastq.cli.errors import CommandError
from fastq.cli.options import common_options, target_of

if TYPE_CHECKING:
    from fastq.app.base import FastQ

CANVAS = ("chain", "chord", "chunks", "group", "signature", "subtask", "xmap", "xstarmap")


@click.command()
@click.option("-I", "--ipython", "wanted", flag_value="ipython", help="In IPython.")
@click.option("-B", "--bpython", "wanted", flag_value="bpython", help="In bpython.")
@click.option("-P", "--python", "wanted", flag_value="python", help="In Python's own.")
@click.option("-T", "--without-tasks", is_flag=True, help="Without the tasks as names.")
@common_options
@click.pass_context
def shell(ctx: click.Context, wanted: str | None, without_tasks: bool) -> None:
    """Start a Python shell: `app`, the tasks by their short names, `group`, `chain`, `chord` and their like.

    It is IPython or bpython where that is installed, else Python's own. What is piped in is run.
    """
    app = target_of(ctx).load_app()
    app.import_modules()
    app.set_current()
    names = namespace(app, with_tasks=not without_tasks)
    SHELLS[wanted or next(name for name in SHELLS if name == "python" or find_spec(package(name)))](names)


def namespace(app: FastQ, *, with_tasks: bool = True) -> dict[str, Any]:
    """The names that the shell knows; a task whose short name is taken is left out."""
    canvas = import_module("fastq.canvas")
    names: dict[str, Any] = {"app": app, "celery": app, "Task": app.Task}
    names |= {name: getattr(canvas, name) for name in CANVAS if hasattr(canvas, name)}
    if with_tasks:
        for name, task in app.tasks.items():
            if not name.startswith(("celery.", "fastq.")):
                names.setdefault(name.rpartition(".")[2], task)
    return names


def package(shell_name: str) -> str:
    """The package of a shell."""
    return "IPython" if shell_name == "ipython" else shell_name


def run_ipython(names: dict[str, Any]) -> None:
    """Run IPython."""
    _load("IPython").start_ipython(argv=[], user_ns=names)


def run_bpython(names: dict[str, Any]) -> None:
    """Run bpython."""
    _load("bpython").embed(names)


def run_python(names: dict[str, Any]) -> None:
    """Run Python's own, with completion and history where there is a terminal."""
    if not sys.stdin.isatty():
        exec(compile(sys.stdin.read(), "<stdin>", "exec"), names)
        return
    import code
    import readline
    import rlcompleter

    readline.set_completer(rlcompleter.Completer(names).complete)
    readline.parse_and_bind("tab: complete")
    shown = ", ".join(sorted(name for name in names if name != "celery"))
    code.interact(f"Python {sys.version.split()[0]}; at hand: {shown}", local=names)


def _load(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as exc:
        raise CommandError(f"{module} is not installed: pip install {module.lower()}") from exc


# In order of preference.
SHELLS: dict[str, Callable[[dict[str, Any]], None]] = {
    "ipython": run_ipython,
    "bpython": run_bpython,
    "python": run_python,
}
