"""An app that sends events, Celery's or fastq's as its first argument says, and a monitor of either kind."""

import json
import os
import sys

KIND = os.environ["EVENTS_KIND"]
URL = os.environ["EVENTS_BROKER"]

if KIND == "celery":
    from celery import Celery
    from celery.exceptions import Reject
else:
    from fastq import Celery
    from fastq.exceptions import Reject

app = Celery("proj", broker=URL, backend=os.environ["EVENTS_BACKEND"])
app.conf.update(
    task_send_sent_event=True,
    task_acks_late=True,
    task_default_queue=f"of-{KIND}",
    broker_connection_retry_on_startup=True,
)


@app.task(name="proj.add")
def add(x, y):
    return x + y


@app.task(name="proj.fail")
def fail():
    raise ValueError("boom")


@app.task(name="proj.again", bind=True, max_retries=1)
def again(self):
    if self.request.retries == 0:
        raise self.retry(countdown=0, exc=KeyError("again"))
    return "done"


@app.task(name="proj.reject")
def reject():
    raise Reject("no", requeue=False)


def monitor():
    """Print each event as a line of JSON, after a first line that says that it listens."""

    with app.connection() as connection:
        handlers = {"*": lambda event: print(json.dumps(event), flush=True)}
        receiver = app.events.Receiver(connection, handlers=handlers)
        receiver.wakeup_workers = lambda channel=None: print("listening", flush=True)
        receiver.capture(limit=None, timeout=None, wakeup=True)


def send():
    """Send one of each task, and one that has expired, which RabbitMQ would drop itself."""
    for task, args in ((add, (2, 3)), (fail, ()), (again, ()), (reject, ())):
        task.delay(*args)
    if URL.startswith("redis"):
        add.apply_async((1, 1), expires=-10)
    add.apply_async((4,), {"y": 4}, argsrepr="<hidden>", shadow="proj.shown")


if __name__ == "__main__":
    {"monitor": monitor, "send": send}[sys.argv[1]]()
