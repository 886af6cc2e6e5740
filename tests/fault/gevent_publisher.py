# ruff: noqa: E402  (the patch comes first)
"""Publish to a broker that takes nothing, while a greenlet ticks: ``gevent_publisher.py URL DEADLINE``.

For each line that it reads it publishes MESSAGES, and prints how late the worst tick was in ms, without that
and with it, how many seconds it took, and what came of it.
"""

from gevent import monkey

monkey.patch_all()

import sys
import time

import gevent

from fastq import FastQ
from fastq.exceptions import OperationalError

MESSAGES = 10_000
DEADLINE = float(sys.argv[2])  # seconds
late = 0.0


def clock() -> float:
    """Seconds, without those for which the kernel gave the processor to other processes."""
    with open("/proc/thread-self/schedstat") as file:
        return time.monotonic() - int(file.read().split()[1]) / 1e9


def tick() -> None:
    global late
    before = clock()
    while True:
        gevent.sleep(0.001)
        now = clock()
        late = max(late, now - before - 0.001)
        before = now


app = FastQ("fault", broker=sys.argv[1])
app.conf.task_publish_deadline = DEADLINE
app.send_task("fault_tasks.noop")
gevent.spawn(tick)
print("ready", flush=True)
for _ in sys.stdin:
    late = 0.0
    gevent.sleep(DEADLINE)
    alone, late = late, 0.0
    started = time.monotonic()
    try:
        with app.pipeline():  # one publish
            for number in range(MESSAGES):
                app.send_task("fault_tasks.noop", (number,))
                if number % 100 == 0:
                    gevent.sleep(0.001)  # a pause of 0 lets no timer have its turn
        what = "sent"
    except OperationalError as exc:
        what = str(exc)
    print(f"{alone * 1000:.1f} {late * 1000:.1f} {time.monotonic() - started:.2f} {what}", flush=True)
