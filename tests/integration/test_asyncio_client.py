"""Sending and waiting from asyncio, with a worker in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TASKS = """
import asyncio
from fastq import FastQ

app = FastQ("aio", broker="sqlite:///aio.db")

@app.task
async def double(x):
    await asyncio.sleep(0.05)
    return 2 * x
"""

CLIENT = """
import asyncio, time
from aio import double

async def main():
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.01)
            ticks += 1

    ticking = asyncio.create_task(tick())
    results = await asyncio.gather(*(double.adelay(n) for n in range(100)))
    values = await asyncio.gather(*(result.aget(timeout=60) for result in results))
    assert values == [2 * n for n in range(100)], values
    assert await results[0] == 0
    assert ticks > 3, ticks
    ticking.cancel()

asyncio.run(main())
print("ok")
"""


@pytest.mark.parametrize("pool", ["asyncio", "solo"])
def test_a_hundred_coroutines_wait_without_blocking_the_loop(tmp_path, pool):
    (tmp_path / "aio.py").write_text(TASKS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    arguments = [sys.executable, "-m", "fastq", "-q", "-A", "aio", "worker", "-P", pool]
    with subprocess.Popen(arguments, cwd=tmp_path, env=environment) as worker:
        try:
            done = subprocess.run(
                [sys.executable, "-c", CLIENT],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
        finally:
            worker.terminate()
    assert done.stdout.strip() == "ok", done.stderr
