"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

# A table that is not shown on a terminal is read by a program or a person's pager: never fold its lines.
UNFOLDED_WIDTH = 1000


def print_json(value: Any) -> None:
    """Print *value* as one JSON document; what JSON does not know is printed as its `repr`."""
    print(json.dumps(value, indent=2, default=repr, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, color: bool = True) -> None:
    """Print *rows* under *columns*; numbers stand to the right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for at, name in enumerate(columns):
        numeric = bool(rows) and all(row[at].replace(",", "").isdigit() or row[at] == "-" for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    width = None if sys.stdout.isatty() else UNFOLDED_WIDTH
    Console(width=width, no_color=not color, highlight=False, markup=False).print(table)


def age(seconds: float | None) -> str:
    """*seconds* as people say it, in its two largest units: "2 d 3 h", "5 min 10 s", "0.4 s"; None is "-"."""
    if seconds is None:
        return "-"
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    rest = int(seconds)
    parts: list[str] = []
    for name, size in units:
        count, rest = divmod(rest, size)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(part for part in parts[:2] if not part.startswith("0 "))


def moment(unix_seconds: float) -> str:
    """A time of day with its date, in UTC."""
    return datetime.fromtimestamp(unix_seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
