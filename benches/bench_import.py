"""How long until a program that imports the library has sent its first task?"""

from __future__ import annotations

import statistics
import time
from functools import partial

from benches.harness import Bench
from benches.processes import run_python

PROGRAM = """
from {side} import Celery
app = Celery("bench", broker={url!r})
@app.task(name="bench.noop")
def noop(): pass
noop.delay()
"""


def took(program: str) -> float:
    """Milliseconds from start to end of an interpreter that runs *program*."""
    start = time.perf_counter()
    # An installed library has its bytecode, whatever the shell of the bench says.
    run_python("-c", program, environment={"PYTHONDONTWRITEBYTECODE": ""})
    return (time.perf_counter() - start) * 1000


def over_bare(program: str) -> float:
    """Milliseconds that *program* takes over an interpreter that runs nothing (median of 5)."""
    return statistics.median(took(program) - took("pass") for _ in range(5))


def run(bench: Bench) -> None:
    """Measure import and first `delay`, and the import alone."""
    for where, store in (("redis", bench.redis), ("sqlite", bench.sqlite)):
        store.clear()
        sides = ("fastq", "celery") if where == "redis" else ("fastq",)
        programs = {side: partial(over_bare, PROGRAM.format(side=side, url=store.url)) for side in sides}
        bench.compare(f"import and first delay, {where}", "ms", programs)
    imports = {side: partial(over_bare, f"import {side}; {side}.Celery") for side in ("fastq", "celery")}
    bench.compare("import", "ms", imports)
