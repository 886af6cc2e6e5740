"""How much memory processes have, as the system tells."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int | None = None) -> int:
    """The resident memory of the process *pid* (None: this one); 0 if it has ended or can't be told.

    Away from Linux only this one's is known, at its highest.
    """
    try:
        return int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        pass
    if pid is not None:
        return 0
    import resource

    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024


def descendants(pid: int) -> Iterable[int]:
    """The processes below *pid*, as far as Linux tells."""
    try:
        children = [
            int(child)
            for thread in Path(f"/proc/{pid}/task").iterdir()
            for child in (thread / "children").read_text().split()
        ]
    except OSError:
        return
    for child in children:
        yield child
        yield from descendants(child)
