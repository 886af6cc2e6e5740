"""The charts of a run, as SVG; also from a file: ``python -m benches.charts RUN.json FOLDER``."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from benches.harness import Record
from benches.report import figure, find, read_json

COLOURS = {"floor": "#9a9a9a", "fastq": "#1b7f5c", "celery": "#c8702a"}
MULTIPLIERS = ("1", "4", "16", "64", "256", "auto")
# A line of the matrix on RabbitMQ: what stands between these two is the case.
MATRIX = ("drain by prefetch, ", ", rabbitmq")
WINDOWS = ("1", "4", "16", "64", "256", "1000", "auto")

# File name → title and the lines of the table that it shows.
BARS = {
    "drain": ("No-op tasks that one worker runs, results stored, on Redis", ["drain, redis"]),
    "enqueue": (
        "Tasks that one program sends, on Redis",
        ["enqueue one by one, redis", "enqueue in bulk, redis"],
    ),
    "rabbitmq": (
        "No-op tasks that one worker runs, and that one program sends, on RabbitMQ",
        ["drain, rabbitmq", "publish in bulk, rabbitmq"],
    ),
    "sqlite": ("The embedded broker, durable, on SQLite", ["enqueue in bulk, sqlite", "drain, sqlite"]),
    "canvas": (
        "Workflows that one worker runs, on Redis",
        ["chain of 3, redis", "group of 10, redis", "chord of 10, redis"],
    ),
    "latency": (
        "delay().get() on an idle worker, on Redis",
        ["round trip p50, redis", "round trip p99, redis"],
    ),
}


def colour(side: str) -> str:
    """One colour for each contender, whatever its pool."""
    return COLOURS[side.partition(" ")[0]]


def bars(records: list[Record], title: str, names: list[str], footer: str, path: Path) -> None:
    """Draw the medians as horizontal bars on a logarithmic axis, their range as a line."""
    shown = [record for name in names for record in records if record.name == name and record.values]
    if not shown:
        return
    several = len(names) > 1
    labels = [
        f"{record.side}\n{record.name.partition(',')[0]}" if several else record.side for record in shown
    ]
    chart, axes = plt.subplots(
        figsize=(8, 0.9 + (0.55 if several else 0.42) * len(shown)), layout="constrained"
    )
    for position, record in enumerate(shown):
        axes.barh(position, record.median, color=colour(record.side), height=0.7)
        axes.plot(
            [min(record.values), max(record.values)], [position, position], color="#333333", linewidth=1
        )
        axes.annotate(
            f" {figure(record.median)}",
            (max(record.values), position),
            va="center",
            fontsize=9,
            color="#222222",
        )
    axes.set_yticks(range(len(shown)), labels, fontsize=9)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(min(record.median for record in shown) / 3, max(record.median for record in shown) * 4)
    axes.set_xlabel(
        f"{shown[0].unit} (logarithmic; {'more' if shown[0].is_rate else 'less'} is better)", fontsize=9
    )
    finish(chart, axes, title, footer, path)


def prefetch(records: list[Record], footer: str, path: Path) -> None:
    """Draw the drain over worker_prefetch_multiplier, a line for each contender."""
    chart, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    lines = [
        curve(axes, records, "drain by prefetch, redis", f"{side} {pool}".strip(), MULTIPLIERS, style)
        for side, pool, style in (
            ("floor", "", "-"),
            ("fastq", "solo", "-"),
            ("fastq", "prefork", "--"),
            ("celery", "solo", "-"),
            ("celery", "prefork", "--"),
        )
    ]
    if any(lines):
        axes.set_xticks(range(len(MULTIPLIERS)), MULTIPLIERS)
        axes.set_yscale("log")
        axes.set_xlabel("worker_prefetch_multiplier (the floor: its batch)", fontsize=9)
        axes.set_ylabel("tasks/s (logarithmic)", fontsize=9)
        axes.legend(fontsize=9, frameon=False)
        finish(chart, axes, "What worker_prefetch_multiplier changes, no-op tasks on Redis", footer, path)
    else:
        plt.close(chart)


def curve(
    axes: Any,
    records: list[Record],
    name: str,
    side: str,
    windows: tuple[str, ...],
    style: str,
    text: str = "",
) -> bool:
    """Draw one contender over *windows*, called *text*; False if nothing was measured."""
    points = [
        (position, record.median)
        for position, window in enumerate(windows)
        if (record := find(records, name, f"{side} {window}"))
    ]
    if points:
        xs, ys = zip(*points, strict=True)
        axes.plot(xs, ys, style, marker="o", markersize=4, color=colour(side), label=text or side)
    return bool(points)


def matrix(records: list[Record], footer: str, path: Path) -> None:
    """Draw the drain on RabbitMQ over the multiplier: a row for each pool, a column for each queue."""
    before, after = MATRIX
    names = dict.fromkeys(record.name for record in records if record.name.startswith(before))
    cases = [name.removeprefix(before).removesuffix(after).rpartition(", acks ") for name in names]
    queues = list(dict.fromkeys(queue for queue, _, _ in cases))
    sides = dict.fromkeys(record.side for record in records if record.name in names)
    pools = list(dict.fromkeys(side.split()[1] for side in sides if not side.startswith("floor")))
    if not queues or not pools:
        return
    chart, grid = plt.subplots(
        len(pools),
        len(queues),
        figsize=(3.2 * len(queues) + 0.8, 2.8 * len(pools) + 1.4),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for row, column in product(range(len(pools)), range(len(queues))):
        axes, pool, queue = grid[row][column], pools[row], queues[column]
        curve(axes, records, f"{before}{queue}, acks late{after}", "floor", WINDOWS, "-", "client in C")
        for side, acks in product(("fastq", "celery"), ("late", "early")):
            name, style = f"{before}{queue}, acks {acks}{after}", "-" if acks == "late" else ":"
            curve(axes, records, name, f"{side} {pool}", WINDOWS, style, f"{side}, acks {acks}")
        axes.set_yscale("log")
        axes.set_xticks(range(len(WINDOWS)), WINDOWS, fontsize=8)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        if row == 0:
            axes.set_title(queue.replace(" in ", " messages,\n") + " queue", fontsize=9)
        if column == 0:
            axes.set_ylabel(f"{pool} pool\ntasks/s", fontsize=9)
        if row == len(pools) - 1:
            axes.set_xlabel("worker_prefetch_multiplier", fontsize=9)
    texts = {
        text: line for axes in grid.flat for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    chart.legend(texts.values(), texts.keys(), loc="outside right upper", fontsize=8, frameon=False)
    chart.suptitle(
        "No-op tasks a second that one worker takes from RabbitMQ, over how many it may hold (logarithmic)",
        fontsize=11,
    )
    write(chart, footer, path)


def finish(chart: Any, axes: Any, title: str, footer: str, path: Path) -> None:
    """Give a chart of one panel its title, and write it."""
    axes.set_title(title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    write(chart, footer, path)


def write(chart: Any, footer: str, path: Path) -> None:
    """Write a chart with its small print."""
    chart.supxlabel(footer, fontsize=7, color="#666666")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A fixed salt and no date: the same figures give the same file.
    with plt.rc_context({"svg.hashsalt": "fastq", "svg.fonttype": "none"}):
        chart.savefig(path, metadata={"Date": None})
    plt.close(chart)


def draw(records: list[Record], around: dict[str, Any], folder: Path) -> None:
    """Draw every chart for which there are records into *folder*."""
    versions, machine = around["versions"], around["machine"]
    footer = (
        f"{machine['processors']} cores, Python {versions['python']}, Redis {versions['redis-server']}, "
        f"RabbitMQ {versions.get('rabbitmq-server', '-')}, "
        f"Celery {versions.get('celery', '-')}; {around['when'][:10]}; medians of rounds in turn; "
        "dark line: range"
    )
    for name, (title, lines) in BARS.items():
        bars(records, title, lines, footer, folder / f"{name}.svg")
    prefetch(records, footer, folder / "prefetch.svg")
    matrix(records, footer, folder / "rabbitmq-matrix.svg")


if __name__ == "__main__":
    found, surroundings_found = read_json(Path(sys.argv[1]))
    draw(found, surroundings_found, Path(sys.argv[2]))
