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
    redelivered: int = 0  # deliveries that somebody had before
    lost: int = 0  # deliveries whose claim others had taken over
    reconnects: int = 0
    turned_at: float = 0.0  # monotonic seconds: the end of the last turn that the broker took; 0: none yet
    waited_at: float = (
        0.0  # monotonic seconds: the last moment that was spent waiting for a broker that is away
    )
