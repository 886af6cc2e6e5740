"""Workers in the background of this machine: which there are, how they were started, and signals to them.

`Roster` keeps in the state directory what `fastq multi` started, so that a node can be stopped
and started again by its name. That one runs is told by its pid file's lock, not by this file.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastq.state_dir import state_dir
from fastq.worker.nodes import expand_path

if TYPE_CHECKING:
    from collections.abc import Iterator

# Seconds between two looks at whether a node has ended.
LOOK_EVERY = 0.1
# struct flock of fcntl: type, whence, start, length, process; macOS has them in another order.
FLOCK = "qqihh" if sys.platform == "darwin" else "hhqqi4x"


@dataclass(frozen=True, kw_only=True)
class Node:
    """A worker that was started in the background, or is to be."""

    name: str  # NAME@HOST
    pidfile: str
    logfile: str
    options: tuple[str, ...] = ()  # of `fastq worker`
    folder: str = ""  # where it was started; empty: not known
    app: str | None = None  # FASTQ_APP of then

    @property
    def pid(self) -> int | None:
        """Its process; None if it does not run."""
        return holder(self.pidfile)

    def signal(self, number: int) -> bool:
        """Send it the signal *number*; whether it runs. Raises `PermissionError`."""
        pid = self.pid
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True


def default_files(node: str) -> tuple[str, str]:
    """Where pid and log file of *node* lie unless said otherwise."""
    folder = state_dir()
    return expand_path(str(folder / "%n.pid"), node), expand_path(str(folder / "%n.log"), node)


def holder(pidfile: str | Path) -> int | None:
    """The process that has *pidfile*, as its lock tells; None if nobody has."""
    try:
        fd = os.open(pidfile, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        wanted = (fcntl.F_WRLCK, 0, 0, 0, 0)
        if sys.platform == "darwin":
            wanted = (0, 0, 0, fcntl.F_WRLCK, 0)
        # To ask, and not to try: a lock that is held for a moment may keep a worker from starting.
        found = struct.unpack(FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(FLOCK, *wanted)))
        kind, pid = (found[3], found[2]) if sys.platform == "darwin" else (found[0], found[4])
        return None if kind == fcntl.F_UNLCK else pid or _written(fd)
    finally:
        os.close(fd)


def _written(fd: int) -> int | None:
    """The process id that the file holds: a lock of another container's process has none here."""
    text = os.read(fd, 32).strip()
    return int(text) if text.isdigit() else None


def wait_for_end(nodes: Iterable[Node], timeout: float | None, ended: Callable[[Node], None]) -> list[Node]:
    """Wait at most *timeout* seconds until *nodes* have ended; call *ended* with each; return the others."""
    until = None if timeout is None else time.monotonic() + timeout
    left = list(nodes)
    while True:
        for node in [node for node in left if node.pid is None]:
            left.remove(node)
            ended(node)
        if not left or (until is not None and time.monotonic() >= until):
            return left
        time.sleep(LOOK_EVERY)


class Roster:
    """What `fastq multi` has started as this user. Safe over processes."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or state_dir() / "multi.json"

    def nodes(self) -> list[Node]:
        """Every node that was started and not stopped since."""
        try:
            kept = json.loads(self.path.read_text() or "[]")
        except FileNotFoundError:
            return []
        return [Node(**{**each, "options": tuple(each["options"])}) for each in kept]

    def add(self, nodes: Iterable[Node]) -> None:
        """Remember *nodes*, in place of those with the same pid file."""
        added = {node.pidfile: node for node in nodes}
        with self._changing() as kept:
            kept[:] = [node for node in kept if node.pidfile not in added] + list(added.values())

    def remove(self, nodes: Iterable[Node]) -> None:
        """Forget *nodes*."""
        gone = {node.pidfile for node in nodes}
        with self._changing() as kept:
            kept[:] = [node for node in kept if node.pidfile not in gone]

    @contextmanager
    def _changing(self) -> Iterator[list[Node]]:
        """The nodes, written back at the end of the block."""
        with open(self.path.with_suffix(".lock"), "w") as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            nodes = self.nodes()
            yield nodes
            fresh = self.path.with_suffix(".new")
            fresh.write_text(json.dumps([asdict(node) for node in nodes], indent=2))
            fresh.replace(self.path)


def in_background() -> list[Node]:
    """Every worker that runs in the background as this user, by the pid files of the state directory."""
    known = {node.pidfile: node for node in Roster().nodes()}
    for file in state_dir().glob("*.pid"):
        name = f"{file.stem}@{os.uname().nodename}"
        known.setdefault(str(file), Node(name=name, pidfile=str(file), logfile=str(file.with_suffix(".log"))))
    return [node for node in known.values() if node.pid is not None]


def signal_number(name: str) -> int | None:
    """The number of a signal by its name (TERM, SIGTERM) or number; None if there is none."""
    if name.isdigit():
        return int(name) if int(name) in signal.valid_signals() else None
    member = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
    return signal.Signals[member].value if member in signal.Signals.__members__ else None
