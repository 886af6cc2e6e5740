"""How many processors this process may use, which in a container is fewer than the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_cpus() -> int:
    """The processors this process may run on, or its control group's quota if that is less; at least 1."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    quota = cgroup_quota(CGROUP)
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def cgroup_quota(root: Path) -> float | None:
    """The processors that the control group mounted at *root* may use, or None if it has no limit."""
    try:
        limit, period = (root / "cpu.max").read_text().split()  # version 2
    except (OSError, ValueError):
        try:  # version 1
            limit = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        quota = int(limit) / int(period)
    except (ValueError, ZeroDivisionError):  # "max": no limit
        return None
    return quota if quota > 0 else None
