"""What a worker costs on Redis that has nothing to do, whatever it has done before."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import RedisServer
from worker_process import Project, WorkerProcess

from fastq import FastQ
from fastq.brokers.redis.connection import connect
from fastq.brokers.redis.endpoint import parse_endpoint

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")

POOLS = ["solo", "threads", "prefork", "gevent", "asyncio"]
WATCHED_SECONDS = 3.0
# A lease is renewed every 5 s, and others' leases are looked after every 8 to 10 s.
MOST_REQUESTS = 3
MOST_PROCESSOR_SECONDS = 0.02 * WATCHED_SECONDS

TASKS = """
import os, time
from fastq import FastQ

app = FastQ("tasks", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.worker_lease = float(os.environ.get("LEASE", "30"))

@app.task
def add(x, y):
    return x + y

@app.task(rate_limit="20/s")
def limited():
    pass

@app.task(bind=True, max_retries=2)
def again(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.05)
"""


@pytest.fixture
def server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """One that nothing else talks to: its requests are counted."""
    return start_redis()


def requests(server: RedisServer) -> int:
    """How many requests the server has read so far, without those of this function."""
    connection = connect(parse_endpoint(server.url, {}), 5.0)
    text = connection.call("INFO", "stats", timeout=5.0).decode()
    connection.close()
    return int(text.split("total_reads_processed:")[1].split()[0])


def family(pid: int) -> list[int]:
    """*pid* and its descendants that live."""
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [pid, *(each for child in children for each in family(child))]


def processor_seconds(pid: int) -> float:
    """What *pid* and its descendants that live have used."""
    total = 0.0
    for each in family(pid):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / 100
    return total


def keep_busy(url: str) -> None:
    """Have the workers run tasks of every kind that waits, and return when all have ended."""
    app = FastQ("sender", broker=url, backend=url, set_as_current=False)
    sent = [app.send_task("tasks.add", (1, number)) for number in range(20)]
    sent += [app.send_task("tasks.add", (1, 1), countdown=0.2) for _ in range(5)]
    sent += [app.send_task("tasks.limited") for _ in range(5)]
    sent += [app.send_task("tasks.again") for _ in range(3)]
    for each in sent:
        each.get(timeout=30)
    app.close()


def assert_idle(server: RedisServer, pids: list[int]) -> None:
    time.sleep(1.5)  # an idle heartbeat falls asleep after a second
    own = requests(server)
    own = requests(server) - own
    before, used = requests(server), sum(map(processor_seconds, pids))
    time.sleep(WATCHED_SECONDS)
    used = sum(map(processor_seconds, pids)) - used
    made = requests(server) - before - own
    assert made <= MOST_REQUESTS * len(pids)
    assert used <= MOST_PROCESSOR_SECONDS * len(pids)


@pytest.mark.parametrize("pool", POOLS)
def test_an_idle_worker_hardly_asks_anything(tmp_path: Path, server: RedisServer, pool: str) -> None:
    project = Project(tmp_path)
    project.write("tasks.py", TASKS)
    options = ("-A", "tasks", "-P", pool, "-c", "2")
    with WorkerProcess(project, *options, BROKER=server.url) as worker:
        worker.wait_until_ready()
        keep_busy(server.url)
        assert_idle(server, [worker.process.pid])


def test_idle_workers_leave_each_other_in_peace(tmp_path: Path, server: RedisServer) -> None:
    """After one was killed in a task, whose messages the others got again."""
    project = Project(tmp_path)
    project.write("tasks.py", TASKS)
    options = ("-A", "tasks", "-P", "solo")
    with (
        WorkerProcess(project, *options, "-n", "a", BROKER=server.url, LEASE="1") as a,
        WorkerProcess(project, *options, "-n", "b", BROKER=server.url) as b,
        WorkerProcess(project, *options, "-n", "c", BROKER=server.url) as c,
    ):
        for worker in (a, b, c):
            worker.wait_until_ready()
        app = FastQ("sender", broker=server.url, backend=server.url, set_as_current=False)
        sent = [app.send_task("tasks.add", (1, number)) for number in range(2000)]
        a.process.kill()
        for each in sent:
            each.get(timeout=30)
        app.close()
        assert_idle(server, [b.process.pid, c.process.pid])
