"""Publishes tasks, batch after batch, until it is killed: ``python publisher.py BROKER_URL JOURNAL``."""

from __future__ import annotations

import sys

from judge import Journal

from fastq import FastQ
from fastq._core.message import new_id

BATCH = 300

app = FastQ("fault", broker=sys.argv[1])
journal = Journal(sys.argv[2])
while True:
    ids = [new_id() for _ in range(BATCH)]
    journal.note("try", ids)
    app.send_many(("fault_tasks.work", (0,), {}, {"task_id": each}) for each in ids)
    journal.note("sent", ids)
