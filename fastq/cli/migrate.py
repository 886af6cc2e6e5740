"""`fastq migrate`: move what waits from one broker to another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from fastq._core.message import Outcome
from fastq.app.base import FastQ
from fastq.app.sending import origin
from fastq.brokers.sent_time import due_at
from fastq.cli.errors import ExitCode
from fastq.cli.options import comma_separated, common_options
from fastq.wakeup import Waker

if TYPE_CHECKING:
    from fastq._core.message import Message
    from fastq.brokers.base import Broker

AT_ONCE = 500  # messages of one write
PATIENCE = 1.0  # seconds for a broker that pushes messages to send one


@click.command()
@click.argument("source", metavar="SOURCE")
@click.argument("destination", metavar="DESTINATION")
@click.option("-n", "--limit", type=click.IntRange(min=1), metavar="N", help="At most so many messages.")
@click.option(
    "-Q",
    "--queues",
    callback=comma_separated,
    metavar="NAMES",
    help="These queues; default: all that hold any.",
)
@click.option("-F", "--forever", is_flag=True, help="Go on, with what is sent there meanwhile, until Ctrl-C.")
@common_options
def migrate(source: str, destination: str, limit: int | None, queues: list[str], forever: bool) -> int:
    """Move the messages that wait at the broker SOURCE to the same queues at DESTINATION.

    Each is written there before it is removed here: stopped at any moment, none is lost, and a few may be
    there twice. What is delayed, held by workers or dead stays.

    \b
    fastq migrate redis://old amqp://guest@new
    fastq migrate -Q mail sqlite:///old.db redis://localhost
    """
    here = FastQ("migrate", broker=source, set_as_current=False)
    there = FastQ("migrate", broker=destination, set_as_current=False)
    with here, there:
        found = {queue.name: queue for queue in here.broker.queues(queues or ["celery"])}
        names = queues or [name for name, queue in found.items() if queue.ready or forever]
        moved = move(here.broker, there.broker, names, limit, forever) if names else {}
        delayed = sum(queue.delayed or 0 for queue in found.values())
    for name, count in sorted(moved.items()):
        click.echo(f"moved {count:,} messages of {name!r}")
    if not moved:
        click.echo("nothing waits there")
    if delayed:
        click.echo(f"{delayed:,} delayed messages stay: run this again when they are due", err=True)
    return ExitCode.OK


def move(
    here: Broker, there: Broker, queues: list[str], limit: int | None, forever: bool = False
) -> dict[str, int]:
    """Move at most *limit* messages of *queues*; returns how many of each."""
    moved: dict[str, int] = {}
    waker = Waker()
    consumer = here.consumer(queues, f"migrate-{origin()}", waker)
    outcomes: list[Outcome] = []
    try:
        while True:
            left = AT_ONCE if limit is None else min(AT_ONCE, limit - sum(moved.values()))
            deliveries = consumer.turn(outcomes, left, PATIENCE if left else 0.0)
            outcomes = []
            readable = [delivery for delivery in deliveries if delivery.message is not None]
            if not readable and (not forever or not left):
                return moved
            there.publish([addressed(delivery.message, there) for delivery in readable if delivery.message])
            for delivery in readable:
                moved[delivery.queue] = moved.get(delivery.queue, 0) + 1
                outcomes.append(Outcome(delivery))
    finally:
        consumer.close()
        waker.close()


def addressed(message: Message, there: Broker) -> Message:
    """*message* for its own queue *there*, and for no other that its exchange may reach."""
    message.exchange, message.routing_key = "", message.queue
    due = due_at(message)
    if due is not None and due > time.time() and not there.has_celery_peers:
        message.due = due
    return message
