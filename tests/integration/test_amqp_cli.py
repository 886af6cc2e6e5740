"""`fastq amqp` against a RabbitMQ of its own."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result
from servers import RabbitServer

from fastq._core.message import new_id
from fastq.cli.commands import Session, cli
from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.options import Target
from fastq.exceptions import OperationalError


class Amqp:
    """Runs sub-commands as the command line does."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, *words: str, input: str | None = None) -> Result:
        arguments = ["amqp", "-b", self._url, *words]
        return CliRunner().invoke(cli, arguments, obj=Target(), input=input, standalone_mode=False)


@pytest.fixture
def amqp(rabbitmq_server: RabbitServer) -> Amqp:
    return Amqp(rabbitmq_server.url())


def test_a_message_goes_from_an_exchange_to_its_queue_and_away(amqp: Amqp) -> None:
    exchange, queue = f"x-{new_id()}", f"q-{new_id()}"
    assert amqp("exchange.declare", exchange, "topic").output == "ok\n"
    assert (
        amqp("queue.declare", queue, "--max-priority", "5").output
        == f"queue:{queue} messages:0 consumers:0\n"
    )
    assert amqp("queue.bind", queue, exchange, "sport.#").output == "ok\n"
    assert amqp("basic.publish", "höhe", exchange, "sport.golf").output == "ok\n"
    assert amqp("queue.declare", queue, "--passive").output == f"queue:{queue} messages:1 consumers:0\n"
    shown = json.loads(amqp("basic.get", queue).output)
    assert shown["body"] == "höhe"
    assert (shown["delivery_info"]["exchange"], shown["delivery_info"]["routing_key"]) == (
        exchange,
        "sport.golf",
    )
    assert json.loads(amqp("basic.get", queue, "--no-ack").output)["delivery_info"]["redelivered"]
    assert amqp("basic.get", queue).return_value == ExitCode.FAILED
    assert amqp("queue.unbind", queue, exchange, "sport.#").output == "ok\n"
    unrouted = amqp("basic.publish", "x", exchange, "sport.golf", "--mandatory").exception
    assert isinstance(unrouted, CommandError) and exchange in str(unrouted)
    assert amqp("basic.publish", "x", "", queue).output == "ok\n"
    assert amqp("queue.purge", queue).output == "1 messages deleted\n"
    assert amqp("queue.delete", queue).output == "0 messages deleted\n"
    assert amqp("exchange.delete", exchange).output == "ok\n"


def test_asked_for_commands_it_keeps_the_connection_and_survives_errors(amqp: Amqp) -> None:
    queue = f"q-{new_id()}"
    amqp("queue.declare", queue)
    amqp("basic.publish", "x", "", queue)
    lines = [
        f"basic.get {queue}",
        "basic.ack 1",
        "basic.ack 7",
        "queue.delet x",
        "'",
        f"queue.declare {queue}",
    ]
    done = amqp(input="\n".join(lines) + "\n")
    assert done.exception is None
    for said in ("unknown delivery tag 7", "did you mean 'queue.delete'?", "No closing quotation"):
        assert said in done.output
    assert f"queue:{queue} messages:0 consumers:0" in done.output
    amqp("queue.delete", queue)


def test_what_rabbitmq_refuses_is_said_with_its_reason(amqp: Amqp) -> None:
    refused = amqp("queue.declare", "no-such-queue", "--passive").exception
    assert isinstance(refused, OperationalError) and "no queue 'no-such-queue'" in str(refused)


def test_another_broker_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with Session() as session:
        session.command(["amqp", "-b", "memory://", "queue.purge", "q"])
    assert session.exit_code == ExitCode.USAGE
    assert "`fastq amqp` is for RabbitMQ alone" in capsys.readouterr().err
