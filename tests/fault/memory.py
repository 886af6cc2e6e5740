"""How much memory processes hold, and how it grows."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence


def resident_mb(pid: int) -> float:
    """Resident memory of one process in MB."""
    told = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(told.stdout) / 1024


def children_of(pid: int) -> list[int]:
    """The children of one process."""
    told = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True)
    return [int(each) for each in told.stdout.split()]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """How much y grows with each x, by least squares."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
