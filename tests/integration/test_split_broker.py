"""A worker that consumes from one broker and publishes to another: broker_read_url, broker_write_url."""

from __future__ import annotations

import json

import pytest
from worker_process import Project, WorkerProcess, wait_until

from fastq import FastQ
from fastq.brokers.base import BrokerOptions
from fastq.brokers.schemes import open_broker

TASKS = """
from fastq import FastQ

app = FastQ("tasks")

@app.task(name="tasks.again", bind=True)
def again(self):
    if self.request.retries == 0:
        raise self.retry(countdown=3600)
    return "done"

@app.task(name="tasks.leaf")
def leaf():
    return 1

@app.task(name="tasks.sender")
def sender():
    return leaf.delay().id
"""


@pytest.fixture(params=["redis", "sqlite"])
def urls(request: pytest.FixtureRequest, tmp_path) -> tuple[str, str]:
    """Where workers read, and where everybody writes."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/read.db", f"sqlite:///{tmp_path}/write.db"
    server = request.getfixturevalue("start_redis")()
    return server.url, server.url.replace("/0", "/1")


def test_a_worker_reads_from_one_broker_and_writes_to_the_other(tmp_path, urls):
    read_url, write_url = urls
    read, write = (open_broker(url, BrokerOptions()) for url in urls)
    project = Project(tmp_path)
    project.write("tasks.py", TASKS)
    results = f"sqlite:///{tmp_path}/results.db"
    project.env |= {
        "CELERY_BROKER_READ_URL": read_url,
        "CELERY_BROKER_WRITE_URL": write_url,
        "CELERY_RESULT_BACKEND": results,
    }
    sent = [project.call("tasks.leaf")]
    counts = {broker: broker.queues(["celery"])[0].ready for broker in (read, write)}
    assert counts == {read: 0, write: 1}

    feeder = FastQ("feeder", broker=read_url, backend=results, set_as_current=False)
    sender, again = feeder.send_task("tasks.sender"), feeder.send_task("tasks.again")
    with WorkerProcess(project, "-P", "threads", "-c", "2") as worker:
        sent.append(sender.get(timeout=30))
        wait_until(lambda: again.state == "RETRY", "the first run has ended")
        worker.wait_until_ready()
        counts = {info.name: info for info in write.queues(["celery"])}["celery"]
        places = [write.locate(task_id) for task_id in (*sent, again.id)]
        assert all(place is not None for place in places), places
        # No fastq worker may be there to look into the other Redis's schedule.
        assert counts.delayed == (0 if read_url.startswith("redis") else 1)
        assert json.loads(project.fastq("queues", "--json").stdout)[0]["ready"] == 0
        assert read.queues(["celery"])[0].claimed == 0
    feeder.close()
    read.close()
    write.close()


def test_the_command_lines_broker_goes_before_both(tmp_path, urls):
    project = Project(tmp_path)
    project.env |= {"CELERY_BROKER_READ_URL": urls[0], "CELERY_BROKER_WRITE_URL": urls[0]}
    assert project.fastq("call", "tasks.pid", "-b", urls[1]).returncode == 0
    brokers = [open_broker(url, BrokerOptions()) for url in urls]
    assert [broker.queues(["celery"])[0].ready for broker in brokers] == [0, 1]
    for broker in brokers:
        broker.close()
