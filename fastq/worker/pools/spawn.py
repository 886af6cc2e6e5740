"""Children that start as fresh interpreters and import the application (`worker_pool_start_method`)."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import spawn
from typing import TYPE_CHECKING, Any

from fastq._core.board import Board
from fastq.app.log import Logging
from fastq.exceptions import ImproperlyConfigured
from fastq.worker.pools.base import PoolOptions
from fastq.worker.pools.child import run_child
from fastq.worker.pools.launcher import Exit, Launcher, before_start, wait_for_exit

if TYPE_CHECKING:
    from fastq.app.base import FastQ

# What a new interpreter runs. Its modules are found where the worker's are, wherever those were found.
COMMAND = (
    "import sys; sys.path[:] = {path!r}; from fastq.worker.pools.spawn import main; main({sock}, {board})"
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a fresh interpreter becomes a child; it comes pickled, on standard input."""

    main: dict[str, Any]  # of the worker's main module, as `multiprocessing` tells it its own children
    app: str  # module:attribute
    settings: Mapping[str, Any]
    options: PoolOptions
    row: int
    parent: int
    mask: frozenset[int]  # signals that stay blocked


class Spawner(Launcher):
    """Starts an interpreter for each child. Raises `ImproperlyConfigured` where it could not import *app*."""

    def __init__(self, app: FastQ, options: PoolOptions, rows: int) -> None:
        self._app = app
        self._options = options
        self._path = path_of(app)
        self._memory = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `close`)
        self._memory.truncate(Board.bytes_for(rows))
        self.board = Board(rows, self._memory.fileno())
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """There is nothing to make ready."""

    def launch(self, row: int, sock: socket.socket) -> int:
        before_start()
        # No signal may end the new interpreter before it leaves them to the worker.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            process = self._start_interpreter(sock.fileno())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._processes[process.pid] = process
        assert process.stdin is not None
        try:
            with process.stdin as stdin:
                pickle.dump(self._recipe(row, frozenset(mask)), stdin)
        except BrokenPipeError:
            pass  # it is dead already, which its exit will say
        return process.pid

    def _start_interpreter(self, sock: int) -> subprocess.Popen[bytes]:
        board = self._memory.fileno()
        code = COMMAND.format(path=sys.path, sock=sock, board=board)
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        return subprocess.Popen(
            [sys.executable, *flags, "-c", code], stdin=subprocess.PIPE, pass_fds=(sock, board)
        )

    def _recipe(self, row: int, mask: frozenset[int]) -> Recipe:
        main = spawn.get_preparation_data(f"SpawnPoolWorker-{row + 1}")
        del main["authkey"]  # it may not be pickled, and a child of ours needs none
        main["dir"] = os.getcwd()
        return Recipe(
            main=main,
            app=self._path,
            settings=_portable(self._app.conf.without_defaults()),
            options=self._options,
            row=row,
            parent=os.getpid(),
            mask=mask,
        )

    def reap(self, pid: int) -> Exit | None:
        process = self._processes.pop(pid)
        ended = wait_for_exit(pid)
        process.returncode = 0 if ended is None else os.waitstatus_to_exitcode(ended.status)
        return ended

    def close(self) -> None:
        self._memory.close()


def path_of(app: FastQ) -> str:
    """The module and the attribute where *app* can be imported from. Raises `ImproperlyConfigured`."""
    found = [
        f"{name}:{attribute}"
        for name, module in list(sys.modules.items())
        for attribute, value in list(vars(module).items() if hasattr(module, "__dict__") else ())
        if value is app and name != "fastq.app.current"
    ]
    if not found:
        raise ImproperlyConfigured(
            f"the app {app.main!r} stands in no module, and a child that is spawned could not import it: "
            'assign it to a name there, or use worker_pool_start_method = "fork"'
        )
    # One that a module of the user's has under its own name, rather than a script.
    return min(found, key=lambda path: path.startswith("__main__:"))


def _portable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of *settings* that can be pickled. The others are code, and come with the app's."""
    portable = {}
    for name, value in settings.items():
        try:
            pickle.dumps(value)
        except Exception:  # whatever the value's class raises
            continue
        portable[name] = value
    return portable


def main(sock: int, board: int) -> None:
    """Be the child that the recipe on standard input describes."""
    recipe = _read_recipe()
    spawn.prepare(recipe.main)
    module, _, attribute = recipe.app.partition(":")
    app: FastQ = getattr(import_module(module), attribute)
    app.conf.override(**recipe.settings)
    app.import_modules()
    app.finalize()
    Logging(app).setup(**recipe.options.logging)
    options = recipe.options
    rows = 2 * options.concurrency
    ours = socket.socket(fileno=sock)
    ours.set_inheritable(False)
    shared = Board(rows, board)
    os.close(board)
    sys.exit(run_child(app, options, shared, recipe.row, ours, recipe.parent, recipe.mask, "Spawn"))


def _read_recipe() -> Recipe:
    # Not `sys.stdin`, which a child of multiprocessing would close.
    with open(0, "rb", closefd=False) as stdin:
        recipe: Recipe = pickle.load(stdin)
    return recipe
