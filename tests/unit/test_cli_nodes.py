"""Which nodes a command line of `fastq multi` describes, and with which options."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastq.cli.errors import CommandError
from fastq.cli.nodes import named, nodes_of, parse
from fastq.cli.worker import worker
from fastq.worker.daemon import PidFile
from fastq.worker.roster import Node, Roster, holder, signal_number


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory, and a host with a name that is known."""
    monkeypatch.setenv("FASTQ_HOME", str(tmp_path))
    monkeypatch.setattr("socket.gethostname", lambda: "box.example.com")
    return tmp_path


def options(*arguments: str) -> dict[str, tuple[str, ...]]:
    """The options of each node, by its name before the @."""
    nodes = nodes_of(parse(arguments, worker), [])
    return {node.name.partition("@")[0]: node.options for node in nodes}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["3"], ["fastq1@box.example.com", "fastq2@box.example.com", "fastq3@box.example.com"]),
        (["2-3"], ["fastq2@box.example.com", "fastq3@box.example.com"]),
        (["2", "--range-prefix", "w"], ["w1@box.example.com", "w2@box.example.com"]),
        (["mail", "web@other", "x@%d"], ["mail@box.example.com", "web@other", "x@example.com"]),
        (["mail", "--suffix=cluster"], ["mail@cluster"]),
        (["mail", "-c", "3", "web"], ["mail@box.example.com", "web@box.example.com"]),
        (["mail", "--purge", "web"], ["mail@box.example.com", "web@box.example.com"]),
        ([], []),
    ],
)
def test_names(arguments: list[str], names: list[str]) -> None:
    assert named(parse(arguments, worker)) == names


def test_options_go_to_whom_they_are_for() -> None:
    # The example of Celery's documentation.
    found = options(
        *"10 -A proj -l INFO -Q:1-3 images,video -Q:4,5:data".replace("5:data", "5 data").split(),
        *"-Q default -L DEBUG".replace("-L", "--loglevel").split(),
    )
    assert found["fastq1"] == found["fastq3"]
    assert found["fastq2"] == ("-A", "proj", "-l", "INFO", "--loglevel", "DEBUG", "-Q", "images,video")
    assert found["fastq5"][-2:] == ("-Q", "data")
    assert found["fastq10"] == ("-A", "proj", "-l", "INFO", "-Q", "default", "--loglevel", "DEBUG")


@pytest.mark.parametrize(
    "written", [["-c:web", "5"], ["-c:web=5"], ["-c:2", "5"], ["-c:web@box.example.com", "5"]]
)
def test_every_form_of_an_option_for_one_node(written: list[str]) -> None:
    assert options("mail", "web", "-c", "1", *written) == {"mail": ("-c", "1"), "web": ("-c", "5")}


def test_flags_and_what_stands_together() -> None:
    assert options("web", "-c3", "--loglevel=INFO", "--purge", "-E", "--", "--not-known-here") == {
        "web": ("-c", "3", "--loglevel", "INFO", "--purge", "-E", "--not-known-here")
    }


def test_files_have_their_place_in_the_state_directory_or_where_they_are_told(home: Path) -> None:
    (mail, web) = nodes_of(parse(["mail", "web", "--pidfile:web=run/%n.pid"], worker), [])
    assert (mail.pidfile, mail.logfile) == (f"{home}/mail.pid", f"{home}/mail.log")
    assert web.pidfile == f"{os.getcwd()}/run/web.pid"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["web", "--concurency", "3"], "no option is named '--concurency'; did you mean '--concurrency'"),
        (["web", "-c"], "takes a value"),
        (["web", "-c:mail", "3"], "for none of the nodes"),
        (["web", "-n", "mail"], "nodes are named without an option"),
    ],
)
def test_what_is_wrong_is_said(arguments: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        nodes_of(parse(arguments, worker), [])


@pytest.mark.parametrize(
    ("written", "number"), [("-9", 9), ("-KILL", 9), ("-SIGTERM", 15), ("-INT", 2), ("-quit", 3)]
)
def test_signals(written: str, number: int) -> None:
    line = parse(["web", written], worker)
    assert line.signal is not None and signal_number(line.signal) == number


def test_the_holder_of_a_pid_file_is_the_process_that_locks_it(tmp_path: Path) -> None:
    path = tmp_path / "w.pid"
    assert holder(path) is None
    path.write_text(f"{os.getpid()}\n")  # left behind by one that was killed
    assert holder(path) is None
    script = (
        "import sys; from fastq.worker.daemon import PidFile; PidFile(sys.argv[1]).acquire();"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        assert holder(path) == process.pid
        process.stdin.close()
    assert holder(path) is None
    with PidFile(path):
        pass


def test_the_roster_remembers_what_was_started(tmp_path: Path) -> None:
    roster = Roster(tmp_path / "multi.json")
    assert roster.nodes() == []
    mail = Node(name="mail@box", pidfile="/a", logfile="/b", options=("-c", "3"), folder="/proj")
    web = Node(name="web@box", pidfile="/c", logfile="/d")
    roster.add([mail, web])
    roster.add([Node(name="web@box", pidfile="/c", logfile="/d", options=("-c", "9"))])
    assert [node.options for node in Roster(tmp_path / "multi.json").nodes()] == [("-c", "3"), ("-c", "9")]
    roster.remove([mail])
    assert [node["name"] for node in json.loads((tmp_path / "multi.json").read_text())] == ["web@box"]
