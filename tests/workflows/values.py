"""What the tasks of the workflows return: the whole way of a value, so that one step left out is seen."""

from __future__ import annotations

import hashlib
import json
from typing import Any

# Characters of JSON; what is longer is told by its hash, or chords of chords would double it at each step.
LONGEST = 300


def combine(label: str, args: Any, kwargs: dict[str, Any] | None = None) -> list[Any]:
    """The result of the task *label*, called so."""
    value = [label, *args, kwargs] if kwargs else [label, *args]
    text = json.dumps(value, sort_keys=True)
    return value if len(text) <= LONGEST else [label, hashlib.sha256(text.encode()).hexdigest()[:16]]
