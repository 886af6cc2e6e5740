"""`fastq amqp`: exchanges, queues and messages of RabbitMQ by hand, by Celery's names."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from fastq.cli.errors import CommandError, ExitCode
from fastq.cli.options import Function, common_options, target_of
from fastq.cli.output import print_json
from fastq.exceptions import FastQError, nearest_name

if TYPE_CHECKING:
    from fastq.brokers.rabbitmq.admin import Admin

ADMIN = "fastq.amqp.admin"  # where the context keeps it


@click.group(invoke_without_command=True)
@common_options
@click.pass_context
def amqp(ctx: click.Context) -> Any:
    """Look after RabbitMQ: declare, bind and delete, publish and get.

    Without a command it asks for commands, one after the other, on one connection: that is
    how to `basic.get` a message, look at it, and `basic.ack` it.

    \b
    fastq amqp exchange.declare news topic
    fastq amqp queue.declare sport --type quorum
    fastq amqp queue.bind sport news 'sport.#'
    fastq amqp basic.publish '{"a": 1}' news sport.golf
    fastq amqp basic.get sport
    """
    ctx.meta[ADMIN] = admin = _connect(ctx)
    ctx.call_on_close(admin.close)
    if ctx.invoked_subcommand is None:
        ask(ctx)


def _connect(ctx: click.Context) -> Admin:
    broker = target_of(ctx).load_app_or_default().broker
    from fastq.brokers.schemes import AMQP_SCHEMES

    if broker.url.partition("://")[0].lower() not in AMQP_SCHEMES:
        raise CommandError(
            f"the broker is {broker.description()}, and `fastq amqp` is for RabbitMQ alone: "
            "see `fastq queues`, `fastq purge` and `fastq dead`"
        )
    from fastq.brokers.rabbitmq.admin import Admin
    from fastq.brokers.rabbitmq.broker import RabbitMQBroker
    from fastq.brokers.rabbitmq.connector import Connector

    assert isinstance(broker, RabbitMQBroker)
    return Admin(Connector(broker.endpoint))


def ask(ctx: click.Context) -> None:
    """Read commands until the end of the input; an error ends none but the command that made it."""
    click.echo("Commands: " + ", ".join(amqp.commands) + "; help, or the end of input (Ctrl-D) to leave.")
    while True:
        try:
            words = shlex.split(click.prompt("amqp", prompt_suffix="> "))
        except click.Abort:
            return
        except ValueError as exc:
            click.echo(f"{exc}", err=True)
            continue
        if words in (["quit"], ["exit"]):
            return
        if words == ["help"]:
            click.echo(ctx.get_help())
            continue
        command = amqp.commands.get(words[0])
        if command is None:
            click.echo(f"no command is named {words[0]!r}{nearest_name(words[0], amqp.commands)}", err=True)
            continue
        try:
            with command.make_context(words[0], words[1:], parent=ctx) as inner:
                command.invoke(inner)
        except click.exceptions.Exit:
            pass
        except click.ClickException as exc:
            click.echo(exc.format_message(), err=True)
        except FastQError as exc:
            click.echo(f"{exc}", err=True)


def _command(name: str) -> Callable[[Function], click.Command]:
    """A sub-command whose function gets the `Admin` first."""

    def decorate(function: Function) -> click.Command:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            return function(click.get_current_context().meta[ADMIN], *args, **kwargs)

        return amqp.command(name)(run)

    return decorate


DURABLE = click.option(
    "--durable/--transient", default=True, help="Whether it outlives the server's restart."
)
AUTO_DELETE = click.option("--auto-delete", is_flag=True, help="Delete it when its last user goes.")
PASSIVE = click.option("--passive", is_flag=True, help="Only ask whether it exists.")
IF_UNUSED = click.option("--if-unused", is_flag=True, help="Only if nobody uses it.")


@_command("exchange.declare")
@click.argument("exchange")
@click.argument("type", default="direct")
@PASSIVE
@DURABLE
@AUTO_DELETE
def exchange_declare(
    admin: Admin, exchange: str, type: str, passive: bool, durable: bool, auto_delete: bool
) -> None:
    """Make an exchange of a TYPE: direct, topic, fanout or headers."""
    admin.call(
        "exchange.declare",
        exchange=exchange,
        type=type,
        passive=passive,
        durable=durable,
        auto_delete=auto_delete,
    )
    click.echo("ok")


@_command("exchange.delete")
@click.argument("exchange")
@IF_UNUSED
def exchange_delete(admin: Admin, exchange: str, if_unused: bool) -> None:
    """Delete an exchange and its bindings."""
    admin.call("exchange.delete", exchange=exchange, if_unused=if_unused)
    click.echo("ok")


@_command("queue.declare")
@click.argument("queue")
@click.option("--type", type=click.Choice(["classic", "quorum", "stream"]), help="The type of the queue.")
@click.option("--max-priority", type=click.IntRange(1, 255), help="How many priorities it has.")
@PASSIVE
@DURABLE
@AUTO_DELETE
def queue_declare(
    admin: Admin,
    queue: str,
    type: str | None,
    max_priority: int | None,
    passive: bool,
    durable: bool,
    auto_delete: bool,
) -> None:
    """Make a queue, and say how many messages and consumers it has."""
    arguments = {"x-queue-type": type, "x-max-priority": max_priority}
    reply = admin.call(
        "queue.declare",
        queue=queue,
        passive=passive,
        durable=durable,
        auto_delete=auto_delete,
        arguments={name: value for name, value in arguments.items() if value is not None},
    )
    click.echo(f"queue:{reply.queue} messages:{reply.message_count} consumers:{reply.consumer_count}")


@_command("queue.bind")
@click.argument("queue")
@click.argument("exchange")
@click.argument("routing_key", default="")
def queue_bind(admin: Admin, queue: str, exchange: str, routing_key: str) -> None:
    """Have a queue get what is published to an exchange under a routing key or pattern."""
    admin.call("queue.bind", queue=queue, exchange=exchange, routing_key=routing_key)
    click.echo("ok")


@_command("queue.unbind")
@click.argument("queue")
@click.argument("exchange")
@click.argument("routing_key", default="")
def queue_unbind(admin: Admin, queue: str, exchange: str, routing_key: str) -> None:
    """Take a binding away."""
    admin.call("queue.unbind", queue=queue, exchange=exchange, routing_key=routing_key)
    click.echo("ok")


@_command("queue.delete")
@click.argument("queue")
@IF_UNUSED
@click.option("--if-empty", is_flag=True, help="Only if no message is in it.")
def queue_delete(admin: Admin, queue: str, if_unused: bool, if_empty: bool) -> None:
    """Delete a queue with all that is in it."""
    reply = admin.call("queue.delete", queue=queue, if_unused=if_unused, if_empty=if_empty)
    click.echo(f"{reply.message_count} messages deleted")


@_command("queue.purge")
@click.argument("queue")
def queue_purge(admin: Admin, queue: str) -> None:
    """Delete the messages that wait in a queue."""
    click.echo(f"{admin.call('queue.purge', queue=queue).message_count} messages deleted")


@_command("basic.publish")
@click.argument("message")
@click.argument("exchange", default="")
@click.argument("routing_key", default="")
@click.option("--mandatory", is_flag=True, help="Fail when no queue takes it.")
def basic_publish(admin: Admin, message: str, exchange: str, routing_key: str, mandatory: bool) -> int:
    """Publish a text to an exchange, '' being the one whose routing keys are the names of queues."""
    if not admin.publish(message.encode(), exchange, routing_key, is_mandatory=mandatory):
        raise CommandError(
            f"no queue takes what is published to {exchange!r} with the routing key {routing_key!r}",
            ExitCode.FAILED,
        )
    click.echo("ok")
    return ExitCode.OK


@_command("basic.get")
@click.argument("queue")
@click.option("--no-ack", is_flag=True, help="Take it away at once.")
def basic_get(admin: Admin, queue: str, no_ack: bool) -> int:
    """Show the next message of a queue. It goes back, marked as redelivered, unless it is acknowledged."""
    content = admin.get(queue, no_ack=no_ack)
    if content is None:
        click.echo("empty")
        return ExitCode.FAILED
    print_json(
        {
            "body": content.body.decode("utf-8", "backslashreplace"),
            "properties": {
                "content_type": content.content_type,
                "content_encoding": content.content_encoding,
                **content.properties,
            },
            "headers": content.headers,
            "delivery_info": {
                "delivery_tag": content.delivery_tag,
                "redelivered": content.redelivered,
                "exchange": content.exchange,
                "routing_key": content.routing_key,
                "message_count": content.message_count,
            },
        }
    )
    return ExitCode.OK


@_command("basic.ack")
@click.argument("delivery_tag", type=int)
def basic_ack(admin: Admin, delivery_tag: int) -> None:
    """Acknowledge what basic.get has shown on this very connection: ask for commands to have it stay."""
    admin.ack(delivery_tag)
    click.echo("ok")
