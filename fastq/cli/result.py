"""`fastq result`: what became of a task, or where it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from fastq.cli.errors import ExitCode
from fastq.cli.options import common_options, target_of
from fastq.cli.output import age, moment, print_json
from fastq.states import PENDING, READY_STATES, STARTED, SUCCESS

if TYPE_CHECKING:
    from fastq.app.base import FastQ
    from fastq.brokers.base import TaskPlace


@click.command()
@click.argument("id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object: id, place, state, result, ...")
@common_options
@click.pass_context
def result(ctx: click.Context, id: str, as_json: bool) -> int:
    """Say what became of the task ID, or where it is.

    That is one of: queued in which queue, delayed until when, claimed by which worker, running, done,
    dead and why, or unknown.

    \b
    fastq result 2d4c3a6e-...
    fastq result 2d4c3a6e-... --json | jq .result

    Exits with 0 when the task is on its way or succeeded, 1 when it failed, is dead or unknown.
    """
    app = target_of(ctx).load_app_or_default()
    app.finalize()
    found = look_up(app, id)
    if as_json:
        print_json(found)
    else:
        for line in describe(found):
            click.echo(line)
    return ExitCode.FAILED if found["place"] in ("failed", "dead", "unknown") else ExitCode.OK


def look_up(app: FastQ, task_id: str) -> dict[str, Any]:
    """What result backend and broker know of *task_id*: ``place`` is one word, the rest depends on it."""
    found: dict[str, Any] = {"id": task_id, "place": "unknown", "state": None}
    if app.backend is not None:
        known = app.AsyncResult(task_id)
        state = known.state
        if state in READY_STATES:
            place = "done" if state == SUCCESS else "failed"
            return {
                **found,
                "place": place,
                "state": state,
                "result": known.result,
                "traceback": known.traceback,
                "date_done": known.date_done,
            }
        if state != PENDING:
            found.update(state=state, place="running" if state == STARTED else "unknown", info=known.info)
    lies = app.read_broker.locate(task_id, app.queue_names())
    return found if lies is None else {**found, **place_fields(lies, found)}


def place_fields(place: TaskPlace, found: dict[str, Any]) -> dict[str, Any]:
    """The fields that the broker's *place* adds to what the backend knew."""
    # A message that is claimed and has a STARTED document is the one that runs.
    state = "running" if place.state == "claimed" and found["place"] == "running" else place.state
    fields = {
        "place": state,
        "queue": place.queue,
        "until": place.until,
        "worker": place.worker,
        "reason": place.reason,
        "redelivered": place.redelivered or None,
    }
    return {key: value for key, value in fields.items() if value is not None}


def describe(found: dict[str, Any]) -> list[str]:
    """The lines that tell a person what `look_up` found."""
    lines = [headline(found)]
    if found.get("redelivered"):
        lines.append(f"its worker died {found['redelivered']} times while it ran")
    if found["place"] in ("done", "failed"):
        lines.append(f"result: {found['result']!r}")
        if found["traceback"]:
            lines.append(found["traceback"].rstrip())
    elif found["state"] is not None:
        lines.append(f"state: {found['state']}" + (f" {found['info']!r}" if found.get("info") else ""))
    return lines


def headline(found: dict[str, Any]) -> str:
    """One line: where the task is."""
    place = found["place"]
    queue = f" in queue {found['queue']!r}" if "queue" in found else ""
    if place == "delayed":
        return f"delayed{queue} until {moment(found['until'])}, in {age(found['until'] - time.time())}"
    if place in ("claimed", "running"):
        worker = f" by {found['worker']}" if "worker" in found else ""
        return f"{place}{worker}{queue}"
    if place == "dead":
        return f"dead{queue}: {found.get('reason', 'no reason was kept')}"
    if place in ("done", "failed"):
        when = f", {found['date_done']}" if found["date_done"] else ""
        return f"{place}: {found['state']}{when}"
    if place == "unknown" and found["state"] is None:
        return "unknown: neither the broker nor the result backend knows this id (results expire)"
    return f"{place}{queue}"
