"""The live screen of `fastq events`."""

from __future__ import annotations

import os
import select
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from fastq.cli.events_board import Board
from fastq.cli.output import age
from fastq.events.state import Task
from fastq.events.watch import Watch
from fastq.exceptions import OperationalError

if TYPE_CHECKING:
    from fastq.app.base import FastQ

# Seconds between two pictures.
REFRESH = 0.25
# Rows of the tables of workers and of kinds of tasks at most.
MOST_WORKERS, MOST_KINDS = 6, 6
# What terminals send for keys that are no characters.
ESCAPES = {"\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down", "\x1b": "escape"}
NAMES = {"\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace"}
COLORS = {"SUCCESS": "green", "FAILURE": "red", "RETRY": "yellow", "REVOKED": "magenta", "STARTED": "cyan"}
KEYS = "↑↓ select · enter details · / filter · r revoke · e enable events · space pause · q quit"


def show_screen(app: FastQ) -> None:
    """Show the fleet until the user quits."""
    board = Board(app.events.State())
    watch = Watch(app, board.take, lambda exc, pause: _say_lost(board, exc))
    thread = threading.Thread(target=watch.run, name="fastq-watch", daemon=True)
    thread.start()
    console = Console(highlight=False)
    try:
        with _keys_at_once(), Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(picture(board, console, app.read_broker.description()), refresh=True)
                for key in _pressed(REFRESH):
                    asked = board.key(key)
                    if asked is not None and asked[0] == "quit":
                        return
                    if asked is not None:
                        _do(app, board, *asked)
    finally:
        watch.stop()
        thread.join()


def _say_lost(board: Board, exc: OperationalError) -> None:
    board.notice = f"the broker is away: {exc}"


def _do(app: FastQ, board: Board, action: str, task: Task | None) -> None:
    """Do what a key asked for."""
    try:
        if action == "enable":
            app.control.enable_events()
            board.notice = "the workers were asked to send events of tasks"
        elif task is not None:
            app.control.revoke(task.uuid)
            board.notice = f"{task.name}[{task.uuid}] is revoked"
    except OperationalError as exc:
        _say_lost(board, exc)


@contextmanager
def _keys_at_once() -> Iterator[None]:
    """Let keys arrive when they are pressed, and unseen."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed(timeout: float) -> Iterator[str]:
    """The keys that are pressed within *timeout* seconds."""
    if not select.select([sys.stdin], [], [], timeout)[0]:
        return
    text = os.read(sys.stdin.fileno(), 1024).decode("utf-8", "replace")
    while text:
        size = next((len(each) for each in ESCAPES if text.startswith(each)), 1)
        key, text = text[:size], text[size:]
        yield ESCAPES.get(key) or NAMES.get(key, key)


# -- the picture ------------------------------------------------------------------------------


def picture(board: Board, console: Console, broker: str) -> RenderableType:
    """The whole screen as it is now."""
    now = time.time()
    workers, kinds = _workers(board), _kinds(board, now)
    parts: list[RenderableType] = [_title(board, broker, now), workers, kinds]
    if board.shows_details and (task := board.chosen()) is not None:
        parts.append(_details(task, now))
    used = sum(len(console.render_lines(part, pad=False)) for part in parts)
    parts += [_tasks(board, now, max(console.height - used - 4, 1)), _foot(board)]
    return Group(*parts)


def _title(board: Board, broker: str, now: float) -> Text:
    state = board.state
    alive = sum(1 for _ in state.alive_workers())
    rate = sum(board.rates.per_second(name, now) for name in list(board.rates.ended))
    counts = (
        f"{alive} workers · {len(state.tasks)} tasks known · {state.event_count} events · {rate:.1f} ended/s"
    )
    return Text.assemble(("fastq events ", "bold"), broker, " · ", counts, no_wrap=True, overflow="ellipsis")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, show_edge=False)
    for name in columns:
        table.add_column(name.strip("<"), justify="right" if name.endswith("<") else "left", no_wrap=True)
    return table


def _workers(board: Board) -> RenderableType:
    table = _table("worker", "status", "pid<", "active<", "done<", "load<", "software")
    known = sorted(
        board.state.workers.copy().values(), key=lambda each: (not each.alive, each.hostname or "")
    )
    for worker in known[:MOST_WORKERS]:
        load = " ".join(f"{each:.2f}" for each in worker.loadavg or ())
        software = f"{worker.sw_ident or ''} {worker.sw_ver or ''}".strip()
        status = Text("online", "green") if worker.alive else Text("offline", "red")
        numbers = (str(worker.pid or "-"), _count(worker.active), _count(worker.processed))
        table.add_row(worker.hostname, status, *numbers, load, software)
    if len(known) > MOST_WORKERS:
        table.add_row(f"… and {len(known) - MOST_WORKERS} more")
    return table


def _kinds(board: Board, now: float) -> RenderableType:
    table = _table("task", "ended<", "failed<", "per s<", "p50<", "p95<")
    rates = board.rates
    for name in sorted(rates.ended, key=lambda each: -rates.ended[each])[:MOST_KINDS]:
        times = (_seconds(rates.quantile(name, part)) for part in (0.5, 0.95))
        counts = (_count(rates.ended[name]), _count(rates.failed[name]))
        table.add_row(name, *counts, f"{rates.per_second(name, now):.1f}", *times)
    return table


def _tasks(board: Board, now: float, limit: int) -> RenderableType:
    table = _table("when<", "state", "name", "arguments", "worker", "run time<", "id")
    for column, width in zip(table.columns, (8, 8, 12, 9, 8, 8, 13), strict=True):
        column.min_width = width  # in a narrow terminal the id is cut first
    rows = board.rows(limit)
    chosen = board.chosen()
    for task in rows:
        style = "reverse" if task is chosen else ""
        host = task.worker.hostname if task.worker is not None else task.client
        arguments = f"{task.args or ''} {task.kwargs if task.kwargs not in (None, '{}') else ''}".strip()
        table.add_row(
            age(now - (task.timestamp or now)),
            Text(task.state, COLORS.get(task.state, "")),
            task.name or "?",
            Text(arguments),
            host,
            _seconds(task.runtime),
            task.uuid,
            style=style,
        )
    if not rows:
        table.add_row("", "", "no task is known yet: are events enabled? (e)" if not board.filter else "none")
    return table


def _details(task: Task, now: float) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    moments = ("sent", "received", "started", "succeeded", "failed", "retried", "revoked", "rejected")
    for name in ("uuid", "name", "state"):
        table.add_row(name, str(getattr(task, name)))
    for name, value in task.info().items():
        table.add_row(name, Text(str(value)))
    for name in moments:
        at = getattr(task, name)
        if at is not None:
            table.add_row(name, f"{datetime.fromtimestamp(at):%H:%M:%S.%f}  ({age(now - at)} ago)")
    if task.traceback:
        table.add_row("traceback", Text(task.traceback.rstrip()))
    return Panel(table, title="details", title_align="left")


def _foot(board: Board) -> Text:
    if board.asks is not None:
        return Text(f"Revoke {board.asks.name}[{board.asks.uuid}]? y/n", "bold yellow")
    if board.typing:
        return Text(f"/{board.filter}▌", "bold")
    if board.notice:
        return Text(board.notice, "yellow")
    shown = f"filter: {board.filter} (escape clears) · " if board.filter else ""
    return Text(f"{'PAUSED · ' if board.is_paused else ''}{shown}{KEYS}", "dim")


def _count(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value * 1000:.1f} ms" if value < 1 else f"{value:.2f} s"
