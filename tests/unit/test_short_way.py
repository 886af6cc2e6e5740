"""The way of a task is short: calls and files that a delay() passes, frames above a user's function."""

import subprocess
import sys

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

app = FastQ("short", broker="memory://", include=[])

@app.task
def depth():
    frame, ours = sys._getframe(1), []
    while frame is not None:
        if "/fastq/" in frame.f_code.co_filename:
            ours.append(frame.f_code.co_name)
        frame = frame.f_back
    return ours

results = [depth.delay()]

def stop_when_done(**_):
    worker.stop()

from fastq import signals
signals.task_postrun.connect(stop_when_done)
worker = app.Worker(pool=POOL, concurrency=1, loglevel="ERROR", quiet=True)
worker.start()
print(*results[0].get(timeout=1))
"""


def run(script):
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_delay_makes_few_calls_in_few_files():
    calls, files = map(int, run(CALLS))
    assert calls <= 30
    assert files <= 8
