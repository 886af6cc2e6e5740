"""A bar in the terminal that shows how many results have come. Imports rich, which takes 40 ms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.progress import TimeElapsedColumn as Elapsed
from rich.text import Text

from fastq import states

if TYPE_CHECKING:
    from fastq.result.async_result import AsyncResult


class Remaining(ProgressColumn):
    """How long the rest takes if it comes as fast as what has come."""

    def render(self, task: Task) -> Text:
        if not task.completed or not task.elapsed or not task.remaining:
            return Text("")
        seconds = task.elapsed * task.remaining / task.completed
        return Text(f"{timedelta(seconds=round(seconds))} left", style="progress.remaining")


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[AsyncResult[Any]], None]]:
    """Show a bar for *total* results on standard error while the block runs, and give what counts one."""
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), Elapsed(), Remaining())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        progress.add_task("", total=total)
        shown = progress.tasks[0]
        failed = 0

        # Rich looks at these ten times a second. To tell it of each result would take longer than to read it.
        def count(result: AsyncResult[Any]) -> None:
            nonlocal failed
            shown.completed += 1
            if result.known["status"] in states.PROPAGATE_STATES:
                failed += 1
                shown.description = f"[red]{failed:,} failed"

        yield count
