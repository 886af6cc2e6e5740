"""What is kept of an entry between its runs."""

from __future__ import annotations

import uuid
from typing import Any, NamedTuple

from fastq._core.codec import json_dumps, json_loads

# Names the task ids of runs, so that all beats give a run the same one.
NAMESPACE = uuid.UUID("6f1de1f5-2a6a-5b5e-9df1-5a1a2b1c7d3e")


class State(NamedTuple):
    """What has become of an entry. Times are unix seconds, on the clock of the store."""

    number: int = 0  # of the last run; a run that was skipped, or failed, has one too
    due: float = 0.0  # when the last run of the schedule was due: the next one follows this
    outcome: str = ""  # of the last run: "new", "sent", "skipped", "waiting", "missed" or "failed"
    error: str | None = None  # why it failed or was skipped
    runs: int = 0  # how many were sent
    sent_at: float | None = None  # when the last of them was
    task_id: str | None = None  # its task
    waiting: tuple[float, ...] = ()  # when the runs were due that wait for that task to end
    is_pending: bool = False  # taken, but its messages may not have been sent yet
    next_due: float | None = None  # for people, as are the rest
    task: str = ""
    schedule: str = ""
    beat: str = ""

    def to_bytes(self) -> bytes:
        """All but the number, which the store keeps beside it."""
        fields = self._asdict()
        del fields["number"]
        return json_dumps({name: value for name, value in fields.items() if value not in (None, "", ())})


def state_from(number: int, data: bytes) -> State:
    """The state of an entry, as the store has it."""
    fields: dict[str, Any] = json_loads(data)
    known = {name: value for name, value in fields.items() if name in State._fields}
    known["waiting"] = tuple(known.get("waiting", ()))
    return State(number, **known)


def run_id(app_name: str, name: str, number: int, due: float) -> str:
    """The task id of a run."""
    return str(uuid.uuid5(NAMESPACE, f"{app_name}\0{name}\0{number}\0{due!r}"))
