"""The application of the beats that are killed, stopped, and whose clocks are set."""

from __future__ import annotations

import os
import time

from fastq import FastQ

app = FastQ("beats", broker=os.environ["FAULT_BROKER"], backend="disabled://")
app.conf.beat_lease = float(os.environ["FAULT_LEASE"])
app.conf.beat_schedule = {
    f"entry {number}": {
        "task": "beats.note",
        "schedule": float(os.environ["FAULT_EVERY"]),
        "args": (number,),
    }
    for number in range(int(os.environ["FAULT_ENTRIES"]))
}

# A clock that is as many seconds off as the file says, now or later.
CLOCK = os.environ.get("FAULT_CLOCK")
if CLOCK:
    _real_time = time.time

    def _set_time() -> float:
        with open(CLOCK, "rb") as file:
            return _real_time() + float(file.read())

    time.time = _set_time
