"""What a program that sends tasks does, in a process of its own.

``python -m benches.client SIDE ACTION COUNT`` prints a JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from benches.shapes import BIG_SHAPES, SHAPES, ids_of

WARM_UP = 50  # calls before the clock starts, so that connections are open
GET_TIMEOUT = 60.0  # seconds


def one_by_one(module: ModuleType, count: int) -> dict[str, Any]:
    """Send *count* tasks by `delay`."""
    delay = module.noop.delay
    for _ in range(WARM_UP):
        delay()
    start = time.perf_counter()
    for _ in range(count):
        delay()
    return {"seconds": time.perf_counter() - start}


def in_bulk(module: ModuleType, count: int) -> dict[str, Any]:
    """Send *count* tasks in as few writes as the library makes."""
    module.send_many(WARM_UP)
    started, start = time.time(), time.perf_counter()
    ids = module.send_many(count)
    return {"seconds": time.perf_counter() - start, "started": started, "ids": ids}


def burst(module: ModuleType, count: int) -> dict[str, Any]:
    """Once a worker has answered, send *count* tasks in bulk, of which the last writes a mark."""
    marks = Path(os.environ["BENCH_MARKS"])
    module.mark.delay()
    module.send_many(WARM_UP)
    until = time.monotonic() + GET_TIMEOUT
    while not marks.exists():
        if time.monotonic() > until:
            raise TimeoutError("no worker runs tasks")
        time.sleep(0.01)
    started = time.time()
    module.send_many(count - 1)
    module.mark.delay()
    return {"started": started}


def round_trips(module: ModuleType, count: int) -> dict[str, Any]:
    """Call `delay().get()` *count* times in a row."""
    for _ in range(WARM_UP):
        module.noop.delay().get(timeout=GET_TIMEOUT)
    milliseconds = []
    for _ in range(count):
        start = time.perf_counter()
        module.noop.delay().get(timeout=GET_TIMEOUT)
        milliseconds.append((time.perf_counter() - start) * 1000)
    return {"milliseconds": milliseconds}


def workflows(shape: str, module: ModuleType, count: int) -> dict[str, Any]:
    """Call *count* workflows of *shape* one by one; the ids of their tasks, what ends last at the end."""
    make, start = SHAPES[shape], time.perf_counter()
    results = [make(module).apply_async() for _ in range(count)]
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "ids": [id for result in results for id in ids_of(result)]}


def big_workflow(shape: str, module: ModuleType, size: int) -> dict[str, Any]:
    """Call one workflow of *size* tasks; the ids of the first one and of the one that ends last."""
    start = time.perf_counter()
    result = BIG_SHAPES[shape](module, size).apply_async()
    seconds = time.perf_counter() - start
    ids = ids_of(result)
    return {"seconds": seconds, "ids": [ids[0], ids[-1]]}


ACTIONS: dict[str, Callable[[ModuleType, int], dict[str, Any]]] = {
    "one_by_one": one_by_one,
    "in_bulk": in_bulk,
    "burst": burst,
    "round_trips": round_trips,
    **{shape: partial(workflows, shape) for shape in SHAPES},
    **{f"one big {shape}": partial(big_workflow, shape) for shape in BIG_SHAPES},
}


if __name__ == "__main__":
    side, action, number = sys.argv[1:]
    print(json.dumps(ACTIONS[action](import_module(f"benches.{side}_app"), int(number))))
