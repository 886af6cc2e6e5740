"""The command's entry: gevent first, errors in one line, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import run

from fastq.cli.commands import COMMANDS, Session
from fastq.cli.errors import ExitCode
from fastq.cli.main import wanted_pool


@pytest.mark.parametrize(
    ("arguments", "default", "wanted"),
    [
        (["worker", "-P", "gevent"], "", "gevent"),
        (["-A", "proj", "worker", "--pool=gevent"], "", "gevent"),
        (["worker", "-Peventlet"], "", "eventlet"),
        (["worker", "--pool", "gevent"], "", "gevent"),
        (["worker"], "gevent", "gevent"),
        (["worker", "-P", "solo"], "gevent", "solo"),
        (["worker", "-P"], "", ""),
        (["worker"], "", ""),
        (["call", "-P", "gevent"], "", ""),
    ],
)
def test_a_pool_is_wanted_by_option_or_environment(arguments, default, wanted):
    assert wanted_pool(arguments, default) == wanted


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["wroker"], "no command is named 'wroker'; did you mean 'worker'?"),
        (["queues", "--jsno"], "no option is named '--jsno'; did you mean '--json'?"),
        (["worker", "--concurency", "3"], "no option is named '--concurency'; did you mean '--concurrency'?"),
        (["worker", "-P", "thread"], "no pool is named 'thread'; did you mean 'threads'?"),
        (["worker", "-l", "warnin"], "no log level is named 'warnin'; did you mean 'WARNING'?"),
        (["worker", "-c", "many"], "--concurrency many: neither a number nor auto"),
        (["call", "t", "--args", "[1"], "--args [1: not JSON"),
        (["call", "t", "--args", "{}"], "--args {}: must be a list"),
        (["call", "t", "--kwargs", "[]"], "--kwargs []: must be an object"),
        (["call", "t", "--eta", "tomorrow"], "--eta tomorrow: not a time"),
        (["dead", "retry"], "say which"),
    ],
)
def test_misspelt_arguments_are_said_in_one_line(arguments, said, capsys):
    assert run(arguments) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert said in error
    assert error.startswith("fastq: ")
    assert error.count("\n") == 1


def test_version_is_printed(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fastq ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert run([command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "fastq " + command in out
    assert "--app" in out or command in ("dead", "graph", "schedule", "upgrade")


def test_version_loads_no_command_and_no_rich():
    code = (
        "import sys\nfrom fastq.cli.commands import Session\nSession().command(['--version'])\n"
        "print([m for m in sys.modules if m.startswith(('rich', 'fastq.cli.worker', 'fastq.brokers.redis'))])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_a_debugger_gets_the_traceback(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTQ_DEBUG", "1")
    with pytest.raises(Exception, match="no command is named"):
        run(["wroker"])


def test_the_traceback_of_our_own_errors_goes_to_the_terminal_not_to_the_log(monkeypatch):
    terminal = sys.stderr
    with pytest.raises(ZeroDivisionError), Session():
        monkeypatch.setattr(sys, "stderr", object())  # as a worker does that logs what is written there
        raise ZeroDivisionError
    assert sys.stderr is terminal


def test_an_option_goes_before_the_environment(tmp_path, monkeypatch, capsys):
    (tmp_path / "optapp.py").write_text("from fastq import FastQ\n\napp = FastQ('optapp')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("CELERY_BROKER_URL", "memory://environment")
    assert run(["-A", "optapp", "-b", "memory://option", "report"]) == 0
    assert "memory://option" in capsys.readouterr().out
