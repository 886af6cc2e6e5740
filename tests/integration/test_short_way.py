"""The way of a task is short: calls and files that a delay() passes, frames above a user's function."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CALLS = """
import sys
from fastq import FastQ

app = FastQ("short", broker="memory://")

@app.task
def add(a, b):
    return a + b

add.delay(1, 2)  # connects, and makes what is made once
calls, files = 0, set()

def watch(frame, event, _argument):
    global calls
    if event == "call":
        calls += 1
        files.add(frame.f_code.co_filename)

sys.setprofile(watch)
add.delay(1, 2)
sys.setprofile(None)
print(calls, len(files))
"""

FRAMES = """
import sys
from fastq import FastQ

app = FastQ("frames", broker="sqlite:///frames.db")

@app.task
def depth():
    frame, ours = sys._getframe(1), []
    while frame is not None:
        if "/fastq/" in frame.f_code.co_filename:
            ours.append(getattr(frame.f_code, "co_qualname", frame.f_code.co_name))
        frame = frame.f_back
    return ours
"""


def run(script):
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_delay_makes_few_calls_in_few_files():
    calls, files = map(int, run(CALLS))
    assert calls <= 30
    assert files <= 8


@pytest.mark.parametrize("pool", ["solo", "prefork", "threads", "gevent", "asyncio"])
def test_few_frames_stand_above_a_users_function(tmp_path, pool):
    (tmp_path / "frames.py").write_text(FRAMES)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    start = "from fastq.cli.main import main; main()"
    arguments = [sys.executable, "-c", start, "-q", "-A", "frames", "worker", "-P", pool]
    ask = "import frames; print(*frames.depth.delay().get(timeout=30), sep='\\n')"
    with subprocess.Popen(arguments, cwd=tmp_path, env=environment) as worker:
        try:
            done = subprocess.run(
                [sys.executable, "-c", ask],
                cwd=tmp_path,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
            )
        finally:
            worker.terminate()
    frames = done.stdout.split()
    assert 1 <= len(frames) <= 4, done.stdout + done.stderr
