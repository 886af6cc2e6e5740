"""A project in a folder of its own, and `fastq` processes in it, as users start them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
# Generous: the machine may be busy with other things. Only failing tests wait for so long.
PATIENCE = 30.0

TASKS = """
import os, time
from pathlib import Path
from fastq import FastQ

app = FastQ("tasks")
app.conf.worker_shutdown_timeout = float(os.environ.get("SHUTDOWN", "25"))
app.conf.worker_soft_shutdown_timeout = float(os.environ.get("SOFT_SHUTDOWN", "0"))

@app.task
def add(x: int, y: int) -> int:
    return x + y

@app.task
def nap(seconds: float, name: str) -> str:
    with open("started", "a") as file:
        file.write(name + "\\n")
    time.sleep(seconds)
    with open("ended", "a") as file:
        file.write(name + "\\n")
    return name

@app.task
def fail() -> None:
    raise ValueError("boom")

@app.task
def pid() -> int:
    return os.getpid()

@app.task
def parent_pid() -> int:
    return os.getppid()
"""


class Project:
    """A user's folder with a tasks.py, whose embedded broker lies in it too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("tasks.py", TASKS)
        self.env = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("FASTQ_", "CELERY_"))},
            "FASTQ_HOME": str(folder / "home"),
            "PYTHONPATH": str(REPOSITORY),
            "PYTHONDONTWRITEBYTECODE": "1",
            "NO_COLOR": "1",
        }

    def write(self, name: str, text: str) -> None:
        """Put a file into the folder."""
        (self.folder / name).write_text(text)

    def lines(self, name: str) -> list[str]:
        """The lines of a file that tasks write to."""
        file = self.folder / name
        return file.read_text().split() if file.exists() else []

    def fastq(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "fastq", *arguments],
            cwd=self.folder,
            env=self.env,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def call(self, name: str, args: str = "[]") -> str:
        """Send a task; returns its id."""
        done = self.fastq("call", name, "--args", args)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def result(self, name: str, args: str = "[]") -> str:
        """Send a task and wait; returns the JSON of its result."""
        done = self.fastq("call", name, "--args", args, "--wait", "--timeout", str(PATIENCE))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


class WorkerProcess:
    """A `fastq worker`, or another *command*, whose log is collected; killed at the end if it still runs."""

    def __init__(
        self,
        project: Project,
        *arguments: str,
        prefix: tuple[str, ...] = (),
        command: str = "worker",
        **env: str,
    ) -> None:
        line = [*prefix, sys.executable, "-m", "fastq", command, "-l", "INFO", *arguments]
        self.process = subprocess.Popen(
            line,
            cwd=project.folder,
            env={**project.env, **env},
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.log: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.log.append(line)
                self._changed.notify_all()

    def wait_for_line(self, part: str, count: int = 1) -> None:
        """Return when *part* stands in *count* lines of the log."""
        with self._changed:
            seen = self._changed.wait_for(
                lambda: sum(part in line for line in self.log) >= count, timeout=PATIENCE
            )
        assert seen, f"no {part!r} in the log:\n{''.join(self.log)}"

    def wait_until_ready(self, count: int = 1) -> WorkerProcess:
        """Return when the worker has said that it is ready so many times."""
        self.wait_for_line("is ready", count)
        return self

    def signal(self, number: signal.Signals) -> None:
        """Send the worker a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """The exit code, when it has ended."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()


def wait_until(claim, what: str) -> None:
    """Return when *claim* holds; for what only files and processes show."""
    deadline = time.monotonic() + PATIENCE
    while not claim():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.02)
