"""The app of a worker process that runs workflows: Celery's or fastq's, as the environment says."""

import json
import os
from typing import Any

from workflows.building import celery_api, fastq_api
from workflows.journal import Journal
from workflows.tasks import define

app: Any
if os.environ["WORKFLOWS_KIND"] == "celery":
    from celery import Celery

    app = Celery("flows")
    api = celery_api(app)
else:
    from fastq import FastQ

    app = FastQ("flows")
    api = fastq_api(app)

app.conf.update(json.loads(os.environ["WORKFLOWS_SETTINGS"]))
define(api, Journal(os.environ["WORKFLOWS_JOURNAL"]))
