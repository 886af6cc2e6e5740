# ruff: noqa: E402  (the patch comes first)
"""Publish far too much to a broker that takes nothing, while another greenlet ticks."""

from gevent import monkey

monkey.patch_all()

import sys
import time

import gevent

from fastq._core.message import Message
from fastq.brokers.rabbitmq.connector import Connector
from fastq.brokers.rabbitmq.endpoint import parse_endpoint
from fastq.exceptions import OperationalError

MESSAGES = 10_000
late = 0.0


def tick() -> None:
    global late
    before = time.monotonic()
    while True:
        gevent.sleep(0.001)
        now = time.monotonic()
        late = max(late, now - before)
        before = now


connection = Connector(parse_endpoint(sys.argv[1], {})).connect(5.0)
channel = connection.open_channel(5.0)
message = Message("proj.add", "x", {"task": "proj.add", "id": "x"}, bytes(2000), queue="q")
ticking = gevent.spawn(tick)
gevent.sleep(0.01)
started = time.monotonic()
sent = 0
try:
    while sent < MESSAGES:
        connection.encoder.publish_messages(channel.number, [message] * 100)
        connection.flush(max(started + 1.5 - time.monotonic(), 0.001))
        sent += 100
    print("all were sent")
except OperationalError as exc:
    print(f"{time.monotonic() - started:.2f} {late * 1000:.1f} {exc}")
ticking.kill()
connection.abandon()
