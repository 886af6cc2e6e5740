"""What got slower between two runs: ``python -m benches.compare BEFORE.json AFTER.json``.

Exits with 1 when a line of fastq got slower by more than the threshold. Where both runs
measured a line's floor, the floor's own change is taken out: it is the machine's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benches.harness import Record
from benches.report import figure, find, read_json

THRESHOLD = 1.15


def slowdown(before: Record, after: Record) -> float:
    """How many times slower (or larger) *after* is; below 1 is faster."""
    if before.is_rate:
        return before.median / after.median
    return after.median / before.median if before.median else 1.0


def corrected(before: list[Record], after: list[Record], record: Record) -> float | None:
    """The slowdown of *record* without that of the machine; None if only one run has it."""
    earlier = find(before, record.name, record.side)
    if earlier is None or not record.values:
        return None
    floors = find(before, record.name, "floor"), find(after, record.name, "floor")
    machine = slowdown(floors[0], floors[1]) if floors[0] and floors[1] else 1.0
    return slowdown(earlier, record) / machine


def main() -> int:
    """Print a line for each figure of fastq; 1 if one got slower than allowed."""
    parser = argparse.ArgumentParser(prog="python -m benches.compare", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="allowed slowdown (%(default)s)")
    options = parser.parse_args()
    before, _ = read_json(options.before)
    after, _ = read_json(options.after)
    slower = 0
    for record in after:
        times = corrected(before, after, record) if record.side.startswith("fastq") else None
        if times is None:
            continue
        earlier = find(before, record.name, record.side)
        is_slower = times > options.threshold
        slower += is_slower
        print(
            f"{'SLOWER' if is_slower else '':7}{times:6.2f} x  {record.name}, {record.side}: "
            f"{figure(earlier.median)} → {figure(record.median)} {record.unit}"
        )
    print(f"{slower} lines got slower by more than {options.threshold:g} x")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
