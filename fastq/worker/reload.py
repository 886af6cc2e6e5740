"""`fastq worker --reload`: a parent that starts the worker anew whenever the project's code changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import FrameType

# The worker writes the files it imported to this descriptor: a line each, the time of change in
# nanoseconds and the path.
FD_VARIABLE = "FASTQ_RELOAD_FD"
POLL_SECONDS = 0.5
READ_BYTES = 65536
IGNORED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env", "build", "dist"})


def report_imports() -> None:
    """Tell the parent of ``--reload``, if there is one, which files of the project are imported here."""
    if (fd := os.environ.get(FD_VARIABLE)) is None:
        return
    files = [file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))]
    own = "".join(f"{modified_ns(file)} {file}\n" for file in files if is_project_file(file))
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
        self._report = b""
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
        # Times are taken before the code is read, so that no change falls between the two.
        at_start = times_of(project_files(self.folder))
        child = self._start()
        while child.poll() is None:
            time.sleep(POLL_SECONDS)
            imported = self._imported()
            if not self._stops and (changed := changes(imported, times_of(imported))):
                print(f"fastq: {changed} changed: the worker starts anew", file=sys.stderr)
                child.send_signal(signal.SIGTERM)
                return child.wait()
        if not self._stops:
            self._wait_for_change(child.returncode, at_start | self._imported())
        return child.returncode

    def _start(self) -> subprocess.Popen[bytes]:
        if self._pipe >= 0:
            os.close(self._pipe)
        self._pipe, write_fd = os.pipe()
        os.set_blocking(self._pipe, False)
        self._report = b""
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

    def _imported(self) -> dict[str, int]:
        """The files that the worker has reported so far, with their times of change when it did."""
        try:
            while part := os.read(self._pipe, READ_BYTES):
                self._report += part
        except BlockingIOError:
            pass
        whole = self._report[: self._report.rfind(b"\n") + 1].decode("utf-8", "surrogateescape")
        entries = (line.split(" ", 1) for line in whole.splitlines())
        return {file: int(modified) for modified, file in entries}

    def _wait_for_change(self, code: int, before: dict[str, int]) -> None:
        print(f"fastq: the worker ended with {code}: waiting for a change of the code", file=sys.stderr)
        while not self._stops:
            time.sleep(POLL_SECONDS)
            if changes(before, times_of([*before, *project_files(self.folder)])):
                return


def changes(before: dict[str, int], after: dict[str, int]) -> str | None:
    """The first file that changed, appeared or went; None: all is as it was."""
    for file in sorted(before.keys() | after.keys()):
        if before.get(file) != after.get(file):
            return os.path.relpath(file)
    return None


def times_of(files: Iterable[str]) -> dict[str, int]:
    """The time of change of each of *files*, as of `modified_ns`."""
    return {file: modified_ns(file) for file in files}


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
