"""The options that every command takes, before or after its name, as Celery's scripts write them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from fastq.app.base import FastQ
from fastq.cli.app_name import NoAppFound
from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.find_app import find_app
from fastq.cli.user_code import user_code_error
from fastq.exceptions import FastQError

Function = TypeVar("Function", bound=Callable[..., Any])

BROKER_VARIABLES = ("FASTQ_BROKER_URL", "CELERY_BROKER_URL")


@dataclass
class Target:
    """What the common options said: which app, and what to set on it."""

    app: str | None = None
    broker: str | None = None
    result_backend: str | None = None
    config: str | None = None
    workdir: str | None = None
    quiet: bool = False
    no_color: bool = False
    traceback: bool = False
    given: FastQ | None = None  # the app itself, when a program calls the command for it

    @property
    def wants_traceback(self) -> bool:
        """Whether an error shall show where it arose."""
        return self.traceback or os.environ.get("FASTQ_DEBUG") == "1"

    def enter_workdir(self) -> None:
        """Go to --workdir, if one is given, and let modules be imported from the current folder."""
        if self.workdir:
            try:
                os.chdir(self.workdir)
            except OSError as exc:
                raise CommandError(f"--workdir {self.workdir}: {exc.strerror}") from exc
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())

    def load_app(self) -> FastQ:
        """The user's app with the options of the command line set on it. Raises `CommandError`."""
        self.enter_workdir()
        return self._configured(self.given or find_app(self.app))

    def load_app_or_default(self) -> FastQ:
        """As `load_app`; with a broker named and no app to be found, an app without tasks."""
        self.enter_workdir()
        try:
            return self._configured(find_app(self.app))
        except NoAppFound:
            if not self.broker and not any(os.environ.get(name) for name in BROKER_VARIABLES):
                raise
        return self._configured(FastQ("fastq", set_as_current=False))

    def _configured(self, app: FastQ) -> FastQ:
        if self.config:
            try:
                app.config_from_object(self.config, force=True)
            except FastQError:
                raise
            except Exception as exc:
                raise user_code_error(exc, self.config) from exc
        if self.broker:
            app.conf.override(broker_url=self.broker, broker_read_url=None, broker_write_url=None)
        if self.result_backend:
            app.conf.override(result_backend=self.result_backend)
        return app


def remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep a common option's value in the `Target`; one given after the command's name counts."""
    if value and param.name:
        setattr(ctx.ensure_object(Target), param.name, value)


def _common(*names: str, **attributes: Any) -> Callable[[Function], Function]:
    return click.option(*names, expose_value=False, callback=remember, **attributes)


COMMON_OPTIONS = (
    _common("-A", "--app", metavar="APP", help="The app: module, module:attribute or package."),
    _common("-b", "--broker", metavar="URL", help="The broker, instead of the app's."),
    _common("--result-backend", metavar="URL", help="The result backend, instead of the app's."),
    _common("--config", metavar="MODULE", help="Read settings from this module."),
    _common("--workdir", metavar="DIR", help="Go to this folder first."),
    _common("-q", "--quiet", is_flag=True, help="Say less."),
    _common("-C", "--no-color", is_flag=True, help="No colours."),
    _common("--traceback", is_flag=True, is_eager=True, help="Show where an error arose."),
)


def common_options(function: Function) -> Function:
    """Give a command the common options; it finds them in its context's `Target`."""
    for option in reversed(COMMON_OPTIONS):
        function = option(function)
    return function


def target_of(ctx: click.Context) -> Target:
    """The common options of the command that runs in *ctx*."""
    return ctx.ensure_object(Target)


def comma_separated(ctx: click.Context, param: click.Parameter, value: str | None) -> list[str]:
    """The parts of an option's value (a callback)."""
    return [part.strip() for part in (value or "").split(",") if part.strip()]


def json_value(text: str, option: str, kind: type) -> Any:
    """*text* decoded as JSON, which must be of *kind*. Raises `CommandError` naming *option*."""
    import json

    try:
        value = json.loads(text)
    except ValueError as exc:
        raise CommandError(f"{option} {text}: not JSON ({exc})") from exc
    if not isinstance(value, kind):
        wanted = "a list, as in '[2, 3]'" if kind is list else "an object, as in '{\"x\": 2}'"
        raise CommandError(f"{option} {text}: must be {wanted}", ExitCode.USAGE)
    return value
