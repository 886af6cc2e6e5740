"""The commands by name, loaded when they are asked for, and how their errors are said."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.options import Target, common_options
from fastq.exceptions import FastQError, ImproperlyConfigured, OperationalError, nearest_name
from fastq.version import __version__

# Each command is the function of its own name in the module beside it.
COMMANDS = {
    "worker": "fastq.cli.worker",
    "multi": "fastq.cli.multi",
    "stop": "fastq.cli.stop",
    "beat": "fastq.cli.beat",
    "schedule": "fastq.cli.schedule",
    "demo": "fastq.cli.demo",
    "events": "fastq.cli.events",
    "call": "fastq.cli.call",
    "result": "fastq.cli.result",
    "queues": "fastq.cli.queues",
    "purge": "fastq.cli.purge",
    "dead": "fastq.cli.dead",
    "inspect": "fastq.cli.remote",
    "control": "fastq.cli.remote",
    "status": "fastq.cli.remote",
    "migrate": "fastq.cli.migrate",
    "amqp": "fastq.cli.amqp",
    "doctor": "fastq.cli.doctor",
    "report": "fastq.cli.report",
    "shell": "fastq.cli.shell",
    "graph": "fastq.cli.graph",
    "upgrade": "fastq.cli.upgrade",
}


class Commands(click.Group):
    """The group of all commands. A command's module is imported when the command is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(COMMANDS[name]), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise CommandError(f"no command is named {args[0]!r}{nearest_name(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


def say_version(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    """Print the version and leave (the callback of --version)."""
    if wanted:
        click.echo(f"fastq {__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version",
    "-V",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=say_version,
    help="Say the version.",
)
@common_options
def cli() -> None:
    """fastq: a distributed task queue with Celery's API on a C-accelerated core.

    \b
    Try it:        fastq demo
    Run tasks:     fastq worker                 (in the folder of your tasks.py)
    Periodic ones: fastq beat
    Send one:      fastq call tasks.add --args '[2, 3]' --wait
    Where is it?   fastq result ID
    What waits?    fastq queues
    Who is there?  fastq status
    What happens?  fastq events

    The app is that of -A, else of $FASTQ_APP, else of `app` under [tool.fastq] in pyproject.toml,
    else the only one in the current folder.

    \b
    Exit codes: 0 done; 1 a task failed or what was asked for does not exist; 2 a wrong command, option
    or app name; 69 the broker can't be reached; 75 timed out; 77 permission denied; 78 an error in the
    settings or in your code; 130 interrupted. FASTQ_DEBUG=1 or --traceback shows where an error arose.
    """


class Session:
    """One command, from its arguments to its exit code; errors are said in one line on stderr.

    Entered around all that the command does. A worker is returned by `command`, ready, for
    the caller to start: so no frame of the command line stands above its tasks.
    """

    def __init__(self) -> None:
        self.exit_code: int = ExitCode.OK
        self._target = Target()
        # A worker sends what is written to sys.stderr to its log, and this is for the user.
        self._stderr = sys.stderr

    def command(self, arguments: list[str]) -> Any:
        """Run the command line *arguments*: an exit code, or the worker that is to be started."""
        done = cli.main(args=arguments, prog_name="fastq", standalone_mode=False, obj=self._target)
        sys.stdout.flush()
        return ExitCode.OK if done is None else done

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> bool:
        match exc:
            case None:
                return True
            case BrokenPipeError():
                # Whoever read our output has enough (`fastq queues | head -1`): say nothing at exit either.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            case KeyboardInterrupt() | click.Abort():
                click.echo("", file=self._stderr)
                self.exit_code = ExitCode.INTERRUPTED
            case click.exceptions.Exit():
                self.exit_code = exc.exit_code
            case click.ClickException() | FastQError() if not self._target.wants_traceback:
                click.echo(f"fastq: {one_line(exc)}", file=self._stderr)
                self.exit_code = exit_code_of(exc)
            case _:
                sys.stderr = self._stderr  # Python writes its traceback there
                return False
        return True


def one_line(exc: Exception) -> str:
    """What *exc* says, in one line, with the nearest right name where it is about a wrong one."""
    if isinstance(exc, click.NoSuchOption):
        known = [name for param in exc.ctx.command.params for name in param.opts] if exc.ctx else []
        return f"no option is named {exc.option_name!r}{nearest_name(exc.option_name, known)}"
    if isinstance(exc, click.ClickException):
        text = exc.format_message()
        return " ".join(text.split())
    return " ".join(str(exc).split()) or type(exc).__name__


def exit_code_of(exc: Exception) -> int:
    """The exit code that tells a script what kind of error *exc* is."""
    code: Any = getattr(exc, "exit_code", None)
    if isinstance(code, int):
        return int(code)
    if isinstance(exc, OperationalError):
        return ExitCode.UNAVAILABLE
    if isinstance(exc, (ImproperlyConfigured, LookupError)):
        return ExitCode.CONFIG
    return ExitCode.FAILED
