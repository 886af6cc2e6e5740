"""Where the tasks of workflows write down that they ran: one file for all processes of a machine."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class Journal:
    """Appends to the journal at *path*; a line is whole or not there, whichever process is killed."""

    def __init__(self, path: str | Path) -> None:
        # O_APPEND makes one short write one line, whoever else writes.
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def note(self, place: str, kind: str, **known: Any) -> None:
        """Say that *kind* happened at *place*: TOKEN/LABEL."""
        token, _, label = place.partition("/")
        line = {"token": token, "label": label, "kind": kind, **known}
        os.write(self._fd, (json.dumps(line) + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


@dataclass
class Notes:
    """What was written of one workflow."""

    runs: Counter[str] = field(default_factory=Counter)  # label → how often it ran
    errbacks: Counter[tuple[str, str]] = field(default_factory=Counter)  # label, repr of the exception
    failed: list[tuple[str, str]] = field(default_factory=list)  # label of an errback, the id it was given
    labels: dict[str, set[str]] = field(default_factory=dict)  # id of a task → labels that ran under it
    lines: list[dict[str, Any]] = field(default_factory=list)

    def add(self, line: dict[str, Any]) -> None:
        """Take in one line."""
        self.lines.append(line)
        label = line["label"]
        if line["kind"] == "start":
            self.runs[label] += 1
            self.labels.setdefault(line["id"], set()).add(label)
        elif line["kind"] == "errback":
            self.errbacks[label, line["error"]] += 1
            if line["id"]:
                self.failed.append((label, line["id"]))


class JournalReader:
    """Reads a journal while others write to it."""

    def __init__(self, path: Path) -> None:
        path.touch()
        self.of: dict[str, Notes] = {}  # token → what was written of that workflow
        self._file = path.open("rb")
        self._rest = b""

    def read(self) -> None:
        """Take in what has been written since the last call."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        for each in lines:
            line = json.loads(each)
            self.of.setdefault(line["token"], Notes()).add(line)

    def notes(self, token: str) -> Notes:
        """What was written of the workflow *token* so far."""
        self.read()
        return self.of.setdefault(token, Notes())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
