"""What a program that sends tasks does, in a process of its own.

``python -m benches.client SIDE ACTION COUNT`` prints a JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

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


ACTIONS = {"one_by_one": one_by_one, "in_bulk": in_bulk, "burst": burst, "round_trips": round_trips}


if __name__ == "__main__":
    side, action, number = sys.argv[1:]
    print(json.dumps(ACTIONS[action](import_module(f"benches.{side}_app"), int(number))))
