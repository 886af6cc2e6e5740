"""`fastq worker --reload`: a parent that starts the worker anew whenever the project's code changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

# The worker writes the files it imported to this descriptor.
FD_VARIABLE = "FASTQ_RELOAD_FD"
POLL_SECONDS = 0.5
READ_BYTES = 65536
IGNORED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env", "build", "dist"})


def report_imports() -> None:
    """Tell the parent of ``--reload``, if there is one, which files of the project are imported here."""
    if (fd := os.environ.get(FD_VARIABLE)) is None:
        return
    files = [file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))]
    own = "\n".join(file for file in files if is_project_file(file))
    with os.fdopen(int(fd), "wb") as pipe:
        pipe.write(own.encode("utf-8", "surrogateescape"))
    del os.environ[FD_VARIABLE]


def is_project_file(path: str) -> bool:
    """Whether *path* is code that its owner may be editing, not an installed package's or the library's."""
    parts = Path(path).parts
    library = os.path.dirname(os.__file__) + os.sep
    return path.endswith(".py") and "site-packages" not in parts and not path.startswith(library)


class Reloader:
    """Runs *command* as a child and starts it again when a file that it imported changes.

    A child that ended because its code is broken is started again at the next change of any
    file of the project: which one will mend it is not known.
    """

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        self.command = list(command)
        self.folder = folder
        self._stops = 0  # how often we were told to stop
        self._child: subprocess.Popen[bytes] | None = None
        self._imports = b""
        self._pipe = -1

    def run(self) -> int:
        """Keep the worker running until INT or TERM; returns its last exit code."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
            signal.signal(number, self._pass_on)
        while True:
            code = self._run_child()
            if self._stops:
                return code

    def _run_child(self) -> int:
        """Start the worker, wait for a change or its end; returns its exit code when it has ended."""
        child = self._start()
        before = self._times()
        while child.poll() is None:
            time.sleep(POLL_SECONDS)
            if self._read_imports():
                before = self._times()
            elif not self._stops and (changed := changes(before, self._times())):
                print(f"fastq: {changed} changed: the worker starts anew", file=sys.stderr)
                child.send_signal(signal.SIGTERM)
                return child.wait()
        self._read_imports()
        if not self._stops:
            self._wait_for_change(child.returncode)
        return child.returncode

    def _start(self) -> subprocess.Popen[bytes]:
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe, write_fd = os.pipe()
        os.set_blocking(self._pipe, False)
        self._imports = b""
        # Its own session: Ctrl-C reaches us alone, and we pass it on, once.
        self._child = subprocess.Popen(
            self.command,
            env={**os.environ, FD_VARIABLE: str(write_fd)},
            pass_fds=(write_fd,),
            start_new_session=True,
        )
        os.close(write_fd)
        return self._child

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self._stops += 1
        if self._child is not None and self._child.poll() is None:
            self._child.send_signal(number)

    def _read_imports(self) -> bool:
        """Take what the worker says of its imports; whether there was any news."""
        try:
            part = os.read(self._pipe, READ_BYTES)
        except BlockingIOError:
            return False
        self._imports += part
        return bool(part)

    def _wait_for_change(self, code: int) -> None:
        print(f"fastq: the worker ended with {code}: waiting for a change of the code", file=sys.stderr)
        before = self._times(everything=True)
        while not self._stops:
            time.sleep(POLL_SECONDS)
            if changes(before, self._times(everything=True)):
                return

    def _times(self, everything: bool = False) -> dict[str, int]:
        """The time of change of each watched file, in nanoseconds; 0 for one that is gone."""
        files = set(self._imports.decode("utf-8", "surrogateescape").split("\n")) - {""}
        if everything or not files:
            files.update(project_files(self.folder))
        return {file: modified_ns(file) for file in files}


def changes(before: dict[str, int], after: dict[str, int]) -> str | None:
    """The first file that changed, appeared or went; None: all is as it was."""
    for file in sorted(before.keys() | after.keys()):
        if before.get(file) != after.get(file):
            return os.path.relpath(file)
    return None


def modified_ns(file: str) -> int:
    """When *file* was last written, in nanoseconds since 1970; 0 if there is no such file."""
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0


def project_files(folder: Path) -> list[str]:
    """Every Python file in *folder* and below, but for environments, caches and hidden folders."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in IGNORED_FOLDERS and not name.startswith(".")]
        found += [os.path.join(root, file) for file in files if file.endswith(".py")]
    return found
