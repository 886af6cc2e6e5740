"""`fastq upgrade settings`: the names of Celery 3's settings to those of now."""

from __future__ import annotations

import ast
import difflib
import io
import shutil
import tokenize
from pathlib import Path

import click

from fastq.app.defaults import SETTINGS
from fastq.cli.errors import CommandError, ExitCode
from fastq.exceptions import nearest_name

OLD_NAMES = {old: setting.name for setting in SETTINGS for old in setting.old_names}
NAMES = [setting.name for setting in SETTINGS]


@click.group()
def upgrade() -> None:
    """Bring a project written for Celery up to date."""


@upgrade.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE")
@click.option("--django", is_flag=True, help="With the prefix CELERY_, as in Django's settings.")
@click.option("--compat-only", is_flag=True, help="Celery's; without effect: only old names are changed.")
@click.option("--no-backup", is_flag=True, help="Keep no FILE.orig.")
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
def settings(file: Path, django: bool, compat_only: bool, no_backup: bool, dry_run: bool) -> int:
    """Rename the settings in FILE, a Python module: CELERYD_CONCURRENCY is worker_concurrency now.

    Renamed are names that are assigned, attributes of `conf`, and arguments by name; text and
    comments stay as they are.
    """
    text = file.read_text()
    try:
        ast.parse(text)
    except SyntaxError as exc:
        raise CommandError(f"{file}:{exc.lineno}: {exc.msg}", ExitCode.CONFIG) from exc
    fresh = upgraded(text, django=django)
    for line, name in unknown(fresh, django=django):
        hint = nearest_name(name.removeprefix("CELERY_").lower(), NAMES)
        click.echo(f"{file}:{line}: no setting is named {name}{hint}", err=True)
    if fresh == text:
        click.echo(f"{file}: nothing to change")
        return ExitCode.OK
    if dry_run:
        lines = difflib.unified_diff(
            text.splitlines(True), fresh.splitlines(True), str(file), f"{file} (upgraded)"
        )
        click.echo("".join(lines), nl=False)
        return ExitCode.OK
    if not no_backup:
        shutil.copy2(file, file.with_name(f"{file.name}.orig"))
    file.write_text(fresh)
    changed = sum(a != b for a, b in zip(text.splitlines(), fresh.splitlines(), strict=True))
    click.echo(f"{file}: changed {changed} lines" + ("" if no_backup else f"; as it was: {file.name}.orig"))
    return ExitCode.OK


def upgraded(text: str, *, django: bool = False) -> str:
    """*text* with the settings' names of now."""
    lines = text.splitlines(keepends=True)
    for token in reversed(_settings_in(text)):
        new = OLD_NAMES.get(token.string)
        if new is None:
            continue
        new = f"CELERY_{new.upper()}" if django else new
        row, start = token.start
        line = lines[row - 1]
        lines[row - 1] = line[:start] + new + line[token.end[1] :]
    return "".join(lines)


def unknown(text: str, *, django: bool = False) -> list[tuple[int, str]]:
    """Line and name of what is assigned, looks like a setting of Celery's, and is none."""
    known = {f"CELERY_{name.upper()}" for name in NAMES} | OLD_NAMES.keys()
    return [
        (token.start[0], token.string)
        for token in _settings_in(text)
        if token.string.startswith(("CELERY", "CELERYD", "CELERYBEAT")) and token.string not in known
    ]


def _settings_in(text: str) -> list[tokenize.TokenInfo]:
    """The upper-case names that *text* assigns, wherever they stand, those of ``conf.NAME`` and ``NAME=``."""
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    assigned = {
        node.id
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    found = []
    for at, token in enumerate(tokens):
        if token.type != tokenize.NAME or not token.string.isupper():
            continue
        before = [each.string for each in tokens[max(at - 2, 0) : at]]
        if before[-1:] == ["."]:
            is_setting = before[-2:-1] == ["conf"]
        else:
            is_setting = token.string in assigned or tokens[at + 1].string == "="
        if is_setting:
            found.append(token)
    return found
