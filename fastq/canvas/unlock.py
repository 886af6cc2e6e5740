"""The join of a chord whose parts nobody counts: Celery's clients have it polled for (§5.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastq import states
from fastq.canvas.after import After
from fastq.canvas.join import Join
from fastq.exceptions import ChordError, Retry
from fastq.result import GroupResult, allow_join_result, result_from_tuple

if TYPE_CHECKING:
    from fastq.app.base import FastQ


def unlock_chord(
    app: FastQ,
    task: Any,
    group_id: str,
    body: Mapping[str, Any],
    interval: float | None,
    max_retries: int | None,
    travelled: Any,
) -> None:
    """Send *body* with what the header has returned, or let it fail as a part did.

    Until all have ended *task* is retried. *travelled* are the results of the header. What is sent
    takes effect in the commit of *task*.
    """
    header: GroupResult[Any] = GroupResult(
        group_id, [result_from_tuple(each, app) for each in travelled], app=app
    )
    after = After(app, task.request)
    try:
        try:
            is_ready, cause = header.ready(), None
        except Exception as exc:
            is_ready, cause = False, exc
        if not is_ready:
            pause = app.conf.result_chord_retry_interval if interval is None else interval
            raise task.retry(exc=cause, countdown=pause, max_retries=max_retries)
        after.send(body, (_values(app, header),))
    except Retry:
        raise
    except ChordError as exc:
        Join(app, task.request, group_id).fail(after, body, exc)
    except Exception as exc:  # nobody asks again, so whoever waits for the body must be told
        failure = ChordError(f"chord_unlock could not be retried: {exc!r}")
        Join(app, task.request, group_id).fail(after, body, failure)
    task.request.commit_with(*after.pair())


def _values(app: FastQ, header: GroupResult[Any]) -> list[Any]:
    """What the header has returned. Raises `ChordError` if a part has failed."""
    try:
        with allow_join_result():
            return header.join(timeout=app.conf.result_chord_join_timeout)
    except Exception as exc:
        culprit = next((each for each in _tasks(header) if each.state in states.PROPAGATE_STATES), None)
        said = repr(exc) if culprit is None else f"Dependency {culprit.id} raised {exc!r}"
        raise ChordError(said) from exc


def _tasks(result: Any) -> list[Any]:
    members = result.members()
    return [result] if members is None else [task for member in members for task in _tasks(member)]
