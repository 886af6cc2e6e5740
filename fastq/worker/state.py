"""What a worker has done so far, for its log and for whoever asks."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class WorkerState:
    """Counters of one worker. Written by its loop alone."""

    started_at: float = field(default_factory=time.monotonic)  # monotonic seconds
    received: int = 0  # deliveries
    settled: int = 0  # outcomes that took effect
    lost: int = 0  # deliveries whose claim others had taken over
    reconnects: int = 0
