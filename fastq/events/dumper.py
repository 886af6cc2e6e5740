"""Events as lines of text, as they happen."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict
from datetime import datetime, timezone
from typing import Any, TextIO

HUMAN_TYPES = {
    "worker-offline": "shutdown",
    "worker-online": "started",
    "worker-heartbeat": "heartbeat",
}
# Tasks whose descriptions are remembered, for events that give their ids alone.
TASKS_REMEMBERED = 4096


def humanize_type(type: str) -> str:
    """A type of events in words."""
    return HUMAN_TYPES.get(type.lower()) or type.lower().replace("-", " ")


class Dumper:
    """Writes each event to *out*, in Celery's form or with *as_json* as a line of JSON."""

    def __init__(self, out: TextIO | None = None, *, as_json: bool = False) -> None:
        self.out = sys.stdout if out is None else out
        self._as_json = as_json
        self._tasks: OrderedDict[str, str] = OrderedDict()

    def say(self, msg: str) -> None:
        """Write one line, at once."""
        print(msg, file=self.out, flush=True)

    def on_event(self, ev: dict[str, Any]) -> None:
        """Write one event."""
        self.say(json.dumps(ev, ensure_ascii=False, default=repr) if self._as_json else self._line(dict(ev)))

    def _line(self, event: dict[str, Any]) -> str:
        at = datetime.fromtimestamp(event.pop("timestamp", 0.0), timezone.utc)
        type_, hostname = event.pop("type").lower(), event.pop("hostname", "?")
        about = ""
        if type_.startswith("task-") and (uuid := event.pop("uuid", None)):
            if "name" in event:
                name, args, kwargs = event.pop("name"), event.pop("args", None), event.pop("kwargs", None)
                self._remember(uuid, f"{name}({uuid}) args={args} kwargs={kwargs}")
            about = self._tasks.get(uuid, uuid)
        fields = ", ".join(f"{key}={event[key]}" for key in sorted(event))
        words = [f"{hostname} [{at}] {humanize_type(type_)}{':' if fields else ''}", about, fields]
        return " ".join(word for word in words if word)

    def _remember(self, uuid: str, about: str) -> None:
        self._tasks[uuid] = about
        if len(self._tasks) > TASKS_REMEMBERED:
            self._tasks.popitem(last=False)
