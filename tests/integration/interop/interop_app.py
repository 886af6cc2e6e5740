"""The app of a worker process, Celery's or fastq's as the environment says."""

import json
import os

from interop_queues import declared
from interop_tasks import KIND, define

settings = json.loads(os.environ["INTEROP_SETTINGS"])

if KIND == "celery":
    from celery import Celery
    from celery.exceptions import Ignore, Reject

    app = Celery("proj")
else:
    from fastq import FastQ
    from fastq.exceptions import Ignore, Reject

    app = FastQ("proj")

if "task_queues" in settings:
    settings["task_queues"] = declared(KIND, settings["task_queues"])
app.conf.update(settings)
define(app, ignore=Ignore, reject=Reject)
