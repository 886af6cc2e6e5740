"""The app of a worker process that runs workflows: Celery's or fastq's, as the environment says."""

import json
import os
from typing import Any

from workflows.building import celery_api, fastq_api
from workflows.journal import Journal
from workflows.tasks import define

app: Any
signals: Any
if os.environ["WORKFLOWS_KIND"] == "celery":
    from celery import Celery, signals

    app = Celery("flows")
    api = celery_api(app)
else:
    from fastq import FastQ, signals

    app = FastQ("flows")
    api = fastq_api(app)

app.conf.update(json.loads(os.environ["WORKFLOWS_SETTINGS"]))
journal = Journal(os.environ["WORKFLOWS_JOURNAL"])
define(api, journal)


@signals.worker_ready.connect
def note_ready(**named: Any) -> None:
    """Say that the worker is ready."""
    journal.note("worker/", "ready", pid=os.getpid())


@signals.worker_process_init.connect
def note_child(**named: Any) -> None:
    """Say that a child of the prefork pool began; its worker leads the session."""
    journal.note("worker/", "child", pid=os.getpid(), worker=os.getsid(0))
