"""A bar in the terminal that shows how many results have come."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastq import states

if TYPE_CHECKING:
    from fastq.result.async_result import AsyncResult

# Seconds between two times that the bar is told of what has come: to tell it of each result would take
# longer than to read it.
REFRESH = 0.1


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[AsyncResult[Any]], None]]:
    """Show a bar for *total* results on standard error while the block runs, and give what counts one.

    Draws nothing where standard error is no terminal.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda result: None
        return

    from rich.console import Console  # takes 40 ms to import
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), Remaining(), console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=total)
        ended = failed = 0
        told_at = time.monotonic()

        def tell() -> None:
            text = f"[red]{failed:,} failed" if failed else ""
            progress.update(bar, completed=ended, description=text)

        def count(result: AsyncResult[Any]) -> None:
            nonlocal ended, failed, told_at
            ended += 1
            failed += result.known["status"] in states.PROPAGATE_STATES
            now = time.monotonic()
            if now - told_at >= REFRESH:
                told_at = now
                tell()

        try:
            yield count
        finally:
            tell()
