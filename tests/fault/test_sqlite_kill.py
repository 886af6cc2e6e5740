"""Workers killed in the middle of their turns: every message is either done, once, or still there."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from fastq._core.message import Delivery, Message, Outcome
from fastq.brokers.base import BrokerOptions, Consumer
from fastq.brokers.sqlite.broker import SQLiteBroker
from fastq.wakeup import Waker

LEASE = 0.3  # seconds

# Settles each message with one for the queue "done", in one transaction, as fast as it can.
WORKER = """
import sys
from fastq._core.message import Message, Outcome
from fastq.brokers.base import BrokerOptions
from fastq.brokers.sqlite.broker import SQLiteBroker
from fastq.wakeup import Waker
url, lease = sys.argv[1], float(sys.argv[2])
consumer = SQLiteBroker(url, BrokerOptions(lease=lease)).consumer(["q"], "doomed@here", Waker())
outcomes = []
while True:
    deliveries = consumer.turn(outcomes, 5, 1.0)
    if outcomes:
        print("settled", flush=True)
    outcomes = []
    for each in deliveries:
        done = Message("done", each.message.id, {"task": "done", "id": each.message.id}, b"[]", queue="done")
        outcomes.append(Outcome(each, follow=[done]))
"""


def take_all(consumer: Consumer, timeout: float) -> list[Delivery]:
    taken: list[Delivery] = []
    while deliveries := consumer.turn((), 1000, timeout):
        taken += deliveries
    return taken


def kill_one_worker(url: str, seconds: float) -> None:
    """Start a worker and kill it so many *seconds* after its first commit."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, url, str(LEASE)], stdout=subprocess.PIPE, bufsize=1 << 20
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"settled\n"
        time.sleep(seconds)
        process.kill()


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_what_was_published_is_done_once_or_still_there(tmp_path: Path, kills: int) -> None:
    rng = random.Random(2)
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    broker = SQLiteBroker(url, BrokerOptions(lease=LEASE))
    published = set()
    for start in range(kills):
        ids = [f"task-{start * 1000 + number}" for number in range(1000)]
        broker.publish(
            [Message("work", each, {"task": "work", "id": each}, b"[]", queue="q") for each in ids]
        )
        published.update(ids)
        kill_one_worker(url, rng.uniform(0.0, 0.03))

    waker = Waker()
    consumer = broker.consumer(["done", "q"], "judge@here", waker)
    taken = take_all(consumer, 2 * LEASE)
    done = [each.message.id for each in taken if each.queue == "done" and each.message is not None]
    left = [each.message.id for each in taken if each.queue == "q" and each.message is not None]
    assert broker.dead() == []
    assert len(done) == len(set(done)) and len(left) == len(set(left))
    assert set(done) & set(left) == set()
    assert set(done) | set(left) == published
    consumer.turn([Outcome(each) for each in taken], 0, 0.0)
    assert broker.queues() == []
    consumer.close()
    broker.close()
    waker.close()
    with closing(sqlite3.connect(tmp_path / "store.sqlite3")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for table in ("messages", "ready", "claims", "delayed", "dead", "workers"):
            assert db.execute(f"SELECT count(*) FROM fastq_{table}").fetchone() == (0,)
