"""`fastq events` as people use it: in a terminal, and behind a pipe."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from servers import skip_or_fail
from worker_process import PATIENCE, Project, WorkerProcess

CAMERA = """
from fastq.events.snapshot import Polaroid

class Camera(Polaroid):
    def on_shutter(self, state):
        with open("pictures", "a") as file:
            print(sorted(task.state for task in state.tasks.values()), file=file)
"""

# What would have the screen be other than the terminal is.
UNSET = ("NO_COLOR", "COLUMNS", "LINES")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


class Terminal:
    """`fastq events` in a terminal of 150 by 40, by tmux."""

    def __init__(self, project: Project) -> None:
        self._socket = f"fastq-{uuid4().hex}"
        environment = [f"{name}={value}" for name, value in project.env.items() if name not in UNSET]
        unset = ["-u", "COLUMNS", "-u", "LINES"]
        command = [
            "env",
            *unset,
            *environment,
            "TERM=xterm-256color",
            sys.executable,
            "-m",
            "fastq",
            "events",
        ]
        self._tmux("new-session", "-d", "-x", "150", "-y", "40", "-c", str(project.folder), *command)

    def _tmux(self, *arguments: str) -> str:
        line = ["tmux", "-L", self._socket, "-f", "/dev/null", *arguments]
        return subprocess.run(line, capture_output=True, text=True, check=False, timeout=PATIENCE).stdout

    def press(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def text(self) -> str:
        return self._tmux("capture-pane", "-p")

    def wait_for(self, wanted: Callable[[str], object]) -> str:
        """The screen, when *wanted* is true of it."""
        until = time.monotonic() + PATIENCE
        while not wanted(shown := self.text()):
            assert time.monotonic() < until, shown
            time.sleep(0.05)
        return shown

    def is_open(self) -> bool:
        return bool(self._tmux("list-sessions"))

    def close(self) -> None:
        self._tmux("kill-server")


@pytest.fixture
def terminal(project: Project) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        skip_or_fail("no tmux is installed")
    terminal = Terminal(project)
    yield terminal
    terminal.close()


def test_the_screen_shows_the_fleet_and_obeys_keys(project: Project, terminal: Terminal) -> None:
    terminal.wait_for(lambda text: "no task is known yet" in text)
    with WorkerProcess(project, "-c", "1", "-n", "w1@here") as worker:
        terminal.wait_for(lambda text: "w1@here" in text and "online" in text)
        terminal.press("e")  # the worker was started without -E
        worker.wait_until_ready()
        terminal.wait_for(lambda text: "asked to send events" in text)
        time.sleep(0.2)
        added, failed = project.call("tasks.add", "[2, 3]"), project.call("tasks.fail")
        terminal.wait_for(lambda text: added in text and failed in text and "SUCCESS" in text)
        assert "ValueError" not in terminal.text()
        shown = terminal.wait_for(lambda text: "FAILURE" in text)
        # The rates of both kinds: one ended, and of tasks.fail one failed.
        assert [line.split()[1:3] for line in shown.splitlines() if line.startswith("tasks.fail")] == [
            ["1", "1"]
        ]

        terminal.press("/", *"add success", "Enter")
        terminal.wait_for(lambda text: failed not in text and added in text)
        terminal.press("Escape", "/", *"fail", "Enter")
        terminal.wait_for(lambda text: added not in text and failed in text)
        terminal.press("Enter")
        terminal.wait_for(lambda text: "ValueError('boom')" in text and "traceback" in text)
        terminal.press("Escape")

        running = project.call("tasks.nap", '[2, "long"]')
        doomed = project.call("tasks.nap", '[0, "doomed"]')
        terminal.wait_for(lambda text: running in text and doomed in text)
        terminal.press("/", *doomed[:13], "Enter", "r")
        terminal.wait_for(lambda text: f"Revoke tasks.nap[{doomed}]?" in text)
        terminal.press("y")
        terminal.wait_for(lambda text: "REVOKED" in text)
        worker.wait_for_line(f"tasks.nap[{running}] succeeded")
        assert project.lines("started") == ["long"]
        worker.signal(signal.SIGTERM)
        worker.wait()
        terminal.wait_for(lambda text: "offline" in text)
    terminal.press("Escape", "q")
    until = time.monotonic() + PATIENCE
    while terminal.is_open():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_events_as_lines_json_and_pictures(project: Project) -> None:
    project.write("cams.py", CAMERA)
    commands = (["--dump"], ["--json"], ["--camera", "cams:Camera", "-F", "0.2"])
    watchers = [
        subprocess.Popen(
            [sys.executable, "-m", "fastq", "events", *options],
            cwd=project.folder,
            env=project.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Who starts the tests in the background ignores it, and so would this process.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        for options in commands
    ]
    try:
        with WorkerProcess(project, "-c", "1", "-E", "-n", "w1@here") as worker:
            worker.wait_until_ready()
            until = time.monotonic() + PATIENCE
            while "['SUCCESS" not in "".join(project.lines("pictures")):
                assert time.monotonic() < until
                project.call("tasks.add", "[2, 3]")
    finally:
        for watcher in watchers:
            watcher.send_signal(signal.SIGINT)
        outputs = [watcher.communicate(timeout=PATIENCE)[0] for watcher in watchers]
    dumped, as_json = outputs[0].splitlines(), [json.loads(line) for line in outputs[1].splitlines()]
    assert [watcher.returncode for watcher in watchers] == [130, 130, 130]
    assert any(line.startswith("w1@here [") and "task succeeded: tasks.add(" in line for line in dumped)
    assert {"task-received", "task-started", "task-succeeded"} <= {event["type"] for event in as_json}
    assert {event["result"] for event in as_json if event["type"] == "task-succeeded"} == {"5"}


def test_a_screen_without_a_terminal_says_what_to_do(project: Project) -> None:
    done = project.fastq("events")
    assert done.returncode == 2 and "use --dump or --json" in done.stderr
    done = project.fastq("events", "--camera", "cams:Missing")
    assert done.returncode == 2 and "--camera cams:Missing" in done.stderr
