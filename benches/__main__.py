"""Run the benches: ``python -m benches [--quick] [--json FILE] [--charts FOLDER] [--only NAME ...]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from benches import (
    bench_canvas,
    bench_drain,
    bench_enqueue,
    bench_idle,
    bench_import,
    bench_latency,
    bench_metrics,
    bench_prefetch,
    bench_rabbitmq,
)
from benches.charts import draw
from benches.harness import open_bench
from benches.report import print_table, surroundings, write_json

BENCHES = {
    "enqueue": bench_enqueue,
    "drain": bench_drain,
    "latency": bench_latency,
    "idle": bench_idle,
    "import": bench_import,
    "prefetch": bench_prefetch,
    "metrics": bench_metrics,
    "canvas": bench_canvas,
    "rabbitmq": bench_rabbitmq,
}
TABLE_WIDTH = 150  # columns


def main() -> None:
    """Run the chosen benches one after the other, then report."""
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the tasks, two rounds")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=BENCHES,
        default=list(BENCHES),
        metavar="NAME",
        help=f"of {', '.join(BENCHES)}",
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--charts", type=Path, help="draw the charts into this folder, as SVG")
    parser.add_argument(
        "--redis", metavar="URL", help="use (and flush!) this database, not a server of our own"
    )
    parser.add_argument(
        "--rabbitmq", metavar="URL", help="use this virtual host and its queue celery, not a node of our own"
    )
    options = parser.parse_args()
    with open_bench(options.redis, options.rabbitmq, options.quick, "rabbitmq" in options.only) as bench:
        around = surroundings(bench)
        for name in options.only:
            BENCHES[name].run(bench)
    console = Console()
    # A file or a CI log has no width of its own.
    print_table(bench.records, console if console.is_terminal else Console(width=TABLE_WIDTH))
    if options.json:
        write_json(options.json, bench.records, around)
    if options.charts:
        draw(bench.records, around, options.charts)


if __name__ == "__main__":
    main()
